"""``nuncius rewind``: read again from an earlier place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import rewind
from nuncius.cli.options import connection_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("rewind")
@click.argument("url")
@click.option(
    "--to",
    "to",
    required=True,
    metavar="TIME",
    help="earliest, latest, -6h, or 2026-11-20T03:00Z; forward is allowed too.",
)
@click.option("--group", help="The consumer group.  [default: your own on this machine]")
@connection_options
def command(
    url: str, to: str, group: str | None, ssl_ca_location: Path | None, config: dict[str, Any]
) -> None:
    """Move the kept position of a consumer group; the next run begins there.

    Nobody may be reading with the group meanwhile: stop its readers first.
    """
    moved = rewind(url, to, group=group, ssl_ca_location=ssl_ca_location, config=config)
    for (topic, partition), offset in sorted(moved.items()):
        click.echo(f"{topic}[{partition}]: {offset}")
