"""The packets that the benchmarks use."""

from __future__ import annotations

import os
from itertools import cycle, islice
from pathlib import Path

SYNTHETIC = "synthetic packets shaped like ZTF's"
REAL = "ZTF's packets"


def synthetic(count: int) -> list[bytes]:
    """Return packets of about 75 kB, all different."""
    from nuncius.sandbox.sky import synthetic_alerts

    return synthetic_alerts(count)


def real() -> list[bytes]:
    """Return packets of ZTF from the folder that NUNCIUS_PACKETS names; none if it names none."""
    folder = os.environ.get("NUNCIUS_PACKETS")
    files = sorted(Path(folder, "ztf").rglob("*.avro")) if folder else []
    return [file.read_bytes() for file in files]


def repeated(packets: list[bytes], count: int) -> list[bytes]:
    """Return so many packets, taking the given ones again and again."""
    return list(islice(cycle(packets), count))


def small(count: int) -> list[bytes]:
    """Return alerts of about 2.5 kB: the candidates of a few synthetic packets as JSON, each with a number of its own."""
    import json

    from nuncius import Alert

    documents = []
    for raw in synthetic(10):
        packet = Alert.from_bytes(raw).packet
        documents.append({"objectId": packet["objectId"], "candidate": packet["candidate"]})
    texts = [json.dumps(document, separators=(",", ":"))[1:] for document in documents]
    return [f'{{"candid":{number},{texts[number % len(texts)]}'.encode() for number in range(count)]
