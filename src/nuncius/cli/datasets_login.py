"""``nuncius datasets login``: keep the login of a dserver where no list of processes shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from nuncius._core.terminal import printable
from nuncius.cli.datasets_options import server_choice
from nuncius.cli.login import ask_login
from nuncius.credentials import store_credentials
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.datasets import DServer


@click.command()
@click.option("--username", help="Your user name; asked for if it is not given.")
@click.option("--remove", is_flag=True, help="Forget the login.")
@server_choice
def login(server: Callable[..., DServer], username: str | None, remove: bool) -> None:
    """Store your login of a dserver, for all later commands and programs of yours.

    The password is asked for, or read from standard input; it is never given on the command line, where others could see
    it. It is tried, and what is refused is not kept. It is kept in credentials.toml, which only you can read.

    \b
    Example:
      nuncius datasets login --url https://HOST:5000 --username NAME
    """
    with server(interactive=False) as dserver:
        address, token_url = dserver.url, dserver.token_url
        host = urlsplit(token_url or address).hostname  # the password goes to the generator
    if remove:
        path = store_credentials("dserver", None, host=host)
        click.echo(
            f"forgotten; {path} holds it no more" if path else f"no login of {host} is kept here", err=True
        )
        return
    if token_url is None:
        raise ConfigurationError(
            f"a login is for a token generator, and that of {address} is not known: set DSERVER_TOKEN_GENERATOR_URL to its "
            "address, such as https://host:5001/token, or write it into ~/.config/dtool/dtool.json"
        )
    found = ask_login(username, name="User name", secret="Password")  # noqa: S106 - the word of the prompt
    with server(credentials=found, interactive=False) as dserver:
        me = dserver.me()
    click.echo(f"kept in {store_credentials('dserver', found, host=host)}", err=True)
    click.echo(f"{address} knows you as {printable(str(me.get('username')))}", err=True)
