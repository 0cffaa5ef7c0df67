"""``nuncius subscription``: look at, make, delete and move the subscriptions of Google Pub/Sub."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import delete_subscription, rewind, touch_subscription
from nuncius.brokers.subscriptions import parse_address
from nuncius.cli.options import key_file_option
from nuncius.errors import ForbiddenError, NotFoundError
from nuncius.streams.pubsub.client import Client
from nuncius.streams.pubsub.subscriptions import describe, patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams.pubsub import Subscription


@click.group("subscription")
def command() -> None:
    """Look at, make, delete and move subscriptions of Google Pub/Sub, Pitt-Google's among them.

    URL is pubsub://PROJECT/SUBSCRIPTION, or pittgoogle://TOPIC for the one in your own project (GOOGLE_CLOUD_PROJECT) that
    reads a topic of Pitt-Google. `nuncius stream` makes the latter by itself; here it can have a filter, or be another's.

    \b
    Examples:
      nuncius subscription touch pittgoogle://lsst-variability --group likely \\
        --attribute-filter 'attributes.pg_variable = "likely"'
      nuncius subscription show pittgoogle://ztf-loop
      nuncius subscription seek pittgoogle://ztf-loop --to -6h
      nuncius subscription delete pittgoogle://ztf-loop
    """


def _where(function: Callable[..., None]) -> Callable[..., None]:
    """Add the URL, and the options that say how to reach it; the command gets them all in one mapping."""
    for option in reversed(
        (
            click.argument("url"),
            click.option(
                "--group", metavar="NAME", help="The subscription.  [default: named like the topic]"
            ),
            key_file_option,
            click.option(
                "--ssl-ca-location",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Certificates that the server is verified with.  [default: Google's]",
            ),
            click.option(
                "--timeout",
                "timeout_s",
                type=click.FloatRange(min=0.1),
                default=10.0,
                show_default=True,
                help="Seconds that the server may take.",
            ),
        )
    ):
        function = option(function)
    return function


def _asked(where: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `nuncius.brokers` for what a command got."""
    return {("credentials" if name == "key_file" else name): value for name, value in where.items()}


@command.command()
@_where
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def show(as_json: bool, **where: Any) -> None:
    """Show what a subscription reads, and what it keeps. Nothing is made."""
    _print(_describe(**_asked(where)), as_json=as_json)


@command.command()
@_where
@click.option(
    "--topic", help="For pubsub://: the topic, if it is to be made: TOPIC or projects/PROJECT/topics/TOPIC."
)
@click.option(
    "--attribute-filter", metavar="TEXT", help="Only messages with such attributes come into it; for ever."
)
@click.option(
    "--retain-acknowledged",
    is_flag=True,
    help="Keep messages that were read, so that it can go back to them; Google charges for that.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def touch(
    topic: str | None, attribute_filter: str | None, retain_acknowledged: bool, as_json: bool, **where: Any
) -> None:
    """Make a subscription if it is missing.

    Messages that were published before it was made are not in it, and its topic and its filter can't be changed later.
    """
    found = touch_subscription(
        topic=topic,
        attribute_filter=attribute_filter,
        retain_acknowledged=retain_acknowledged,
        **_asked(where),
    )
    _print(found, as_json=as_json)
    if found.created:
        click.echo("made just now", err=True)
        return
    click.echo("it was there already; nothing was changed", err=True)
    differs = {
        "it has no filter": bool(attribute_filter) and not found.attribute_filter,
        "it does not keep what was read": retain_acknowledged and not found.retain_acknowledged,
    }
    if wrong := [text for text, holds in differs.items() if holds]:
        click.secho(
            f"not as asked for: {', '.join(wrong)}; delete it first, or make another", fg="yellow", err=True
        )
        raise click.exceptions.Exit(1)


@command.command()
@_where
@click.option("--yes", is_flag=True, help="Don't ask.")
def delete(yes: bool, **where: Any) -> None:
    """Delete a subscription, with all messages that wait in it."""
    asked = _asked(where)
    try:
        found = _describe(**asked)
    except NotFoundError as error:
        click.echo(f"there is no {error.position}; nothing was deleted", err=True)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(
                f"nobody is here to be asked whether {found.path} is to be deleted: give --yes"
            )
        click.confirm(f"Delete {found.path}, with all messages that wait in it?", abort=True, err=True)
    gone = delete_subscription(**asked)
    click.echo(f"deleted {found.path}" if gone else f"{found.path} was gone already", err=True)


@command.command()
@_where
@click.option(
    "--to",
    required=True,
    metavar="TIME",
    help="earliest, latest, -6h, or 2026-11-20T03:00Z; forward is allowed too.",
)
def seek(to: str, **where: Any) -> None:
    """Move a subscription in time, even while it is read.

    What was published before TIME counts as read. Of what came later all that Google has kept comes again: what was not read,
    and more only if the subscription was made with --retain-acknowledged, or its topic keeps messages.
    """
    parse_address(where["url"])  # `rewind` takes those of Kafka too
    asked = _asked(where)
    for path, _ in rewind(to=to, **asked):
        click.echo(f"{path}: moved to {to}", err=True)
    # It has moved: that one may not look at it changes nothing.
    with suppress(ForbiddenError):
        if to != "latest" and not _describe(**asked).retain_acknowledged:
            click.echo(
                "it does not keep what was acknowledged: that comes again only if its topic keeps messages",
                err=True,
            )


def _describe(
    url: str, *, group: str | None, credentials: Path | None, ssl_ca_location: Path | None, timeout_s: float
) -> Subscription:
    address = parse_address(url)
    server = address.log_in(credentials, ssl_ca_location)
    path, _ = address.subscription(group, server)
    if server.login is not None:
        server.login.check()
    with closing(Client(server)) as client:
        return patiently(partial(describe, client, path), time.monotonic() + timeout_s, lambda: False)


def _print(found: Subscription, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    days = found.retention_s / 86_400
    rows = {
        "subscription": found.path,
        "topic": f"{found.topic}: it was deleted, and nothing comes any more"
        if found.topic == "_deleted-topic_"
        else found.topic,
        "filter": found.attribute_filter or "none",
        "keeps": f"{'all messages' if found.retain_acknowledged else 'messages that were not read'} for {days:g} days",
        "lends": f"a message for {found.ack_deadline_s} s, if the client asks for no other time (nuncius does)",
    }
    for name, text in rows.items():
        click.echo(f"{name:<13} {text}")
