"""Files that the commands of ``nuncius fits`` write: whole or not at all, and never over another one unasked."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from nuncius._core.files import sync_folder
from nuncius.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuncius.cloudfits import RemoteFits, RemoteHdu

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_PLAIN = "".join(map(chr, range(0x21, 0x7F)))


def output_option(*endings: str, required: bool = False) -> Callable[[_Command], _Command]:
    """Return the option ``-o``; the command gets `out`, whose name ends in one of these."""

    def checked(_context: click.Context, _parameter: click.Parameter, out: Path | None) -> Path | None:
        if out is not None and out.suffix.lower() not in endings:
            raise click.BadParameter(f"{out} is not known by its end; it can be {', '.join(endings)}")
        return out

    return click.option(
        "-o",
        "--out",
        required=required,
        type=click.Path(path_type=Path),
        callback=checked,
        metavar="FILE",
        help=f"Write it into this file; its end says what it is: {', '.join(endings)}.",
    )


def check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse what could not be written in the end, before anything is read.

    Raises
    ------
    StorageError
        If the file is there, or its folder isn't.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        cure = "give another name" if out.is_dir() else "give another name, or --overwrite"
        raise StorageError(f"{out} is there already; {cure}", position=str(out))
    if not out.parent.is_dir():
        raise StorageError(f"there is no folder {out.parent} to write {out.name} into", position=str(out))


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Give a path to write to; at the end of the block the file has its name and is on the disk.

    Raises
    ------
    StorageError
        If it can't be written; then nothing has changed.
    """
    part = out.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        raise StorageError(f"{out} can't be written: {error.strerror or error}", position=str(out)) from error
    finally:
        part.unlink(missing_ok=True)


def origin_cards(fits: RemoteFits, hdu: RemoteHdu) -> Sequence[tuple[str, str | int, str]]:
    """Return the keywords that say what a file was read from."""
    cards: list[tuple[str, str | int, str]] = [
        ("ORIG_FLE", quote(fits.url, safe=_PLAIN), ""),
        ("ORIG_EXT", hdu.index, "its HDU, counted from 0"),
    ]
    if fits.etag:
        cards.append(("ORIG_TAG", quote(fits.etag, safe=_PLAIN), "its version (ETag)"))
    return cards
