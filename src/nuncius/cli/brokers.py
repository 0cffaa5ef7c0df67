"""``nuncius brokers``: which brokers there are, and what login each wants."""

from __future__ import annotations

import json

import click

from nuncius.brokers.known import profiles
from nuncius.cli.tables import print_table
from nuncius.errors import NunciusError
from nuncius.settings import find_setting


@click.command("brokers")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each broker.")
def command(as_json: bool) -> None:
    """List the brokers whose streams can be read.

    A broker without a server in this list is told one in the URL: fink://HOST:PORT/TOPIC.
    """
    rows = []
    troubles: dict[str, None] = {}  # once each, in order: mostly it is the same for all
    for profile in profiles():
        servers = find_setting(profile.name, "servers") or profile.servers
        security = profile.security(servers or "host:9092")
        login = security.mechanism or "none"
        if security.mechanism and not profile.login_required:
            login = f"{login}, or none"
        try:
            has = profile.has_login((servers or "").partition(":")[0])
            have = "none needed" if security.mechanism is None else "yes" if has else "no"
        except NunciusError as error:
            have = "?"
            troubles[str(error)] = None
        rows.append(
            {
                "broker": f"{profile.name}://",
                "name": profile.title,
                "server": servers or "you name it",
                "login": login,
                "TLS": "as you say" if profile.name == "kafka" else "yes" if security.tls else "no",
                "you have it": have,
                "topics": profile.topics_help,
                "where from": profile.login_help,
            }
        )
    for trouble in troubles:
        click.secho(trouble, fg="yellow", err=True)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    print_table(
        [
            {name: row[name] for name in ("broker", "name", "server", "login", "TLS", "you have it")}
            for row in rows
        ]
    )
    click.echo()
    for row in rows:
        click.echo(f"{row['broker']}")
        click.echo(f"  topics: {row['topics']}")
        click.echo(f"  login:  {row['where from']}")
