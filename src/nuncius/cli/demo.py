"""``nuncius demo``: one night from end to end, on this machine alone."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from nuncius.archives import open_archive
from nuncius.archives.documents import survey_of_catalog
from nuncius.brokers import open_stream
from nuncius.cli.demo_brokers import listen_to_two
from nuncius.cli.demo_datasets import look_up_data_sets
from nuncius.cli.demo_fits import read_a_cube
from nuncius.cli.demo_pubsub import read_pitt_google
from nuncius.errors import ConfigurationError, MissingExtraError, NunciusError
from nuncius.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.alerts import Alert
    from nuncius.alerts.surveys import Reading
    from nuncius.archives import ArchivedObject, EmbeddedArchive, IngestReport
    from nuncius.cli.demo_brokers import Brokers
    from nuncius.cli.demo_datasets import Found
    from nuncius.cli.demo_fits import Cube
    from nuncius.cli.demo_pubsub import PittGoogle
    from nuncius.sandbox import SandboxKafka
    from nuncius.streams import Stream

_TOPIC = "demo"
_GROUP = "nuncius-demo"
_MARK = ".nuncius-demo"
_REFERENCE = "reference_stars"
_SHOWN = 12
_DRAWN_AT_ONCE = 2000  # 150 MB
_LOOKED_AT = 400  # objects whose light curves are compared for the report
# The newer group protocol, which the sandbox's broker speaks, spares the wait of three seconds of the older one.
_CONFIG = {"group.protocol": "consumer"}


@dataclass(slots=True)
class _Night:
    """What happened, for the summary."""

    published: int = 0
    received: int = 0
    quarantined: int = 0
    report: Any = None
    seconds: float = 0.0
    cones: int = 0
    near: int = 0
    cone_seconds: float = 0.0
    stars: int = 0
    matched: int = 0
    over_http: int | None = None
    brokers: Brokers | None = None
    pittgoogle: PittGoogle | None = None
    cube: Cube | None = None
    data_sets: Found | None = None
    failures: list[NunciusError] = field(default_factory=list)


@click.command("demo")
@click.option(
    "--packets",
    type=click.Path(exists=True, path_type=Path),
    help="Publish every packet in this file or folder.  [default: synthetic alerts]",
)
@click.option(
    "--alerts",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="How many synthetic alerts to publish.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("nuncius-demo"),
    show_default=True,
    help="Where night.db and night.html are written; those of an earlier demo are replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object at the end.")
def command(packets: Path | None, alerts: int, out: Path, as_json: bool) -> None:
    """See one night from end to end, without any account and without any network.

    Starts a Kafka broker on this machine, publishes alerts to it, receives them, keeps them in an archive, asks the
    archive what is near each object, cross-matches it with a reference catalogue, asks it again over HTTP, listens to
    two brokers as one stream with a watchlist, reads again what could not be read at first, adds what Pitt-Google sends of
    the same night over Pub/Sub, reads a little of a FITS file of 45 GB in an object store, looks up the data sets of a
    supernova and reads a line of its spectrum, and draws the night.
    """
    path = _fresh(out)
    night = _Night()
    say = _Teller(quiet=as_json)
    with Sandbox() as box, open_archive(path) as archive:
        say(f"A Kafka broker runs at [bold]{box.kafka.url}[/bold] until the demo ends.")
        _receive(box.kafka, packets, alerts, archive, night, say)
        report: IngestReport = night.report
        say(
            f"[bold]{report.archived}[/bold] alerts archived in {night.seconds:.1f} s "
            f"({report.received / night.seconds:.0f}/s), {night.quarantined} quarantined, {report.duplicates} "
            f"duplicates, {report.revised} revised."
        )
        _ask(archive, night)
        say(
            f"{night.cones} cones of 2 arcsec found [bold]{night.near}[/bold] alerts in "
            f"{1000 * night.cone_seconds:.0f} ms."
        )
        _match(archive, packets is None, night, say)
        _serve(archive, night, say)
        night.brokers = listen_to_two(box.kafka, out, say)
        night.pittgoogle = read_pitt_google(box, _packets(packets, alerts), archive, out, say)
        night.cube = read_a_cube(box.store, say)
        night.data_sets = look_up_data_sets(box, say)
        page = _draw(archive, night, out, say)
    _farewell(path, page, archive, say)
    if as_json:
        click.echo(json.dumps(_figures(night)))


def _fresh(out: Path) -> Path:
    """Make the folder, and take away what an earlier demo left; never anything else."""
    path = out / "night.db"
    if path.exists() and not (out / _MARK).exists():
        raise ConfigurationError(
            f"{path} exists and is not of an earlier demo; give another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    files = ("night.db", "watched.db")
    for name in (*files, *(f"{name}-{part}" for name in files for part in ("wal", "shm")), "night.html"):
        (out / name).unlink(missing_ok=True)
    for name in ("quarantine-brokers", "quarantine-pittgoogle"):
        shutil.rmtree(out / name, ignore_errors=True)
    return path


class _Teller:
    """Says what happens, on standard error where the figures go to standard output."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=quiet, highlight=False)

    def __call__(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


def _receive(
    kafka: SandboxKafka,
    packets: Path | None,
    count: int,
    archive: EmbeddedArchive,
    night: _Night,
    say: _Teller,
) -> None:
    say(
        f"Publishing {'the packets in ' + str(packets) if packets else f'{count} alerts of a synthetic sky'}."
    )
    source = _packets(packets, count, _DRAWN_AT_ONCE)  # so that the drawing isn't timed
    first = next(source, None)
    if first is None:
        raise ConfigurationError(f"there is no packet in {packets}")
    kafka.publish(_TOPIC, [first], group=_GROUP)  # makes the topic, so that it can be subscribed to
    night.published = 1
    publisher = threading.Thread(target=_publish, args=(kafka, source, night), daemon=True)
    quarantine = archive.path.parent / "quarantine"
    begin = time.monotonic()
    with open_stream(
        f"{kafka.url}/{_TOPIC}", group=_GROUP, acknowledge="manual", quarantine_dir=quarantine, config=_CONFIG
    ) as stream:
        publisher.start()
        night.report = archive.ingest(_Published(stream, publisher, night))
        stats = stream.stats()
    night.seconds = time.monotonic() - begin
    night.received, night.quarantined = stats.received, stats.quarantined
    if night.failures:
        raise night.failures[0]


class _Published:
    """The batches of a stream until all that was published has come."""

    def __init__(self, stream: Stream, publisher: threading.Thread, night: _Night) -> None:
        self._stream = stream
        self._publisher = publisher
        self._night = night

    def acknowledge(self, alerts: Sequence[Alert]) -> None:
        """See `nuncius.alerts.sink.AlertSource`."""
        self._stream.acknowledge(alerts)

    def release(self, alert: Alert, delay_s: float = 0) -> None:
        """See `nuncius.alerts.sink.AlertSource`."""
        self._stream.release(alert, delay_s)

    def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> Iterator[Sequence[Alert]]:
        """See `nuncius.alerts.sink.AlertSource`: acknowledged only after it was archived."""
        while True:
            batch: list[Alert] = []
            while len(batch) < n and (alert := self._stream.poll(0.1)) is not None:
                batch.append(alert)
            if batch:
                yield batch
                if finish:
                    self._stream.acknowledge(batch)
            elif not self._publisher.is_alive() and (
                self._night.failures or self._stream.stats().received >= self._night.published
            ):
                return


def _publish(kafka: SandboxKafka, source: Iterator[bytes], night: _Night) -> None:
    try:
        night.published += kafka.publish(_TOPIC, source, group=_GROUP)
    except NunciusError as error:
        night.failures.append(error)


def _packets(path: Path | None, count: int, drawn_at_once: int = 0) -> Iterator[bytes]:
    """Give the packets of a file or folder, or alerts of the synthetic sky, so many of them drawn before they are asked for."""
    if path is not None:
        from nuncius.alerts.alert import packet_files

        return (file.read_bytes() for file in packet_files(path))
    from nuncius.sandbox.sky import SyntheticSky

    alerts = SyntheticSky().alerts(count)
    return itertools.chain(list(itertools.islice(alerts, drawn_at_once)), alerts)


def _readings(archive: EmbeddedArchive, catalog: str) -> Iterator[Reading]:
    survey = survey_of_catalog(catalog)
    for document in archive.find(catalog, projection=dict.fromkeys(survey.cutout_fields, 0)):
        yield survey.read(document)


def _ask(archive: EmbeddedArchive, night: _Night) -> None:
    """Search around the place of each object."""
    begin = time.monotonic()
    for catalog in _alert_catalogs(archive):
        places: dict[str, tuple[float, float]] = {}
        for reading in _readings(archive, catalog):
            point = reading.point
            if point.ra is not None and point.dec is not None:
                places.setdefault(reading.object_id or str(reading.alert_id), (point.ra, point.dec))
        if places:
            found = archive.cone_search(catalog, list(places.values()), "2 arcsec", projection=["_id"])
            night.cones += len(places)
            night.near += len(found)
    night.cone_seconds = time.monotonic() - begin


def _match(archive: EmbeddedArchive, is_synthetic: bool, night: _Night, say: _Teller) -> None:
    """Cross-match the night with a reference catalogue."""
    table = _reference_stars() if is_synthetic else _objects(archive)
    night.stars = archive.load_catalog(_REFERENCE, table, ra="ra", dec="dec", progress=False).rows
    begin = time.monotonic()
    for catalog in _alert_catalogs(archive):
        found = archive.crossmatch(
            catalog, _REFERENCE, "2 arcsec", projection=["_id"], right_projection=["_id"], limit=1
        )
        night.matched += len(found)
    say(
        f"[bold]{night.matched}[/bold] alerts lie within 2 arcsec of one of {night.stars} sources of a reference "
        f"catalogue ({1000 * (time.monotonic() - begin):.0f} ms)."
    )


def _reference_stars() -> Any:
    from nuncius.sandbox.sky.reference import synthetic_catalog

    return synthetic_catalog()


def _objects(archive: EmbeddedArchive) -> Any:
    """Make a reference catalogue of real packets: where each object was first seen."""
    from astropy.table import Table

    places: dict[str, tuple[float, float]] = {}
    for catalog in _alert_catalogs(archive):
        for reading in _readings(archive, catalog):
            if reading.point.ra is not None and reading.point.dec is not None:
                places.setdefault(
                    reading.object_id or str(reading.alert_id), (reading.point.ra, reading.point.dec)
                )
    ra, dec = zip(*places.values(), strict=True) if places else ((), ())
    return Table({"name": list(places), "ra": list(ra), "dec": list(dec)})


def _serve(archive: EmbeddedArchive, night: _Night, say: _Teller) -> None:
    """Ask the same question of the file and of a server on it."""
    try:
        from nuncius.sandbox import SandboxKowalski

        server = SandboxKowalski(archive=archive.path)
    except MissingExtraError as error:
        say(f"[yellow]No server: {escape(str(error))}[/yellow]")
        return
    question = {"_id": {"$exists": True}}
    night.over_http = 0
    with server, open_archive(server.url, token=server.token) as remote:
        for catalog in _alert_catalogs(archive):
            here, there = (
                [
                    str(document["_id"])
                    for document in asked.find(catalog, question, projection=["_id"], sort="_id")
                ]
                for asked in (archive, remote)
            )
            if here != there:
                raise NunciusError(
                    f"{catalog}: the file has {len(here)} documents, and the server on it answered {len(there)} others"
                )
            night.over_http += len(there)
    say(f"The same query on the file and over HTTP gave the same [bold]{night.over_http}[/bold] documents.")


def _draw(archive: EmbeddedArchive, night: _Night, out: Path, say: _Teller) -> Path | None:
    try:
        from nuncius.plots import write_night_report

        report: IngestReport = night.report
        positions = [
            (reading.point.ra, reading.point.dec, survey_of_catalog(catalog).name)
            for catalog in _alert_catalogs(archive)
            for reading in _readings(archive, catalog)
            if reading.point.ra is not None and reading.point.dec is not None
        ]
        return write_night_report(
            out / "night.html",
            title="One night with nuncius",
            summary=[
                ("alerts archived", f"{report.archived:,}"),
                ("objects", f"{sum(c.get('objects', 0) for c in archive.info()['catalogs'].values()):,}"),
                ("surveys", ", ".join(sorted({category for _, _, category in positions})) or "none"),
                ("quarantined", f"{night.quarantined:,}"),
                ("alerts per second", f"{report.received / night.seconds:,.0f}"),
            ],
            positions=positions,
            objects=[_card(archive, item) for item in _interesting(archive)],
        )
    except MissingExtraError as error:
        say(f"[yellow]No picture of the night: {escape(str(error))}[/yellow]")
        return None


def _interesting(archive: EmbeddedArchive) -> list[ArchivedObject]:
    """Choose objects that change much, with many detections and by credible alerts, from all surveys in turn."""
    chosen: list[list[tuple[float, ArchivedObject]]] = []
    for catalog in _alert_catalogs(archive):
        readings = _readings(archive, catalog)
        names = Counter(reading.object_id for reading in readings if reading.object_id is not None)
        looked_at = [archive.object(name) for name, _ in names.most_common(_LOOKED_AT)]
        ranked = [(_interest(found), found) for found in looked_at]
        chosen.append(sorted(ranked, key=lambda item: -item[0]))
    result: list[ArchivedObject] = []
    while len(result) < _SHOWN and any(chosen):
        result.extend(ranked.pop(0)[1] for ranked in chosen if ranked)
    return result[:_SHOWN]


def _interest(item: ArchivedObject) -> float:
    detections = item.light_curve.detections
    by_band: dict[str | None, list[float]] = {}
    for point in detections:
        if point.mag is not None:
            by_band.setdefault(point.band, []).append(point.mag)
    amplitude = max((max(mags) - min(mags) for mags in by_band.values()), default=0.0)
    score = max((point.score for point in detections if point.score is not None), default=0.5)
    return min(amplitude, 5.0) * score * min(len(detections), 20)


def _card(archive: EmbeddedArchive, item: ArchivedObject) -> Any:
    from nuncius.plots import NightObject

    survey = survey_of_catalog(item.catalog)
    latest = item.alerts[-1]
    point = survey.read(latest).point
    whole = archive.find_one(item.catalog, {"_id": latest["_id"]}) or latest
    mags = [p.mag for p in item.light_curve.detections if p.mag is not None]
    facts = [
        ("RA, Dec", f"{point.ra:.5f}°, {point.dec:+.5f}°" if point.ra is not None else "unknown"),
        ("detections", str(len(item.light_curve.detections))),
        ("brightest", f"{min(mags):.2f} mag" if mags else "unknown"),
        ("faintest", f"{max(mags):.2f} mag" if mags else "unknown"),
        ("score", "unknown" if point.score is None else f"{point.score:.2f}"),
    ]
    return NightObject(item.object_id, f"{survey.name}, {len(item.alerts)} alerts", item.light_curve,
                       survey.cutouts(whole), facts)  # fmt: skip


def _alert_catalogs(archive: EmbeddedArchive) -> list[str]:
    return [name for name, held in archive.info()["catalogs"].items() if "alerts" in held]


def _farewell(path: Path, page: Path | None, archive: EmbeddedArchive, say: _Teller) -> None:
    with open_archive(path, read_only=True) as again:
        catalog = _alert_catalogs(again)[0]
        reading = next(_readings(again, catalog))
    say("")
    if page:
        say(f"Open [bold]{page}[/bold] in a browser: the night's map, light curves and images.")
    say(f"The alerts are in [bold]{archive.path}[/bold]. Three commands to try next:")
    say(f"  nuncius archive info {path}")
    if reading.point.ra is not None:
        say(
            f"  nuncius archive cone {path} {catalog} {reading.point.ra:.5f} {reading.point.dec:.5f} --radius 5arcsec"
        )
    if reading.object_id is not None:
        say(f"  nuncius archive object {path} '{reading.object_id}' --plot curve.png")


def _figures(night: _Night) -> dict[str, Any]:
    report: IngestReport = night.report
    return {
        "published": night.published,
        "received": night.received,
        "archived": report.archived,
        "quarantined": night.quarantined,
        "duplicates": report.duplicates,
        "reference_sources": night.stars,
        "matched": night.matched,
        "over_http": night.over_http,
        "brokers": None if night.brokers is None else asdict(night.brokers),
        "pittgoogle": None if night.pittgoogle is None else asdict(night.pittgoogle),
        "cube": None if night.cube is None else asdict(night.cube),
        "data_sets": None if night.data_sets is None else asdict(night.data_sets),
        "seconds": round(night.seconds, 3),
        "alerts_per_s": round(report.received / night.seconds, 1),
    }
