"""What the commands of ``nuncius datasets`` share: which server, which data sets, and errors in words of options."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from nuncius._core.terminal import printable
from nuncius.datasets.questions import uuid_or_none
from nuncius.errors import NotFoundError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuncius.datasets import DataSet, DServer

Filters: TypeAlias = dict[str, Any]

NAME = click.argument("name", metavar="URI|UUID")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each.")
LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The most to show.")
SORT = click.option(
    "--sort", metavar="FIELD", help="Such as name or frozen_at, downward with a minus: -frozen_at."
)

_SERVER = (
    click.option(
        "--url",
        metavar="URL",
        help="The server.  [default: DSERVER_URL of the environment or ~/.config/dtool/dtool.json]",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0.001),
        metavar="S",
        default=30.0,
        show_default=True,
        help="Seconds to wait for an answer.",
    ),
    click.option(
        "--ssl-ca-location",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Certificates that the server is verified with.  [default: the system's]",
    ),
)
_FILTERS = (
    click.option(
        "--creator", "creator_usernames", multiple=True, help="Made by this user; or by one of several."
    ),
    click.option("--base-uri", "base_uris", multiple=True, help="At this base URI; or at one of several."),
    click.option("--uuid", "uuids", multiple=True, help="Of this UUID; or of one of several."),
    click.option("--tag", "tags", multiple=True, help="With this tag; with all of several."),
)
_FILTER_NAMES = ("creator_usernames", "base_uris", "uuids", "tags")

# What errors call arguments, and what is said of them here, where no login is ever given on the command line.
_WORDS = {
    "; or give token= or credentials=": "",
    "give credentials= or set": "set",
    "give more time with timeout_s=": "give more time with --timeout",
    "name them with verify='/path/to/certificates.pem'": "name them with --ssl-ca-location",
    "A search finds data sets by words of their names, by_uuid by their UUIDs": "A search finds data sets by words of their names",
    "What was read is in the error's result; with allow_partial=True nothing is raised": "The others are shown",
}


def server_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which server is asked; the command gets it opened, as `dserver`."""

    @functools.wraps(function)
    def run(*, server: Callable[..., DServer], **options: Any) -> None:
        with server() as dserver:
            function(dserver=dserver, **options)

    return server_choice(run)


def server_choice(function: Callable[..., None]) -> Callable[..., None]:
    """Add the same options; the command gets a function that opens the server, as `server`."""

    @functools.wraps(function)
    def run(*, url: str | None, timeout_s: float, ssl_ca_location: Path | None, **options: Any) -> None:
        from nuncius.datasets import open_dserver

        verify = None if ssl_ca_location is None else str(ssl_ca_location)
        server = functools.partial(open_dserver, url, verify=verify, timeout_s=timeout_s)
        with _in_words_of_options():
            function(server=server, **options)

    return _with(_SERVER, run)


def filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose data sets; the command gets them as `filters`, for `DServer.search`."""

    @functools.wraps(function)
    def run(**options: Any) -> None:
        given = {name: list(options.pop(name)) or None for name in _FILTER_NAMES}
        function(filters=given, **options)

    return _with(_FILTERS, run)


def _with(options: tuple[Callable[..., Any], ...], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def copies_of(dserver: DServer, name: str) -> list[str | DataSet]:
    """Return what a name stands for: a URI itself, or all data sets of a UUID.

    Raises
    ------
    NotFoundError
        If there is none of that UUID.
    """
    uuid = uuid_or_none(name)
    if uuid is None:
        return [name]
    found = dserver.by_uuid(uuid)
    if not found:
        raise NotFoundError(f"{dserver.url} has no data set {uuid}", url=dserver.url, position=uuid)
    return list(found)


def one_of(dserver: DServer, name: str) -> str | DataSet:
    """Return what a name stands for, if that is one data set.

    Raises
    ------
    NotFoundError
        If there is none of that UUID.
    BadParameter
        If there are several.
    """
    found = copies_of(dserver, name)
    if len(found) > 1:
        uris = "".join(f"\n  {printable(uri_of(each))}" for each in found)
        raise click.BadParameter(f"there are {len(found)} copies of {name}; name one by its URI:{uris}")
    return found[0]


def names_data_set(text: str) -> bool:
    """Tell whether a text is the name of a data set: a URI or a UUID."""
    return "://" in text or uuid_or_none(text) is not None


def uri_of(data_set: str | DataSet) -> str:
    """Return the URI of a data set."""
    return data_set if isinstance(data_set, str) else str(data_set["uri"])


def uuid_of(dserver: DServer, name: str) -> str:
    """Return the UUID of what a name stands for; of a URI the server is asked."""
    return uuid_or_none(name) or str(dserver.data_set(name)["uuid"])


def json_text(given: str) -> str:
    """Return the JSON that an argument stands for: itself, ``@FILE``, or ``-`` for standard input."""
    try:
        if given == "-":
            return sys.stdin.read()
        return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{given.removeprefix('@')} can't be read: {error}") from error


def end_with(failed: Sequence[NunciusError]) -> None:
    """Say what failed, and end with exit code 1, if anything did."""
    for error in failed:
        click.echo(printable(_in_words(error.message)), err=True)
    if failed:
        raise SystemExit(1)


@contextmanager
def _in_words_of_options() -> Iterator[None]:
    """Let errors speak of the command line instead of arguments."""
    try:
        yield
    except NunciusError as error:
        error.message = _in_words(error.message)
        raise


def _in_words(message: str) -> str:
    for argument, option in _WORDS.items():
        message = message.replace(argument, option)
    return message
