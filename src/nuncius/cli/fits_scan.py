"""``nuncius fits scan``: the headers of many remote files as one table."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nuncius._core.lazy import require
from nuncius._core.terminal import printable
from nuncius.cli.fits_address import (
    OVERWRITE,
    access_options,
    counted,
    expand,
    is_listing,
    refuse_password,
)
from nuncius.cli.fits_files import check_free, output_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nuncius.cli.fits_address import Access

_SHOWN = 10


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL…]")
@click.option(
    "--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Read URLs from this file, one a line.",
)  # fmt: skip
@click.option(
    "-k", "--key", "keys", multiple=True, metavar="KEY", help="A keyword that gets a column; may be repeated."
)
@output_option(".parquet", required=True)
@OVERWRITE
@click.option(
    "--resume/--no-resume", default=True, help="Go on where a run that was stopped left off.  [default: yes]"
)
@click.option("--backend", type=click.Choice(["local", "processes", "dask"]), default="local", show_default=True,
              help="Read in this process, in several, or on a Dask cluster.")  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS", help="Of the Dask cluster.  [default: DASK_SCHEDULER_ADDRESS]"
)
@access_options
def scan(
    urls: tuple[str, ...],
    from_file: Path | None,
    keys: tuple[str, ...],
    out: Path,
    overwrite: bool,
    resume: bool,
    backend: Literal["local", "processes", "dask"],
    scheduler: str | None,
    access: Access,
) -> None:
    """Read the headers of many files into one table: a row for each HDU.

    A URL may be a folder that ends in "/", or a pattern in quotes; - takes URLs from standard input, one a line. A file
    that can't be read has a row that says why. Nothing but headers is read, and the table spares reading them again:
    nuncius.open_fits(url, index="headers.parquet").

    \b
    Examples:
      nuncius fits scan s3://BUCKET/2026-11-20/ -k EXPTIME -k FILTER -o headers.parquet
      nuncius fits scan --from-file urls.txt -o headers.parquet

    Exit code 1 if some files could not be read.
    """
    check_free(out, overwrite=overwrite)
    from nuncius.cloudfits import scan_headers

    files: Iterable[Any] = list(_each(_given(urls, from_file), from_file))
    if any(is_listing(url, access) for url in files):
        files = expand(files, access)
    with _cluster(backend, scheduler) as client:
        index = scan_headers(
            files, keywords=keys, out=out, backend=backend, resume=resume, client=client, **access
        )
    failures = index.failures
    rows = require("pyarrow.parquet", extra="parquet").read_metadata(out).num_rows
    read = f"{counted(len(index) - len(failures), 'file')}, {counted(rows - len(failures), 'HDU')}"
    click.echo(f"wrote {out}: {read}", err=True)
    if not failures:
        return
    click.echo(f"{counted(len(failures), 'file')} could not be read; their rows say why:", err=True)
    for url, reason in list(failures.items())[:_SHOWN]:
        click.echo(f"  {printable(url)}: {printable(reason)}", err=True)
    raise SystemExit(1)


def _given(urls: Sequence[str], from_file: Path | None) -> Sequence[str]:
    """Return the URLs of the command line, if they may stand there."""
    if not urls and from_file is None:
        raise click.UsageError("which files? give URLs, --from-file FILE, or - for standard input")
    for url in urls:
        refuse_password(url)
    return urls


def _each(urls: Sequence[str], from_file: Path | None) -> Iterator[str]:
    for url in urls:
        if url == "-":
            yield from _lines(sys.stdin)
        else:
            yield url
    if from_file is not None:
        with from_file.open(encoding="utf-8") as lines:
            yield from _lines(lines)


def _lines(lines: Any) -> Iterator[str]:
    """Give the URLs of a text: empty lines, and those that begin with #, are none."""
    for line in lines:
        url = line.strip()
        if url and not url.startswith("#"):
            yield url


@contextmanager
def _cluster(backend: str, scheduler: str | None) -> Iterator[Any]:
    """Connect to the Dask cluster, if there is to be one."""
    if backend != "dask":
        if scheduler is not None:
            raise click.UsageError("--scheduler belongs to --backend dask")
        yield None
        return
    address = scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise click.UsageError(
            "which cluster? give --scheduler tcp://HOST:8786, or set DASK_SCHEDULER_ADDRESS"
        )
    with require("distributed", extra="dask").Client(address) as client:
        yield client
