"""``nuncius lag``: how far a consumer group has come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import lag
from nuncius.cli.options import connection_options
from nuncius.cli.tables import print_table

if TYPE_CHECKING:
    from pathlib import Path


@click.command("lag")
@click.argument("url")
@click.option("--group", help="The consumer group.  [default: your own on this machine]")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each partition.")
@connection_options
def command(
    url: str, group: str | None, as_json: bool, ssl_ca_location: Path | None, config: dict[str, Any]
) -> None:
    """Show how many messages of each topic a consumer group has not read. The group is not disturbed.

    A Pub/Sub server does not tell.
    """
    found = lag(url, group=group, ssl_ca_location=ssl_ca_location, config=config)
    rows = [
        {
            "topic": topic,
            "partition": partition,
            "committed": one.committed if as_json or one.committed is not None else "none",
            "first": one.first,
            "end": one.end,
            "waiting": one.waiting,
            "expired": one.expired,
        }
        for (topic, partition), one in sorted(found.items())
    ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    print_table(rows)
    expired = sum(one.expired for one in found.values())
    click.echo(f"{sum(one.waiting for one in found.values())} messages wait", err=True)
    if expired:
        click.echo(f"{expired} messages expired on the broker before the group has read them", err=True)
