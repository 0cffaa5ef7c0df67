"""Alerts of Google Pub/Sub: Google's own subscribe(), tom_pittgoogle, pittgoogle-client, and ours.

The sandbox's server is in a process of its own, and each side is a process too, so that its processor time is its own. The
two other clients live in environments of their own: NUNCIUS_PITTGOOGLE_PYTHON and NUNCIUS_TOM_PITTGOOGLE_PYTHON name
their interpreters; without them those sides are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Goal, Table, check, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_PATH, _WARM_PATH = (f"projects/nuncius-sandbox/subscriptions/{name}" for name in ("ztf-loop", "ztf-lite"))
_WARM = 50
_SETTINGS = "NUNCIUS_PITTGOOGLE_PYTHON", "NUNCIUS_TOM_PITTGOOGLE_PYTHON"

_SERVER = """
import sys
from nuncius.sandbox import SyntheticSky, synthetic_alerts
from nuncius.sandbox.pubsub import SandboxPubSub

server = SandboxPubSub()
some = [alert for alert in synthetic_alerts(300) if 40_000 < len(alert) < 66_000][:100]
print(server.endpoint, sum(map(len, some)) // len(some), flush=True)
for line in sys.stdin:
    if line.startswith("fill"):
        count = int(line.split()[1])
        server.reset()
        server.publish("ztf-loop", [some[number % len(some)] for number in range(count)])
        server.create_subscription("ztf-lite")
        server.publish("ztf-lite", some[:50])
        print("filled", flush=True)
    else:
        print(server.counts().acknowledged, flush=True)
"""

# What all sides have. Each reads a few alerts of another subscription first, so that all is imported and connected once;
# then its clock runs until its last acknowledgement is away.
_AROUND = """
import json, os, sys, threading, time
path, warm_path, count, warm_count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
seen, lock = [], threading.Lock()

{program}

read(warm_path, warm_count)
seen.clear()
wall, cpu = time.perf_counter(), time.process_time()
read(path, count)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({{"rate": count / wall, "cpu_us": cpu / count * 1e6, "seen": sorted(seen)[:count]}}), flush=True)
"""

_GOOGLE = """
from google.cloud import pubsub_v1
import fastavro, io

def read(path, count):
    number, done = [0], threading.Event()

    def each(message):
        if READ:
            alert = next(fastavro.reader(io.BytesIO(message.data)))
            candidate = alert["candidate"]
            seen.append([alert["objectId"], candidate["ra"], candidate["dec"], candidate["magpsf"]])
        message.ack()
        with lock:
            number[0] += 1
            if number[0] >= count:
                done.set()

    future = pubsub_v1.SubscriberClient().subscribe(path, each)
    done.wait(300)
    future.cancel()
    future.result()
"""

_OURS = """
from nuncius import open_stream

def read(path, count):
    _, project, _, name = path.split("/")
    with open_stream(f"pubsub://{project}/{name}", stop=count) as stream:
        for batch in stream.batches(500):
            for alert in batch:
                if READ:
                    seen.append([alert.object_id, alert.ra, alert.dec, alert.mag])
"""

_FULL = """
from nuncius import open_stream

def read(path, count):
    _, project, _, name = path.split("/")
    with open_stream(f"pubsub://{project}/{name}", stop=count) as stream:
        for batch in stream.batches(500):
            for alert in batch:
                packet = alert.packet
                candidate = packet["candidate"]
                seen.append([packet["objectId"], candidate["ra"], candidate["dec"], candidate["magpsf"]])
"""

# The bound: the bytes as gRPC gives them and protobuf parses them, acknowledged, and nothing else.
_BARE = """
from nuncius.streams.pubsub import Client, Server

def read(path, count):
    client = Client(Server(os.environ["PUBSUB_EMULATOR_HOST"]))
    request = client.types.StreamingPullRequest.pb()(
        subscription=path, stream_ack_deadline_seconds=60, max_outstanding_messages=1000,
        max_outstanding_bytes=100 << 20)
    pull, number, ids = client.pull(request), 0, []
    for response in pull:
        for item in response.received_messages:
            item.message.data
            ids.append(item.ack_id)
            number += 1
        if len(ids) >= 200 or number >= count:
            client.call("Acknowledge", path, 30, subscription=path, ack_ids=ids)
            ids = []
        if number >= count:
            break
    pull.end()
    client.close()
"""

_PITTGOOGLE = """
import google.auth.credentials
import pittgoogle
from google.cloud import pubsub_v1

def read(path, count):
    number, done = [0], threading.Event()

    def each(alert):
        alert.schema_name = "ztf"
        content = alert.dict
        candidate = content["candidate"]
        seen.append([content["objectId"], candidate["ra"], candidate["dec"], candidate["magpsf"]])
        with lock:
            number[0] += 1
            if number[0] >= count:
                done.set()
        return pittgoogle.pubsub.Response(ack=True, result=None)

    auth = pittgoogle.Auth(GOOGLE_CLOUD_PROJECT=path.split("/")[1])
    object.__setattr__(auth, "_credentials", google.auth.credentials.AnonymousCredentials())
    subscription = pittgoogle.Subscription(
        path.rpartition("/")[2], auth=auth, schema_name="ztf", client=pubsub_v1.SubscriberClient())
    consumer = pittgoogle.Consumer(subscription=subscription, msg_callback=each)
    consumer.stream(block=False)
    done.wait(300)
    consumer.stop()
"""

_TOM_PITTGOOGLE = """
import unittest.mock
import google.auth, google.auth.credentials
anonymous = google.auth.credentials.AnonymousCredentials()
google.auth.load_credentials_from_file = lambda *args, **kwargs: (anonymous, path.split("/")[1])
import google.cloud.logging
google.cloud.logging.Client = unittest.mock.MagicMock()
from django.conf import settings
settings.configure(
    GOOGLE_CLOUD_PROJECT=path.split("/")[1], GOOGLE_APPLICATION_CREDENTIALS="key.json",
    PITTGOOGLE_OAUTH_CLIENT_ID="", PITTGOOGLE_OAUTH_CLIENT_SECRET="",
)
from tom_pittgoogle.consumer_stream_python import ConsumerStreamPython

def each(alert, **parameters):
    seen.append([alert["objectId"], alert["ra"], alert["dec"], alert["magpsf"]])
    return True

def read(path, count):
    consumer = ConsumerStreamPython(path.rpartition("/")[2])
    consumer.stream_alerts(user_callback=each, max_results=count, timeout=10, max_backlog=1000)
"""

_GOOGLE_PLAIN, _OURS_PLAIN, _BARE_PLAIN = (
    "google-cloud-pubsub, subscribe()",
    "Stream, nothing touched",
    "gRPC and protobuf alone",
)
_GOOGLE_READ, _OURS_READ, _OURS_FULL = (
    "subscribe() and fastavro",
    "Stream, ids, position, magnitude",
    "Stream, whole packet",
)
_PEER, _TOM_PEER = "pittgoogle-client 0.3.23, Consumer", "tom_pittgoogle 0.1.11, stream_alerts"


class _Place:
    """A server in a process of its own, and the processes that read from it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout is not None
        self.endpoint, size = self._server.stdout.readline().split()
        self.size = int(size)

    def ask(self, order: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{order}\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()

    def side(
        self, name: str, program: str, reports: dict[str, list[dict[str, Any]]], python: str = sys.executable
    ) -> Callable[[], float]:
        def measure() -> float:
            self.ask(f"fill {self.count}")
            project = _PATH.split("/")[1]
            environment = {
                **os.environ,
                "PUBSUB_EMULATOR_HOST": self.endpoint,
                "GOOGLE_CLOUD_PROJECT": project,
            }
            done = subprocess.run(
                [
                    python,
                    "-c",
                    _AROUND.format(program=program),
                    _PATH,
                    _WARM_PATH,
                    str(self.count),
                    str(_WARM),
                ],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            found["acknowledged"] = int(self.ask("counts"))
            reports.setdefault(name, []).append(found)
            return float(found["rate"])

        return measure

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    place = _Place(scale.of(3000, 300))
    with contextlib.closing(place):
        yield from _consuming(place, scale)
        yield from _reading(place, scale)


def _consuming(place: _Place, scale: Scale) -> Iterator[Table]:
    reports: dict[str, list[dict[str, Any]]] = {}
    programs = {
        _GOOGLE_PLAIN: "READ = False\n" + _GOOGLE,
        _OURS_PLAIN: "READ = False\n" + _OURS,
        _BARE_PLAIN: _BARE,
    }
    sides = {name: place.side(name, program, reports) for name, program in programs.items()}
    rates = interleaved(sides, scale.runs)
    table = Table(f"Alerts of {place.size / 1e3:.0f} kB consumed and acknowledged, nothing read", "alerts/s")
    table.add(_GOOGLE_PLAIN, rates)
    table.add(_OURS_PLAIN, rates, to=_GOOGLE_PLAIN, label="Google's", goal=Goal("≥", 1.1))
    table.add(_BARE_PLAIN, rates, to=_GOOGLE_PLAIN, label="Google's")
    yield table
    yield _cpu(reports, _GOOGLE_PLAIN, _OURS_PLAIN, Goal("≤", 0.5))


def _reading(place: _Place, scale: Scale) -> Iterator[Table]:
    reports: dict[str, list[dict[str, Any]]] = {}
    sides = {
        _GOOGLE_READ: place.side(_GOOGLE_READ, "READ = True\n" + _GOOGLE, reports),
        _OURS_READ: place.side(_OURS_READ, "READ = True\n" + _OURS, reports),
        _OURS_FULL: place.side(_OURS_FULL, _FULL, reports),
    }
    missing = []
    for setting, name, program in zip(
        _SETTINGS, (_PEER, _TOM_PEER), (_PITTGOOGLE, _TOM_PITTGOOGLE), strict=True
    ):
        if python := os.environ.get(setting):
            sides[name] = place.side(name, program, reports, python)
        else:
            missing.append(f"{setting} is not set: {name} was not measured")
    rates = interleaved(sides, scale.runs)
    expected = [found["seen"] for found in reports[_GOOGLE_READ]]
    for name in (_OURS_READ, _OURS_FULL):
        check([found["seen"] for found in reports[name]] == expected, f"what {name} saw")
    table = Table("Ids, position and magnitude of each alert", "alerts/s", notes=missing)
    table.add(_GOOGLE_READ, rates)
    for name in (_PEER, _TOM_PEER):
        if name in rates:
            table.add(name, rates, to=_GOOGLE_READ, label="Google's")
            seconds = [found["acknowledged"] for found in reports[name]]
            table.notes.append(f"{name} had {median(seconds):.0f} of {place.count} acknowledged in the end")
    for name in (_OURS_READ, _OURS_FULL):
        table.add(name, rates, to=_GOOGLE_READ, label="Google's")
        for peer in (_PEER, _TOM_PEER):
            if peer in rates:
                table.add(name, rates, to=peer, label=peer.partition(",")[0], goal=Goal("≥", 2.0))
    yield table
    yield _cpu(reports, _GOOGLE_READ, _OURS_READ)


def _cpu(reports: dict[str, list[dict[str, Any]]], google: str, ours: str, goal: Goal | None = None) -> Table:
    table = Table("The same: processor time of the reading process", "us an alert")
    cpu = {name: [found["cpu_us"] for found in several] for name, several in reports.items()}
    for name in cpu:
        if name == google:
            table.add(name, cpu)
        else:
            table.add(name, cpu, to=google, label="Google's", goal=goal if name == ours else None)
    return table
