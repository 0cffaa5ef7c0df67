"""Fink: alerts of ZTF and Rubin with the scores of its science modules; each message's key holds its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts import Alert
from nuncius.alerts.packets import as_source, open_packets
from nuncius.alerts.packets.schemas import DirectorySchemas, WriterSchema, prepare_schema_text
from nuncius.alerts.surveys import GENERIC, LSST, ZTF, survey_of_schema
from nuncius.brokers.profile import Profile
from nuncius.errors import PacketError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Notice, Origin
    from nuncius.alerts.packets import SchemaLike
    from nuncius.alerts.surveys import Survey
    from nuncius.streams.transport import Message, Reader

_REPLAYED = "_replayed"
_SHOWN_NAME = 80


class Fink(Profile):
    """Fink: a topic for each filter. The connection is not encrypted, also where there is a password."""

    name = "fink"
    title = "Fink"
    mechanism = "SCRAM-SHA-512"
    login_help = (
        "Fink gives the servers, a user name and perhaps a password when you register; the connection is not encrypted, so "
        "use this password for nothing else"
    )
    topics_help = "the filters' names, such as fink_sso_ztf_candidates_ztf"

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return FinkReader(schema)


class FinkReader:
    """Reads Avro records without a container, each with the schema in its message's key.

    A key that is no schema is the name of one, as older messages have it: it is then looked for in `schema` as
    ``NAME.avsc`` and ``NAME_replayed.avsc``.

    Parameters
    ----------
    schema : optional
        For messages whose key only names their schema: a directory of schemas, or the one schema.

    Raises
    ------
    ConfigurationError
        If `schema` is none of the accepted forms.
    """

    def __init__(self, schema: SchemaLike = None) -> None:
        self._given = as_source(schema)
        self._named: dict[str, WriterSchema] = {}

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        schema = self._schema(message.key or b"")
        opened = open_packets(message.value or b"", schema)
        if not opened:
            raise PacketError("the container holds no record")
        return [
            Alert(raw, packet, origin=origin, survey=_survey_of(packet.schema_name, schema))
            for raw, packet in opened
        ]

    def _schema(self, key: bytes) -> WriterSchema:
        if key[:64].lstrip()[:1] == b"{":
            return prepare_schema_text(key)  # parsed once: the same key stands at thousands of messages
        if isinstance(self._given, WriterSchema):
            return self._given
        name = key.decode("utf-8", "replace").strip()
        if not name:
            raise SchemaError(
                "the message has no key, where Fink puts the schema; give the schema of these alerts with schema="
            )
        known = self._named.get(name)
        if known is None:
            known = self._named[name] = self._load(name)
        return known

    def _load(self, name: str) -> WriterSchema:
        """Find a schema by its name in the user's folder."""
        shown = name[:_SHOWN_NAME]
        if not isinstance(self._given, DirectorySchemas):
            raise SchemaError(
                f"the message's key names the schema {shown!r} and does not hold it; give the folder with "
                f"{shown}.avsc, or the schema itself, with schema="
            )
        folder = self._given.path
        wanted = {f"{name}.avsc", f"{name}{_REPLAYED}.avsc"}
        found = sorted(path for path in folder.rglob("*.avsc") if path.name in wanted)
        if not found:
            raise SchemaError(f"the schema {shown!r}, which the message's key names, is not in {folder}")
        try:
            return prepare_schema_text(found[0].read_bytes())
        except OSError as error:
            raise SchemaError(f"the schema file {found[0]} can't be read: {error}") from error


def _survey_of(schema_name: str, schema: WriterSchema) -> Survey | None:
    """Tell the survey by the fields: Spark writes Fink's schemas, and names all of them alike."""
    if survey_of_schema(schema_name) is not GENERIC or not isinstance(schema.parsed, dict):
        return None
    fields = {item["name"] for item in schema.parsed.get("fields", ())}
    if "diaSource" in fields:
        return LSST
    return ZTF if {"objectId", "candid", "candidate"} <= fields else None
