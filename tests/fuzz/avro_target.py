"""What is asked of the compiled decoder with any bytes; `fuzz_avro.py` makes them up, and `test_corpus.py` knows some.

An input is a byte that chooses a schema, and the bytes of a record. Whatever they are, the decoder gives a value or says
what is wrong; a value is the one that fastavro gives, whole and in parts. The byte 255 chooses the end of a container
instead.
"""

import array
import io

import fastavro
from avro_schemas import SCHEMAS
from fuzzed_decoder import DECODER
from parts import check_parts

from nuncius.alerts.packets import ocf
from nuncius.alerts.packets.schemas import prepare_schema

CONTAINER = 255
SYNC_SIZE = 16
LISTS = ("earlier", "forced", "fits", "sparse", "missing")
KEYS = frozenset({"candid", "jd", "id"})


class Target:
    """A schema, its program for all fields, those for its first, middle and last ones, and those for parts of it."""

    def __init__(self, schema):
        self.schema = prepare_schema(schema)
        self.parsed = self.schema.parsed
        self.program = self.schema.program()
        fields = [item["name"] for item in schema["fields"]] if "fields" in schema else []
        self.projections = [
            (names, self.schema.program(names))
            for names in {frozenset(fields[:1]), frozenset(fields[1::3]), frozenset(fields[-1:])}
            if names
        ]
        self.in_parts, self.entries = self.schema.programs_in_parts(LISTS, KEYS) or (self.program, {})


TARGETS = [Target(schema) for schema in SCHEMAS]


def attempt(function, *arguments):
    """Return what a function gives, and None if it says that the bytes are damaged."""
    try:
        return function(*arguments)
    except DECODER.DamagedError as error:
        reason, byte, names = error.args
        if not (reason and 0 <= byte <= len(arguments[0]) and all(isinstance(name, str) for name in names)):
            raise AssertionError(error.args) from error
    except (ValueError, OverflowError):  # a logical type whose value Python doesn't take
        pass
    return None


def check(target, data):
    """Decode, pass over and project the same bytes; raise where the answers differ."""
    # An array lies alone in memory, to the byte, so that the sanitizer sees each read outside; bytes end with one more.
    buffer = array.array("B", data)
    whole = attempt(target.program.decode, buffer)
    passed = attempt(target.program.skip, buffer)
    parts = attempt(target.in_parts.decode, buffer)
    if target.schema.checker() is not None and (whole is None) != (passed is None):
        raise AssertionError(f"decoding gives {whole!r}, and passing over {passed!r}")
    if (whole is None) != (parts is None):
        raise AssertionError(f"the whole gives {whole!r}, and the parts {parts!r}")
    if whole is None:
        return
    value, end = whole
    if passed != end:
        raise AssertionError(f"decoding ends at {end}, passing over at {passed}")
    expected = fastavro.schemaless_reader(io.BytesIO(data), target.parsed, None)
    if repr(value) != repr(expected):
        raise AssertionError(f"{value!r} is not {expected!r}")
    found, stop = parts
    if stop != end:
        raise AssertionError(f"decoding ends at {end}, that of parts at {stop}")
    if target.entries:
        check_parts(value, found, LISTS, KEYS, lambda name, at: target.entries[name].decode(buffer, at)[0])
    for names, program in target.projections:
        found, stop = program.decode(buffer)
        if stop > end or repr(found) != repr({key: part for key, part in value.items() if key in names}):
            raise AssertionError(f"{found!r} is not {sorted(names)} of {value!r}")


def check_container(data):
    """Look for the only block behind a header of no bytes; raise if it is not what the slow way finds."""
    found = DECODER.lone_block(array.array("B", data), 0)
    if found is None:
        return
    count, begin, end = found
    blocks = ocf.read_long(data, ocf.read_long(data, SYNC_SIZE)[1])
    sizes_fit = blocks == (end - begin, begin) and end + SYNC_SIZE == len(data) and 0 < count <= end - begin
    if not sizes_fit or data[end:] != data[:SYNC_SIZE]:
        raise AssertionError(found)


def one_input(data):
    """Try one input."""
    if not data:
        return
    if data[0] == CONTAINER:
        check_container(data[1:])
    else:
        check(TARGETS[data[0] % len(TARGETS)], data[1:])
