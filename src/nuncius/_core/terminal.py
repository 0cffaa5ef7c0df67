"""Strangers' text in a terminal."""

from __future__ import annotations


def printable(text: str, *, instead: str = "?") -> str:
    """Return a text without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def plain_text(value: object) -> str:
    """Return a text that shows as it stands: no markup of rich, and no control characters."""
    from rich.markup import escape

    return escape(printable(str(value), instead="\ufffd"))
