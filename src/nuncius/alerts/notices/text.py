"""GCN's classic notices as text: lines of ``KEY: value``.

Source: the descriptions of the notice types at gcn.gsfc.nasa.gov. TJD, the truncated Julian Date of these notices, is
MJD - 40000.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nuncius.alerts.notices.values import Reading, joined, place, utc_from_mjd
from nuncius.alerts.times import mjd_from_datetime
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE = re.compile(r"([A-Z][A-Z0-9_./()+-]*(?: [A-Z0-9_./()+-]+){0,3}):(.*)")
_MARKS = frozenset({"TITLE", "NOTICE_DATE", "NOTICE_TYPE"})
_MOST_LINES = 100_000

# Who has the position and the time; POINT_RA and the like are where a telescope looks.
_SOURCES = ("GRB", "SRC", "EVENT", "TRANS", "CNTRPART", "OBJECT")
_TIMES = (*_SOURCES, "TRIGGER", "DISCOVERY", "BURST")
_NUMBER = r"[-+]?\d{1,9}(?:\.\d{0,20})?"
_DEGREES_A_UNIT = {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}


def read_text(text: str) -> Reading:
    """Read a text notice.

    Raises
    ------
    PacketError
        If it has none of the lines that every notice has.
    """
    fields = _fields(text)
    if not _MARKS & fields.keys():
        raise PacketError(
            "not a notice of any known kind: no JSON, no VOEvent, no circular, and none of the lines TITLE, "
            "NOTICE_TYPE and NOTICE_DATE of a text notice",
            position="byte 0",
        )
    ra, dec, radius = next(
        (found for source in _SOURCES if (found := _place(fields, source))[0] is not None), (None, None, None)
    )
    times = (_time(fields.get(f"{name}_DATE"), fields.get(f"{name}_TIME")) for name in _TIMES)
    return Reading(
        form="gcn.text",
        id=_id(fields),
        time=next((time for time in times if time is not None), None),
        ra=ra,
        dec=dec,
        radius_deg=radius,
        text=text,
        packet=dict(fields),
        is_test=re.search(
            r"\btest\b", f"{fields.get('NOTICE_TYPE', '')} {fields.get('TITLE', '')}", re.IGNORECASE
        )
        is not None,
    )


def _fields(text: str) -> dict[str, str]:
    """Split into keys and values; a repeated key and a line without a key go on with the value."""
    parts: dict[str, list[str]] = {}
    last = ""
    for line in text.splitlines()[:_MOST_LINES]:
        found = _LINE.match(line)
        if found is not None:
            last = found[1]
            parts.setdefault(last, []).append(found[2].strip())
        elif last and line.strip():
            parts[last].append(line.strip())
    return {name: "\n".join(lines) for name, lines in parts.items()}


def _id(fields: Mapping[str, str]) -> str | None:
    trigger = _first_word(fields.get("TRIGGER_NUM")) or joined(
        _first_word(fields.get("RUN_NUM")), _first_word(fields.get("EVENT_NUM")), by="_"
    )
    if trigger is None:
        return None  # what has neither trigger nor event is told apart by its bytes
    revisions = (fields.get(name) for name in ("RECORD_NUM", "REVISION", "SEQUENCE_NUM", "NOTICE_DATE"))
    return joined(trigger, next((revision for revision in revisions if revision), None))


def _first_word(value: str | None) -> str | None:
    found = re.match(r"[\w.-]+", value or "")
    return None if found is None else found[0]


def _place(fields: Mapping[str, str], source: str) -> tuple[float | None, float | None, float | None]:
    ra, dec = _degrees(fields.get(f"{source}_RA")), _degrees(fields.get(f"{source}_DEC"))
    error = fields.get(f"{source}_ERROR", fields.get(f"{source}_ERROR90"))
    return place(ra, dec, _radius(error))


def _degrees(value: str | None) -> float | None:
    """Read ``249.300d {+16h 37m 12s} (J2000), 249.627d … (current)``: the value for J2000.

    Where no epoch is named at all, the first number is taken.
    """
    if value is None:
        return None
    # Possessive: a stranger's line of blanks would otherwise be tried in the third power of its length.
    head = rf"\s*+({_NUMBER})\s*+d?(?:eg)?\s*+(?:\{{[^{{}}]{{0,80}}\}})?\s*+"
    if "(" not in value:
        found = re.match(head, value)
    else:
        found = next(
            (match for line in re.split(r",|\n", value) if (match := re.match(head + r"\(J2000\)", line))),
            None,
        )
    return None if found is None else float(found[1])


def _radius(value: str | None) -> float | None:
    """Read ``3.00 [arcmin radius, statistical]`` in degrees."""
    found = re.match(rf"\s*({_NUMBER})\s*\[\s*(deg|arcmin|arcsec)\b", value or "")
    return None if found is None else float(found[1]) * _DEGREES_A_UNIT[found[2]]


def _time(date: str | None, time: str | None) -> datetime | None:
    """Put date (``19419 TJD; 205 DOY; 21/07/24``) and time (``45241.80 SOD {12:34:01.80} UT``) together."""
    seconds = re.match(rf"\s*({_NUMBER})\s*SOD", time or "")
    day = _day(date)
    if day is None or seconds is None or not 0 <= float(seconds[1]) < 86401:
        return None
    return day + timedelta(seconds=float(seconds[1]))


def _day(date: str | None) -> datetime | None:
    truncated = re.search(r"(?<!\d)(\d{4,5})\s*TJD", date or "")
    calendar = re.search(r"(?<!\d)(\d\d)/(\d\d)/(\d\d)(?!\d)", date or "")
    by_number = None if truncated is None else utc_from_mjd(40000.0 + int(truncated[1]))
    by_name = None
    if calendar is not None:
        year, month, day = (int(part) for part in calendar.groups())
        try:
            by_name = datetime(year + (1900 if year >= 90 else 2000), month, day, tzinfo=UTC)
        except ValueError:
            return None
    if by_number is None or by_name is None:
        return by_number or by_name
    # Two dates that contradict each other are none.
    return by_number if mjd_from_datetime(by_number) == mjd_from_datetime(by_name) else None
