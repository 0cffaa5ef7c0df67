"""Small parts that the readers of notices share: text, JSON, times, positions, sky maps.

All of it comes from strangers: a value that is not what it should be is missing, and nothing here raises but
`PacketError` for a message that can't be read at all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import printable
from nuncius.alerts.notice import Notice
from nuncius.alerts.packets import _decode_json
from nuncius.alerts.surveys.base import number, position
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from nuncius.alerts.origin import Origin

MAX_NOTICE_BYTES = 64 * 1024 * 1024
"""The largest notice that is read: ten times the largest sky map that was ever sent within one."""

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""The largest text or XML that is read; those of today's notices stay below 100 kB."""

_MAX_ID = 200
_FITS_STARTS = (b"SIMPLE", b"\x1f\x8b")  # plain or gzipped
_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one notice says, in the words of `Notice`; `form` is its kind by its form."""

    form: str
    id: str | None = None
    time: datetime | None = None
    ra: float | None = None
    dec: float | None = None
    radius_deg: float | None = None
    skymap: bytes | None = None
    text: str = ""
    packet: dict[str, Any] = field(default_factory=dict)
    is_test: bool = False

    def notice(self, name: str, kind: str, raw: bytes, origin: Origin | None) -> Notice:
        """Make the notice."""
        return Notice(
            id=_shortened(printable(name)),
            kind=kind,
            time=self.time,
            ra=self.ra,
            dec=self.dec,
            radius_deg=self.radius_deg,
            skymap=self.skymap,
            text=printable(self.text),
            packet=self.packet,
            raw=raw,
            origin=origin,
            is_test=self.is_test,
        )


def _shortened(name: str) -> str:
    """Cut a long id; a digest keeps apart what begins alike."""
    if len(name) <= _MAX_ID:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{name[: _MAX_ID - len(digest) - 1]}~{digest}"


def as_text(raw: bytes, most: int) -> str:
    """Decode a text; letters that are not UTF-8 become visible as replaced.

    Raises
    ------
    PacketError
        If it is too long, or no text at all.
    """
    if len(raw) > most:
        raise PacketError(f"the text has {len(raw)} bytes; more than {most} are not read")
    if b"\0" in raw:
        raise PacketError(
            f"not a notice of any known kind; it begins with {raw[:8].hex(' ')}", position="byte 0"
        )
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def parse_json(raw: bytes) -> Any:
    """Decode JSON; NaN and infinity, which some senders write, are read as such.

    Raises
    ------
    PacketError
        If it is damaged or nests too deep.
    """
    return _decode_json(raw.lstrip(b" \t\r\n").removeprefix(b"\xef\xbb\xbf"))


def utc(value: Any) -> datetime | None:
    """Read an ISO 8601 time; one without a zone is in UTC, as all senders have it."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    # Senders give up to nine digits of a second; datetime holds six.
    text = re.sub(r"(\.\d{6})\d+", r"\1", value.strip()).removesuffix(" UTC").removesuffix(" UT")
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def utc_from_mjd(mjd: float) -> datetime | None:
    """Turn a Modified Julian Date in UTC into a datetime."""
    try:
        return _MJD_0 + timedelta(days=mjd)
    except (OverflowError, ValueError):
        return None


def place(ra: Any, dec: Any, radius_deg: Any = None) -> tuple[float | None, float | None, float | None]:
    """Return position and error radius in degrees; an impossible position is none.

    Senders that know no position yet write zeros: 0, 0 without an error is no position.
    """
    alpha, delta = position(ra, dec)
    radius = number(radius_deg)
    radius = radius if radius is not None and 0 < radius <= 180 else None
    if alpha is None or delta is None or (alpha == 0 and delta == 0 and radius is None):
        return None, None, None
    return alpha, delta, radius


def fits_in(value: Any) -> bytes | None:
    """Return the sky map that stands in a message, as bytes or in base64; None if it isn't a FITS file."""
    if not isinstance(value, (str, bytes)):
        return None
    try:
        found = value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if found.startswith(_FITS_STARTS) else None


def word(value: Any) -> str | None:
    """Return a name or a number as text; None for what is empty or neither."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    if isinstance(value, int) and abs(value) >= 10**30:
        return None  # turning a number of many digits into text takes its time, and no id has them
    return str(value).strip() or None


def joined(*parts: Any, by: str = "/") -> str | None:
    """Join the words that there are; None if there are none."""
    return by.join(part for part in map(word, parts) if part) or None
