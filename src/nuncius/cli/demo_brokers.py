"""The demo's chapter on brokers: two of them as one stream, a watchlist, and a poison packet kept and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuncius import Alert, open_archive
from nuncius.brokers import open_stream
from nuncius.sandbox.fink import fink_messages, fink_schema
from nuncius.sandbox.sky import synthetic_alerts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuncius.sandbox import SandboxKafka

_ALERTS = 60
_WATCHED = 5
_SURVEY, _BROKER = "ztf_20261121_programid1", "fink_sn_candidates_ztf"
_QUICK = {"group.protocol": "consumer"}


@dataclass(frozen=True, slots=True)
class Brokers:
    """What happened, for the summary.

    Parameters
    ----------
    watched : int
        Objects in the watchlist.
    received, kept : int
        Messages of both brokers, and alerts of watched objects among them.
    documents, annotated : int
        Documents in the archive, and those of them with the scores of the second broker.
    quarantined, replayed : int
        Messages that could not be read at first, and later.
    """

    watched: int
    received: int
    kept: int
    documents: int
    annotated: int
    quarantined: int
    replayed: int


def listen_to_two(kafka: SandboxKafka, out: Path, say: Callable[[str], None]) -> Brokers:
    """Publish one night as two brokers would send it, and listen to both at once."""
    packets = synthetic_alerts(_ALERTS)
    key, values = fink_messages(packets)
    kafka.publish(_SURVEY, packets)
    kafka.publish(_BROKER, values[:-1], key=key)
    kafka.publish(_BROKER, values[-1:], key=b"fink_of_another_day")  # whose schema nobody here knows
    server = kafka.url.removeprefix("kafka://")
    watchlist = _watchlist(packets)
    with (
        open_archive(out / "watched.db") as archive,
        open_stream(
            [f"ztf://{server}/{_SURVEY}", f"fink://{server}/{_BROKER}"],
            near=watchlist,
            radius="2 arcsec",
            group="nuncius-demo-brokers",
            stop="end",
            quarantine_dir=out / "quarantine-brokers",
            config=_QUICK,
        ) as stream,
    ):
        kept = stream.save(archive.sink())
        stats = stream.stats()
        with open_stream(
            f"replay://{out / 'quarantine-brokers'}", schema=fink_schema(), near=watchlist, radius="2 arcsec"
        ) as again:
            again.save(archive.sink())
            replayed = again.stats()
        documents = archive.count("ZTF_alerts")
        annotated = archive.count("ZTF_alerts", {"annotations.fink": {"$exists": True}})
    done = Brokers(
        len(watchlist), stats.received, kept, documents, annotated, stats.quarantined,
        replayed.handed_out + replayed.filtered,
    )  # fmt: skip
    say(
        f"Two brokers as one stream, ztf:// and fink://: of [bold]{done.received}[/bold] messages {done.kept} are of the "
        f"{done.watched} objects of a watchlist. In the archive they are [bold]{done.documents}[/bold] alerts, "
        f"{done.annotated} of them with Fink's scores."
    )
    say(
        f"[bold]{done.quarantined}[/bold] message could not be read: nobody knew its schema. It was kept in "
        f"{out / 'quarantine-brokers'}, and read from there when the schema was given: {done.replayed} replayed."
    )
    return done


def _watchlist(packets: list[bytes]) -> dict[str, tuple[float, float]]:
    """Choose the objects with most alerts, by name."""
    by_name: dict[str, list[Alert]] = {}
    for packet in packets:
        alert = Alert.from_bytes(packet)
        by_name.setdefault(str(alert.object_id), []).append(alert)
    chosen = sorted(by_name, key=lambda name: (-len(by_name[name]), name))[:_WATCHED]
    places = ((name, by_name[name][0]) for name in chosen)
    return {
        name: (alert.ra, alert.dec)
        for name, alert in places
        if alert.ra is not None and alert.dec is not None
    }
