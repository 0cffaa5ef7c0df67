"""What a project's settings say of a service: ``DATA_SERVICES["Nuncius Archive"] = {"url": "night.db"}``.

=================  =======================================================================================================
url                what `nuncius.open_archive` takes, or for a stream `nuncius.open_stream`
archive            of a stream: the archive that the worker fills, a path
credentials        (username, password); or for Google's streams the path of a key file
token              in place of a login
timeout_s, verify  as for `nuncius.open_archive`
stream             of a stream: a mapping with further options of `nuncius.open_stream`
=================  =======================================================================================================

What is not said is looked for where nuncius always looks: its environment variables, ``config.toml``, ``credentials.toml``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError
from nuncius.settings import data_dir, find_setting

if TYPE_CHECKING:
    from collections.abc import Iterable

ARCHIVE = "Nuncius Archive"
OPTIONS = ("url", "archive", "credentials", "token", "timeout_s", "verify", "stream")
TIMEOUT_S = 30.0
"""How long a service may take for one question: a person waits for the page."""

_WITH_LOGIN = ("kowalski", "boom", "mongodb")


class NotSetError(ConfigurationError):
    """A setting of the project is missing or can't work; the message names the exact key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is.

    Parameters
    ----------
    service : str
        Its name, which is its key in ``DATA_SERVICES``.
    url : str or mapping
        What `nuncius.open_archive` takes.
    options : mapping
        Further options for it.
    stream_url : str, optional
        The stream that fills the archive.
    stream : mapping
        Options for the stream.
    """

    service: str
    url: Any
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    stream_url: str | None = None
    stream: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_file(self) -> bool:
        """Whether it is an archive in a file of this machine."""
        return isinstance(self.url, Path) or (isinstance(self.url, str) and "://" not in self.url)

    @property
    def spends_credentials(self) -> bool:
        """Whether a question is asked in the name of the TOM's owner, by a login."""
        urls = _urls(self.url)
        return any(url.partition("://")[0].partition("+")[0] in _WITH_LOGIN for url in urls)


def default_archive(settings: Mapping[str, Any]) -> Path:
    """Return the archive that the worker fills and all services read where nothing else is said.

    It is that of the service `ARCHIVE`, if that is a file, else ``tom.db`` in nuncius' data folder.
    """
    said = settings.get(ARCHIVE)
    url = said.get("url") if isinstance(said, Mapping) else None
    if isinstance(url, (str, Path)) and "://" not in str(url):
        return Path(url).expanduser()
    return data_dir() / "tom.db"


def archive_place(service: str, settings: Mapping[str, Any], default_url: str | Path) -> Place:
    """Return where an archive is."""
    said = _said(service, settings)
    return Place(service, said.get("url") or default_url, _asking_options(said))


def stream_place(
    service: str, settings: Mapping[str, Any], default_url: str | None, archive: str | Path
) -> Place:
    """Return where a stream is, and the archive that the worker fills from it."""
    said = _said(service, settings)
    options = said.get("stream") or {}
    if not isinstance(options, Mapping):
        raise NotSetError(
            f"settings.DATA_SERVICES[{service!r}]['stream'] is not a mapping of options of nuncius.open_stream"
        )
    login = {} if said.get("credentials") is None else {"credentials": said["credentials"]}
    return Place(
        service, said.get("archive") or archive, {}, said.get("url") or default_url, {**options, **login}
    )


def default_server(name: str, public: str) -> str:
    """Return the URL of a server: what the environment or ``config.toml`` says of it, else the public one."""
    return find_setting(name, "url") or public


def unknown_options(service: str, said: Any) -> Iterable[str]:
    """Name what is wrong with the settings of a service, each with its cure."""
    if not isinstance(said, Mapping):
        yield f"settings.DATA_SERVICES[{service!r}] is not a mapping such as {{'url': 'night.db'}}"
        return
    for name in said:
        if name not in OPTIONS:
            close = difflib.get_close_matches(str(name), OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(OPTIONS)}"
            yield f"settings.DATA_SERVICES[{service!r}] has {str(name)!r}, which means nothing; {hint}"
    for url in _urls(said.get("url")):
        if "@" in url.partition("://")[2].partition("/")[0]:
            yield (
                f"settings.DATA_SERVICES[{service!r}]['url'] has a login in it, which would be shown in messages; "
                "write it as 'credentials'"
            )


def _said(service: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    said = settings.get(service) or {}
    for problem in unknown_options(service, said):
        raise NotSetError(problem)
    return said


def _asking_options(said: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: said[name] for name in ("credentials", "token", "verify") if said.get(name) is not None}
    return {"timeout_s": said.get("timeout_s") or TIMEOUT_S, **found}


def _urls(url: Any) -> list[str]:
    """Return all URLs that stand for an archive, of a federation those of its members."""
    if isinstance(url, Mapping):
        return [one for value in url.values() for one in _urls(value)]
    return [] if url is None else [str(url)]
