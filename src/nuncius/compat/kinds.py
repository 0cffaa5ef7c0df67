"""Errors of ours as the kinds that programs for other clients catch too."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nuncius.errors import NunciusError

E = TypeVar("E", bound="NunciusError")


def alike(error: NunciusError, kind: type[E], message: str | None = None) -> E:
    """Return an error of another kind, with the same facts, and the same message unless another is given."""
    twin = kind(error.message if message is None else message)
    twin.__dict__.update(error.__dict__, message=twin.message)
    return twin
