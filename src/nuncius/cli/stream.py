"""``nuncius stream``: listen to a stream and keep what comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import open_stream
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.alerts import Alert
    from nuncius.streams import Stream


@click.command("stream")
@click.argument("url")
@click.option(
    "--group", help="Consumer group whose position is resumed and kept.  [default: your own on this machine]"
)
@click.option("--no-group", is_flag=True, help="Keep no position: the next run sees the same again.")
@click.option(
    "--since",
    default="committed",
    show_default=True,
    metavar="TIME",
    help="Where to begin without a kept position: committed, earliest, latest, -6h, 2026-11-20T03:00Z.",
)
@click.option("--reset", is_flag=True, help="Begin at --since even if a position is kept.")
@click.option("--until", metavar="TIME", help="When to stop: end (of what is there), 10m, 2026-11-20T03:00Z.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many alerts.")
@click.option(
    "--archive",
    "archive_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the alerts in this archive file.",
)
@click.option(
    "--output-directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the alerts as files in this folder.",
)
@click.option(
    "--format",
    type=click.Choice(["json", "jsonl", "avro"]),
    help="Of the files [default: json, a file an alert]; without a folder, jsonl prints to standard output.",
)
@click.option(
    "--quarantine",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where messages go that can't be read.  [default: in your data folder]",
)
@click.option(
    "--schema", metavar="DIR|URL", help="Schemas of framed packets (Rubin's): a folder or a schema registry."
)
@click.option(
    "--config", multiple=True, metavar="KEY=VALUE", help="A setting of librdkafka; may be repeated."
)
def command(
    url: str,
    group: str | None,
    no_group: bool,
    since: str,
    reset: bool,
    until: str | None,
    limit: int | None,
    archive_file: Path | None,
    output_directory: Path | None,
    format: str | None,
    quarantine: Path | None,
    schema: str | None,
    config: tuple[str, ...],
) -> None:
    """Listen to a stream: print a line for each alert, or keep them in an archive or as files.

    URL is kafka://HOST:PORT/TOPIC[,TOPIC], or replay:///FOLDER to read packets from files. An alert counts as read
    only when it is printed or on the disk; a run that is stopped or killed goes on where it was.

    A login is taken from NUNCIUS_KAFKA_USERNAME and NUNCIUS_KAFKA_PASSWORD, never from the command line.

    \b
    Examples:
      nuncius stream kafka://localhost:9092/ztf_20261121_programid1 --archive night.db
      nuncius stream kafka://localhost:9092/alerts --since -6h --until end -d alerts --format avro
      nuncius stream replay:///data/packets --limit 10
    """
    if archive_file and output_directory:
        raise click.UsageError("choose one of --archive and --output-directory")
    if group and no_group:
        raise click.UsageError("choose one of --group and --no-group")
    stream = open_stream(
        url,
        group=False if no_group else group,
        start=since,
        reset=reset,
        stop=until,
        quarantine_dir=quarantine,
        schema=schema,
        config=_settings(config),
    )
    with stream:
        if stream.group:
            click.echo(f"reading {url} as the consumer group {stream.group}", err=True)
        try:
            count = _keep(_Limited(stream, limit), archive_file, output_directory, format)
        except KeyboardInterrupt:
            click.echo("stopped; the next run goes on here", err=True)
            raise click.exceptions.Exit(130) from None
        stats = stream.stats()
    where = f" -> {archive_file or output_directory}" if archive_file or output_directory else ""
    trouble = f", {stats.quarantined} quarantined" if stats.quarantined else ""
    click.echo(f"{count} alerts{where}{trouble}", err=True)


class _Limited:
    """The batches of a stream, up to a number of alerts."""

    def __init__(self, stream: Stream, limit: int | None) -> None:
        self._stream = stream
        self._left = limit

    def batches(self, n: int = 500, timeout_s: float | None = 1.0) -> Iterator[Sequence[Alert]]:
        """See `nuncius.alerts.sink.AlertSource`."""
        if self._left is None:
            yield from self._stream.batches(n, timeout_s)
            return
        while self._left > 0:
            batch = next(iter(self._stream.batches(min(n, self._left), timeout_s)), None)
            if batch is None:
                return
            self._left -= len(batch)
            yield batch


def _keep(source: _Limited, archive_file: Path | None, folder: Path | None, format: str | None) -> int:
    if archive_file:
        from nuncius.archives import open_archive

        with open_archive(archive_file) as archive:
            report = archive.ingest(source)
        click.echo(
            f"{report.archived} new, {report.revised} revised, {report.duplicates} known before", err=True
        )
        return report.received
    if folder:
        from nuncius.streams.files import FileSink

        sink = FileSink(folder, format or "json")  # type: ignore[arg-type]
        count = 0
        for batch in source.batches():
            sink.write([alert for alert in batch if _is_readable(alert)])
            count += len(batch)
        return count
    return _print(source, format)


def _print(source: _Limited, format: str | None) -> int:
    from nuncius.streams.files import as_json

    if format == "avro":
        raise click.UsageError("--format avro needs --output-directory")
    count = 0
    for batch in source.batches(100, 0.05):
        for alert in batch:
            if _is_readable(alert):
                click.echo(_line(alert) if format is None else as_json(alert))
                count += 1
    return count


def _is_readable(alert: Alert) -> bool:
    try:
        _ = alert.packet
    except PacketError as error:  # the stream has put it into the quarantine
        click.echo(f"nuncius: {alert.origin}: {error}", err=True)
        return False
    return True


def _line(alert: Alert) -> str:
    def show(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        f"{alert.survey:<7} {alert.object_id or '-':<14} {alert.alert_id!s:<20} {show(alert.mjd, '.5f'):>11}  "
        f"{show(alert.ra, '.5f'):>9} {show(alert.dec, '+.5f'):>9}  {alert.band or '-':>3} {show(alert.mag, '.2f'):>6}  "
        f"score {show(alert.score, '.2f')}"
    )


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--config")
        if re.search(r"password|secret|token", name):
            raise click.BadParameter(
                f"{name} would be seen by everybody on this machine in the list of processes; set "
                "NUNCIUS_KAFKA_USERNAME and NUNCIUS_KAFKA_PASSWORD",
                param_hint="--config",
            )
        settings[name] = value
    return settings
