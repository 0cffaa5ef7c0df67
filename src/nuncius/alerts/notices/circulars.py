"""Circulars: what astronomers write to each other, as GCN's JSON, as Hopskotch's JSON, and as the old text.

Sources: the archive and Kafka format of GCN Circulars (gcn.nasa.gov), and the layout of the circulars' e-mails.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from nuncius.alerts.notices.values import Reading, joined, utc, word
from nuncius.alerts.surveys.base import number
from nuncius.errors import PacketError

_FORM = "gcn.circulars"
_HEADERS = frozenset({"TITLE", "NUMBER", "SUBJECT", "DATE", "FROM"})
_HEADER_BYTES = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_circular(raw: bytes) -> bool:
    """Tell whether a text is a circular: it begins with the headers of one."""
    names = {
        line.partition(b":")[0].strip().upper() for line in raw[:_HEADER_BYTES].splitlines() if b":" in line
    }
    return {b"SUBJECT", b"FROM"} <= names and bool({b"NUMBER", b"TITLE"} & names)


def is_circular_record(record: dict[str, Any]) -> bool:
    """Tell whether a JSON record is a circular, GCN's own or Hopskotch's."""
    if not isinstance(record.get("body"), str):
        return False
    return "circularId" in record or "subject" in record or isinstance(record.get("header"), dict)


def read_record(record: dict[str, Any]) -> Reading:
    """Read a circular in JSON."""
    header = record.get("header")
    header = header if isinstance(header, dict) else {}
    body = record.get("body")
    number_ = record.get("circularId")
    if isinstance(number_, float) and number_ == number_:  # noqa: PLR0124 - NaN; some old circulars are 5400.5
        number_ = f"{number_:g}"
    version = word(record.get("version"))
    name = word(number_) or word(header.get("number"))
    return Reading(
        form=_FORM,
        id=name if name is None or version in {None, "1"} else f"{name}/v{version}",
        time=_from_milliseconds(record.get("createdOn")) or _written(header.get("date")),
        text=_text(
            word(record.get("subject")) or word(header.get("subject")), body if isinstance(body, str) else ""
        ),
        packet=record,
    )


def read_text(text: str) -> Reading:
    """Read a circular as it was sent by e-mail: headers, an empty line, the body.

    Raises
    ------
    PacketError
        If it has no subject.
    """
    head, _, body = text.replace("\r\n", "\n").strip().partition("\n\n")
    lines: dict[str, list[str]] = {}
    last = ""
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip().upper() in _HEADERS:
            last = name.strip().lower()
            lines[last] = [value.strip()]
        elif last:
            lines[last].append(line.strip())  # a long subject goes on in the next line
    header = {name: " ".join(parts) for name, parts in lines.items()}
    if "subject" not in header:
        raise PacketError("a circular without its headers: neither SUBJECT nor NUMBER", position="byte 0")
    return Reading(
        form=_FORM,
        id=joined(header.get("number")),
        time=_written(header.get("date")),
        text=_text(header["subject"], body),
        packet={"header": header, "body": body},
    )


def _text(subject: str | None, body: str) -> str:
    return f"{subject}\n\n{body}" if subject else body


def _from_milliseconds(value: Any) -> datetime | None:
    milliseconds = number(value)
    if milliseconds is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _written(value: Any) -> datetime | None:
    """Read the date of a circular, such as ``18/01/05 02:46:01 GMT``: year, month and day."""
    if not isinstance(value, str):
        return None
    found = re.match(r"\s*(\d\d)/(\d\d)/(\d\d)\s+(\d\d):(\d\d):(\d\d)", value)
    if found is None:
        return utc(value)
    year, *rest = (int(part) for part in found.groups())
    try:
        return datetime(year + (1900 if year >= 90 else 2000), *rest, tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
