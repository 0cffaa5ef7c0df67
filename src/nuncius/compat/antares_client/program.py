"""The command line of antares-client: ``nuncius antares``, and ``python -m nuncius.compat.antares_client``."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.compat.antares_client.files import TopicFiles
from nuncius.compat.antares_client.reading import PORT, names_of, open_antares, servers_of, topic_of
from nuncius.errors import NunciusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.alerts import Alert, Notice
    from nuncius.alerts.sink import Sink

_BATCH = 100
_BATCH_S = 0.05


@click.command("antares", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("topics", metavar="TOPIC[,TOPIC...]")
@click.option(
    "--output-directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the alerts in this folder: a folder a stream, a file an alert.",
)
@click.option("--api-key", help="Your API key. Better not here: others can see it in the list of processes.")
@click.option("--api-secret", help="Your API secret. Better not here either.")
@click.option(
    "--ssl-ca-location",
    type=click.Path(path_type=Path),
    help="The certificates that ANTARES is verified with.  [default: the system's]",
)
@click.option("--host", help="Where ANTARES' Kafka is.  [default: the public one]")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Its port.")
@click.option(
    "--group",
    "-g",
    help="The name under which ANTARES remembers what was received.  [default: this machine's]",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell more about what happens.")
@click.version_option(package_name="nuncius", message="nuncius %(version)s, as antares-client 0.2.0")
@click.pass_context
def command(
    ctx: click.Context,
    topics: str,
    output_directory: Path | None,
    api_key: str | None,
    api_secret: str | None,
    ssl_ca_location: Path | None,
    host: str | None,
    port: int,
    group: str | None,
    verbose: bool,
) -> None:
    """Subscribe to streams of ANTARES and write their alerts to files, or a line for each.

    ANTARES remembers what was received: a run that is stopped or killed goes on where it was. An alert counts as received
    when its file is on the disk, or its line is printed.

    The API key and secret are best stored once with `nuncius login antares`, or set as NUNCIUS_ANTARES_USERNAME and
    NUNCIUS_ANTARES_PASSWORD.

    \b
    Examples:
      nuncius antares extragalactic --output-directory ~/antares
      nuncius antares extragalactic,nuclear_transient -d ~/antares -g my-night
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(message)s")
    if api_key is not None or api_secret is not None:
        click.echo(
            "nuncius: --api-key and --api-secret can be seen by everybody on this machine in the list of processes; store "
            "them with `nuncius login antares`, or set NUNCIUS_ANTARES_USERNAME and NUNCIUS_ANTARES_PASSWORD",
            err=True,
        )
    stream = open_antares(
        names_of(topics),
        servers=servers_of(host, port),
        api_key=api_key,
        api_secret=api_secret,
        group=group,
        ssl_ca_location=ssl_ca_location,
    )
    sink: Sink = _Lines() if output_directory is None else TopicFiles(output_directory.expanduser())
    code = 0
    try:
        with _stopping_at_sigterm(), stream:
            click.echo(f"reading {topics} as the consumer group {stream.group}", err=True)
            stream.save(sink, n=_BATCH, timeout_s=_BATCH_S)
    except KeyboardInterrupt as stop:
        code = 0 if isinstance(stop, _AskedToStop) else 130
    stats = stream.stats()
    trouble = f", {stats.quarantined} quarantined" if stats.quarantined else ""
    where = "" if output_directory is None else f" -> {output_directory}"
    click.echo(f"{stats.acknowledged} alerts{where}{trouble}; the next run goes on here", err=True)
    ctx.exit(code)


def main() -> None:
    """Run as the command ``antares-client``."""
    try:
        command(prog_name="antares-client")
    except NunciusError as error:
        click.echo(f"antares-client: {error}", err=True)
        sys.exit(1)


class _AskedToStop(KeyboardInterrupt):
    """SIGTERM: whoever runs us as a service wants us to end."""


class _Lines:
    """Prints a line for each alert."""

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """See `nuncius.alerts.sink.Sink`: what is printed is out of our hands."""
        for alert in items:
            click.echo(_line(alert))

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`."""


def _line(alert: Any) -> str:
    def show(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        f"{topic_of(alert)} {alert.object_id or '-'} {alert.alert_id} {show(alert.mjd, '.5f')} {show(alert.ra, '.5f')} "
        f"{show(alert.dec, '+.5f')} {getattr(alert, 'band', None) or '-'} {show(getattr(alert, 'mag', None), '.2f')}"
    )


@contextlib.contextmanager
def _stopping_at_sigterm() -> Iterator[None]:
    def stop(_number: int, _frame: Any) -> None:
        raise _AskedToStop

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
