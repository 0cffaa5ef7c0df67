"""The disk guard: a stream rests while a disk is nearly full, and leaves room for everybody else's work."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


class DiskGuard:
    """Watches the free space where alerts are kept.

    Parameters
    ----------
    folders : iterable of Path
        Where something is written; folders that don't exist yet count as those above them.
    min_free_bytes : int
        How much must stay free, for other users than root.
    """

    def __init__(self, folders: Iterable[Path], min_free_bytes: int) -> None:
        self.min_free_bytes = min_free_bytes
        self._folders = sorted({folder.expanduser().absolute() for folder in folders})

    def free_bytes(self) -> dict[str, int]:
        """Return what is free for each folder; a folder that can't be asked is left out."""
        found = {}
        for folder in self._folders:
            place = next((path for path in (folder, *folder.parents) if path.is_dir()), folder)
            try:
                found[str(folder)] = shutil.disk_usage(place).free
            except OSError:  # a disk that went away is found out by who writes to it
                continue
        return found

    def shortage(self) -> str | None:
        """Say where too little is free, or return None."""
        for folder, free in self.free_bytes().items():
            if free < self.min_free_bytes:
                return (
                    f"{folder} has {_shown(free)} free, less than the {_shown(self.min_free_bytes)} of --min-free. Make "
                    "room there; reading goes on by itself then, and nothing is lost meanwhile as long as the broker "
                    "keeps it"
                )
        return None


def parse_size(text: str) -> int:
    """Understand a size such as ``1GB``, ``500 MB``, ``2GiB`` or ``0``; return bytes.

    Raises
    ------
    ConfigurationError
        If it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(?:([KMGT]I?)?B?)", text.strip().upper())
    if match is None:
        raise ConfigurationError(f"{text!r} is no size; write 1GB, 500MB or 0")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def _shown(count: int) -> str:
    for unit in ("TB", "GB", "MB", "kB"):
        size = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}[unit]
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:.0f} {unit}"
    return f"{count} bytes"
