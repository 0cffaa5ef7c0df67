"""Notices: gamma-ray bursts, gravitational waves and other events that are not one survey's alert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from nuncius.alerts.origin import Origin


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
        When the event was, in UTC.
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
    """

    id: str
    kind: str
    time: datetime | None = None
    ra: float | None = None
    dec: float | None = None
    radius_deg: float | None = None
    skymap: bytes | None = field(default=None, repr=False)
    text: str = ""
    packet: dict[str, Any] = field(default_factory=dict, repr=False)
    raw: bytes = field(default=b"", repr=False)
    origin: Origin | None = None
