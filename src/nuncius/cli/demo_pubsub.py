"""The demo's chapter on Pitt-Google: the night once more over Pub/Sub, with a handler that fails and a packet that was cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

from rich.markup import escape

from nuncius.alerts import Alert
from nuncius.brokers import open_stream, touch_subscription
from nuncius.errors import MissingExtraError, PacketError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from nuncius.alerts import Notice
    from nuncius.alerts.alert import Key
    from nuncius.archives import EmbeddedArchive
    from nuncius.sandbox import Sandbox
    from nuncius.sandbox.pubsub import SandboxPubSub

TOPIC = "ztf-loop"
_ALERTS = 60
_WANTED = 10
_GROUP, _FILTERED_GROUP = "nuncius-demo", "nuncius-demo-likely"
_FILTER = 'attributes.pg_variable = "likely"'
_QUARANTINE = "quarantine-pittgoogle"
_KAFKA_TOPIC = "ztf_20261121_programid1"


@dataclass(frozen=True, slots=True)
class PittGoogle:
    """What happened, for the summary.

    Parameters
    ----------
    published : int
        Messages, the damaged one among them.
    came_again : int
        Alerts that a handler had failed on, and that came a second time.
    wanted, acknowledged, waiting : int
        How many alerts were asked for, and what the server then said: how many are finished, and how many messages wait.
    annotated : int
        Documents of the archive with what Pitt-Google found.
    quarantined : int
        Messages that could not be read.
    filtered : int
        Alerts in a subscription with a filter.
    """

    published: int
    came_again: int
    wanted: int
    acknowledged: int
    waiting: int
    annotated: int
    quarantined: int
    filtered: int


def read_pitt_google(
    box: Sandbox, packets: Iterable[bytes], archive: EmbeddedArchive, out: Path, say: Callable[[str], None]
) -> PittGoogle | None:
    """Publish alerts of the night as Pitt-Google does, and read them into the same archive; None if there are none."""
    try:
        server = box.pubsub
    except MissingExtraError as error:
        say(f"[yellow]No Pitt-Google: {escape(str(error))}[/yellow]")
        return None
    alerts = _readable(packets)
    if not alerts:
        return None
    url = f"{server.pittgoogle_url}/{TOPIC}"
    path = touch_subscription(url, group=_GROUP).path
    filtered = touch_subscription(url, group=_FILTERED_GROUP, attribute_filter=_FILTER).path
    published = _publish(server, alerts)

    failed_on = _fail(url, out)
    seen, wanted = _Seen(), min(_WANTED, (len(alerts) + 1) // 2)
    quarantined = _keep(url, out, archive, seen, wanted)
    counts = server.counts(path)
    acknowledged = counts.acknowledged - quarantined
    quarantined += _keep(url, out, archive, seen, "end")
    with open_stream(url, group=_FILTERED_GROUP, stop=server.counts(filtered).waiting) as stream:
        likely = sum(1 for _ in stream)

    question = {"annotations.pittgoogle": {"$exists": True}}
    catalogs = [name for name, held in archive.info()["catalogs"].items() if "alerts" in held]
    annotated = sum(archive.count(name, question) for name in catalogs)
    done = PittGoogle(
        published, int(failed_on in seen.keys), wanted, acknowledged, counts.waiting, annotated, quarantined, likely
    )  # fmt: skip
    _tell(done, out, say)
    return done


def attributes_of(alert: Alert, number: int) -> dict[str, str]:
    """Return attributes as Pitt-Google gives them to the messages of ZTF's alerts.

    ``pg_variable``, which Pitt-Google has for Rubin's alerts, is made up: it follows from the number of detections alone.

    Parameters
    ----------
    alert : Alert
        The alert.
    number : int
        Its place in the topic of the survey.
    """
    seen_before = len(alert.history.detections)
    found = {
        "kafka.topic": _KAFKA_TOPIC,
        "kafka.partition": "0",
        "kafka.offset": str(number),
        "objectId": alert.object_id,
        "candid": alert.alert_id,
        "n_previous_detections": seen_before,
        "pg_variable": "likely" if seen_before > 1 else "unlikely",
        **_cells(alert),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _cells(alert: Alert) -> dict[str, int]:
    """Return the nested HEALPix cells of orders 9, 19 and 29."""
    if alert.ra is None or alert.dec is None:
        return {}
    from nuncius.sky.cells import ORDER, cells_of

    cell = int(cells_of(alert.ra, alert.dec))
    return {f"healpix{order}": cell >> 2 * (ORDER - order) for order in (9, 19, 29)}


def _readable(packets: Iterable[bytes]) -> list[tuple[bytes, Alert]]:
    """Return the first packets that hold one alert."""
    found: list[tuple[bytes, Alert]] = []
    for packet in packets:
        try:
            found.append((packet, Alert.from_bytes(packet)))
        except PacketError:
            continue
        if len(found) == _ALERTS:
            break
    return found


def _publish(server: SandboxPubSub, alerts: Sequence[tuple[bytes, Alert]]) -> int:
    """Publish alerts, and behind them one that was cut on its way."""
    packets = [packet for packet, _ in alerts]
    attributes = [attributes_of(alert, number) for number, (_, alert) in enumerate(alerts)]
    packets.append(packets[0][: len(packets[0]) // 2])
    attributes.append({"kafka.topic": _KAFKA_TOPIC, "pg_variable": "unlikely"})
    return len(server.publish(TOPIC, packets, attributes=attributes))


class _HandlerError(Exception):
    """What goes wrong in a careless program; it holds the alert."""


def _handle(alert: Alert) -> NoReturn:
    raise _HandlerError(alert.key)


def _fail(url: str, out: Path) -> Key:
    """Let a handler fail on an alert, and return which."""
    try:
        with open_stream(url, group=_GROUP, stop=1, quarantine_dir=out / _QUARANTINE) as stream:
            _handle(next(stream))
    except _HandlerError as error:
        key: Key = error.args[0]
        return key


class _Seen:
    """Notes which alerts came."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """See `nuncius.alerts.sink.Sink`."""
        self.keys.update(item.key for item in items)

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`."""


def _keep(url: str, out: Path, archive: EmbeddedArchive, seen: _Seen, stop: int | Literal["end"]) -> int:
    """Keep alerts in the archive, and return how many messages could not be read."""
    with open_stream(url, group=_GROUP, stop=stop, quarantine_dir=out / _QUARANTINE) as stream:
        stream.save(archive.sink(), seen)
        return stream.stats().quarantined


def _tell(done: PittGoogle, out: Path, say: Callable[[str], None]) -> None:
    say(
        f"Pitt-Google sends {done.published} messages of the same night over Pub/Sub. A program failed on the first alert, and "
        f"{'it came again' if done.came_again else '[red]it did not come again[/red]'}. Then [bold]{done.wanted}[/bold] alerts "
        f"were asked for: {done.acknowledged} are acknowledged, and {done.waiting} messages wait for who asks next."
    )
    say(
        f"No alert is in the archive twice: [bold]{done.annotated}[/bold] of its documents now hold what Pitt-Google found "
        f"too. {done.quarantined} message was cut off on its way, and lies in {out / _QUARANTINE}. Through a subscription with "
        f"the filter {escape(_FILTER)} came {done.filtered} alerts; the others never left the server."
    )
