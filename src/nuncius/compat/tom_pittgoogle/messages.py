"""Messages as they are handed to users' functions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from nuncius._core.lazy import require
from nuncius.alerts import Alert, Origin
from nuncius.brokers.lsst import Lsst
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius.streams import Stream

SendData = Literal["alert_dict", "alert_bytes", "full_msg"]
SaveFields = dict[str, list[str]]

_KINDS = ("alert_dict", "alert_bytes", "full_msg")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOP, _METADATA = "top-level", "metadata"
DEFAULT_FIELDS: SaveFields = {
    _TOP: ["objectId", "candid"],
    "candidate": ["jd", "ra", "dec", "magpsf", "classtar"],
    _METADATA: ["message_id", "publish_time", "kafka.timestamp"],
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What came around the data of a message."""

    message_id: str
    seconds: int
    nanos: int
    ordering_key: str
    delivery_attempt: int | None


@dataclass(frozen=True, slots=True)
class EnvelopedOrigin(Origin):
    """Where a message came from, and what came around it."""

    envelope: Envelope | None = None


class ReceivedMessage:
    """A message that this process holds, with the names of ``google.cloud.pubsub_v1.subscriber.message.Message``.

    Parameters
    ----------
    alert : Alert
        What it holds.
    stream : Stream
        From where.
    """

    def __init__(self, alert: Alert, stream: Stream) -> None:
        assert isinstance(alert.origin, EnvelopedOrigin)
        assert alert.origin.envelope is not None
        self.alert = alert
        self._origin = alert.origin
        self._envelope = alert.origin.envelope
        self._stream = stream
        self._delay_s = 0.0

    @property
    def data(self) -> bytes:
        """The packet, byte for byte as it was sent."""
        return self.alert.raw

    @property
    def attributes(self) -> dict[str, str]:
        """Its attributes."""
        return {name: (value or b"").decode() for name, value in self._origin.headers}

    @property
    def message_id(self) -> str:
        """The server's id of it."""
        return self._envelope.message_id

    @property
    def publish_time(self) -> datetime:
        """When the server took it, in UTC."""
        return _EPOCH + timedelta(seconds=self._envelope.seconds, microseconds=self._envelope.nanos // 1_000)

    @property
    def ordering_key(self) -> str:
        """Its ordering key; empty for none."""
        return self._envelope.ordering_key

    @property
    def delivery_attempt(self) -> int | None:
        """How often it was delivered, where the server counts."""
        return self._envelope.delivery_attempt

    def ack(self) -> None:
        """Say that it is finished."""
        self._stream.acknowledge(self.alert)

    def modify_ack_deadline(self, seconds: float) -> None:
        """Say after how many seconds it comes again once it is dropped."""
        self._delay_s = seconds

    def drop(self) -> None:
        """Give it back; it comes again after the seconds that `modify_ack_deadline` was told."""
        self._stream.release(self.alert, self._delay_s)

    def nack(self) -> None:
        """Give it back; it comes again at once."""
        self._stream.release(self.alert)


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of ``stream_alerts`` asks for.

    Parameters
    ----------
    send_data, include_metadata, user_callback, user_kwargs
        As given.
    save_fields : dict, optional
        To which fields alerts are reduced; None for whole ones.
    """

    send_data: SendData = "alert_dict"
    include_metadata: bool = False
    user_callback: Callable[..., Any] | None = None
    user_kwargs: Mapping[str, Any] = field(default_factory=dict)
    save_fields: SaveFields | None = None

    def __post_init__(self) -> None:
        """Refuse what can't work, before anything is received.

        Raises
        ------
        ConfigurationError
            If `send_data` is not known.
        CallbackError
            If the callback can't be called with these arguments.
        """
        if self.send_data not in _KINDS:
            raise ConfigurationError(
                f"send_data={self.send_data!r} is not known; choose one of {', '.join(map(repr, _KINDS))}",
                position="send_data",
            )
        _check_callback(self.user_callback, self.user_kwargs)

    def handed_out(self, message: Any) -> Any:
        """Return what the user's function gets of a message: ours or one of Google's client.

        Raises
        ------
        PacketError
            If it can't be read.
        """
        if self.send_data == "full_msg":
            return _whole(message)
        payload = message.data if self.send_data == "alert_bytes" else self._values(message)
        if not self.include_metadata:
            return payload
        return {"metadata_dict": self._metadata(message), self.send_data: payload}

    def outcome(self, handed_out: Any) -> tuple[bool, Any]:
        """Call the user's function, and return whether the message is finished, and the result: None for none.

        Raises
        ------
        CallbackError
            If it does not return what it should.
        Exception
            Whatever it raises.
        """
        if self.user_callback is None:
            return True, handed_out
        returned = self.user_callback(handed_out, **self.user_kwargs)
        if not isinstance(returned, Mapping) or "ack" not in returned or returned.keys() - {"ack", "result"}:
            raise CallbackError(
                f"user_callback returned {_short(returned)}; it must return {{'ack': True}} or {{'ack': False}}, with "
                "'result' beside it if it has one. The message was given back",
                position="user_callback",
            )
        ack = bool(returned["ack"])
        return ack, returned.get("result", handed_out if ack else None)

    def _values(self, message: Any) -> dict[str, Any]:
        alert = getattr(message, "alert", None) or Alert.from_bytes(message.data, schema=Lsst.schema)
        if self.save_fields is None:
            packet: dict[str, Any] = alert.packet
            return packet
        return lightened(alert, self.save_fields)

    def _metadata(self, message: Any) -> dict[str, Any]:
        found = {
            "message_id": message.message_id,
            "publish_time": message.publish_time,
            **message.attributes,
        }
        if self.save_fields is None:
            return found
        return {name: found.get(name) for name in self.save_fields.get(_METADATA, ())}


class CallbackError(ConfigurationError, TypeError):
    """A user's function that can't be called, or does not return what it should."""


def lightened(alert: Alert, save_fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the fields that are asked for, side by side; None for those that a packet doesn't have.

    Raises
    ------
    PacketError
        If the packet can't be read.
    """
    records = [name for name in save_fields if name not in {_TOP, _METADATA}]
    top = save_fields.get(_TOP, ())
    packet = alert.beginning(frozenset((*top, *records)))
    found = {name: packet.get(name) for name in top}
    for record in records:
        values = packet.get(record)
        values = values if isinstance(values, dict) else {}
        found |= {name: values.get(name) for name in save_fields[record]}
    return found


def check_save_fields(given: Mapping[str, Sequence[str]]) -> SaveFields:
    """Return what is to be kept of alerts.

    Raises
    ------
    ConfigurationError
        If it is no mapping to lists of names, or two fields would have one name.
    """
    if not hasattr(given, "items") or any(isinstance(names, str) for names in given.values()):
        raise ConfigurationError(
            "save_fields is a mapping to lists of names, such as {'top-level': ['objectId'], 'candidate': ['ra', 'dec']}",
            position="save_fields",
        )
    fields = {record: list(names) for record, names in given.items()}
    flat = [name for record, names in fields.items() if record != _METADATA for name in names]
    if twice := sorted({name for name in flat if flat.count(name) > 1}):
        raise ConfigurationError(
            f"save_fields names {', '.join(twice)} twice, and side by side one would take the other's place",
            position="save_fields",
        )
    return fields


def _short(value: Any) -> str:
    text = repr(sorted(value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _whole(message: Any) -> Any:
    """Return a message as Google's type."""
    types = require("google.pubsub_v1.types", extra="pubsub")
    return types.PubsubMessage(
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        publish_time=message.publish_time,
        ordering_key=message.ordering_key,
    )


def _check_callback(user_callback: Any, user_kwargs: Mapping[str, Any]) -> None:
    if user_callback is None:
        if user_kwargs:
            raise CallbackError(
                f"{', '.join(user_kwargs)}: further arguments are handed to user_callback, and there is none. max_results, "
                "timeout and max_backlog belong into flow_configs={…}",
                position="user_kwargs",
            )
        return
    if not callable(user_callback):
        raise CallbackError(f"user_callback={user_callback!r} is no function", position="user_callback")
    try:
        signature = inspect.signature(user_callback)
    except ValueError:  # some functions written in C don't tell
        return
    try:
        signature.bind(None, **user_kwargs)
    except TypeError as error:
        raise CallbackError(
            f"user_callback can't be called with a message and {', '.join(user_kwargs) or 'nothing else'}: {error}",
            position="user_callback",
        ) from None
