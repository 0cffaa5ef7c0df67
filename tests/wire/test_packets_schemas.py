"""Where the schemas of framed packets come from, and schemas that must not be used."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import builders
from nuncius import Alert, read_packets
from nuncius.alerts.packets import as_source, open_packet, schemas
from nuncius.alerts.packets.compiled import decoder
from nuncius.alerts.packets.registry import RegistrySchemas
from nuncius.alerts.packets.schemas import (
    DirectorySchemas,
    MappedSchemas,
    prepare_schema,
    prepare_schema_text,
)
from nuncius.errors import (
    ConfigurationError,
    LoginError,
    NunciusError,
    PacketError,
    SchemaError,
    ServerError,
    UnreachableError,
)

SMALL = builders.record_type("nova.alert", {"candid": "long", "objectId": "string"})
FRAME = builders.framed(SMALL, {"candid": 7, "objectId": "N7"}, 900)


# One schema, mappings, directories --------------------------------------------------------------------------------


def test_one_writer_schema_for_bare_records():
    raw = builders.datum(SMALL, {"candid": 7, "objectId": "N7"})
    alert = Alert.from_bytes(raw, schema=SMALL)
    assert (alert.alert_id, alert.survey) == (7, "nova.alert")
    assert Alert.from_bytes(raw, schema=prepare_schema(SMALL)).alert_id == 7
    with pytest.raises(PacketError, match="left over"):
        Alert.from_bytes(raw + b"\x00", schema=SMALL)
    with pytest.raises(PacketError):
        Alert.from_bytes(raw[:-1], schema=SMALL)


@pytest.mark.parametrize("prepared", [dict, prepare_schema], ids=["as written", "prepared"])
def test_a_mapping(prepared):
    source = {900: prepared(SMALL), 901: prepared(builders.lsst_schema("9.0"))}
    assert Alert.from_bytes(FRAME, schema=source).alert_id == 7
    with pytest.raises(SchemaError, match="902") as caught:
        Alert.from_bytes(FRAME[:4] + b"\x86" + FRAME[5:], schema=source)
    assert "900, 901" in str(caught.value)


def test_an_empty_mapping():
    with pytest.raises(SchemaError, match="900"):
        Alert.from_bytes(FRAME, schema={})


@pytest.mark.parametrize("ending", ["avsc", "json"])
def test_a_directory_with_a_file_for_each_number(tmp_path, ending):
    (tmp_path / f"900.{ending}").write_text(json.dumps(SMALL))
    assert Alert.from_bytes(FRAME, schema=tmp_path).alert_id == 7
    assert Alert.from_bytes(FRAME, schema=str(tmp_path)).alert_id == 7
    with pytest.raises(SchemaError, match="901"):
        Alert.from_bytes(FRAME[:4] + b"\x85" + FRAME[5:], schema=tmp_path)


@pytest.mark.parametrize("version", builders.LSST_VERSIONS)
def test_a_directory_as_rubin_has_it(tmp_path, version):
    for made in builders.LSST_VERSIONS:
        folder = tmp_path.joinpath(*made.split("."))
        folder.mkdir(parents=True)
        for name, schema in builders.lsst_parts(made).items():
            (folder / f"{name}.avsc").write_text(json.dumps(schema))
    forced = [builders.lsst_forced(version)]
    earlier = [builders.lsst_source(version, diaSourceId=8, midpointMjdTai=60890.5)]
    alert = Alert.from_bytes(
        builders.lsst(version, prvDiaSources=earlier, prvDiaForcedSources=forced), schema=tmp_path
    )
    assert alert.schema_name == f"lsst.v{version.replace('.', '_')}.alert"
    assert len(alert.history) == 2


def test_a_part_that_is_missing(tmp_path):
    parts = builders.lsst_parts("9.0")
    (tmp_path / "lsst.v9_0.alert.avsc").write_text(json.dumps(parts["lsst.v9_0.alert"]))
    with pytest.raises(SchemaError, match=r"diaSource"):
        Alert.from_bytes(builders.lsst(), schema=tmp_path)


def test_parts_that_name_each_other(tmp_path):
    (tmp_path / "lsst.v9_0.alert.avsc").write_text(
        json.dumps(builders.record_type("lsst.v9_0.alert", {"a": "x.a"}))
    )
    (tmp_path / "x.a.avsc").write_text(json.dumps(builders.record_type("x.a", {"b": "x.b"})))
    (tmp_path / "x.b.avsc").write_text(json.dumps(builders.record_type("x.b", {"a": "x.a"})))
    with pytest.raises(SchemaError):
        Alert.from_bytes(FRAME, schema=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "5", '"nope"', "\x00", '{"type": "record"}', "[" * 100_000])
def test_a_schema_file_that_is_none(tmp_path, text):
    (tmp_path / "900.avsc").write_text(text)
    with pytest.raises(SchemaError, match=r"900\.avsc"):
        Alert.from_bytes(FRAME, schema=tmp_path)


def test_no_directory(tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere"):
        Alert.from_bytes(FRAME, schema=tmp_path / "nowhere")


@pytest.mark.parametrize("schema", [5, 1.5, b"bytes", [1]])
def test_what_is_no_source(schema):
    with pytest.raises(ConfigurationError):
        as_source(schema)


def test_sources_are_kept():
    for source in (MappedSchemas({}), RegistrySchemas("http://127.0.0.1:9"), None, prepare_schema(SMALL)):
        assert as_source(source) is source


def test_real_schemas_and_samples(packets_dir):
    source = DirectorySchemas(packets_dir / "lsst" / "schema")
    samples = sorted(packets_dir.glob("lsst/samples/*/*.avro"))
    if not samples:
        pytest.skip("the folder NUNCIUS_PACKETS holds no LSST samples")
    for path in samples:
        raw = path.read_bytes()
        packet = open_packet(raw)
        number = builders.lsst_id(path.parent.name.removeprefix("v").replace("_", "."))
        [(_, begin, end)] = packet._layout.blocks
        frame = b"\x00" + number.to_bytes(4, "big") + raw[begin:end]
        alert = Alert.from_bytes(frame, schema=source)
        assert alert.schema_name == packet.schema_name
        assert repr(alert.packet) == repr(packet.decode())


def test_all_real_schemas_can_be_used(packets_dir):
    source = DirectorySchemas(packets_dir / "lsst" / "schema")
    for number in (704, 800, 900, 1000, 1100):
        assert source.find(number).name == f"lsst.v{number // 100}_{number % 100}.alert"


# Schemas that must not be used ------------------------------------------------------------------------------------


def field(kind):
    return builders.record_type("x.alert", {"f": kind})


def nested(levels):
    kind = "int"
    for number in range(levels):
        kind = builders.record_type(f"x.r{number}", {"f": kind})
    return kind


RECURSIVE = {
    "itself or null": field(["null", "x.alert"]),
    "array of itself": field({"type": "array", "items": "x.alert"}),
    "map of itself": field({"type": "map", "values": "x.alert"}),
    "itself through another": field(builders.record_type("x.b", {"f": ["null", "x.alert"]})),
}
HOSTILE = {
    "itself": field("x.alert"),
    "array of null": field({"type": "array", "items": "null"}),
    "array of empty records": field({"type": "array", "items": builders.record_type("x.e", {})}),
    "array of records of null": field(
        {"type": "array", "items": builders.record_type("x.e", {"a": "null", "b": "null"})}
    ),
    "array of fixed 0": field({"type": "array", "items": {"type": "fixed", "name": "x.f", "size": 0}}),
    "deep records": nested(200),
    "very deep records": nested(2000),
    "negative fixed": field({"type": "fixed", "name": "x.f", "size": -1}),
    "infinite fixed": field({"type": "fixed", "name": "x.f", "size": float("inf")}),
    "text as size": field({"type": "fixed", "name": "x.f", "size": "many"}),
    "no type": {"name": "x"},
    "no name": {"type": "record", "fields": []},
    "unknown type": field("x.unknown"),
    "number": 5,
    "null": None,
    "truth": True,
    "empty": {},
    "odd fields": {"type": "record", "name": "x", "fields": 7},
    "odd field": {"type": "record", "name": "x", "fields": [7]},
    "odd name": {"type": "record", "name": 7, "fields": []},
    "odd field name": {"type": "record", "name": "x", "fields": [{"name": ["a"], "type": "int"}]},
    "odd symbols": field({"type": "enum", "name": "x.e", "symbols": 7}),
    "twice": field([builders.record_type("x.e", {}), builders.record_type("x.e", {})]),
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_hostile_schemas(schema):
    with pytest.raises(SchemaError):
        prepare_schema(schema)


@pytest.mark.parametrize("schema", [schema for name, schema in HOSTILE.items() if "very" not in name],
                         ids=[name for name in HOSTILE if "very" not in name])  # fmt: skip
def test_hostile_schemas_in_packets(schema):
    raw = builders.container(json.dumps(schema).encode(), [b"\x00" * 9])
    with pytest.raises(SchemaError):
        Alert.from_bytes(raw)


@pytest.mark.parametrize("schema", RECURSIVE.values(), ids=RECURSIVE)
@pytest.mark.parametrize("is_compiled", [True, False])
def test_schemas_that_contain_themselves_need_the_compiled_decoder(schema, is_compiled, monkeypatch):
    """It bounds the depth; fastavro does not."""
    if is_compiled and decoder() is None:
        pytest.skip("the compiled decoder was not built, or is switched off")
    if is_compiled:
        assert prepare_schema(schema).name == "x.alert"
    else:
        monkeypatch.setattr(schemas, "program_of", lambda *_: None)
        with pytest.raises(SchemaError, match="compiled decoder"):
            prepare_schema(schema)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 6000, b'{"a":' * 5000])
def test_schemas_that_are_no_json(text):
    with pytest.raises(SchemaError):
        prepare_schema_text(text)


def test_invalid_defaults_are_taken_out_of_writer_schemas_only_where_they_stand():
    schema = {"type": "record", "name": "x.alert", "fields": [
        {"name": "default", "type": "int", "default": None},
        {"name": "e", "type": {"type": "enum", "name": "x.e", "symbols": ["default", "b"], "default": "nope"}},
    ]}  # fmt: skip
    alert = Alert.from_bytes(builders.container(schema, [b"\x0a\x00"]))
    assert alert.packet == {"default": 5, "e": "default"}
    assert "default" in schema["fields"][0]


def test_names_that_are_used_again_and_again_are_no_recursion():
    inner = builders.record_type("x.i", {"a": "int"})
    schema = builders.record_type(
        "x.alert", {"f": inner, "g": "x.i", "h": ["null", {"type": "array", "items": "x.i"}]}
    )
    value = {"f": {"a": 1}, "g": {"a": 2}, "h": [{"a": 3}]}
    assert Alert.from_bytes(builders.container(schema, [builders.datum(schema, value)])).packet == value


# A registry -------------------------------------------------------------------------------------------------------


class Registry:
    """A schema registry on loopback that counts what it is asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                registry.asked.append(self.path)
                status, body = registry.answers.get(self.path, (404, b'{"error_code": 40403}'))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body.decode())
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/registry"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


BY_ID = "/registry/schemas/ids/900"
BY_VERSION = "/registry/subjects/alert-packet/versions/900"


def answer(schema):
    return (200, json.dumps({"schema": json.dumps(schema)}).encode())


@pytest.fixture
def registry():
    made = Registry()
    yield made
    made.close()


def test_a_registry_is_asked_once_and_its_schema_kept_on_disk(registry, tmp_path):
    registry.answers[BY_ID] = answer(SMALL)
    source = RegistrySchemas(registry.url, cache_dir=tmp_path)
    for _ in range(3):
        assert Alert.from_bytes(FRAME, schema=source).alert_id == 7
    assert registry.asked == [BY_ID]
    later = RegistrySchemas(f"{registry.url}/", cache_dir=tmp_path)
    assert Alert.from_bytes(FRAME, schema=later).alert_id == 7
    assert registry.asked == [BY_ID]
    [kept] = tmp_path.rglob("*.avsc")
    assert json.loads(kept.read_bytes()) == SMALL
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_the_disk_serves_when_the_registry_is_gone(registry, tmp_path):
    registry.answers[BY_ID] = answer(SMALL)
    RegistrySchemas(registry.url, cache_dir=tmp_path).find(900)
    registry.answers.clear()
    assert RegistrySchemas(registry.url, cache_dir=tmp_path).find(900).name == "nova.alert"
    with pytest.raises(SchemaError):
        RegistrySchemas(f"{registry.url}/other", cache_dir=tmp_path).find(900)


def test_rubins_subject_is_asked_when_the_number_is_unknown(registry, tmp_path):
    registry.answers[BY_VERSION] = answer(SMALL)
    assert RegistrySchemas(registry.url, cache_dir=tmp_path).find(900).name == "nova.alert"
    assert registry.asked == [BY_ID, BY_VERSION]


def test_redirects_are_followed(registry, tmp_path):
    registry.answers[BY_ID] = (302, b"/elsewhere")
    registry.answers["/elsewhere"] = answer(SMALL)
    assert RegistrySchemas(registry.url, cache_dir=tmp_path).find(900).name == "nova.alert"


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, SchemaError), (500, ServerError), (503, ServerError), (401, LoginError), (403, LoginError)],
)
def test_refusals(registry, tmp_path, status, error):
    registry.answers[BY_ID] = (status, b"no")
    with pytest.raises(error) as caught:
        Alert.from_bytes(FRAME, schema=RegistrySchemas(registry.url, cache_dir=tmp_path))
    assert type(caught.value) is error
    assert caught.value.url == registry.url
    assert not list(tmp_path.rglob("*.avsc"))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"schema": 5}', b'{"schema": null}', b'{"schema": "{"}',
                                  b'{"schema": {"type": "int"}}', b"\xff\xff"])  # fmt: skip
def test_answers_that_are_no_schema(registry, tmp_path, body):
    registry.answers[BY_ID] = (200, body)
    with pytest.raises(ServerError):
        RegistrySchemas(registry.url, cache_dir=tmp_path).find(900)
    assert not list(tmp_path.rglob("*.avsc"))


def test_a_registry_with_a_hostile_schema(registry, tmp_path):
    registry.answers[BY_ID] = answer(HOSTILE["itself"])
    with pytest.raises(SchemaError):
        RegistrySchemas(registry.url, cache_dir=tmp_path).find(900)
    assert not list(tmp_path.rglob("*.avsc"))


def test_nobody_answers(tmp_path):
    gone = Registry()
    gone.close()
    with pytest.raises(UnreachableError) as caught:
        Alert.from_bytes(FRAME, schema=RegistrySchemas(gone.url, cache_dir=tmp_path))
    assert not isinstance(caught.value, PacketError)
    assert caught.value.service == "schema registry"


def test_an_answer_that_is_cut_off(registry, tmp_path):
    class Short(bytes):
        def __len__(self):
            return 5000

    registry.answers[BY_ID] = (200, Short(b'{"schema": "'))
    registry.server.RequestHandlerClass.timeout = 1
    with pytest.raises(UnreachableError):
        RegistrySchemas(registry.url, cache_dir=tmp_path).find(900)


def test_an_address_that_is_none(tmp_path):
    for url in ("http://", "http://[bad", "https://127.0.0.1:99999/x"):
        with pytest.raises(NunciusError):
            RegistrySchemas(url, cache_dir=tmp_path).find(900)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(registry, tmp_path):
    registry.answers[BY_ID] = answer(SMALL)
    (tmp_path / "file").write_bytes(b"")
    source = RegistrySchemas(registry.url, cache_dir=tmp_path / "file" / "below")
    assert Alert.from_bytes(FRAME, schema=source).alert_id == 7


def test_a_damaged_file_in_the_cache_is_fetched_again(registry, tmp_path):
    registry.answers[BY_ID] = answer(SMALL)
    RegistrySchemas(registry.url, cache_dir=tmp_path).find(900)
    [kept] = tmp_path.rglob("*.avsc")
    kept.write_bytes(b"")
    assert RegistrySchemas(registry.url, cache_dir=tmp_path).find(900).name == "nova.alert"
    assert json.loads(kept.read_bytes()) == SMALL


def test_a_password_in_the_address_is_not_shown(registry, tmp_path):
    registry.answers[BY_ID] = (500, b"no")
    source = RegistrySchemas(registry.url.replace("//", "//me:hunter2@"), cache_dir=tmp_path)
    with pytest.raises(ServerError) as caught:
        source.find(900)
    shown = f"{caught.value} {caught.value.url} {caught.value!r} {source!r}"
    assert "hunter2" not in shown
    assert "127.0.0.1" in shown


def test_a_url_is_a_source(registry, tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    registry.answers[BY_ID] = answer(SMALL)
    (tmp_path / "packet.bin").write_bytes(FRAME)
    assert [alert.alert_id for alert in read_packets(tmp_path / "packet.bin", schema=registry.url)] == [7]
    assert len(list((tmp_path / "nuncius" / "schemas").rglob("900.avsc"))) == 1
