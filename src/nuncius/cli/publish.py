"""``nuncius publish``: send packets to a topic."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.alerts.alert import packet_files
from nuncius.brokers import open_publisher
from nuncius.cli.options import connection_options
from nuncius.errors import ConfigurationError, NotFoundError, NunciusError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius.streams.publishing import Publisher


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

    It ends when the broker has confirmed each message; what it did not confirm is an error, and the exit code 1. Ctrl-C
    ends it when what was sent is confirmed, a second one at once.

    \b
    Examples:
      nuncius publish kafka://localhost:9092/alerts packets/
      nuncius publish kafka://localhost:9092/alerts --schema alert.avsc alerts.jsonl
    """
    pairs = [header.partition("=") for header in headers]
    if any(not equals for _, equals, _ in pairs):
        raise click.BadParameter("a header is NAME=VALUE", param_hint="--header")
    named = [(name, value.encode()) for name, _, value in pairs]
    writer = None if schema is None else _schema(schema)
    publisher = open_publisher(url, ssl_ca_location=ssl_ca_location, config=config, timeout_s=timeout_s)
    count = 0
    try:
        with publisher, _announced_stop():
            for place, value in _values(files, by_line=lines or writer is not None):
                count += 1
                try:
                    content = value if writer is None else _record(value)
                    publisher.publish(content, key=key, headers=named, schema=writer)
                except ConfigurationError as error:
                    raise ConfigurationError(f"at {place}: {error}", position=place) from error
    except (NunciusError, KeyboardInterrupt):
        _say_how_far(publisher, count)
        raise
    if not count:
        raise NotFoundError(f"there is nothing to be published in {', '.join(map(str, files))}")
    click.echo(f"{count} messages published and confirmed", err=True)


@contextlib.contextmanager
def _announced_stop() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopping when what was sent is confirmed; Ctrl-C again stops at once", err=True)
        raise


def _say_how_far(publisher: Publisher, count: int) -> None:
    if count:
        click.echo(f"the broker has confirmed {publisher.confirmed} of the {count} messages so far", err=True)


def _values(files: tuple[Path, ...], *, by_line: bool) -> Iterator[tuple[str, bytes]]:
    """Yield messages, and where each stands."""
    for place, content in _contents(files):
        if not by_line:
            yield place, content
            continue
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield f"{place}, line {number}", line


def _contents(files: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    for name in files:
        if str(name) == "-":
            if content := sys.stdin.buffer.read():  # without any, nobody meant an empty message
                yield "standard input", content
            continue
        for file in packet_files(name) if name.is_dir() or not name.exists() else [name]:
            try:
                yield str(file), file.read_bytes()
            except OSError as error:
                raise StorageError(f"{file} can't be read: {error.strerror}", position=str(file)) from error


def _schema(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no Avro schema: {error}", position=str(path)) from error


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigurationError(f"it is no JSON, so it can't be written with the schema: {error}") from error
