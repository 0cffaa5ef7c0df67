"""The processor time of one header: our structural walk and keywords found in its bytes, against whole Headers."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Table, check, interleaved
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import HduDescription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_PARSED = "astropy Header.fromstring, one keyword"
_FITSIO = "fitsio.read_header of a local file, one keyword"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    for cards in (108, 324, 2556):
        yield _headers(cards, scale)


def _headers(cards: int, scale: Scale) -> Table:
    raw, names = _header(cards)
    with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-", dir=_memory()) as folder:
        path = Path(folder, "header.fits")
        path.write_bytes(raw)
        sides = _sides(raw, names, path)
        text = _value_of(raw, _text_of(names))
        for name in (side for side in sides if side.endswith("one keyword")):
            check(sides[name]() == text, f"{name} and {_PARSED}")
        budget = scale.of(200_000, 50_000) // cards
        timed = {name: _timed(side, max(budget // _slowness(name), 1)) for name, side in sides.items()}
        measured = interleaved(timed, scale.runs)
    table = Table(f"fits: processor time for a header of {cards} cards", "µs")
    for name in sides:
        table.add(name, measured, to=None if name == _PARSED else _PARSED, label="Header.fromstring")
    if _FITSIO not in sides:
        table.notes.append("fitsio is not compared: pip install fitsio")
    return table


def _value_of(raw: bytes, name: str) -> Any:
    """Return what astropy says."""
    from astropy.io import fits

    return fits.Header.fromstring(raw.decode("ascii"))[name]


def _slowness(name: str) -> int:
    """Return how many times as long as the others a side takes, roughly: it is repeated less often."""
    return 100 if name == _FITSIO else 10 if "all values" in name else 1


def _timed(side: Callable[[], Any], times: int) -> Callable[[], float]:
    def measure() -> float:
        begin = process_time()
        for _ in range(times):
            side()
        return (process_time() - begin) / times * 1e6

    return measure


def _sides(raw: bytes, names: list[str], path: Path) -> dict[str, Callable[[], Any]]:
    from astropy.io import fits

    described = _walked(raw)
    text, number = _text_of(names), names[len(names) // 8 * 4]
    twenty = names[:: max(len(names) // 20, 1)][:20]

    def fresh() -> HduDescription:
        return HduDescription(0, raw, described.structure, header_offset=0)

    def parsed() -> fits.Header:
        return fits.Header.fromstring(raw.decode("ascii"))

    sides: dict[str, Callable[[], Any]] = {
        _PARSED: lambda: parsed()[text],
        "astropy Header.fromstring, 20 keywords": lambda: _taken(parsed().__getitem__, twenty),
        "astropy Header.fromstring, all values": lambda: list(parsed().values()),
        "nuncius, find END": lambda: blocks.header_length(raw),
        "nuncius, find END and the structure": lambda: _walked(raw),
        "nuncius, the same and .get, one keyword": lambda: _walked(raw).get(text),
        "nuncius, .get, one keyword": lambda: fresh().get(text),
        "nuncius, .get of a float": lambda: fresh().get(number),
        "nuncius, .get of 20 keywords": lambda: _taken(fresh().get, twenty),
        "nuncius, .get of a keyword that isn't there": lambda: fresh().get("NOTTHERE"),
        "nuncius, .header, one keyword": lambda: fresh().header[text],
    }
    if find_spec("fitsio"):
        import fitsio

        sides[_FITSIO] = lambda: fitsio.read_header(str(path))[text]
    return sides


def _text_of(names: list[str]) -> str:
    """Return a keyword in the middle whose value is a text."""
    return names[len(names) // 8 * 4 + 2]


def _walked(raw: bytes) -> HduDescription:
    """Do what the walk does for each header."""
    length = blocks.header_length(raw)
    part = raw[:length]
    return HduDescription(0, part, blocks.parse_structure(part, where="", position=""), header_offset=0)


def _taken(get: Callable[[str], Any], names: list[str]) -> list[Any]:
    return [get(name) for name in names]


def _header(cards: int) -> tuple[bytes, list[str]]:
    """Return a header of so many cards with END: floats, whole numbers, texts and logical values in turn."""
    from astropy.io import fits

    header = fits.PrimaryHDU().header
    names = [f"K{number:06d}" for number in range(cards - 1 - len(header))]
    for number, name in enumerate(names):
        kinds = (number / 7, number, f"value {number}", number % 8 == 3)
        header[name] = (kinds[number % 4], f"comment {number}")
    check(len(header) + 1 == cards, "the cards that were asked for")
    return header.tostring().encode("ascii"), names


def _memory() -> str | None:
    """Return a folder in memory, so that reading a local file costs no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
