"""What the commands of ``nuncius fits`` share: which file and HDU, how the store is reached, what reading cost."""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import AsyncIterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from nuncius._core.jsontext import to_text
from nuncius._core.terminal import printable
from nuncius.errors import NotFoundError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nuncius.cloudfits import FileDescription, RemoteFits, RemoteHdu

HduKey: TypeAlias = int | str | tuple[str, int]
Access: TypeAlias = dict[str, Any]

# `file.fits[1]`, `file.fits[SCI]`, `file.fits[SCI,2]`; not the address of a host (http://[::1]), nor sets in patterns.
_WITH_HDU = re.compile(r"(?P<url>.*[^/\[\]])\[(?P<hdu>[^/\[\]]+)\]", re.DOTALL)
_WITH_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]*:[^/?#@\s]*@")

URL = click.argument("url", metavar="URL[HDU]")
HDU = click.option(
    "--hdu", metavar="HDU", help="Which: 1, SCI, or SCI,2. URL is then taken as it stands, brackets and all."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a file that is there.")

_ACCESS = (
    click.option(
        "--anon/--no-anon",
        default=None,
        help="Search for no credentials; or never go on without.  [default: without if there are none]",
    ),
    click.option("--requester-pays", is_flag=True, help="Pay for what is read, where the owner wants that."),
    click.option("--endpoint", metavar="URL", help="The address of another store with the interface of S3."),
    click.option("--region", help="The region of the bucket."),
    click.option("--profile", help="A profile of ~/.aws."),
    click.option(
        "--ssl-ca-location",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Certificates that the server is verified with.  [default: the system's]",
    ),
)
WHOLE_FILE = click.option(
    "--whole-file",
    is_flag=True,
    help="Read all of it: of a server that sends no parts, or if gzip has compressed it.",
)
_ACCESS_NAMES = ("anon", "requester_pays", "endpoint", "region", "profile", "ssl_ca_location")


@dataclass(frozen=True, slots=True)
class Address:
    """A file, and the HDU that is meant; None if none was named."""

    url: str
    hdu: HduKey | None = None


def access_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how a store is reached; the command gets them as `access`, for `open_fits`."""

    @functools.wraps(function)
    def run(**options: Any) -> None:
        access = {name: options.pop(name) for name in _ACCESS_NAMES}
        if access["ssl_ca_location"] is not None:
            access["ssl_ca_location"] = str(access["ssl_ca_location"])
        with _announcements(), _in_words_of_options():
            function(**options, access=access)

    for option in reversed(_ACCESS):
        run = option(run)
    return run


def address_of(url: str, hdu: str | None) -> Address:
    """Read what the user gave: a URL with an HDU in brackets, or with ``--hdu``; ``-`` is a line of standard input."""
    url = url_of(url)
    if hdu is not None:
        return Address(url, _hdu_key(hdu))
    if found := _WITH_HDU.fullmatch(url):
        return Address(found["url"], _hdu_key(found["hdu"]))
    return Address(url)


def url_of(given: str) -> str:
    """Return a URL of the command line; for ``-`` a line of standard input."""
    if given != "-":
        refuse_password(given)
        return given
    url = sys.stdin.readline().strip()
    if not url:
        raise click.BadParameter("there is no URL on standard input", param_hint="URL")
    return url


def urls_of(given: Sequence[str]) -> list[str]:
    """Return the URLs of a command line; for ``-`` all lines of standard input."""
    urls = []
    for each in given:
        if each != "-":
            urls.append(url_of(each))
            continue
        lines = [line.strip() for line in sys.stdin]
        urls += [line for line in lines if line]
    if not urls:
        raise click.BadParameter("there is no URL on standard input", param_hint="URL")
    return urls


def refuse_password(url: str) -> None:
    """Refuse a URL of the command line that has a password in it."""
    if _WITH_PASSWORD.match(url):
        raise click.BadParameter(
            "its password would be seen by everybody on this machine in the list of processes; give - and the URL on "
            "standard input",
            param_hint="URL",
        )


def _hdu_key(text: str) -> HduKey:
    name, comma, version = text.rpartition(",")
    if comma and version.strip().isdecimal():
        return name.strip(), int(version)
    return int(text) if re.fullmatch(r"\s*-?[0-9]+\s*", text) else text.strip()


def is_listing(url: str, access: Access) -> bool:
    """Tell whether a URL stands for several files: a folder, a pattern."""
    return not isinstance(_files_of(url, access), list)


def expand(urls: Iterable[str], access: Access) -> Iterator[Any]:
    """Give each URL, and the files of each folder and pattern."""
    from nuncius._core.background import iterate

    for url in urls:
        files = _files_of(url, access)
        yield from iterate(aiter(files)) if isinstance(files, AsyncIterable) else files


def _files_of(url: str, access: Access) -> Any:
    from nuncius.cloudfits.access import Access as Options
    from nuncius.cloudfits.listing import find_urls

    return find_urls(url, Options(**access))


def open_address(address: Address, access: Access, *, whole_file: bool) -> RemoteFits:
    """Open a file, and read no more headers than the HDU needs that is meant."""
    from nuncius.cloudfits import open_fits

    enough: int | str | None = None
    if isinstance(address.hdu, str):
        enough = address.hdu
    elif isinstance(address.hdu, int) and address.hdu >= 0:
        enough = address.hdu + 1
    return open_fits(address.url, hdus=enough, whole_file=whole_file, **access)


def hdu_of(fits: RemoteFits, key: HduKey) -> RemoteHdu:
    """Return an HDU.

    Raises
    ------
    NotFoundError
        If there is none; the message lists those that are there.
    """
    try:
        return fits[key]
    except (IndexError, KeyError) as error:
        raise NotFoundError(f"{error.args[0]}", url=fits.url) from error


def name_of(hdu: RemoteHdu) -> str:
    """Return how an HDU is called in messages."""
    return f"HDU {hdu.index} ({printable(hdu.name)})" if hdu.name else f"HDU {hdu.index}"


def notes_of(file: FileDescription) -> list[str]:
    """Return what is odd about a file."""
    notes = ["truncated"] if file.truncated else []
    if file.trailing_bytes:
        notes.append(f"{file.trailing_bytes:,} bytes after the last HDU")
    return notes


def cost_of(*opened: RemoteFits) -> str:
    """Say what reading cost, compared with the size of the file."""
    read = sum(fits.stats.bytes for fits in opened)
    requests = sum(fits.stats.requests for fits in opened)
    size = opened[-1].size
    share = 100 * read / size if size else 100
    part = f"{share:.3f}" if share >= 0.001 else "less than 0.001"
    return f"{read:,} bytes read in {counted(requests, 'request')}, of {size:,} ({part} %)"


def counted(number: int, what: str) -> str:
    """Return a number and the word for what it counts."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def print_json(value: dict[str, Any]) -> None:
    """Print a line of JSON; NaN is null."""
    click.echo(to_text(value)[0])


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows in columns as wide as what stands in them: nothing is cut. A column without values is left out."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    columns = []
    for name in names:
        values = [row[name] for row in rows]
        cells = [name, *("" if value is None else printable(_text(value)) for value in values)]
        width = max(map(len, cells))
        numeric = all(value is None or isinstance(value, (int, float)) for value in values)
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        click.echo("  ".join(line).rstrip())


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class _Lines(logging.Handler):
    """Says on standard error what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


@contextmanager
def _announcements() -> Iterator[None]:
    """Say what is said once of a store: that it is read without credentials."""
    log, handler = logging.getLogger("nuncius.cloudfits"), _Lines(logging.INFO)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


# What errors call arguments, and what they are called here. Credentials are never given on the command line.
_WORDS = {
    "credentials=, ": "",
    "credentials= or ": "",
    "requester_pays=True": "--requester-pays",
    "anon=True": "--anon",
    "anon=False": "--no-anon",
    "whole_file=True": "--whole-file",
    "endpoint=": "--endpoint",
    "region=": "--region",
    "profile=": "--profile",
    "ssl_ca_location=": "--ssl-ca-location",
}


@contextmanager
def _in_words_of_options() -> Iterator[None]:
    """Let errors name options instead of arguments."""
    try:
        yield
    except NunciusError as error:
        for argument, option in _WORDS.items():
            error.message = re.sub(rf"(?<![\w?&]){re.escape(argument)}", option, error.message)
        raise
