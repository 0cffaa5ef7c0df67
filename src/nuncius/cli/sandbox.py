"""``nuncius sandbox``: a service on this machine alone, to try programs with."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from nuncius.streams.service import Stopping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius.sandbox.pubsub import SandboxPubSub

_IN_THE_LOOP = 300  # alerts, 25 MB
_EVERY_S = 1.0


@click.group("sandbox")
def command() -> None:
    """Run a service on this machine, to try programs with: no account, no network, and nothing kept when it ends."""


@command.command("pubsub")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8085,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--project", default="nuncius-sandbox", show_default=True, help="Your project in it.")
@click.option("--loop", is_flag=True, help="Publish an alert a second to ztf-loop, as Pitt-Google does.")
def pubsub(port: int, project: str, loop: bool) -> None:
    """Run a Google Pub/Sub server with the topics of Pitt-Google, until Ctrl-C or SIGTERM.

    Google's own clients, and those of Pitt-Google, work with it: two variables lead them here, and are printed.

    \b
    Example:
      nuncius sandbox pubsub --loop
    """
    from nuncius.sandbox.pubsub import SandboxPubSub

    with Stopping() as stopping, SandboxPubSub(port=port, project=project) as server:
        _tell(server, loops=loop)
        for _ in _published(server) if loop else itertools.repeat(None):
            if stopping.wait(_EVERY_S):
                break
        click.echo("stopped; its messages are gone", err=True)


def _tell(server: SandboxPubSub, *, loops: bool) -> None:
    for name, value in server.environment.items():
        click.echo(f"export {name}={value}")
    topic = "pittgoogle://ztf-loop"
    first = f"nuncius stream {topic} --limit 5" if loops else f"nuncius subscription show {topic}"
    click.echo(
        f"\nA Pub/Sub server runs at {server.endpoint} until Ctrl-C"
        f"{', and an alert a second comes to ztf-loop' if loops else ''}. Say these two lines in another terminal, then:\n"
        f"  {first}",
        err=True,
    )


def _published(server: SandboxPubSub) -> Iterator[None]:
    """Publish the next alert of the loop whenever we are asked for one."""
    from nuncius.alerts import Alert
    from nuncius.cli.demo_pubsub import TOPIC, attributes_of
    from nuncius.sandbox.sky import SyntheticSky

    packets = itertools.cycle(SyntheticSky().alerts(_IN_THE_LOOP))
    for number, packet in enumerate(packets):
        server.publish(TOPIC, [packet], attributes=attributes_of(Alert.from_bytes(packet), number))
        yield
