"""Where the next headers probably are.

A chain of HDUs is followed one header at a time: each tells where the next one is. At 50 ms a request, 101 HDUs would take
5 s. But most files of many HDUs repeat themselves, so that a few headers tell where all the others are. A prediction is
never believed: the chain is followed all the same, and only headers on which it lands are used. A wrong guess costs bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.cloudfits import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.cloudfits.hdu import HduDescription

LONGEST_PERIOD = 6
MOST_HDUS = 4096  # predicted at once

Guess = tuple[int, int]
"""Where a header may begin, and how long it may be, in bytes."""


def predict(hdus: Sequence[HduDescription], size: int) -> list[Guess]:
    """Return where the headers after these are, if the file repeats itself up to its very end; else nothing.

    Parameters
    ----------
    hdus : sequence of HduDescription
        The first HDUs of the file, the primary one being the first.
    size : int
        Of the file in bytes.
    """
    begin = hdus[-1].end
    lengths = _Lengths(hdus)
    for period in range(1, LONGEST_PERIOD + 1):
        if not _repeats(hdus, lengths, period):
            continue
        guesses = _continued(hdus[-period:], lengths.last(period), begin, size, lengths.run(period))
        if guesses:
            return guesses
    return []


class _Lengths:
    """The lengths in bytes of all HDUs but the primary one; of thousands only the last ones are mostly looked at."""

    def __init__(self, hdus: Sequence[HduDescription]) -> None:
        self._hdus = hdus

    def __len__(self) -> int:
        return len(self._hdus) - 1

    def __getitem__(self, number: int) -> int:
        hdu = self._hdus[number + 1 if number >= 0 else number]
        return hdu.end - hdu.header_offset

    def last(self, count: int, *, before: int = 0) -> list[int]:
        """Return the last ones, leaving out as many at the end as `before` says."""
        return [self[-number] for number in range(before + count, before, -1)]

    def run(self, period: int) -> int:
        """Return how many of the last ones repeat those before them, the first period counted in."""
        run = period
        while run < len(self) and self[-run - 1] == self[-run - 1 + period]:
            run += 1
        return run


def _repeats(hdus: Sequence[HduDescription], lengths: _Lengths, period: int) -> bool:
    """Tell whether the lengths repeat: two periods were seen, or NEXTEND says that one fills the file."""
    if len(lengths) >= 2 * period:
        return lengths.last(period) == lengths.last(period, before=period)
    if len(lengths) != period:
        return False
    extensions = blocks.value_of(hdus[0].raw, "NEXTEND")
    return isinstance(extensions, int) and extensions > period and extensions % period == 0


def _continued(
    pattern: Sequence[HduDescription], lengths: list[int], begin: int, size: int, seen: int
) -> list[Guess]:
    stride = sum(lengths)
    rest = (size - begin) % stride
    ends = any(rest == sum(lengths[:turn]) for turn in range(len(lengths)))
    # The end may be too far away to be a witness: two small images and a large cube are no pattern of thousands.
    most = MOST_HDUS if ends else 2 * seen
    if not ends and (size - begin) // stride * len(lengths) < MOST_HDUS:
        return []
    guesses: list[Guess] = []
    while begin < size and len(guesses) < most:
        turn = len(guesses) % len(pattern)
        guesses.append((begin, len(pattern[turn].raw)))
        begin += lengths[turn]
    return guesses
