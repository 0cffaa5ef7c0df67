"""Our errors as the Toolkit's own, so that a page says what is wrong and what to do, and never answers 500."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from django.utils.html import escape
from tom_dataservices.dataservices import NotConfiguredError, QueryServiceError

from nuncius.errors import LoginError, MissingExtraError, NunciusError, UnreachableError
from nuncius.tom.configuration import NotSetError

if TYPE_CHECKING:
    from collections.abc import Iterator


class RefusedError(QueryServiceError, NotImplementedError):  # type: ignore[misc]
    """What a service can't do now.

    Some of the Toolkit's pages show a QueryServiceError, others a NotImplementedError, and answer 500 for all else.
    """


@contextlib.contextmanager
def in_results(service: str) -> Iterator[None]:
    """Raise our errors as those that the results page shows. It shows them as HTML, so they are escaped."""
    try:
        yield
    except (NotSetError, MissingExtraError) as error:
        raise NotConfiguredError(escape(str(error))) from error
    except NunciusError as error:
        raise QueryServiceError(escape(_told(service, error))) from error


@contextlib.contextmanager
def in_messages(service: str) -> Iterator[None]:
    """Raise our errors as those that all other pages show, which escape them."""
    try:
        yield
    except NunciusError as error:
        raise RefusedError(_told(service, error)) from error


def _told(service: str, error: NunciusError) -> str:
    """Say where it failed, and what to do where the message doesn't tell a user of the TOM."""
    hint = ""
    if isinstance(error, LoginError):
        hint = f" The TOM's administrator sets the login in settings.DATA_SERVICES[{service!r}]."
    elif isinstance(error, UnreachableError):
        hint = f" Try again later; the TOM's administrator finds the address in settings.DATA_SERVICES[{service!r}]."
    return f"{service}: {error}{'' if str(error).endswith('.') or not hint else '.'}{hint}"
