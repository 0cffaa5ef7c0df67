"""The numbers of FITS (Standard 4.0, section 3)."""

from __future__ import annotations

BLOCK_SIZE: int = 2880
"""A header and its data are each padded to blocks of so many bytes."""
END_CARD: str = "END".ljust(80)
"""The last card of a header."""
ENCODING: str = "utf-8"
"""Headers are ASCII, which this includes."""
