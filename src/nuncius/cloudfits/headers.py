"""How `open_fits` comes to the headers of a file: it walks, it reads the whole file, or it knows them already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuncius.cloudfits.ranges import CONCURRENCY, Stats
from nuncius.cloudfits.walk import OVERREAD, Walked, walk
from nuncius.cloudfits.whole import read_whole
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from nuncius._core.operations import Operation, Source
    from nuncius.cloudfits.hdu import FileDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class Walking:
    """How the headers of a file are read; see `open_fits`."""

    hdus: int | str | None = None
    like: FileDescription | None = None
    known: FileDescription | None = None
    overread_bytes: int = OVERREAD
    whole_file: bool = False
    max_concurrency: int = CONCURRENCY


def check_options(hdus: int | str | None, **counts: int) -> None:
    """Raise ConfigurationError unless `hdus` says which HDUs are read, and the counts are whole numbers from 1."""
    if isinstance(hdus, bool) or not (
        hdus is None or isinstance(hdus, str) or (isinstance(hdus, int) and hdus > 0)
    ):
        raise ConfigurationError(
            f"hdus={hdus!r}: it is how many HDUs are read, from 1, or the name of the last one"
        )
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name}={value!r}: it is a whole number, 1 or more")


def describe_file(source: Source, walking: Walking, stats: Stats) -> Operation[Walked]:
    """Read the headers of a file, or take what is known of them."""
    if walking.known is not None:
        return Walked(walking.known, b"")
    walked_through, cost = source, stats
    if walking.whole_file:
        whole = yield from read_whole(source, stats)
        walked_through, cost = whole, Stats()
    walked = yield from walk(
        walked_through,
        hdus=walking.hdus,
        like=walking.like.hdus if walking.like else (),
        overread=walking.overread_bytes,
        stats=cost,
        concurrency=walking.max_concurrency,
    )
    return walked._replace(head=whole.piece.data) if walking.whole_file else walked
