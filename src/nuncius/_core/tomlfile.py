"""Change one table of a TOML file that a person may have written, and leave all else of it as it stands."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from nuncius._core.files import write_durably
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")


def set_table(path: Path, name: str, values: Mapping[str, str] | None, *, private: bool = False) -> None:
    """Put a table in the place of the one of that name, or take it out (None).

    Parameters
    ----------
    path : Path
        The file; it is made if it doesn't exist.
    name : str
        Of the table, on the top level.
    values : mapping of str, optional
        What it holds from now on.
    private : bool
        Whether nobody else may read the file.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or a value can't stand in one. No value is repeated.
    StorageError
        If it can't be read or written.
    """
    for key, value in (values or {}).items():
        if not value.isprintable():
            raise ConfigurationError(
                f"{key} holds a letter that can't be printed; was something else copied with it?"
            )
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        before = _parsed(text, path)
        kept = _without(text, name)
        header = f"[{name if _PLAIN.fullmatch(name) else json.dumps(name)}]\n"
        added = header + "".join(f"{key} = {json.dumps(value)}\n" for key, value in (values or {}).items())
        new = kept if values is None else f"{kept.rstrip()}\n\n{added}".lstrip()
        after = {key: table for key, table in before.items() if key != name}
        if _parsed(new, path) != after | ({} if values is None else {name: dict(values)}):
            raise ConfigurationError(
                f"{path} is laid out in a way that can't be changed here; write the table [{name}] yourself",
                position=str(path),
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, new.encode(), private=private)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path} can't be written: {error.strerror}", position=str(path)) from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        # The parser's own text could quote the line that it stumbles over.
        raise ConfigurationError(
            f"{path} is no TOML ({type(error).__name__}); mend it or move it away", position=str(path)
        ) from None


def _without(text: str, name: str) -> str:
    """Return the text without the lines of a table."""
    mine = re.compile(
        rf"\s*\[\s*(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')\s*\]\s*(?:#.*)?\n?$"
    )
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = mine.match(line) is not None
        if not inside:
            kept.append(line)
    return "".join(kept)
