"""Files that are there whole or not at all, and on the disk when we say so."""

from __future__ import annotations

import errno
import os
import secrets
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_AT_ONCE = 16  # files that are on their way to the disk
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


def write_durably(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that is on the disk, whole, when this returns; what was there is replaced.

    With `private` nobody else may read it, at no moment.

    Raises
    ------
    OSError
        If it can't be written; then nothing has changed.
    """
    _write(path, data, durably=True, mode=0o600 if private else 0o666)
    sync_folder(path.parent)


def write_all_durably(files: Mapping[Path, bytes]) -> None:
    """Write many files as `write_durably` writes one; much faster, for the disk takes them together.

    Raises
    ------
    OSError
        If one can't be written; the others may have been.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(files)))) as pool:
        for _ in pool.map(lambda item: _write(*item, durably=True), files.items()):
            pass
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also when several processes write it; a crash may lose it.

    Raises
    ------
    OSError
        If it can't be written; then nothing has changed.
    """
    _write(path, data, durably=False)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, on the disk when this returns.

    Raises
    ------
    OSError
        If it can't be made.
    """
    if path.is_dir():
        return
    fresh = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in fresh:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder reach the disk, as `fsync` has the content of a file."""
    if os.name != "posix":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lock(file: IO[bytes] | int, *, shared: bool = False) -> bool:
    """Lock an open file, or folder (by its descriptor), between processes and threads until it is closed; wait while others hold it.

    Returns
    -------
    bool
        False where the file system has no locks.

    Raises
    ------
    OSError
        If it fails for another reason.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's name, in one step that no crash can split.

    Returns
    -------
    bool
        False where the system or the file system can't; then nothing has changed.

    Notes
    -----
    Source: Linux' renameat2(2) with RENAME_EXCHANGE.
    """
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # another system
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _write(path: Path, data: bytes, *, durably: bool, mode: int = 0o666) -> None:
    # A short name of its own: that of the file may be as long as names can be.
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
