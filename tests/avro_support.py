"""The compiled decoder for tests of its own, and the parts of programs and schemas that they are made of."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys

import pytest

from nuncius.alerts.packets import compiled
from nuncius.alerts.packets.schemas import prepare_schema

if path := os.environ.get("NUNCIUS_TEST_DECODER"):  # one that lacks a bound, or is built with sanitizers
    spec = importlib.util.spec_from_file_location("nuncius.alerts.packets._avro", path)
    decoder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decoder)
    compiled.decoder = lambda: decoder
else:
    decoder = compiled.decoder()
if decoder is None:
    pytest.skip("needs the compiled decoder, which was not built or is switched off", allow_module_level=True)

NOTHING, BOOLEAN, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, ARRAY, MAP, UNION, RECORD = range(13)
BAND = {"type": "enum", "name": "band", "symbols": ["g", "r"]}


def node(kind, *children, names=(), fixed=-1, least=1, wanted=b"", looked_at=0, convert=None, style=0):
    """Make a node of a program."""
    return kind, children, names, wanted, looked_at, fixed, least, convert, None, style


def record(*fields, name="r"):
    """Make the schema of a record whose fields are named f0, f1 ..."""
    return {"type": "record", "name": name,
            "fields": [{"name": f"f{at}", "type": kind} for at, kind in enumerate(fields)]}  # fmt: skip


def items(kind):
    """Make an array type."""
    return {"type": "array", "items": kind}


def values(kind):
    """Make a map type."""
    return {"type": "map", "values": kind}


def program_of(schema):
    """Make the program of a schema, or of nodes."""
    return decoder.Program(schema) if isinstance(schema, tuple) else prepare_schema(schema).program()


def attempt(look, data):
    """Decode or pass over; return whether it went well."""
    try:
        look(data)
    except (ValueError, OverflowError, TypeError, IndexError):
        return False
    return True


def growth(action, turns):
    """Return how many objects more there are after some turns."""
    action()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(turns):
        action()
    gc.collect()
    return sys.getallocatedblocks() - before
