"""What may be published, as the bytes of a message."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius._core.jsontext import to_text
from nuncius._core.when import unix_s
from nuncius.alerts import Alert, Notice
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

Value: TypeAlias = "bytes | Alert | Notice | Mapping[str, Any]"
Headers: TypeAlias = "Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way.

    Parameters
    ----------
    value
        What the caller gave.
    topic : str
        Where to.
    content : bytes
        What is sent.
    key, headers, timestamp_ms : optional
        The rest of the message; a timestamp of 0 leaves it to the broker's client.
    """

    value: Value
    topic: str
    content: bytes
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


class Encoder:
    """Writes values as bytes; keeps the last schema, which is mostly the next one too."""

    def __init__(self) -> None:
        self._schema: Any = None
        self._parsed: Any = None

    def outgoing(
        self,
        value: Value,
        topic: str,
        *,
        key: bytes | str | None,
        headers: Headers | None,
        timestamp: Any,
        schema: Mapping[str, Any] | str | None,
    ) -> Outgoing:
        """Make a message.

        Raises
        ------
        ConfigurationError
            If the value can't be written in its form without loss, or an option means nothing.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        plain = [(name, _as_bytes(f"header {name}", content)) for name, content in pairs]
        content = self._content(value, schema)
        return Outgoing(value, topic, content, _as_bytes("key", key), plain, _milliseconds(timestamp))

    def _content(self, value: Value, schema: Mapping[str, Any] | str | None) -> bytes:
        if schema is not None and not isinstance(value, Mapping):
            raise ConfigurationError(
                f"schema= is for a dict, not for {type(value).__name__}: packets are sent as they are"
            )
        if isinstance(value, (Alert, Notice)):
            return value.raw
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"{type(value).__name__} can't be published: give bytes, an alert, or a dict (JSON, or Avro with schema=)"
            )
        return _as_json(value) if schema is None else self._as_avro(value, schema)

    def _as_avro(self, value: Mapping[str, Any], schema: Mapping[str, Any] | str) -> bytes:
        import fastavro
        from fastavro.schema import SchemaParseException

        out = io.BytesIO()
        try:
            if schema is not self._schema:
                given = json.loads(schema) if isinstance(schema, str) else schema
                self._parsed, self._schema = fastavro.parse_schema(given), schema
            # Strict: what the schema doesn't have would be dropped without a word, and the reverse made up.
            fastavro.writer(out, self._parsed, [value], strict_allow_default=True)
        # What fastavro's code runs into on a value of another type.
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            SchemaParseException,
            TypeError,
            ValueError,
        ) as error:
            raise ConfigurationError(
                f"the dict can't be written with this schema: {type(error).__name__}: {error}"
            ) from error
        return out.getvalue()


def _as_json(value: Mapping[str, Any]) -> bytes:
    text, extras = to_text(dict(value))
    if extras is not None:
        path, kind = json.loads(extras)[0]
        raise ConfigurationError(
            f"JSON can't hold {'.'.join(map(str, path))}, which is {kind}; leave it out, write it as text, or give schema= "
            "for Avro"
        )
    return text.encode()


def _as_bytes(what: str, value: bytes | str | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ConfigurationError(f"the {what} is {type(value).__name__}; give bytes or text")


def _milliseconds(timestamp: Any) -> int:
    if timestamp is None:
        return 0
    seconds = unix_s(timestamp)
    if seconds is None or not 0 < seconds < 1e11:
        raise ConfigurationError(f"timestamp={timestamp!r} is no time such as 2026-11-20T03:00Z, after 1970")
    return round(seconds * 1000)
