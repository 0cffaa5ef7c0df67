"""``nuncius doctor``: find out why a stream can't be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import diagnose
from nuncius.brokers.doctor import decoding
from nuncius.cli.options import connection_options, credentials_in, key_file_option

if TYPE_CHECKING:
    from pathlib import Path

_SIGNS = {
    "ok": ("ok", "green"),
    "failed": ("FAILED", "red"),
    "warning": ("warning", "yellow"),
    "not tried": ("-", None),
}


@click.command("doctor")
@click.argument("url")
@click.option("--group", help="The consumer group whose use is tried.  [default: your own on this machine]")
@click.option("--schema", metavar="DIR|URL", help="Schemas of framed packets (Rubin's).")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds for each step.",
)
@key_file_option
@connection_options
def command(
    url: str,
    group: str | None,
    schema: str | None,
    timeout_s: float,
    key_file: Path | None,
    ssl_ca_location: Path | None,
    config: dict[str, Any],
) -> None:
    """Try what a stream needs, step by step: name, network, TLS, login, topic, group, one message.

    Nothing is changed: no position is kept, no group joined. Of a Pub/Sub subscription, which is not made if it is missing,
    one message is borrowed and given back at once. The exit code is 1 if a step failed.
    """
    verdicts = diagnose(
        url,
        group=group,
        schema=schema,
        timeout_s=timeout_s,
        credentials=credentials_in(key_file, [url]),
        ssl_ca_location=ssl_ca_location,
        config=config,
    )
    failed = False
    for verdict in verdicts:
        sign, colour = _SIGNS[verdict.state]
        click.secho(f"{sign:<8}", fg=colour, bold=verdict.state == "failed", nl=False)
        click.echo(f" {verdict.step:<12} {verdict.text}")
        if verdict.cure and verdict.state != "ok":
            click.echo(f"{'':21} -> {verdict.cure}")
        failed = failed or verdict.state == "failed"
    if (decoder := decoding()).state != "ok":
        click.echo(f"Beside it: {decoder.text}. Cure: {decoder.cure}", err=True)
    if failed:
        raise click.exceptions.Exit(1)
