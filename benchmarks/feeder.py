"""A broker in processes of its own that never runs out of alerts: ``python -m benchmarks.feeder kafka|pubsub new|known``.

The alerts are of ever new objects, whose whole history is new as well, or of known ones, of whose history one entry is
new: so it is in the first night of an archive, and in later ones.

It prints where it listens and how large an alert is on average. Then each line on its standard input tells how many alerts
have been taken so far, and it keeps a few thousand ahead of that. When its input closes it prints the seconds of processor
time that the broker and what fills it have used.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks import packets
from benchmarks.kafka import PARTITIONS, RETAINED_BYTES, TOPIC, produce
from nuncius import Alert
from nuncius.alerts.packets.ocf import write_long

if TYPE_CHECKING:
    from collections.abc import Callable

_BASE = 500
_STEP = 3_000_000_007  # of no number of alerts is the difference a multiple of this prime
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"


class NewAlerts:
    """Alerts that are all different, made of some synthetic ones.

    Each round through these changes the numbers of the alerts. It changes the names of the objects too, or, where those
    are to be known, the number of one earlier detection. Some alerts of a round are of one object and repeat most of its
    history.

    Parameters
    ----------
    are_known : bool
        Whether the rounds are of the same objects.
    """

    def __init__(self, *, are_known: bool) -> None:
        self._base = []
        for raw in packets.synthetic(_BASE):
            alert = Alert.from_bytes(raw)
            assert isinstance(alert.alert_id, int)
            assert alert.object_id is not None
            names = [] if are_known else _places(alert.object_id.encode(), raw)
            numbers = [alert.alert_id]
            if are_known:
                earlier = (entry.get("candid") for entry in alert.packet["prv_candidates"] or ())
                numbers += [number for number in earlier if number is not None][:1]
            self._base.append(
                (raw, names, [(number, _places(write_long(number), raw)) for number in numbers])
            )
        self.size = mean(len(raw) for raw, *_ in self._base)

    def __getitem__(self, number: int) -> bytes:
        """Return an alert."""
        around, index = divmod(number, _BASE)
        raw, names, numbers = self._base[index]
        letters = bytes(_LETTERS[around // 26**power % 26] for power in (2, 1, 0))
        other = bytearray(raw)
        for place in names:
            other[place + 4 : place + 7] = letters
        for known, places in numbers:
            changed = write_long(known + around * _STEP)
            for place in places:
                other[place : place + len(changed)] = changed
        return bytes(other)


def _places(part: bytes, raw: bytes) -> list[int]:
    """Return where a part stands."""
    return [found.start() for found in re.finditer(re.escape(part), raw)]


class _Taken:
    """How many alerts have been taken; None when nobody takes any more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count: int | None = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._tell(int(line))
        self._tell(None)

    def _tell(self, count: int | None) -> None:
        with self._changed:
            self._count = count
            self._changed.notify()

    def room(self, sent: int, most: int) -> bool:
        """Wait until there is room for one more; tells whether anybody still takes them."""
        with self._changed:
            self._changed.wait_for(lambda: self._count is None or sent - self._count < most)
            return self._count is not None


def _feed(new: NewAlerts, most: int, send: Callable[[int, bytes], None]) -> None:
    taken = _Taken()
    number = 0
    while taken.room(number, most):
        send(number, new[number])
        number += 1


def _kafka(new: NewAlerts) -> None:
    from confluent_kafka import Producer
    from tools.mock_cluster import MockCluster

    with MockCluster({TOPIC: PARTITIONS}) as cluster:
        settings = {"bootstrap.servers": cluster.server, "log_level": 2, "linger.ms": 20}
        producer = Producer(settings | {"message.max.bytes": 10_000_000})

        def send(number: int, raw: bytes) -> None:
            produce(producer, number, raw)
            producer.poll(0)

        print(f"kafka://{cluster.server}/{TOPIC}", new.size, flush=True)
        # What was taken is told late, and not of all partitions alike.
        _feed(new, int(0.3 * RETAINED_BYTES / new.size), send)


def _pubsub(new: NewAlerts) -> None:
    from nuncius.sandbox.pubsub import SandboxPubSub

    server = SandboxPubSub()
    print(server.url, new.size, flush=True)
    _feed(new, 2000, lambda _, raw: server.publish(server.topic, [raw]))
    server.close()


def main() -> None:
    """Run it."""
    new = NewAlerts(are_known=sys.argv[2] == "known")
    before = os.times()
    {"kafka": _kafka, "pubsub": _pubsub}[sys.argv[1]](new)
    after = os.times()  # the children have ended
    print(sum(after[:4]) - sum(before[:4]), flush=True)


if __name__ == "__main__":
    main()
