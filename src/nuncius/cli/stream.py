"""``nuncius stream``: listen to streams and keep what comes, for a minute or for years."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuncius.brokers import open_stream
from nuncius.cli.options import connection_options, credentials_in, key_file_option
from nuncius.cli.service import Duration, Places, Size, Watched, keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams import Stream

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Make one decorator of several options, in the order in which help shows them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_POSITION = _options(
    click.option(
        "--group",
        help="Consumer group whose position is resumed and kept.  [default: your own on this machine]",
    ),
    click.option("--no-group", is_flag=True, help="Keep no position: the next run sees the same again."),
    click.option(
        "--since",
        default="committed",
        show_default=True,
        metavar="TIME",
        help="Where to begin without a kept position: committed, earliest, latest, -6h, 2026-11-20T03:00Z.",
    ),
    click.option("--reset", is_flag=True, help="Begin at --since even if a position is kept."),
    click.option(
        "--until", metavar="TIME", help="When to stop: end (of what is there), 10m, 2026-11-20T03:00Z."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Stop after so many alerts."),
    click.option(
        "--pace", type=float, metavar="X", help="Of a recording: 1 as it came, 10 ten times as fast."
    ),
)

_CHOICE = _options(
    click.option(
        "--where", metavar="TEXT", help='Only alerts for which this holds: "score > 0.9 and mag < 18".'
    ),
    click.option(
        "--attribute-filter",
        metavar="TEXT",
        help="Only messages with such attributes (Pub/Sub) or headers (Kafka): 'attributes.pg_variable = \"likely\"'.",
    ),
    click.option(
        "--near",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Only alerts near a target of this table.",
    ),
    click.option("--radius", metavar="ANGLE", help="How near, with its unit: 2arcsec, 1arcmin."),
    click.option(
        "--region",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Only alerts in this MOC or sky map.",
    ),
    click.option(
        "--level",
        type=float,
        default=0.9,
        show_default=True,
        metavar="P",
        help="How much of a sky map's probability counts.",
    ),
    click.option(
        "--deduplicate", is_flag=True, help="Drop an alert that came before, from any of the streams."
    ),
    click.option("--max-rate", type=float, metavar="N", help="At most N alerts in a second, on average."),
    click.option("--test-messages", is_flag=True, help="Also what the broker marks as a test."),
)

_PLACES = _options(
    click.option("--archive", "archive_file", type=_FILE, help="Keep the alerts in this archive file."),
    click.option(
        "--keep",
        "kept",
        type=click.Choice(["document", "packet", "measurements"]),
        help="How much the archive keeps of each.  [default: document]",
    ),
    click.option("--no-cutouts", is_flag=True, help="Keep no images in the archive."),
    click.option("--output-directory", "-d", type=_FOLDER, help="Keep the alerts as files in this folder."),
    click.option(
        "--format",
        type=click.Choice(["json", "jsonl", "avro", "parquet"]),
        help="Of the files [default: json, a file an alert]; without a folder, jsonl prints to standard output.",
    ),
    click.option("--record", type=_FILE, help="Keep the messages in this recording, to be replayed."),
    click.option(
        "--exec", "run", metavar="COMMAND", help='Run a program for each alert: "tell-me {object_id} {mag}".'
    ),
    click.option(
        "--quarantine",
        type=_FOLDER,
        help="Where messages go that can't be read.  [default: in your data folder]",
    ),
)

_BROKER = _options(
    click.option(
        "--schema",
        metavar="DIR|URL",
        help="Schemas of framed packets (Rubin's): a folder or a schema registry.",
    ),
    key_file_option,
    connection_options,
)

_SERVICE = _options(
    click.option(
        "--retry",
        default="0s",
        type=Duration(forever=True),
        metavar="TIME",
        help="Try again for so long (or forever) when no broker answers at the start.",
    ),
    click.option(
        "--min-free",
        default="100MB",
        show_default=True,
        type=Size(),
        metavar="SIZE",
        help="Rest while a disk that alerts are kept on has less free.",
    ),
    click.option("--status-file", type=_FILE, help="Write here how it goes, for `nuncius health`."),
    click.option(
        "--metrics", metavar="[HOST:]PORT", help="Answer /metrics (Prometheus) and /health over HTTP."
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Of what is said on standard error.",
    ),
)


@click.command("stream")
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@_POSITION
@_CHOICE
@_PLACES
@_BROKER
@_SERVICE
def command(
    urls: tuple[str, ...],
    *,
    group: str | None,
    no_group: bool,
    since: str,
    reset: bool,
    until: str | None,
    limit: int | None,
    pace: float | None,
    where: str | None,
    attribute_filter: str | None,
    near: Path | None,
    radius: str | None,
    region: Path | None,
    level: float,
    deduplicate: bool,
    max_rate: float | None,
    test_messages: bool,
    archive_file: Path | None,
    kept: str | None,
    no_cutouts: bool,
    output_directory: Path | None,
    format: str | None,
    record: Path | None,
    run: str | None,
    quarantine: Path | None,
    schema: str | None,
    key_file: Path | None,
    ssl_ca_location: Path | None,
    config: dict[str, Any],
    retry: float,
    min_free: int,
    status_file: Path | None,
    metrics: str | None,
    log_format: str,
) -> None:
    """Listen to streams: print a line for each alert, or keep them in one or several places.

    URL is BROKER://TOPIC[,TOPIC] (`nuncius brokers` lists them), kafka://HOST:PORT/TOPIC[,TOPIC],
    pubsub://PROJECT/SUBSCRIPTION, or replay:///PATH to read a recording or packets from files. Several URLs are read as one
    stream.

    An alert counts as read only when it is printed or on the disk in all places; a run that is stopped or killed goes
    on where it was. SIGTERM and Ctrl-C finish what is in hand first; a second one doesn't.

    A login is taken from `nuncius login`, or from NUNCIUS_KAFKA_USERNAME and NUNCIUS_KAFKA_PASSWORD (or ANTARES, FINK,
    ...), never from the command line.

    \b
    Examples:
      nuncius stream kafka://localhost:9092/ztf_20261121_programid1 --archive night.db
      nuncius stream kafka://localhost:9092/alerts --since -6h --until end -d alerts --format avro
      nuncius stream replay:///data/packets --limit 10
      nuncius stream pittgoogle://ztf-loop --limit 10
    \b
    As a service:
      nuncius stream ztf://HOST:9092/programid1 --archive ztf.db --min-free 5GB --retry forever \\
        --status-file ztf.status --metrics 9464 --log-format json

    Exit codes: 0 at the end and after SIGTERM; 1 an error that the message explains; 2 wrong usage; 75 what may pass by
    itself: alerts could not be kept (a full disk, a command that fails), or no broker answered for the time of --retry;
    130 after Ctrl-C.
    """
    if group and no_group:
        raise click.UsageError("choose one of --group and --no-group")
    if (kept or no_cutouts) and archive_file is None:
        raise click.UsageError("--keep and --no-cutouts are for --archive")
    if format in {"avro", "parquet"} and output_directory is None:
        raise click.UsageError(f"--format {format} needs --output-directory")
    credentials = credentials_in(key_file, urls)

    def opened(again: bool) -> Stream:
        return open_stream(
            urls[0] if len(urls) == 1 else urls,
            where=where,
            attribute_filter=attribute_filter,
            near=near,
            radius=radius,
            region=region,
            level=level,
            deduplicate=deduplicate,
            max_rate=max_rate,
            group=False if no_group else group,
            start=since,
            reset=reset and not again,
            stop=until,
            pace=pace,
            acknowledge="manual",
            quarantine_dir=quarantine,
            schema=schema,
            credentials=credentials,
            ssl_ca_location=ssl_ca_location,
            config=config,
            test_messages=test_messages,
        )

    keep(
        opened,
        Places(
            archive=archive_file,
            keep=kept or "document",
            cutouts=not no_cutouts,
            folder=output_directory,
            format=format,
            recording=record,
            command=run,
            quarantine=quarantine,
        ),
        Watched(
            urls=urls,
            limit=limit,
            retry_s=retry,
            min_free_bytes=min_free,
            status_file=status_file,
            metrics=metrics,
            log_format=log_format,
        ),
    )
