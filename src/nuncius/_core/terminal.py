"""Strangers' text in a terminal."""

from __future__ import annotations


def plain_text(value: object) -> str:
    """Return a text that shows as it stands: no markup of rich, and no control characters."""
    from rich.markup import escape

    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in str(value)))
