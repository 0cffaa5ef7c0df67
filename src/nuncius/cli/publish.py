"""``nuncius publish``: send packets to a topic."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.alerts.alert import packet_files
from nuncius.brokers import open_publisher
from nuncius.cli.options import connection_options
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("publish")
@click.argument("url")
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=Path))
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Avro schema (.avsc): each FILE holds lines of JSON, which are sent as Avro.",
)
@click.option("--lines", is_flag=True, help="Each line of a FILE is a message.")
@click.option("--key", help="The key of all messages.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A header of all messages; may be repeated.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="Seconds that the broker may take to confirm.",
)
@connection_options
def command(
    url: str,
    files: tuple[Path, ...],
    schema: Path | None,
    lines: bool,
    key: str | None,
    headers: tuple[str, ...],
    timeout_s: float,
    ssl_ca_location: Path | None,
    config: dict[str, Any],
) -> None:
    """Send files to a topic, each one message as it is; a folder stands for the packets in it, - for standard input.

    It ends when the broker has confirmed each message; what it did not confirm is an error, and the exit code 1.

    \b
    Examples:
      nuncius publish kafka://localhost:9092/alerts packets/
      nuncius publish kafka://localhost:9092/alerts --schema alert.avsc alerts.jsonl
    """
    pairs = [header.partition("=") for header in headers]
    if any(not equals for _, equals, _ in pairs):
        raise click.BadParameter("a header is NAME=VALUE", param_hint="--header")
    named = {name: value.encode() for name, _, value in pairs}
    writer = json.loads(schema.read_bytes()) if schema else None
    count = 0
    with open_publisher(
        url, ssl_ca_location=ssl_ca_location, config=config, timeout_s=timeout_s
    ) as publisher:
        for value in _values(files, by_line=lines or writer is not None):
            content = value if writer is None else _record(value)
            publisher.publish(content, key=key, headers=named or None, schema=writer)
            count += 1
    click.echo(f"{count} messages published and confirmed", err=True)


def _values(files: tuple[Path, ...], *, by_line: bool) -> Iterator[bytes]:
    for name in files:
        contents = (
            [sys.stdin.buffer.read()]
            if str(name) == "-"
            else (file.read_bytes() for file in packet_files(name))
        )
        for content in contents:
            yield from (line for line in content.splitlines() if line.strip()) if by_line else [content]


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigurationError(
            f"a line is no JSON, so it can't be written with the schema: {error}"
        ) from error
