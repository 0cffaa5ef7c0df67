"""``nuncius users``: who may ask the server of an archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.archives.server.accounts import Accounts

_PASSWORD_VARIABLE = "NUNCIUS_NEW_PASSWORD"  # noqa: S105 - its name


def _file_options(function: Callable[..., None]) -> Callable[..., None]:
    archive = click.option(
        "--archive",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The archive that is served; its accounts are in ARCHIVE.accounts.db.",
    )
    accounts = click.option(
        "--accounts", type=click.Path(dir_okay=False, path_type=Path), help="The accounts file itself."
    )
    return archive(accounts(function))


@click.group("users")
def command() -> None:
    """Manage who may ask the server of an archive (`nuncius serve`).

    A password is asked for, or taken from the environment variable NUNCIUS_NEW_PASSWORD; it is never given on the
    command line, where others could see it.
    """


@command.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="This user may add and remove others over HTTP.")
@click.option("--email", help="Where to reach the user.")
@_file_options
def add(name: str, admin: bool, email: str | None, archive: Path | None, accounts: Path | None) -> None:
    """Add a user."""
    with _opened(archive, accounts) as known:
        known.add(name, _new_password(), admin=admin, email=email)
        click.echo(f"added {name} to {known.path}")


@command.command()
@click.argument("name")
@_file_options
def remove(name: str, archive: Path | None, accounts: Path | None) -> None:
    """Remove a user, whose tokens die at once."""
    with _opened(archive, accounts) as known:
        known.remove(name)
        click.echo(f"removed {name}")


@command.command()
@click.argument("name")
@_file_options
def password(name: str, archive: Path | None, accounts: Path | None) -> None:
    """Give a user a new password; the user's tokens die at once."""
    with _opened(archive, accounts) as known:
        known.get(name)
        known.edit(name, password=_new_password())
        click.echo(f"changed the password of {name}")


@command.command("list")
@_file_options
def list_users(archive: Path | None, accounts: Path | None) -> None:
    """List all users."""
    from nuncius.cli.tables import print_table

    with _opened(archive, accounts) as known:
        rows: list[dict[str, Any]] = [
            {
                "name": account.name,
                "admin": account.admin or None,
                "email": account.email,
                "since": account.created,
            }
            for account in known.everyone()
        ]
    if rows:
        print_table(rows)
    else:
        click.echo("no users yet", err=True)


def _opened(archive: Path | None, accounts: Path | None) -> Accounts:
    from nuncius.archives.server.accounts import Accounts, accounts_path

    if accounts is not None:
        return Accounts(accounts)
    if archive is None:
        raise click.UsageError("say whose users: --archive night.db")
    if not archive.is_file():
        raise click.BadParameter(f"there is no archive {archive}", param_hint="--archive")
    return Accounts(accounts_path(archive))


def _new_password() -> str:
    given = os.environ.get(_PASSWORD_VARIABLE)
    if given:
        return given
    prompted: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return prompted
