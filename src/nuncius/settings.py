"""Where settings and state live on this machine, and what they say of a service.

A setting is looked for in the argument, in ``NUNCIUS_<SERVICE>_<NAME>``, and in ``config.toml`` in the user's
configuration folder, which has a table for each service::

    [antares]
    servers = "kafka.antares.noirlab.edu:9092"
    ssl_ca_location = "/home/jane/kafka-ca.pem"
    group = "jane-night"
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from nuncius._core.tomlfile import set_keys
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def data_dir() -> Path:
    """Return the folder for what nuncius keeps between runs; `NUNCIUS_DATA_DIR` moves it."""
    moved = os.environ.get("NUNCIUS_DATA_DIR")
    if moved:
        return Path(moved).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("nuncius"))


def config_dir() -> Path:
    """Return the folder of `config.toml` and `credentials.toml`; `NUNCIUS_CONFIG_DIR` moves it."""
    moved = os.environ.get("NUNCIUS_CONFIG_DIR")
    if moved:
        return Path(moved).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("nuncius"))


def find_setting(service: str, name: str) -> str | None:
    """Return what the environment or ``config.toml`` says of a service; None if neither does.

    Parameters
    ----------
    service : str
        Such as ``"antares"``.
    name : str
        ``servers``, ``ssl_ca_location`` or ``group``.

    Raises
    ------
    ConfigurationError
        If the file can't be read or is no TOML, or the value is no text.
    """
    variable = f"NUNCIUS_{service}_{name}".upper().replace("-", "_")
    if value := os.environ.get(variable):
        return value
    path = config_dir() / "config.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", position=str(path)) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}", position=str(path)) from error
    table = tables.get(service)
    value = table.get(name) if isinstance(table, dict) else None
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{path}: {name} in [{service}] is not a text", position=str(path))
    return value


def store_settings(service: str, values: Mapping[str, str]) -> Path:
    """Add to what ``config.toml`` says of a service; return the file.

    Raises
    ------
    ConfigurationError
        If the file is no TOML.
    StorageError
        If it can't be written.
    """
    path = config_dir() / "config.toml"
    set_keys(path, service, values)
    return path


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
