"""Where settings and state live on this machine."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from pathlib import Path

from nuncius.errors import StorageError


def data_dir() -> Path:
    """Return the folder for what nuncius keeps between runs; `NUNCIUS_DATA_DIR` moves it."""
    moved = os.environ.get("NUNCIUS_DATA_DIR")
    if moved:
        return Path(moved).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("nuncius"))


def default_group() -> str:
    """Return the name of this user's consumer group on this machine, made once and then kept.

    A stable name is what lets a stream resume where it left off; a random part keeps two users apart.

    Raises
    ------
    StorageError
        If the name can't be kept.
    """
    path = data_dir() / "group"
    try:
        if path.is_file() and (name := path.read_text(encoding="utf-8").strip()):
            return name
        user = re.sub(r"\W+", "-", _user()) or "user"
        name = f"nuncius-{user}-{secrets.token_hex(4)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may start at once: the first one to create the file decides for both.
        with path.open("x", encoding="utf-8") as file:
            file.write(name + "\n")
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip() or name
    except OSError as error:
        raise StorageError(
            f"the name of your consumer group can't be kept in {path}: {error.strerror}. Name one yourself with group=, "
            "or let NUNCIUS_DATA_DIR name a folder that can be written",
            position=str(path),
        ) from error
    return name


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user database
        return "user"
