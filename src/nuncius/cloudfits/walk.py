"""Reading the headers of a remote file: from one to the next, in as few round trips as can be.

The first read takes more than the primary header, because the next headers mostly follow at once. Where others are is
predicted (`prediction.py`) or known from a file of the same layout, and they are read side by side. What counts is the
chain: a header is used only if the one before it ends there.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

from nuncius._core.operations import Gather, ReadRange
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import FileDescription, HduDescription, names_of
from nuncius.cloudfits.prediction import MOST_HDUS, predict
from nuncius.cloudfits.ranges import CONCURRENCY, Stats
from nuncius.errors import FileChangedError, FitsError, NotFoundError, TruncatedFitsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from nuncius._core.operations import Operation, Piece, Source
    from nuncius.cloudfits.prediction import Guess

OVERREAD = 32 * 1024  # bytes; at 50 ms and 100 MB/s they cost a hundredth of a round trip
_WAVE_BYTES = 64 << 20  # of guesses at a time: what a stranger's file claims must not fill the memory


class Walked(NamedTuple):
    """What a walk found."""

    file: FileDescription
    head: bytes
    """What was read of the beginning of the file."""


def walk(
    source: Source,
    *,
    hdus: int | str | None = None,
    like: Sequence[HduDescription] = (),
    learned: Callable[[HduDescription, int], Sequence[HduDescription]] | None = None,
    overread: int = OVERREAD,
    stats: Stats | None = None,
    concurrency: int = CONCURRENCY,
) -> Operation[Walked]:
    """Read the headers of a file.

    Parameters
    ----------
    source : Source
        The file.
    hdus : int or str, optional
        Only so many HDUs, or up to the one of that name; all of them by default.
    like : sequence of HduDescription
        The HDUs of a file that probably has the same layout.
    learned : function, optional
        Tells by the primary HDU and the size of the file which HDUs to expect.
    overread : int
        How many bytes the first read takes.
    stats : Stats, optional
        Where costs are counted.
    concurrency : int
        How many requests may run side by side.

    Raises
    ------
    FitsError
        If it is no FITS file, or a header is damaged.
    TruncatedFitsError
        If it ends inside a header.
    FileChangedError
        If it was replaced in between.
    NotFoundError
        If it has no HDU of the name that is given as `hdus`.
    """
    state = _Walk(source, max(overread, blocks.BLOCK), Stats() if stats is None else stats, concurrency)
    first = like[:hdus] if isinstance(hdus, int) else like
    yield from state.fetch([(0, state.overread), *_guesses_of(first)])
    found: list[HduDescription] = []
    trailing, complete = 0, True
    while not found or found[-1].end < state.size:
        if found and _enough(found, hdus):
            complete = False
            break
        begin = found[-1].end if found else 0
        if state.size - begin < blocks.CARD:
            if not found:
                raise state.endless(begin, 0, state.size)
            trailing = state.size - begin
            break
        if not state.has(begin):
            guesses = state.unread(_guesses_of(like, begin)) or predict(found, state.size)
            guesses = guesses[: hdus - len(found)] if isinstance(hdus, int) else guesses
            yield from state.look(begin, guesses, len(found[-1].raw) if found else 0)
            continue
        if not state.begins_header(begin, primary=not found):
            trailing = state.size - begin
            break
        length = state.header_length(begin)
        if length is None:
            yield from state.extend(begin, len(found))
            continue
        found.append(state.describe(begin, length, len(found)))
        if len(found) == 1 and learned is not None and not like:
            like = learned(found[0], state.size)
    if isinstance(hdus, str) and not _enough(found, hdus):
        raise NotFoundError(
            f"there is no HDU {hdus!r} in {source.url}; it has {names_of(found)}", url=source.url
        )
    state.stats.used_bytes += sum(len(hdu.raw) for hdu in found)
    file = FileDescription(
        source.url, state.size, state.etag, state.modified, tuple(found), trailing, complete
    )
    return Walked(file, state.head)


def _enough(found: Sequence[HduDescription], hdus: int | str | None) -> bool:
    if isinstance(hdus, str):
        wanted = hdus.strip().upper()
        return found[-1].name == wanted or wanted == "PRIMARY"
    return hdus is not None and len(found) >= hdus


def _guesses_of(like: Sequence[HduDescription], begin: int = 1) -> list[Guess]:
    return [(hdu.header_offset, len(hdu.raw)) for hdu in like if hdu.header_offset >= begin]


class _Walk:
    """What is known of a file while it is walked through."""

    def __init__(self, source: Source, overread: int, stats: Stats, concurrency: int) -> None:
        self.source = source
        self.overread = overread
        self.stats = stats
        self.concurrency = concurrency
        self.size = 0
        self.etag: str | None = None
        self.modified: datetime | None = None
        self._pieces: dict[int, bytes] = {}
        self._begins: list[int] = []
        self._headers: set[int] = set()  # where headers were expected
        self._last_guess = 0
        self._misses = 0

    # Reading ---------------------------------------------------------------------------------------------------------

    def fetch(self, ranges: Iterable[Guess], continued: Sequence[int] = ()) -> Operation[None]:
        """Read ranges, each given as where it begins and how long it is, side by side.

        `continued` are the pieces that they continue, if they do.
        """
        wanted = list(ranges)
        outcomes = yield Gather([self._ask(begin, length) for begin, length in wanted], self.concurrency)
        self.stats.round_trips += 1
        self.stats.requests += len(wanted)
        for (begin, _), start, outcome in zip(
            wanted, continued or [begin for begin, _ in wanted], outcomes, strict=True
        ):
            self._keep(start, begin, outcome.result())
        self._begins = sorted(self._pieces)

    def look(self, begin: int, guesses: Sequence[Guess], last_length: int) -> Operation[None]:
        """Read what begins at a place, and with it what is guessed of later ones."""
        wanted: dict[int, int] = {}
        total = 0
        # Who was wrong is believed less: a file can be made so that each guess is wrong.
        self._misses += begin < self._last_guess
        guesses = guesses[: MOST_HDUS >> 2 * self._misses]
        self._last_guess = guesses[-1][0] if guesses else 0
        for place, length in guesses:
            total += length
            if total > _WAVE_BYTES:
                break
            if not self.has(place):
                wanted[place] = length
        if begin not in wanted:
            wanted[begin] = max(self.overread, 2 * last_length)
        self._headers.update(wanted)
        yield from self.fetch(sorted(wanted.items()))

    def extend(self, begin: int, index: int) -> Operation[None]:
        """Read on where headers don't end in what is there: this one, and others that were expected to be as long."""
        wanted, pieces, total = [], [], 0
        for place in sorted({begin, *(place for place in self._headers if place > begin)}):
            start = self._piece_of(place)
            if place != begin and not (start == place and self._unfinished(place)):
                continue
            there = start + len(self._pieces[start])
            known = there - place
            total += max(known, self.overread)
            if there >= self.size or known > blocks.MOST_HEADER_BYTES:
                if place == begin:
                    raise self.endless(begin, index, known)
                continue
            if place == begin or total <= _WAVE_BYTES:
                wanted.append((there, max(known, self.overread)))
                pieces.append(start)
        yield from self.fetch(wanted, pieces)

    def _ask(self, begin: int, length: int) -> Operation[Piece]:
        piece: Piece = yield ReadRange(self.source, begin, begin + length, self.etag)
        if len(piece.data) < min(length, piece.size - begin):
            raise TruncatedFitsError(
                f"{self.source.url} gave {len(piece.data):,} bytes from byte {begin:,} where {length:,} were asked for, "
                f"though it says that it has {piece.size:,}; it was cut or replaced: open it again",
                url=self.source.url,
                position=f"byte {begin + len(piece.data)}",
            )
        return piece

    def _keep(self, start: int, begin: int, piece: Piece) -> None:
        self.stats.bytes += len(piece.data)
        if not self._pieces:
            self.size, self.etag, self.modified = piece.size, piece.etag, piece.modified
            _check_beginning(piece, self.source.url)
        elif (piece.size, piece.etag) != (self.size, self.etag):
            raise FileChangedError(
                f"{self.source.url} was replaced while its headers were read; open it again",
                url=self.source.url,
            )
        if piece.data:
            self._pieces[start] = self._pieces[start] + piece.data if start < begin else piece.data

    # What is there ---------------------------------------------------------------------------------------------------

    @property
    def head(self) -> bytes:
        """What was read of the beginning."""
        return self._pieces[0][: self.overread]

    def has(self, begin: int) -> bool:
        """Tell whether the first card at a place was read."""
        start = self._piece_of(begin)
        return start >= 0 and begin + blocks.CARD <= start + len(self._pieces[start])

    def unread(self, guesses: Iterable[Guess]) -> list[Guess]:
        """Return the guesses that lie in the file and were not read yet."""
        return [guess for guess in guesses if guess[0] < self.size and not self.has(guess[0])]

    def begins_header(self, begin: int, *, primary: bool) -> bool:
        """Tell whether a header begins at a place; after the last HDU anything may follow."""
        start = self._piece_of(begin)
        card = self._pieces[start][begin - start : begin - start + blocks.CARD]
        return primary or card.startswith(b"XTENSION=")

    def header_length(self, begin: int) -> int | None:
        """Return the length of the header that begins there; None if its END was not read."""
        start = self._piece_of(begin)
        length = blocks.header_length(self._pieces[start], begin - start)
        return length if length is not None and begin + length <= start + len(self._pieces[start]) else None

    def describe(self, begin: int, length: int, index: int) -> HduDescription:
        """Return the HDU whose header is there, whole."""
        start = self._piece_of(begin)
        raw = self._pieces[start][begin - start : begin - start + length]
        structure = blocks.parse_structure(raw, where=self.source.url, position=f"HDU {index}")
        truncated = begin + length + structure.data_size > self.size
        return HduDescription(
            index, raw, structure, header_offset=begin, truncated=truncated, url=self.source.url
        )

    def _piece_of(self, begin: int) -> int:
        """Return where the piece begins that holds the byte at a place; -1 if none does."""
        at = bisect.bisect_right(self._begins, begin) - 1
        if at < 0:
            return -1
        start = self._begins[at]
        return start if begin < start + len(self._pieces[start]) else -1

    def _unfinished(self, place: int) -> bool:
        return self.begins_header(place, primary=False) and self.header_length(place) is None

    def endless(self, begin: int, index: int, known: int) -> FitsError:
        """Return the error for a header that does not end, of which so many bytes are known."""
        end = blocks.find_end(self._pieces[self._piece_of(begin)], begin - self._piece_of(begin))
        hint = f"; hdus={index} opens those before it" if index else ""
        if known > blocks.MOST_HEADER_BYTES:
            reason = f"has no END card in its first {known:,} bytes, so that it is none"
        elif end is not None:
            reason = f"is cut: the file ends at byte {self.size:,}, inside its last block"
        else:
            reason = (
                f"has no END card before the file ends at byte {self.size:,}: the file was cut, or is damaged"
            )
        kind = FitsError if known > blocks.MOST_HEADER_BYTES else TruncatedFitsError
        return kind(
            f"the header of HDU {index} of {self.source.url} (from byte {begin:,}) {reason}{hint}",
            url=self.source.url,
            position=f"HDU {index}",
        )


def _check_beginning(piece: Piece, url: str) -> None:
    """Raise unless these bytes begin a FITS file; say what they look like instead."""
    data = piece.data
    if data.startswith(b"SIMPLE  ="):
        return
    text = data[:512].lstrip().lower()
    if not data:
        looks = "it is empty"
    elif data.startswith(b"\x1f\x8b"):
        looks = "it is compressed with gzip, in which nothing can be found without reading it from its beginning; "
        looks += "whole_file=True reads it whole"
    elif data.startswith((b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"PK\x03\x04")):
        looks = "it is a compressed file; whole_file=True reads what gzip has compressed, others must be unpacked first"
    elif text.startswith((b"<!doctype html", b"<html")):
        looks = "it is a page of HTML: perhaps a login, or an error of the service"
    elif text.startswith((b"<?xml", b"<error")):
        looks = "it is XML: perhaps an error of the store"
    else:
        looks = f"it begins with {bytes(data[:16])!r}, and FITS begins with 'SIMPLE  ='"
    raise FitsError(f"{url} is no FITS file: {looks}", url=url, position="byte 0")
