"""The sandbox's dserver in a process of its own, and distance: a process between, through which it is as far as wanted.

Everything that passes waits half a round trip each way, and what is sent first on a new connection waits for a whole one
more, as it does until two machines have agreed on a connection. So a client that makes a connection for each request pays
for it as it would over a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.measure import check

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_URI = "s3://benchmark"
_ITEMS = 20  # of each data set, so that a manifest has some 4 kB


@dataclass(frozen=True, slots=True)
class Place:
    """A dserver: its address, a token for it, and the URIs of its data sets."""

    url: str
    token: str
    uris: list[str]
    latency_s: float = 0.0

    @property
    def where(self) -> str:
        return f"at a round trip of {self.latency_s * 1e3:g} ms" if self.latency_s else "on loopback"


@contextlib.contextmanager
def near(count: int) -> Iterator[Place]:
    """Start a dserver with so many data sets."""
    with _process("serve", str(count)) as line:
        report = json.loads(line)
        yield Place(report["url"], report["token"], report["uris"])


@contextlib.contextmanager
def far(place: Place, latency_s: float) -> Iterator[Place]:
    """Give the same dserver so many seconds away, there and back."""
    port = urlsplit(place.url).port
    with _process("distance", str(port), str(latency_s)) as line:
        yield replace(place, url=f"http://127.0.0.1:{int(line)}", latency_s=latency_s)


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[str]:
    """Run this module in another process, and give the line that it prints when it is ready."""
    command = [sys.executable, "-m", "benchmarks.dserver_place", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        check(bool(line), f"{arguments[0]} did not start")
        try:
            yield line
        finally:
            process.stdin.close()


def described(number: int) -> dict[str, object]:
    """Return what a data set is made of, as `SandboxDServer.add` takes it."""
    readme = {
        "description": f"Spectra of the transient number {number}, reduced and calibrated in flux",
        "object": f"SN{number:04d}",
        "owners": [{"name": "An Observer", "username": "observer", "orcid": "0000-0000-0000-0000"}],
        "creation_date": "2026-01-02",
        "redshift": round(0.01 + number / 5000, 4),
    }
    items = {f"2026/night{night:02d}/spectrum.fits": b"SIMPLE" * (night + 1) for night in range(_ITEMS)}
    return {"name": f"spectra-{number:04d}", "readme": readme, "items": items, "tags": ["spectrum"]}


def _serve(count: int) -> None:
    """Be the dserver, until nobody listens any more."""
    from nuncius.sandbox import SandboxDServer

    with SandboxDServer(contents=False) as box:
        uris = [box.add(base_uri=BASE_URI, **described(number)) for number in range(count)]
        print(json.dumps({"url": box.url, "token": box.token, "uris": uris}), flush=True)
        sys.stdin.read()


async def _distance(port: int, latency_s: float) -> None:
    """Be the distance to a port of this machine, until nobody listens any more."""
    loop = asyncio.get_running_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float) -> None:
        """Pass on what arrives, half a round trip later, nothing of it before `due` and all in its order."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                due = max(loop.time() + latency_s / 2, due + 1e-9)
                loop.call_at(due, writer.write, data)
        loop.call_at(max(loop.time() + latency_s / 2, due + 1e-9), writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed = loop.time() + latency_s
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back, agreed + latency_s / 2), carry(there, writer, agreed))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # whatever is still on its way


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]))
    else:
        asyncio.run(_distance(int(sys.argv[2]), float(sys.argv[3])))
