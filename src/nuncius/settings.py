"""Where settings and state live on this machine."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import tempfile
from pathlib import Path

from nuncius.errors import StorageError


def data_dir() -> Path:
    """Return the folder for what nuncius keeps between runs; `NUNCIUS_DATA_DIR` moves it."""
    moved = os.environ.get("NUNCIUS_DATA_DIR")
    if moved:
        return Path(moved).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("nuncius"))


def config_dir() -> Path:
    """Return the folder of `credentials.toml`; `NUNCIUS_CONFIG_DIR` moves it."""
    moved = os.environ.get("NUNCIUS_CONFIG_DIR")
    if moved:
        return Path(moved).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("nuncius"))


def default_group() -> str:
    """Return the name of this user's consumer group on this machine, made once and then kept.

    A stable name is what lets a stream resume where it left off; a random part keeps two users apart.

    Raises
    ------
    StorageError
        If the name can't be kept.
    """
    path = data_dir() / "group"
    user = re.sub(r"\W+", "-", _user()) or "user"
    try:
        if name := _kept_name(path):
            return name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".group")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"nuncius-{user}-{secrets.token_hex(4)}\n")
        try:
            # Two processes may start at once: the first one to link its file decides for both. The name is in it then,
            # so that nobody finds it empty.
            if path.is_file() and not _kept_name(path):  # a crash left it empty
                path.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            Path(draft).unlink()
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"the name of your consumer group can't be kept in {path}: {reason}. Name one yourself with group=, "
            "or let NUNCIUS_DATA_DIR name a folder that can be written",
            position=str(path),
        ) from error


def _kept_name(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user database
        return "user"
