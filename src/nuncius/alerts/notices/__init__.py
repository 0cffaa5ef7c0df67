"""From the bytes of a notice to its values: VOEvent, GCN's JSON and text notices, circulars.

A stream that states the format of its messages names it (`content_type`), and nothing is guessed then. Otherwise the
first bytes tell.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from nuncius.alerts.notices import circulars, records, text, voevent
from nuncius.alerts.notices.values import MAX_NOTICE_BYTES, MAX_TEXT_BYTES, as_text, parse_json
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.alerts.notice import Notice
    from nuncius.alerts.notices.values import Reading
    from nuncius.alerts.origin import Origin

__all__ = ["is_notice_record", "notice_from_bytes", "notice_from_record"]

_BLANKS = b"\xef\xbb\xbf \t\r\n"


def notice_from_bytes(
    raw: bytes,
    kind: str = "",
    content_type: str | None = None,
    *,
    origin: Origin | None = None,
    name: str | None = None,
) -> Notice:
    """Read one notice.

    Parameters
    ----------
    raw : bytes
        The message.
    kind : str
        What the stream calls it, such as its topic; if empty, what the notice is by its form.
    content_type : {"json", "voevent", "text", "circular"}, optional
        The format, where the stream states it; also the media types ``application/json``, ``application/xml`` and
        ``text/plain``. By default the first bytes decide.
    origin : Origin, optional
        Where in which stream.
    name : str, optional
        The id of a notice that names none itself; by default a digest of its bytes.

    Returns
    -------
    Notice
        What the message doesn't say, or says in a way that means nothing, is None; `packet` keeps everything.

    Raises
    ------
    PacketError
        If it is not a readable notice.

    Examples
    --------
    >>> raw = b'{"superevent_id": "S230518h", "alert_type": "RETRACTION", "time_created": "2023-05-18T13:00:00Z"}'
    >>> notice_from_bytes(raw, "igwn.gwalert").id
    'S230518h/RETRACTION/2023-05-18T13:00:00Z'
    """
    if len(raw) > MAX_NOTICE_BYTES:
        raise PacketError(f"the notice has {len(raw)} bytes; more than {MAX_NOTICE_BYTES} are not read")
    if not raw.strip(_BLANKS):
        raise PacketError("the notice is empty", position="byte 0")
    form = _sniffed(raw) if content_type is None else content_type.partition(";")[0].strip().lower()
    reader = _READERS.get(form)
    if reader is None:
        raise PacketError(f"the notice's format {form!r} is not known; known are {', '.join(_READERS)}")
    return _made(reader(raw), raw, kind, origin, name)


def notice_from_record(
    record: dict[str, Any],
    raw: bytes,
    kind: str = "",
    *,
    origin: Origin | None = None,
    name: str | None = None,
) -> Notice:
    """Make a notice of a record that is decoded already; see `notice_from_bytes`."""
    return _made(_read_record(record), raw, kind, origin, name)


def is_notice_record(record: dict[str, Any]) -> bool:
    """Tell whether a record has the form of one of the notices known here, and is not a survey's alert."""
    return _form_of(record) is not None or records.is_unified(record)


def _made(reading: Reading, raw: bytes, kind: str, origin: Origin | None, name: str | None) -> Notice:
    found = reading.id or name or hashlib.blake2b(raw, digest_size=16).hexdigest()
    return reading.notice(found, kind or reading.form, raw, origin)


def _sniffed(raw: bytes) -> str:
    start = _first_byte(raw)
    if start in {b"{", b"["}:
        return "json"
    if start == b"<":
        return "voevent"
    return "circular" if circulars.is_circular(raw) else "text"


def _read_json(raw: bytes) -> Reading:
    return _read_record(_record(raw))


def _read_record(record: dict[str, Any]) -> Reading:
    read = _form_of(record) or records.read_unified
    return read(record)


def _form_of(record: dict[str, Any]) -> Callable[[dict[str, Any]], Reading] | None:
    """Find the reader for a JSON record of an unmistakable form."""
    if "superevent_id" in record:
        return records.read_gravitational_wave
    if "ivorn" in record:
        return voevent.read_record
    return circulars.read_record if circulars.is_circular_record(record) else None


def _read_voevent(raw: bytes) -> Reading:
    # Hopskotch sends VOEvents as JSON.
    return voevent.read_record(_record(raw)) if _is_json(raw) else voevent.read_xml(raw)


def _read_circular(raw: bytes) -> Reading:
    if _is_json(raw):
        return circulars.read_record(_record(raw))
    return circulars.read_text(as_text(raw, MAX_TEXT_BYTES))


def _is_json(raw: bytes) -> bool:
    return _first_byte(raw) == b"{"


def _first_byte(raw: bytes) -> bytes:
    return raw[:1024].lstrip(_BLANKS)[:1]


def _record(raw: bytes) -> dict[str, Any]:
    record = parse_json(raw)
    if not isinstance(record, dict):
        raise PacketError(f"a notice is a record of named values; this one is a {type(record).__name__}")
    return record


def _read_text(raw: bytes) -> Reading:
    return text.read_text(as_text(raw, MAX_TEXT_BYTES))


_READERS: dict[str, Callable[[bytes], Reading]] = {
    "json": _read_json,
    "voevent": _read_voevent,
    "text": _read_text,
    "circular": _read_circular,
    "application/json": _read_json,
    "application/xml": _read_voevent,
    "text/xml": _read_voevent,
    "text/plain": _read_text,
}
