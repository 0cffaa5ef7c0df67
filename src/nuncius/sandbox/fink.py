"""Fink's messages on loopback: alerts of ZTF with scores, as Avro records whose schema is the message's key."""

from __future__ import annotations

import copy
import io
import json
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.sky.schema import ztf_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCORES = ("snn_sn_vs_all", "rf_snia_vs_nonia")


def fink_schema() -> dict[str, Any]:
    """Return the schema of ZTF's alerts as Fink writes them: with its scores behind the survey's own fields."""
    schema = copy.deepcopy(ztf_schema())
    schema["fields"] += [{"name": name, "type": "double"} for name in _SCORES]
    return schema


def fink_messages(packets: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
    """Turn packets of the synthetic survey into messages as Fink sends them.

    The scores are made up: they follow from the alert's brightness alone.

    Parameters
    ----------
    packets : iterable of bytes
        As `nuncius.sandbox.synthetic_alerts` gives them.

    Returns
    -------
    key : bytes
        The schema, which is the key of every message.
    values : list of bytes
        The messages.
    """
    import fastavro

    schema = fink_schema()
    parsed = fastavro.parse_schema(copy.deepcopy(schema))
    values = []
    for packet in packets:
        for record in fastavro.reader(io.BytesIO(packet)):
            assert isinstance(record, dict)
            score = min(1.0, max(0.0, (21.0 - record["candidate"]["magpsf"]) / 5.0))
            buffer = io.BytesIO()
            fastavro.schemaless_writer(buffer, parsed, {**record, **dict.fromkeys(_SCORES, score)})
            values.append(buffer.getvalue())
    return json.dumps(schema).encode(), values
