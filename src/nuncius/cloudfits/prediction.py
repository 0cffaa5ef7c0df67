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
    extensions = hdus[1:]
    lengths = [hdu.end - hdu.header_offset for hdu in extensions]
    begin = hdus[-1].end
    for period in range(1, LONGEST_PERIOD + 1):
        if not _repeats(hdus, lengths, period):
            continue
        guesses = _continued(extensions[-period:], lengths[-period:], begin, size, _run(lengths, period))
        if guesses:
            return guesses
    return []


def _repeats(hdus: Sequence[HduDescription], lengths: list[int], period: int) -> bool:
    """Tell whether the lengths repeat: two periods were seen, or NEXTEND says that one fills the file."""
    if len(lengths) >= 2 * period:
        return lengths[-period:] == lengths[-2 * period : -period]
    if len(lengths) != period:
        return False
    extensions = blocks.value_of(hdus[0].raw, "NEXTEND")
    return isinstance(extensions, int) and extensions > period and extensions % period == 0


def _run(lengths: list[int], period: int) -> int:
    """Return how many of the last lengths repeat those before them, the first period counted in."""
    run = period
    while run < len(lengths) and lengths[-run - 1] == lengths[-run - 1 + period]:
        run += 1
    return run


def _continued(
    pattern: Sequence[HduDescription], lengths: list[int], begin: int, size: int, seen: int
) -> list[Guess]:
    guesses: list[Guess] = []
    while begin < size and len(guesses) < MOST_HDUS:
        turn = len(guesses) % len(pattern)
        guesses.append((begin, len(pattern[turn].raw)))
        begin += lengths[turn]
    if begin == size:
        return guesses
    # The end is too far away to be a witness: two small images and a large cube are no pattern of thousands.
    return guesses[: 2 * seen] if len(guesses) == MOST_HDUS else []
