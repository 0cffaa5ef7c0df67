"""``nuncius health``: whether a stream that runs as a service is well, for a watchdog or a container."""

from __future__ import annotations

from pathlib import Path

import click

from nuncius.cli.service import Duration
from nuncius.streams.service import read_verdict


@click.command("health")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--max-age",
    type=Duration(),
    metavar="TIME",
    help="How old the last alert may be: 10m, 2h.  [default: any age; between two nights nothing comes]",
)
def command(file: Path, max_age: float | None) -> None:
    """Tell in one line, and by the exit code, whether a stream that runs as a service is well.

    FILE is the one that `nuncius stream --status-file FILE` writes every two seconds. Not well is: it ended; it is gone
    or hangs, so that the file is old; there was no connection for a minute; a disk is nearly full; a batch has not been
    kept for ten minutes; no alert came for the time of --max-age.

    \b
    Example:
      nuncius health ztf.status --max-age 1d && echo fine

    Exit codes: 0 well, 1 not well, 2 wrong usage.
    """
    is_well, why = read_verdict(file, max_age)
    click.echo(f"{'healthy' if is_well else 'not healthy'}: {why}")
    raise click.exceptions.Exit(0 if is_well else 1)
