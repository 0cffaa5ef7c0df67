"""The conversation with a MongoDB server through pymongo: its address, the client, and its errors in our words.

Source of the error codes: MongoDB's manual, "Error Codes".
"""

from __future__ import annotations

import contextlib
import os
import weakref
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nuncius.credentials import find_credentials
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    ServerError,
    TlsError,
    UnreachableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo import MongoClient
    from pymongo.database import Database

    from nuncius.credentials import CredentialsLike
    from nuncius.errors import NunciusError

SERVICE = "mongodb"
_CONNECT_TIMEOUT_MS = 10_000
_REQUEST_S = 60.0  # for one answer, unless the caller gives another time
_LOGIN_CODES = frozenset({11, 18, 8000})  # no such user, refused, refused by Atlas
_UNAUTHORIZED = 13
_UNSUPPORTED_CODES = frozenset({59, 115, 238})  # no such command, not supported, not implemented
# A value, a type, a regular expression or a stage that the server does not understand, or an index that it needs.
_FILTER_CODES = frozenset({2, 9, 14, 16, 17, 27, 28, 40, 51, 52, 53, 56, 57, 168, 241, 291})
_CURSOR_GONE = 43
_FIRST_LOCATION = (
    15_000  # from here on a code is a place in the server's source, mostly where it reads a question
)
_NO_LOCATIONS = range(17_400, 17_420)  # but these are about the size of an answer


class MongoService:
    """One database of a MongoDB server.

    Threads may share it, and it may be carried across a fork: each process makes connections of its own.

    Parameters
    ----------
    url : str
        ``mongodb://host:27017/kowalski``, with the options of MongoDB's connection strings. `mongodb+srv` works too.
    credentials : optional
        The login; see `nuncius.credentials`.

    Raises
    ------
    ConfigurationError
        If the URL is none, names no database, has an unknown option, or holds a secret.
    """

    def __init__(self, url: str, *, credentials: CredentialsLike = None) -> None:
        self.url, self.database_name, host = _address(url)
        self._full_url = url
        self._credentials = find_credentials(SERVICE, credentials, host=host)
        self._clients: dict[int, MongoClient] = {}
        self._closed = False
        weakref.finalize(self, _close, self._clients)

    @property
    def database(self) -> Database:
        """The database, by connections of this process."""
        if self._closed:
            raise ConfigurationError(f"the archive {self.url} is closed; open it again with open_archive")
        client = self._clients.get(os.getpid())
        if client is None:
            made = self._connected()
            # Without a lock, which a fork could leave locked for ever: of two threads, one throws its client away.
            client = self._clients.setdefault(os.getpid(), made)
            if client is not made:
                made.close()
        return client[self.database_name]

    def close(self) -> None:
        """Close the connections of this process."""
        self._closed = True
        _close(self._clients)

    @contextlib.contextmanager
    def asking(self, seconds: float | None) -> Iterator[None]:
        """Ask within a time, of which the server is told too, and raise what fails as our errors.

        Parameters
        ----------
        seconds : float, optional
            How long it may take, attempts included; without it 60 s for an answer, and one attempt more.

        Raises
        ------
        NunciusError
            As the error of pymongo says.
        """
        import pymongo
        from bson.errors import BSONError, InvalidBSON
        from pymongo.errors import PyMongoError

        # Within a time of its own, pymongo goes on trying to its end, also where nobody answers at once.
        limit = contextlib.nullcontext() if seconds is None else pymongo.timeout(seconds)
        seconds = _REQUEST_S if seconds is None else seconds
        try:
            with limit:
                yield
        except PyMongoError as error:
            raise self._failure(error, seconds) from error
        except InvalidBSON as error:
            raise ServerError(
                f"{self.url} has a document that can't be read: {error}", **self._facts
            ) from error
        except (BSONError, OverflowError) as error:
            raise FilterError(
                f"{self.url} can't be asked this: {error}. A question is at most 16 MB large, and whole numbers are "
                "between -2^63 and 2^63",
                **self._facts,
            ) from error

    def _connected(self) -> MongoClient:
        import pymongo
        from bson.codec_options import TypeRegistry
        from pymongo.errors import PyMongoError

        login: dict[str, Any] = (
            {"username": self._credentials.username, "password": self._credentials.reveal()}
            if self._credentials
            else {}
        )
        # Options in the URL go before these.
        named = urlsplit(self._full_url).query.lower()
        defaults: dict[str, Any] = {
            name: value
            for name, value in (
                ("serverSelectionTimeoutMS", _CONNECT_TIMEOUT_MS),
                ("connectTimeoutMS", _CONNECT_TIMEOUT_MS),
                ("socketTimeoutMS", int(_REQUEST_S * 1000)),
                ("appname", "nuncius"),
            )
            if f"{name.lower()}=" not in named
        }
        try:
            return pymongo.MongoClient(
                self._full_url,
                connect=False,
                tz_aware=True,
                tzinfo=UTC,
                datetime_conversion="DATETIME_AUTO",  # a year that Python doesn't have must not lose the document
                type_registry=TypeRegistry([_whole_numbers()]),
                **login,
                **defaults,
            )
        except (PyMongoError, ValueError) as error:
            raise ConfigurationError(f"{self.url}: {error}", **self._facts) from error

    @property
    def _facts(self) -> dict[str, Any]:
        return {"service": SERVICE, "url": self.url}

    def _failure(self, error: Any, seconds: float) -> NunciusError:
        """Return our error for one of pymongo's."""
        from pymongo import errors

        match error:
            case errors.ConfigurationError() | errors.InvalidName() | errors.InvalidOperation():
                return ConfigurationError(f"{self.url}: {error}", **self._facts)
            case errors.OperationFailure():
                return self._refusal(error, seconds)
            case errors.NetworkTimeout() | errors.WaitQueueTimeoutError():
                return self._too_late(seconds)
        text = str(error).partition(", Timeout: ")[0].partition(" (configured timeouts")[0]
        if any(sign in text for sign in ("SSL", "TLS", "certificate")):
            return TlsError(
                f"{self.url}: no secure connection: {text}. Name the certificate of the authority with "
                "?tlsCAFile=… in the URL",
                **self._facts,
            )
        if isinstance(error, errors.ConnectionFailure):
            return UnreachableError(
                f"{self.url} does not answer: {text}. Is the address right, and does the server run?",
                **self._facts,
            )
        return ServerError(f"{self.url}: {error}", **self._facts)

    def _refusal(self, error: Any, seconds: float) -> NunciusError:
        """Return our error for an answer that says no."""
        code = error.code or 0
        said = (error.details or {}).get("errmsg") or str(error)
        who = (
            f"{self._credentials.username!r} (from {self._credentials.source})" if self._credentials else None
        )
        if error.timeout:
            return self._too_late(seconds)
        if code in _LOGIN_CODES:
            return LoginError(
                f"{self.url} refuses the login of {who}: {said}. Accounts are looked up in the database of the URL "
                "unless ?authSource=admin names another",
                **self._facts,
            )
        if code == _UNAUTHORIZED and who is None:
            return LoginError(
                f"{self.url} asks for a login: {said}. Give credentials=(username, password), or set "
                "NUNCIUS_MONGODB_USERNAME and NUNCIUS_MONGODB_PASSWORD",
                **self._facts,
            )
        if code == _UNAUTHORIZED:
            return ForbiddenError(f"{self.url} does not allow {who} to do this: {said}", **self._facts)
        if code == _CURSOR_GONE:
            return ServerError(
                f"{self.url} has thrown the rest of the answer away, because nobody took it for ten minutes; read it "
                "faster, or all at once with .docs",
                **self._facts,
            )
        if (
            code in _UNSUPPORTED_CODES
            or "unknown operator: $geo" in said
            or "unknown operator: $near" in said
        ):
            return UnsupportedError(f"{self.url} can't do this: {said}", **self._facts)
        if code in _FILTER_CODES or (code >= _FIRST_LOCATION and code not in _NO_LOCATIONS):
            return FilterError(f"{self.url} does not understand the question: {said}", **self._facts)
        return ServerError(f"{self.url} answers: {said} (code {code})", **self._facts)

    def _too_late(self, seconds: float) -> DeadlineError:
        return DeadlineError(
            f"{self.url} did not answer within {seconds:.3g} s; give more with timeout_s=", **self._facts
        )


def _close(clients: dict[int, MongoClient]) -> None:
    client = clients.pop(os.getpid(), None)  # those of the processes that we were forked from are theirs
    if client is not None:
        client.close()


def _address(url: str) -> tuple[str, str, str | None]:
    """Return the URL without options, the name of the database, and the host, if it is one."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("?")[0].partition("/")
    options = rest.partition("?")[2].lower()
    # Before anything is parsed: what a parser says of a URL may quote it.
    if "@" in authority or "password=" in options or "authmechanismproperties=" in options:
        raise ConfigurationError(
            "a URL with a user name, a password or another secret in it ends up in logs; give credentials= or set "
            "NUNCIUS_MONGODB_USERNAME and NUNCIUS_MONGODB_PASSWORD",
            service=SERVICE,
        )
    clean = f"{scheme}://{authority}/{path}"
    try:
        if scheme == "mongodb":  # the hosts behind mongodb+srv stand in the DNS
            parse_uri(url, warn=False)
    except (PyMongoError, ValueError) as error:
        raise ConfigurationError(
            f"{clean} is no address of a MongoDB: {error}", service=SERVICE, url=clean
        ) from error
    if scheme not in {"mongodb", "mongodb+srv"} or not authority:
        raise ConfigurationError(
            f"{clean} is no address of a MongoDB: write mongodb://host:27017/database",
            service=SERVICE,
            url=clean,
        )
    if not path or "." in path or "/" in path:
        raise ConfigurationError(
            f"{clean} names no database; write for example {scheme}://{authority}/kowalski",
            service=SERVICE,
            url=clean,
        )
    host = None if "," in authority else urlsplit(clean).hostname
    return clean, path, host


def _whole_numbers() -> Any:
    """Return what makes plain numbers of BSON's 64-bit ones, which have a type of their own."""
    from bson.codec_options import TypeDecoder
    from bson.int64 import Int64

    class WholeNumbers(TypeDecoder):  # type: ignore[misc]
        bson_type = Int64

        def transform_bson(self, value: int) -> int:
            return int(value)

    return WholeNumbers()
