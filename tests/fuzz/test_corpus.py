"""The kept inputs of the fuzzers: what once led somewhere new is tried again, without a fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuncius.alerts.packets import compiled

if compiled.decoder() is None:
    pytest.skip("needs the compiled decoder, which was not built or is switched off", allow_module_level=True)

from avro_target import CONTAINER, TARGETS, one_input

INPUTS = sorted(Path(__file__).with_name("corpus").joinpath("avro").iterdir())


def test_the_kept_inputs():
    for path in INPUTS:
        one_input(path.read_bytes())


def outcome(target, record):
    """Tell whether a record is damaged."""
    try:
        target.program.decode(record)
    except ValueError:
        return "damaged"
    return "whole"


def test_they_reach_each_schema_with_a_value_and_with_damage():
    inputs = [path.read_bytes() for path in INPUTS]
    found = {
        (number, outcome(target, record[1:]))
        for record in inputs
        for number, target in enumerate(TARGETS)
        if record[0] == number
    }
    numbers = [number for number, target in enumerate(TARGETS) if target.schema.name != "endless"]
    assert found >= {(number, what) for number in numbers for what in ("whole", "damaged")}
    assert any(record[0] == CONTAINER for record in inputs)
