"""``nuncius topics``: what a broker offers."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import topics
from nuncius.cli.options import connection_options, credentials_in, key_file_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("topics")
@click.argument("url")
@click.argument("pattern", default="*")
@key_file_option
@connection_options
def command(
    url: str, pattern: str, key_file: Path | None, ssl_ca_location: Path | None, config: dict[str, Any]
) -> None:
    """List the topics that a broker shows to you, those that match a PATTERN such as 'ztf_*'.

    \b
    Examples:
      nuncius topics antares://
      nuncius topics kafka://localhost:9092 'ztf_*'
      nuncius topics pubsub://PROJECT
    """
    credentials = credentials_in(key_file, [url])
    found = topics(url, credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
    matching = [name for name in found if fnmatch.fnmatchcase(name, pattern)]
    for name in matching:
        click.echo(name)
    if not matching:
        click.echo(f"none of {len(found)} topics matches {pattern}", err=True)
