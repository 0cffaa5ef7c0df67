"""What the tests of tom_pittgoogle's interface share: alerts of ZTF, and what became of them."""

from __future__ import annotations

import copy

from builders import container, datum, ztf_record, ztf_schema

STREAM = "ztf-loop"
CUTOUT = {"fileName": "science.fits.gz", "stampData": bytes(range(256)) * 40}


def _schema():
    schema = copy.deepcopy(ztf_schema("4.01"))
    candidate = next(field["type"] for field in schema["fields"] if field["name"] == "candidate")
    candidate["fields"].append({"name": "classtar", "type": ["null", "float"], "default": None})
    return schema


SCHEMA = _schema()


def packet(number, *, classtar=0.5):
    """Make an alert of ZTF: an Avro container with a cutout."""
    record = ztf_record(
        candidate={"classtar": classtar, "candid": number, "ra": 10.0 + number / 64, "dec": -20.5},
        candid=number,
        objectId=name_of(number),
        cutoutScience=CUTOUT,
    )
    return container(SCHEMA, [datum(SCHEMA, record)])


def packets(count, *, first=0, **values):
    return [packet(number, **values) for number in range(first, first + count)]


def name_of(number):
    return f"ZTF20{number:06d}"


def names(count, *, first=0):
    return [name_of(number) for number in range(first, first + count)]


def left(box, subscription=STREAM):
    """Return what a subscription holds and did: waiting, leased, acknowledged, expired."""
    counts = box.counts(subscription)
    return counts.waiting, counts.leased, counts.acknowledged, counts.expired
