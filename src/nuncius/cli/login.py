"""``nuncius login``: keep a broker's login where no list of processes shows it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nuncius.brokers.known import names, profile_of
from nuncius.credentials import Credentials, store_credentials
from nuncius.errors import ConfigurationError
from nuncius.settings import store_settings


@click.command("login")
@click.argument("broker")
@click.option("--username", help="User name, API key or client id; asked for if it is not given.")
@click.option("--host", help="Only for this server, where a broker has several.")
@click.option(
    "--servers", metavar="HOST:PORT", help="Keep the broker's server too, so that URLs can leave it out."
)
@click.option(
    "--ssl-ca-location",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep the file of certificates too that the broker is verified with.",
)
@click.option("--remove", is_flag=True, help="Forget the login.")
def command(
    broker: str,
    username: str | None,
    host: str | None,
    servers: str | None,
    ssl_ca_location: Path | None,
    remove: bool,
) -> None:
    """Store the login of a broker, for all later commands and programs of yours.

    The password is asked for, or read from standard input (nuncius login antares --username KEY < file); it is never
    given on the command line, where others could see it. It is kept in credentials.toml, which only you can read.
    """
    profile = profile_of(broker)
    if profile is None:
        raise ConfigurationError(f"no broker is called {broker!r}; known are {', '.join(names())}")
    if remove:
        click.echo(f"forgotten; {store_credentials(broker, None, host=host)} holds it no more", err=True)
        return
    if profile.security(profile.servers or "host:9092").mechanism is None:
        click.echo(f"{profile.title} lets everybody in: {profile.login_help}", err=True)
    else:
        if profile.login_help:
            click.echo(f"{profile.title}: {profile.login_help}", err=True)
        found = _ask(username)
        path = store_credentials(broker, found, host=host)
        click.echo(f"kept in {path}", err=True)
    about = {"servers": servers, "ssl_ca_location": ssl_ca_location and str(ssl_ca_location.absolute())}
    given = {name: value for name, value in about.items() if value}
    if given:
        click.echo(f"{', '.join(given)} kept in {store_settings(broker, given)}", err=True)
    click.echo(f"Try it: nuncius doctor {broker}://TOPIC", err=True)


def _ask(username: str | None) -> Credentials:
    if sys.stdin.isatty():
        username = username or click.prompt("User name, API key or client id", err=True)
        password = click.prompt("Password, API secret or client secret", hide_input=True, err=True)
    else:
        lines = sys.stdin.read().splitlines()
        username = username or (lines.pop(0) if len(lines) > 1 else None)
        password = lines[0] if lines else ""
    if not username or not password:
        raise ConfigurationError(
            "a login has two parts; on standard input the name comes first, then the password"
        )
    return Credentials(username, password, source="you")
