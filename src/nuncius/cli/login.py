"""``nuncius login``: keep a broker's login where no list of processes shows it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers.known import names, profile_of
from nuncius.brokers.pubsub import PubSub
from nuncius.credentials import Credentials, store_credentials
from nuncius.errors import ConfigurationError
from nuncius.settings import find_setting, store_settings

if TYPE_CHECKING:
    from nuncius.brokers.profile import Profile

_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"


@click.command("login", context_settings={"allow_extra_args": True})
@click.pass_context
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
@click.option(
    "--project", help="For Pitt-Google: keep the Google Cloud project too, in which subscriptions are made."
)
@click.option("--remove", is_flag=True, help="Forget the login.")
def command(
    context: click.Context,
    broker: str,
    username: str | None,
    host: str | None,
    servers: str | None,
    ssl_ca_location: Path | None,
    project: str | None,
    remove: bool,
) -> None:
    """Store the login of a broker, for all later commands and programs of yours.

    The password is asked for, or read from standard input (nuncius login antares --username KEY < file); it is never
    given on the command line, where others could see it. It is kept in credentials.toml, which only you can read.

    For Google Pub/Sub (nuncius login pittgoogle) you log in with a browser. Google wants to know on behalf of which
    application: its client id and secret are taken from PITTGOOGLE_OAUTH_CLIENT_ID and PITTGOOGLE_OAUTH_CLIENT_SECRET, or
    asked for. What is kept is a token that renews itself.
    """
    if context.args:  # not repeated: it is the secret, as like as not
        raise click.UsageError(
            "only the broker is named here: what stands on the command line is seen by everybody on this machine. The "
            "password is asked for, or read from standard input"
        )
    profile = _profile(broker)
    broker = profile.name
    is_google = isinstance(profile, PubSub)
    if is_google and host:
        raise click.UsageError("Google's login is good for all its servers: leave --host out")
    if project and not is_google:
        raise click.UsageError("--project is for Google Pub/Sub: nuncius login pittgoogle")
    host = host and re.sub(r":\d+$", "", host)  # logins are looked for by the name alone
    if remove:
        path = _forget_google() if is_google else store_credentials(broker, None, host=host)
        of = f"{profile.title} at {host}" if host else profile.title
        click.echo(
            f"forgotten; {path} holds it no more" if path else f"no login of {of} is kept here", err=True
        )
        return
    if is_google:
        _log_in_to_google(username)
    elif profile.security(profile.servers or "host:9092").mechanism is None:
        click.echo(f"{profile.title} lets everybody in: {profile.login_help}", err=True)
    else:
        if profile.login_help:
            click.echo(f"{profile.title}: {profile.login_help}", err=True)
        found = ask_login(
            username,
            name="User name, API key or client id",
            secret="Password, API secret or client secret",  # noqa: S106 - the words of the prompt
        )
        click.echo(f"kept in {store_credentials(broker, found, host=host)}", err=True)
        _warn_of_the_environment(broker, profile)
    about = {
        "servers": servers,
        "ssl_ca_location": ssl_ca_location and str(ssl_ca_location.absolute()),
        "project": project,
    }
    given = {name: value for name, value in about.items() if value}
    if given:
        click.echo(f"{', '.join(given)} kept in {store_settings(broker, given)}", err=True)
    click.echo(
        f"Try it: nuncius doctor {'pubsub://PROJECT/SUBSCRIPTION' if broker == 'pubsub' else f'{broker}://TOPIC'}",
        err=True,
    )


def _log_in_to_google(client_id: str | None) -> None:
    from nuncius.streams.pubsub.login import keep_login, log_in, oauth_client

    client = None if client_id else oauth_client()
    if client is None:
        click.echo(
            "A client id and secret come from the page Credentials of a Google Cloud project (type: desktop app)",
            err=True,
        )
        found = ask_login(client_id, name="OAuth client id", secret="OAuth client secret")  # noqa: S106 - the prompt
        client = found.username, found.reveal()
    has_browser = _sits_here()
    # Another address is for clouds with a login of their own.
    others: dict[str, Any] = {
        option: value
        for option in ("authorise_url", "token_url")
        if (value := find_setting("pittgoogle", option))
    }
    credentials = log_in(
        *client, show=lambda address: _show(address, has_browser), open_browser=has_browser, **others
    )
    click.echo(f"kept in {keep_login(credentials)}", err=True)
    if os.environ.get(_KEY_FILE):
        click.echo(f"{_KEY_FILE} is set, and wins over what is kept", err=True)


def _forget_google() -> Path | None:
    from nuncius.streams.pubsub.login import forget_login

    return forget_login()


def _show(address: str, has_browser: bool) -> None:
    click.echo(
        f"{'If no browser opens, open' if has_browser else 'Open'} this address, and log in:\n  {address}",
        err=True,
    )
    port = re.search(r"127\.0\.0\.1(?::|%3A)(\d+)", address)
    if not has_browser and port is not None:
        there = f"ssh -L {port[1]}:127.0.0.1:{port[1]} …"
        click.echo(f"In a browser on this machine; from another one come with {there} first.", err=True)


def _sits_here() -> bool:
    """Tell whether a person sits before this machine, and sees a browser that is opened on it."""
    if not sys.stderr.isatty() or os.environ.get("SSH_CONNECTION"):
        return False
    has_windows = sys.platform in {"win32", "darwin"}
    return has_windows or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _profile(broker: str) -> Profile:
    name = broker.partition("://")[0]
    profile = profile_of(name) or profile_of(name.lower())
    if profile is None:
        raise ConfigurationError(f"no broker is called {name!r}; known are {', '.join(names())}")
    return profile


def _warn_of_the_environment(broker: str, profile: Profile) -> None:
    ours = (
        f"NUNCIUS_{broker}_USERNAME".upper().replace("-", "_"),
        f"NUNCIUS_{broker}_PASSWORD".upper().replace("-", "_"),
    )
    for pair in (ours, profile.variables):
        if pair and all(os.environ.get(name) for name in pair):
            click.echo(f"{pair[0]} and {pair[1]} are set, and win over what is kept", err=True)


def ask_login(username: str | None, *, name: str, secret: str) -> Credentials:
    """Ask for a login at the terminal, in these words, or read it from standard input.

    Raises
    ------
    ConfigurationError
        If standard input holds something else.
    """
    if sys.stdin.isatty():
        username = username or click.prompt(name, err=True)
        password = click.prompt(secret, hide_input=True, err=True)
    else:
        lines = _lines_of_input()
        if len(lines) != (1 if username else 2):
            expected = "one line, the password" if username else "two lines, the name and the password"
            raise ConfigurationError(
                f"standard input holds {len(lines)} lines; expected is {expected}. Nothing was kept"
            )
        username = username or lines[0]
        password = lines[-1]
    return Credentials(username, password, source="you")


def _lines_of_input() -> list[str]:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:  # its own text quotes what it stumbles over
        raise ConfigurationError("standard input is no UTF-8. Nothing was kept") from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [line for line in lines if line]
