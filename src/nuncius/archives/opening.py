"""`open_archive`: which archive a URL means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload
from urllib.parse import urlsplit

from nuncius._core.drivers import AsyncDriver, Driver
from nuncius.archives._async import AsyncArchive
from nuncius.archives._sync import Archive
from nuncius.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.archives.backend import Backend
    from nuncius.archives.embedded import AsyncEmbeddedArchive, EmbeddedArchive
    from nuncius.credentials import CredentialsLike, Token

ArchiveLike: TypeAlias = "str | Path | Mapping[str, Any]"
"""What stands for an archive: a path, a URL, or a mapping with `url` and options of its own."""

_SCHEMES = (
    "kowalski+https",
    "kowalski+http",
    "boom+https",
    "boom+http",
    "antares+https",
    "antares+http",
    "alerce+https",
    "alerce+http",
    "mongodb",
    "mongodb+srv",
    "duckdb",
    "sqlite",
)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")
_OPTIONS = frozenset({"url", "credentials", "token", "timeout_s", "read_only"})


@overload
def open_archive(
    url: Path,
    *,
    read_only: bool = ...,
    credentials: CredentialsLike = ...,
    token: str | Token | None = ...,
    timeout_s: float | None = ...,
    verify: bool | str = ...,
) -> EmbeddedArchive: ...
@overload
def open_archive(
    url: str | Mapping[str, ArchiveLike],
    *,
    read_only: bool = ...,
    credentials: CredentialsLike = ...,
    token: str | Token | None = ...,
    timeout_s: float | None = ...,
    verify: bool | str = ...,
) -> Any: ...
def open_archive(
    url: str | Path | Mapping[str, ArchiveLike],
    *,
    read_only: bool = False,
    credentials: CredentialsLike = None,
    token: str | Token | None = None,
    timeout_s: float | None = None,
    verify: bool | str = True,
) -> Any:
    """Open an archive: a file, which is made if it doesn't exist, a server, or several as one.

    Parameters
    ----------
    url : str, Path or mapping
        The path of an archive file (``night.db``), or where a server is: ``kowalski+https://host:443``,
        ``boom+https://host``, ``antares+https://api.antares.noirlab.edu``, ``alerce+https://api.alerce.online``,
        ``mongodb://host/database``. ``duckdb:///folder`` reads what `export` has written. A mapping of names to any of
        these is a federation: each question goes to an archive that has the catalog, and many positions are divided
        among all that have it. In place of a URL it may have a mapping with `url`, `credentials` and `token`.
    read_only : bool
        Open a file for reading alone; it must exist.
    credentials : (username, password), optional
        The login. Else ``NUNCIUS_KOWALSKI_USERNAME`` and ``…_PASSWORD`` (or BOOM, MONGODB) in the environment, the table
        of the host or of the service in ``credentials.toml``, or netrc. ANTARES and ALeRCE want none, and get none.
    token : str, optional
        In place of a login. Else ``NUNCIUS_KOWALSKI_TOKEN``, or `token` in ``credentials.toml``.
    timeout_s : float, optional
        How long any one question may take, unless the question says otherwise. Without it a single request to a server
        may take 60 s.
    verify : bool or str
        How servers are verified: by the system's certificates, or by those in this file or folder. False verifies
        nothing, and lets anybody between you and the server read your password.

    Returns
    -------
    EmbeddedArchive, KowalskiArchive, AntaresArchive, AlerceArchive or Archive

    Raises
    ------
    ConfigurationError
        If the URL means no archive, or has a password in it.
    StorageError
        If a file can't be opened, is no archive, or lies on a network file system.
    NotFoundError
        If a file was opened read-only and doesn't exist.

    Examples
    --------
    >>> with open_archive("night.db") as archive:  # doctest: +SKIP
    ...     archive.ingest(read_packets("packets/"))
    ...     archive.cone_search("ZTF_alerts", (75.2, 35.36), "5 arcsec").to_table()
    >>> open_archive({"here": "night.db", "caltech": "kowalski+https://kowalski.caltech.edu"})  # doctest: +SKIP
    """
    return _open(
        url, False, verify, read_only=read_only, credentials=credentials, token=token, timeout_s=timeout_s
    )


@overload
def open_async_archive(
    url: Path,
    *,
    read_only: bool = ...,
    credentials: CredentialsLike = ...,
    token: str | Token | None = ...,
    timeout_s: float | None = ...,
    verify: bool | str = ...,
) -> AsyncEmbeddedArchive: ...
@overload
def open_async_archive(
    url: str | Mapping[str, ArchiveLike],
    *,
    read_only: bool = ...,
    credentials: CredentialsLike = ...,
    token: str | Token | None = ...,
    timeout_s: float | None = ...,
    verify: bool | str = ...,
) -> Any: ...
def open_async_archive(
    url: str | Path | Mapping[str, ArchiveLike],
    *,
    read_only: bool = False,
    credentials: CredentialsLike = None,
    token: str | Token | None = None,
    timeout_s: float | None = None,
    verify: bool | str = True,
) -> Any:
    """Open an archive whose methods are awaited; see `nuncius.open_archive`.

    Examples
    --------
    >>> async with nuncius.aio.open_archive("night.db") as archive:  # doctest: +SKIP
    ...     await archive.count("ZTF_alerts", {"candidate.drb": {"$gt": 0.9}})
    """
    return _open(
        url, True, verify, read_only=read_only, credentials=credentials, token=token, timeout_s=timeout_s
    )


def _open(url: Any, is_async: bool, verify: bool | str, **options: Any) -> Any:
    archive = _face(url, is_async, verify, options)
    # Pickled as URL and settings, never with a secret.
    public = {name: options[name] for name in ("read_only", "timeout_s")}
    reopen = open_async_archive if is_async else open_archive
    archive._reopen = partial(reopen, _without_secrets(url), verify=verify, **public)
    return archive


def _face(url: Any, is_async: bool, verify: bool | str, options: dict[str, Any]) -> Any:
    driver: Any = AsyncDriver if is_async else Driver
    timeout_s = options["timeout_s"]
    if isinstance(url, Mapping):
        from nuncius.archives.federation import FederationBackend

        if not url:
            raise ConfigurationError("a federation has at least one archive: {'here': 'night.db'}")
        members = {str(name): _backend(*_member(name, value, options)) for name, value in url.items()}
        return (AsyncArchive if is_async else Archive)(
            FederationBackend(members), driver(verify=verify), timeout_s=timeout_s
        )
    if "://" not in str(url):
        _check_file(str(url), verify, options)
    backend = _backend(url, options)
    if backend.service == "mongodb" and verify is not True:
        raise ConfigurationError(
            "MongoDB takes its certificates from the URL: mongodb://host/database?tls=true&tlsCAFile=/path/to/file.pem"
        )
    return _face_class(backend.service, is_async)(backend, driver(verify=verify), timeout_s=timeout_s)


def _check_file(path: str, verify: bool | str, options: Mapping[str, Any]) -> None:
    """Refuse what looks like a file because the beginning of a URL was forgotten."""
    meant = _HOST_AND_PORT.fullmatch(path) and not Path(path).exists()
    if meant or verify is not True or options["credentials"] is not None or options["token"] is not None:
        raise ConfigurationError(
            f"{path!r} is the path of a file, which takes no login and no verify=; for a server write "
            f"kowalski+https://{path} or boom+https://{path}",
            url=path,
        )


def _face_class(service: str, is_async: bool) -> Any:
    if service == "embedded archive":
        from nuncius.archives import embedded

        return embedded.AsyncEmbeddedArchive if is_async else embedded.EmbeddedArchive
    if service == "kowalski":
        from nuncius.archives import kowalski

        return kowalski.AsyncKowalskiArchive if is_async else kowalski.KowalskiArchive
    if service == "antares":
        from nuncius.archives import antares

        return antares.AsyncAntaresArchive if is_async else antares.AntaresArchive
    if service == "alerce":
        from nuncius.archives import alerce

        return alerce.AsyncAlerceArchive if is_async else alerce.AlerceArchive
    return AsyncArchive if is_async else Archive


def _member(name: Any, value: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return URL and options of a member of a federation. A file has to exist: a federation is asked, not made."""
    if not isinstance(value, Mapping):
        value = {"url": value}
    unknown = sorted(set(value) - _OPTIONS)
    if unknown or "url" not in value:
        problem = f"knows no {', '.join(map(repr, unknown))}" if unknown else "has no 'url'"
        raise ConfigurationError(f"the archive {name!r} {problem}; it takes {', '.join(sorted(_OPTIONS))}")
    path = Path(str(value["url"]))
    if "://" not in str(value["url"]) and not path.expanduser().is_file():
        raise NotFoundError(f"the archive {name!r}: there is no file {path}", position=str(path))
    return value["url"], {**options, **{key: item for key, item in value.items() if key != "url"}}


def _backend(url: Any, options: Mapping[str, Any]) -> Backend:
    text = str(url)
    scheme, separator, rest = text.partition("://")
    if not separator:
        kind = text.partition(":")[0]
        if kind in _SCHEMES:  # a slip of the pen, and no file: what follows may be a password
            raise ConfigurationError(
                f"a URL that begins with {kind}: goes on with two slashes: {kind}://host"
            )
        return _embedded(text, options)
    if scheme == "sqlite":
        return _embedded(rest.removeprefix("/"), options)
    login = {name: options[name] for name in ("credentials", "token")}
    limit = {} if options["timeout_s"] is None else {"timeout_s": options["timeout_s"]}
    makers: dict[str, Callable[[], Backend]] = {
        "kowalski": lambda: _kowalski(text, login, limit),
        "boom": lambda: _boom(text, login, limit),
        "antares": lambda: _antares(text, limit),
        "alerce": lambda: _alerce(text, limit),
        "mongodb": lambda: _mongodb(text, login),
        "duckdb": lambda: _duckdb(rest.removeprefix("/")),
    }
    maker = makers.get(scheme.partition("+")[0])
    if maker is None or scheme not in _SCHEMES:
        close = (
            [f"kowalski+{scheme}", f"boom+{scheme}"]
            if scheme in {"http", "https"}
            else difflib.get_close_matches(scheme, _SCHEMES, n=3)
        )
        hint = f"did you mean {' or '.join(close)}" if close else f"known are {', '.join(_SCHEMES)}"
        raise ConfigurationError(
            f"{_shown(text)!r}: there is no archive of the kind {scheme!r}; {hint}. A file is named by its path alone",
            url=_shown(text),
        )
    return maker()


def _embedded(path: str, options: Mapping[str, Any]) -> Backend:
    from nuncius.archives.embedded.backend import EmbeddedBackend
    from nuncius.archives.embedded.database import Database

    return EmbeddedBackend(Database(Path(path).expanduser(), read_only=options["read_only"]))


def _kowalski(url: str, login: Mapping[str, Any], limit: Mapping[str, Any]) -> Backend:
    from nuncius.archives.kowalski.backend import KowalskiBackend
    from nuncius.archives.kowalski.service import KowalskiService

    return KowalskiBackend(KowalskiService(url, **login, **limit))


def _boom(url: str, login: Mapping[str, Any], limit: Mapping[str, Any]) -> Backend:
    from nuncius.archives.boom import BoomBackend

    return BoomBackend(url, **login, **limit)


def _antares(url: str, limit: Mapping[str, Any]) -> Backend:
    from nuncius.archives.antares import AntaresBackend

    return AntaresBackend(url, **limit)


def _alerce(url: str, limit: Mapping[str, Any]) -> Backend:
    from nuncius.archives.alerce import AlerceBackend

    return AlerceBackend(url, **limit)


def _mongodb(url: str, login: Mapping[str, Any]) -> Backend:
    from nuncius.archives.mongodb import MongoBackend

    if login["token"] is not None:
        raise ConfigurationError("MongoDB takes credentials=, no token")
    return MongoBackend(url, credentials=login["credentials"])


def _duckdb(path: str) -> Backend:
    from nuncius.archives.duckdb import DuckBackend

    return DuckBackend(Path(path).expanduser())


def _shown(url: str) -> str:
    """Return a URL without what may be a secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://…"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _without_secrets(url: Any) -> Any:
    if isinstance(url, Mapping):
        return {
            name: _without_secrets(value)
            for name, value in url.items()
            if name not in {"credentials", "token"}
        }
    text = str(url)
    return (
        text if "://" in text else str(Path(text).expanduser().absolute())
    )  # the working directory may change
