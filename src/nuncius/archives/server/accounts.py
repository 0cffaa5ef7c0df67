"""Who may ask: accounts with hashed passwords, and tokens, in a small SQLite file beside the archive.

The file is not the archive, so no query reaches it. A password is kept as its scrypt hash; a token is a signed text
(JSON Web Token, RFC 7519) with an end, which dies earlier when the password changes or the account goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import stat
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, LoginError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_APPLICATION_ID = 0x4E554E41  # "NUNA"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+\-]{0,63}")
_SHORTEST, _LONGEST = 6, 1024
_SCRYPT_COST = 15  # 32 MiB and about a tenth of a second for each guess
_TABLES = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    """CREATE TABLE users (
        name TEXT PRIMARY KEY, hash TEXT NOT NULL, admin INTEGER NOT NULL, email TEXT, version TEXT NOT NULL,
        created TEXT NOT NULL
    )""",
    """CREATE TABLE skymaps (
        id INTEGER PRIMARY KEY, owner TEXT NOT NULL, dateobs TEXT NOT NULL, trigger_id TEXT, aliases TEXT NOT NULL,
        name TEXT NOT NULL, center TEXT NOT NULL, UNIQUE (dateobs, name)
    )""",
    """CREATE TABLE contours (
        skymap INTEGER NOT NULL, percent REAL NOT NULL, low BLOB NOT NULL, high BLOB NOT NULL,
        PRIMARY KEY (skymap, percent)
    )""",
)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may ask.

    Parameters
    ----------
    name : str
        The user name.
    admin : bool
        Whether this user may add and remove others.
    email : str, optional
        Where to reach them.
    created : str
        When the account was made (ISO 8601, UTC).
    """

    name: str
    admin: bool
    email: str | None
    created: str


class Accounts:
    """The accounts of a server, in a file of their own that only its owner may read.

    Parameters
    ----------
    path : str or Path
        The file; it is made if it does not exist.
    scrypt_cost : int
        The binary logarithm of scrypt's cost, for passwords that are set from now on.

    Raises
    ------
    StorageError
        If the file can't be used, or others may read it.

    Examples
    --------
    >>> with Accounts("night.db.accounts.db") as accounts:  # doctest: +SKIP
    ...     accounts.add("vera", password)
    """

    def __init__(self, path: str | Path, *, scrypt_cost: int = _SCRYPT_COST) -> None:
        self.path = Path(path).expanduser().absolute()
        self._cost = scrypt_cost
        self._lock = threading.Lock()
        self._connection = self._opened()
        self._secret = self._kept("secret", lambda: secrets.token_bytes(48))
        # What an unknown name is compared with, so that it takes as long as a known one.
        self._nobody = _hashed(secrets.token_hex(), scrypt_cost)

    # Accounts ---------------------------------------------------------------------------------------------------------

    def add(self, name: str, password: str, *, admin: bool = False, email: str | None = None) -> None:
        """Add an account.

        Raises
        ------
        ConfigurationError
            If name or password can't be used, or the name is taken.
        """
        _check_name(name)
        row = (name, _hashed(_checked(password), self._cost), admin, email, secrets.token_hex(8))
        with self._writing() as connection:
            done = connection.execute(
                "INSERT OR IGNORE INTO users (name, hash, admin, email, version, created) VALUES (?, ?, ?, ?, ?, ?)",
                (*row, datetime.now(UTC).isoformat(timespec="seconds")),
            )
            if not done.rowcount:
                raise ConfigurationError(f"there is an account {name!r} already; choose another name")

    def edit(self, name: str, *, password: str | None = None, email: str | None = None) -> None:
        """Change an account. With the password all its tokens die.

        Raises
        ------
        NotFoundError
            If there is no such account.
        ConfigurationError
            If the password can't be used.
        """
        self.get(name)
        new = _hashed(_checked(password), self._cost) if password is not None else None
        with self._writing() as connection:
            if new is not None:
                connection.execute(
                    "UPDATE users SET hash = ?, version = ? WHERE name = ?", (new, secrets.token_hex(8), name)
                )
            if email is not None:
                connection.execute("UPDATE users SET email = ? WHERE name = ?", (email, name))

    def remove(self, name: str) -> None:
        """Remove an account, and with it its tokens.

        Raises
        ------
        NotFoundError
            If there is no such account.
        """
        with self._writing() as connection:
            if not connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
                raise _no_account(name)

    def get(self, name: str) -> Account:
        """Return an account.

        Raises
        ------
        NotFoundError
            If there is no such account.
        """
        for account in self.everyone():
            if account.name == name:
                return account
        raise _no_account(name)

    def everyone(self) -> list[Account]:
        """Return all accounts, sorted by name."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT name, admin, email, created FROM users ORDER BY name"
            ).fetchall()
        return [Account(name, bool(admin), email, created) for name, admin, email, created in rows]

    # Logging in -------------------------------------------------------------------------------------------------------

    def accepts(self, name: str, password: str) -> bool:
        """Tell whether a password is right; it takes as long for a name that does not exist."""
        row = self._row(name)
        right = _verified(password, self._nobody if row is None else row[0])
        return right and row is not None

    def token(self, name: str, *, lifetime_s: float) -> str:
        """Make a token for an account.

        Raises
        ------
        NotFoundError
            If there is no such account.
        """
        row = self._row(name)
        if row is None:
            raise _no_account(name)
        now = time.time()
        claims = {
            "user_id": name,
            "created_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "exp": int(now + lifetime_s),
            "version": row[1],
        }
        return str(_jwt().encode(claims, self._secret, algorithm="HS256"))

    def user_of(self, token: str) -> Account:
        """Return whose token it is.

        Raises
        ------
        LoginError
            With ``token is invalid`` or ``token has expired``, as Kowalski says it.
        """
        jwt = _jwt()
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], options={"require": ["exp", "user_id", "version"]}
            )
        except jwt.ExpiredSignatureError:
            raise LoginError("token has expired") from None
        except jwt.PyJWTError:
            raise LoginError("token is invalid") from None
        name, version = claims["user_id"], claims["version"]
        row = self._row(name) if isinstance(name, str) else None
        if row is None or not isinstance(version, str) or not hmac.compare_digest(row[1], version):
            raise LoginError("token is invalid")
        return Account(name, bool(row[2]), row[3], row[4])

    def _row(self, name: str) -> tuple[Any, ...] | None:
        with self._reading() as connection:
            row: tuple[Any, ...] | None = connection.execute(
                "SELECT hash, version, admin, email, created FROM users WHERE name = ?", (name,)
            ).fetchone()
        return row

    # The file ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Accounts {self.path}>"

    def _opened(self) -> sqlite3.Connection:
        try:
            # Made by us and not by SQLite, which would let others read it for a moment.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise StorageError(
                    f"others may read {self.path}, which holds accounts; run: chmod 600 {self.path}",
                    position=str(self.path),
                )
            connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
            with self._explained():
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("BEGIN IMMEDIATE")
                self._check_layout(connection)
                connection.execute("COMMIT")
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"the accounts file {self.path} can't be used: {error.strerror}", position=str(self.path)
            ) from error
        return connection

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == _APPLICATION_ID:
            return
        if application or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StorageError(f"{self.path} is no accounts file of nuncius", position=str(self.path))
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _kept(self, name: str, make: Any) -> bytes:
        """Return a setting, made at its first use."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, make()))
            value: bytes = connection.execute(
                "SELECT value FROM settings WHERE name = ?", (name,)
            ).fetchone()[0]
        return value

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"the accounts file {self.path} can't be used: {error}", position=str(self.path)
            ) from error


def accounts_path(archive: str | Path) -> Path:
    """Return where the accounts of an archive are kept: ``night.db.accounts.db`` beside ``night.db``."""
    path = Path(archive).expanduser()
    return path.with_name(f"{path.name}.accounts.db")


def _jwt() -> Any:
    return require("jwt", extra="server")


def _no_account(name: str) -> NotFoundError:
    return NotFoundError(f"there is no account {name!r}", position=name)


def is_name(name: str) -> bool:
    """Tell whether it can be a user name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ConfigurationError(
            "a user name has 1 to 64 letters, digits and _.@+-, and begins with none of .@+-"
        )


def _checked(password: str) -> str:
    if not isinstance(password, str) or not _SHORTEST <= len(password) <= _LONGEST:
        raise ConfigurationError(f"a password has {_SHORTEST} to {_LONGEST} characters")
    return password


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    memory = 128 * 8 * (1 << cost)
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=1 << cost, r=8, p=1, maxmem=2 * memory, dklen=32)


def _hashed(password: str, cost: int) -> str:
    salt = secrets.token_bytes(16)
    return f"scrypt${cost}${salt.hex()}${_scrypt(password, salt, cost).hex()}"


def _verified(password: str, kept: str) -> bool:
    _, cost, salt, digest = kept.split("$")
    if len(password) > _LONGEST:
        return False
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt), int(cost)), bytes.fromhex(digest))
