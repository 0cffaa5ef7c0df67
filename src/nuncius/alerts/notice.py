"""Notices: gamma-ray bursts, gravitational waves and other events that are not one survey's alert."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.alerts.times import mjd_from_datetime

if TYPE_CHECKING:
    from datetime import datetime

    from nuncius.alerts.origin import Origin
    from nuncius.alerts.sink import Delivery

_SHOWN_TEXT = 400


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice, the second thing that a stream may yield.

    Parameters
    ----------
    id : str
        The event and the revision, as the sender names them.
    kind : str
        What it is, such as ``gcn.circulars`` or ``igwn.gwalert``.
    time : datetime, optional
        When the event was, in UTC; for a circular, when it was written.
    ra, dec, radius_deg : float, optional
        ICRS position in degrees and the radius of its error circle.
    skymap : bytes, optional
        The sky map as it came (FITS).
    text : str
        What a person reads.
    packet : dict
        All values of the notice.
    raw : bytes
        The message as it came.
    origin : Origin, optional
        Where in which stream.
    is_test : bool
        Whether the sender says that nothing has happened: a test, a simulation, an injected signal.

    Examples
    --------
    >>> notice = Notice("S230518h/INITIAL", "igwn.gwalert", text="S230518h INITIAL")
    >>> notice.survey, notice.key
    ('igwn', ('notice', 'igwn.gwalert', 'S230518h/INITIAL'))
    """

    id: str
    kind: str
    time: datetime | None = None
    ra: float | None = None
    dec: float | None = None
    radius_deg: float | None = None
    skymap: bytes | None = field(default=None, repr=False)
    text: str = ""
    packet: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    raw: bytes = field(default=b"", repr=False)
    origin: Origin | None = None
    is_test: bool = False
    _delivery: Delivery | None = field(default=None, repr=False, compare=False)

    # In the words of an alert -----------------------------------------------------------------------------------------

    @property
    def survey(self) -> str:
        """Who sends notices of this kind: its first word, such as ``gcn`` or ``igwn``."""
        return self.kind.partition(".")[0] or "notice"

    @property
    def alert_id(self) -> str:
        """The id."""
        return self.id

    @property
    def object_id(self) -> str | None:
        """None: a notice is of an event and not of a survey's object."""
        return None

    @property
    def key(self) -> tuple[str, str | None, int | str]:
        """What identifies the notice: kind and id."""
        return ("notice", self.kind, self.id)

    @property
    def digest(self) -> str:
        """A digest of the message: 32 hexadecimal digits, equal for equal bytes."""
        return hashlib.blake2b(self.raw or f"{self.kind}\0{self.id}".encode(), digest_size=16).hexdigest()

    @property
    def mjd(self) -> float | None:
        """`time` as Modified Julian Date in UTC."""
        return None if self.time is None else mjd_from_datetime(self.time)

    @property
    def annotations(self) -> dict[str, dict[str, Any]]:
        """Nothing: what a sender says is the notice itself."""
        return {}

    # ------------------------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the delivery: a notice in another process can't report to the stream of this one.
        return Notice, (
            self.id,
            self.kind,
            self.time,
            self.ra,
            self.dec,
            self.radius_deg,
            self.skymap,
            self.text,
            self.packet,
            self.raw,
            self.origin,
            self.is_test,
        )

    def __repr__(self) -> str:
        parts = [f"<Notice {self.kind or 'of unknown kind'} {self.id}"]
        if self.is_test:
            parts.append("(test)")
        if self.time is not None:
            parts.append(f"of {self.time:%Y-%m-%d %H:%M:%S}")
        if self.ra is not None and self.dec is not None:
            error = "" if self.radius_deg is None else f" ± {self.radius_deg:.4g}°"
            parts.append(f"at {self.ra:.5f} {self.dec:+.5f}{error}")
        if self.skymap is not None:
            parts.append("with a sky map")
        return f"{' '.join(parts)}>"

    def _repr_html_(self) -> str:
        from html import escape

        error = "" if self.radius_deg is None else f" ± {self.radius_deg:.4g}°"
        rows = {
            "kind": self.kind or None,
            "id": self.id,
            "test": "yes: nothing has happened" if self.is_test else None,
            "time (UTC)": None if self.time is None else f"{self.time:%Y-%m-%d %H:%M:%S}",
            "RA, Dec": None
            if self.ra is None or self.dec is None
            else f"{self.ra:.6f}°, {self.dec:+.6f}°{error}",
            "sky map": None if self.skymap is None else f"{len(self.skymap)} bytes",
            "text": _beginning(self.text) or None,
        }
        cells = (
            f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value is not None
        )
        return f"<table>{''.join(cells)}</table>"


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"
