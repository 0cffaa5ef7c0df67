"""Hopskotch, SCiMMA's broker: messages of many kinds, each named by its header ``_format``."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import printable
from nuncius.alerts import Alert, Notice
from nuncius.alerts.notices import is_notice_record, notice_from_bytes, notice_from_record
from nuncius.alerts.notices.values import MAX_TEXT_BYTES, parse_json
from nuncius.alerts.packets import decode_datum, open_packets
from nuncius.alerts.surveys import GENERIC, survey_of_schema
from nuncius.brokers.profile import Profile
from nuncius.credentials import Credentials, find_credentials
from nuncius.errors import ConfigurationError, PacketError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius.alerts import Origin
    from nuncius.alerts.packets import Packet, SchemaLike
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.transport import Message, Reader

_AVRO = b"Obj\x01"
_NOTICES = {
    "voevent": "voevent",
    "circular": "circular",
    "gcncircular": "circular",
    "gcntextnotice": "text",
}
_ENVELOPE = frozenset({"format", "content"})


class Hopskotch(Profile):
    """Hopskotch: topics belong to groups of people."""

    name = "hopskotch"
    title = "Hopskotch (SCiMMA)"
    mechanism = "SCRAM-SHA-512"
    login_required = True
    tls = True
    login_help = "make a credential at my.hop.scimma.org; one that hop keeps (auth.toml) is found"
    topics_help = "GROUP.TOPIC, such as gcn.circular or sys.heartbeat"

    def credentials(self, given: CredentialsLike, host: str) -> Credentials | None:
        """Look where `Profile.credentials` does, then into hop's own file."""
        return find_credentials(self.name, given, host=host) or hop_credentials(host)

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return HopskotchReader(test_messages=test_messages)


class HopskotchReader:
    """Reads messages by their header ``_format``, and without one by the older envelope of JSON.

    Avro records and JSON records become alerts if they have an id, an object or a position as alerts have, and not the
    form of a notice; everything else becomes a notice. A format that nobody knows is a `PacketError`.

    Parameters
    ----------
    test_messages : bool
        Whether messages with the header ``_test`` are read too.
    """

    def __init__(self, *, test_messages: bool = False) -> None:
        self._test_messages = test_messages

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        headers = {
            name.lower(): value or b"" for name, value in reversed(message.headers or ())
        }  # the first counts
        is_test = "_test" in headers
        if is_test and not self._test_messages:
            return []
        content = _Content(message.topic, headers.get("_id", b"").hex(), origin, is_test=is_test)
        raw = message.value or b""
        form = headers.get("_format", b"").decode("utf-8", "replace").strip().lower()
        return content.read(form, raw) if form else content.read_unnamed(raw)


class _Content:
    """What one message holds, and what its notices are called."""

    def __init__(self, kind: str, name: str, origin: Origin, *, is_test: bool) -> None:
        self._kind = kind
        self._name = name
        self._origin = origin
        self._is_test = is_test

    def read(self, form: str, raw: bytes) -> Sequence[Alert | Notice]:
        """Read what is of a known format."""
        if form == "json":
            return self._json(parse_json(raw), raw)
        if form == "avro":
            return self._avro(raw)
        if form in _NOTICES:
            return [self._from_bytes(raw, _NOTICES[form])]
        if form == "external":
            return [self._external(parse_json(raw), raw)]
        if form == "blob":
            return [self._notice({}, raw, _readable(raw))]
        raise PacketError(
            f"the format {form[:40]!r} is not known; known are json, avro, {', '.join(_NOTICES)}, external and blob"
        )

    def read_unnamed(self, raw: bytes) -> Sequence[Alert | Notice]:
        """Read what names no format: the older envelope, else what the bytes show."""
        if raw.startswith(_AVRO):
            return self._avro(raw)
        if raw[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in {b"{", b"["}:
            return [self._from_bytes(raw)]
        value = parse_json(raw)
        if (
            not isinstance(value, dict)
            or not value.keys() >= _ENVELOPE
            or not isinstance(value["format"], str)
        ):
            return self._json(value, raw)
        form, content = value["format"].strip().lower(), value["content"]
        if form in {"blob", "json"}:  # this is what JSON was called first
            return self._json(content, _text_of(content))
        if isinstance(content, dict) and form in _NOTICES:
            found = notice_from_record(content, raw, self._kind, origin=self._origin, name=self._name)
            return [self._marked(found)]
        return self.read(form, printable(content).encode() if isinstance(content, str) else _text_of(content))

    def _json(self, value: Any, raw: bytes) -> Sequence[Alert | Notice]:
        records = value if isinstance(value, list) else [value]
        if not records or not all(isinstance(record, dict) for record in records):
            return [self._notice({"content": value}, raw, value if isinstance(value, str) else "")]
        opened = open_packets(raw)
        return [
            self._item(record, alone, packet, is_only=len(records) == 1)
            for record, (alone, packet) in zip(records, opened, strict=True)
        ]

    def _avro(self, raw: bytes) -> Sequence[Alert | Notice]:
        if not raw.startswith(_AVRO):
            raise PacketError("the format is said to be avro, and the message is no object container")
        opened = open_packets(raw)
        if not opened:
            raise PacketError("the container holds no record")
        # A survey's packet stays undecoded; the schemas of others don't tell what they are.
        return [
            Alert(alone, packet, origin=self._origin)
            if survey_of_schema(packet.schema_name) is not GENERIC
            else self._of_unknown_schema(alone, packet, is_only=len(opened) == 1)
            for alone, packet in opened
        ]

    def _of_unknown_schema(self, raw: bytes, packet: Packet, *, is_only: bool) -> Alert | Notice:
        value = _value_of(packet)
        if isinstance(value, dict):
            return self._item(value, raw, packet, is_only=is_only)
        return self._notice({"content": value}, raw, value if isinstance(value, str) else "", is_only=is_only)

    def _item(self, record: dict[str, Any], raw: bytes, packet: Packet, *, is_only: bool) -> Alert | Notice:
        """Make an alert of what has an object, an alert's id or a position, and no form of a notice."""
        reading = GENERIC.read(record)
        found = (reading.alert_id, reading.object_id, reading.point.ra)
        if not is_notice_record(record) and found != (None, None, None):
            return Alert(raw, packet, origin=self._origin)
        name = self._name if is_only else None
        origin = self._origin if is_only else self._unnamed
        return self._marked(notice_from_record(record, raw, self._kind, origin=origin, name=name))

    def _external(self, value: Any, raw: bytes) -> Notice:
        """Name the place of a message that was too large to send. It is not fetched: the address is a stranger's."""
        url = value.get("url") if isinstance(value, dict) else None
        if not isinstance(url, str) or not url:
            raise PacketError("a message that stands elsewhere, without its url")
        return self._notice(value, raw, f"The message stands at {url}")

    def _notice(self, packet: dict[str, Any], raw: bytes, text: str, *, is_only: bool = True) -> Notice:
        name = (
            self._name if is_only else ""
        )  # the header names the message, and not each of the notices within
        return Notice(
            id=name or Notice("", self._kind, raw=raw).digest,
            kind=self._kind,
            text=printable(text),
            packet=packet,
            raw=raw,
            origin=self._origin if is_only else self._unnamed,
            is_test=self._is_test,
        )

    @property
    def _unnamed(self) -> Origin:
        """The origin of one of several notices: a recording keeps each as a message, and the id would be that of all."""
        headers = tuple(header for header in self._origin.headers if header[0].lower() != "_id")
        return replace(self._origin, headers=headers)

    def _from_bytes(self, raw: bytes, form: str | None = None) -> Notice:
        return self._marked(notice_from_bytes(raw, self._kind, form, origin=self._origin, name=self._name))

    def _marked(self, notice: Notice) -> Notice:
        return replace(notice, is_test=True) if self._is_test and not notice.is_test else notice


def _value_of(packet: Packet) -> Any:
    """Decode what an Avro container holds: hop writes lists, too, as one value."""
    assert packet._layout is not None
    schema = packet._layout.header.schema
    if packet._values is not None:
        return packet._values
    if isinstance(schema.parsed, dict) and schema.parsed.get("type") == "record":
        return packet.decode()
    data = packet._record()
    value, end = decode_datum(data, schema)
    if end != len(data):
        raise PacketError(f"{len(data) - end} bytes are left over behind the value", position=f"byte {end}")
    return value


def _text_of(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError as error:
        raise PacketError("the JSON text nests too deep") from error


def _readable(raw: bytes) -> str:
    try:
        return raw[:MAX_TEXT_BYTES].decode()
    except UnicodeDecodeError:
        return ""


# hop's credentials ----------------------------------------------------------------------------------------------------


def hop_credentials(host: str) -> Credentials | None:
    """Find the login that hop keeps for a host in its ``auth.toml``; None if there is none, or more than one.

    Raises
    ------
    ConfigurationError
        If the file can be read by others, or is no TOML.
    """
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hop"
    path = folder / "auth.toml"
    try:
        text = path.read_text(encoding="utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError):
        return None
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"{path} holds secrets and can be read by other users; run: chmod 600 {path}", position=str(path)
        )
    try:
        listed = tomllib.loads(text).get("auth", [])
    except ValueError:
        # The parser's own text could quote the line that it stumbles over.
        raise ConfigurationError(f"{path} is no TOML", position=str(path)) from None
    known = [entry for entry in (listed if isinstance(listed, list) else [listed]) if _is_login(entry)]
    exact = [entry for entry in known if _host(entry) == host.lower()]
    found = exact or [entry for entry in known if not _host(entry)]
    if len(found) != 1:
        return None
    return Credentials(found[0]["username"], found[0]["password"], source=str(path))


def _is_login(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key), str) for key in ("username", "password")
    )


def _host(entry: Mapping[str, Any]) -> str:
    return re.sub(r":\d+$", "", str(entry.get("hostname") or "").lower())
