"""Change some keys of one table of a TOML file that a person may have written, and leave all else of it as it stands."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.files import lock, write_durably
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")
_REMARK = re.compile(r"\s*(?:#.*)?$")


def set_keys(path: Path, name: str, values: Mapping[str, str | None], *, private: bool = False) -> bool:
    """Set keys of a table, or take them out (None); a table without any key goes.

    Two processes may do so at once. A link is followed.

    Parameters
    ----------
    path : Path
        The file; it is made if there is something to be written.
    name : str
        Of the table, on the top level.
    values : mapping
        The keys, and what they hold from now on.
    private : bool
        Whether nobody else may read the file.

    Returns
    -------
    bool
        Whether the file says anything else than before.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or a value can't stand in one. No value is repeated.
    StorageError
        If it can't be read or written.
    """
    for key, value in values.items():
        if value is not None and not value.isprintable():
            raise ConfigurationError(
                f"{key} holds a letter that can't be printed; was something else copied with it?"
            )
    # Whoever replaces a link takes the file away from those who look after it elsewhere.
    path = Path(os.path.realpath(path))
    try:
        if not path.parent.is_dir():
            if not any(value is not None for value in values.values()):
                return False
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            return _rewrite(path, name, values, private=private)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path} can't be written: {error.strerror}", position=str(path)) from error


def _rewrite(path: Path, name: str, values: Mapping[str, str | None], *, private: bool) -> bool:
    exists = path.exists()
    text, before = _read(path) if exists else ("", {})
    table = before.get(name, {})
    if not isinstance(table, dict):
        raise _not_here(path, name)
    wanted = {key: value for key, value in {**table, **values}.items() if value is not None}
    if wanted == table:
        return False
    new = _changed(text, name, values, keeps=bool(wanted))
    try:
        after = tomllib.loads(new)
    except ValueError:
        raise _not_here(path, name) from None
    others = {key: value for key, value in before.items() if key != name}
    if after != others | ({name: wanted} if wanted else {}):
        raise _not_here(path, name)
    hidden = exists and not path.stat().st_mode & 0o077  # who has hidden it wants it hidden
    write_durably(path, new.encode(), private=private or hidden)
    return True


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_bytes().decode()  # as it stands: with the ends of lines that it has
        return text, tomllib.loads(text)
    except ValueError as error:
        # The parser's own text could quote the line that it stumbles over.
        raise ConfigurationError(
            f"{path} is no TOML ({type(error).__name__}); mend it or move it away", position=str(path)
        ) from None


def _changed(text: str, name: str, values: Mapping[str, str | None], *, keeps: bool) -> str:
    """Return the text with the keys set, unless they stand in a form that lines don't show: the caller looks."""
    lines = list(io.StringIO(text))  # ends of lines are those of TOML, not all that Unicode knows
    end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    begin, stop = _lines_of(lines, name)
    header, *body = lines[begin:stop] or [f"[{name if _PLAIN.fullmatch(name) else _quoted(name)}]{end}"]
    mine = re.compile(rf"\s*(?:{'|'.join(re.escape(key) for key in values)})\s*=")
    kept = [line for line in body if not mine.match(line)]
    added = [f"{key} = {_quoted(value)}{end}" for key, value in values.items() if value is not None]
    ahead, behind = lines[:begin], lines[stop:]
    if ahead and not ahead[-1].endswith("\n"):
        ahead[-1] += end
    if begin == len(lines) and ahead and ahead[-1].strip():
        ahead.append(end)
    return "".join([*ahead, *([header.rstrip("\r\n") + end, *added, *kept] if keeps else []), *behind])


def _lines_of(lines: list[str], name: str) -> tuple[int, int]:
    """Return where a table begins and stops; remarks before the next table belong to that one."""
    forms = "|".join(re.escape(form) for form in (name, _quoted(name), f"'{name}'"))
    mine = re.compile(rf"\s*\[\s*(?:{forms})\s*\]{_REMARK.pattern}")
    heads = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    for begin, stop in itertools.pairwise([*heads, len(lines)]):
        if mine.match(lines[begin]):
            while _REMARK.match(lines[stop - 1]):
                stop -= 1  # noqa: PLW2901
            return begin, stop
    return len(lines), len(lines)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for letters beyond 16 bits: those stand as they are.
    return json.dumps(text, ensure_ascii=False)


def _not_here(path: Path, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is laid out in a way that can't be changed here; write the table [{name}] yourself",
        position=str(path),
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)
