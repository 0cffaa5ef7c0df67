"""``nuncius rewind``: read again from an earlier place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import rewind
from nuncius.cli.options import connection_options, credentials_in, key_file_option

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
@key_file_option
@connection_options
def command(
    url: str,
    to: str,
    group: str | None,
    key_file: Path | None,
    ssl_ca_location: Path | None,
    config: dict[str, Any],
) -> None:
    """Move the kept position of a consumer group; the next run begins there.

    Nobody may be reading with the group meanwhile: stop its readers first.

    A Pub/Sub subscription is moved in time, even while it is read: what was published before counts as read, and of what
    came later all that Google has kept comes again.
    """
    moved = rewind(
        url,
        to,
        group=group,
        credentials=credentials_in(key_file, [url]),
        ssl_ca_location=ssl_ca_location,
        config=config,
    )
    for (topic, partition), offset in sorted(moved.items()):
        click.echo(f"{topic}: moved to {to}" if offset is None else f"{topic}[{partition}]: {offset}")
