"""What a user asks of an archive in a form: typed values that are plain enough to be saved as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 1000
SHOWN = 100
"""So many rows the Toolkit shows in its page; the command ``rundataquery`` takes all."""

LIVE_MOST_S = 60
_LARGEST_ARCSEC = 3600.0


def _asked(default: Any, label: str, text: str = "", example: str = "") -> Any:
    return field(default=default, metadata={"label": label, "help": text, "example": example})


@dataclass(frozen=True, slots=True)
class Question:
    """A question for objects; each field becomes one of the form.

    Parameters
    ----------
    catalog : str
        The catalog of alerts; all of them by default.
    position : str
        ICRS degrees or sexagesimal hours and degrees.
    radius_arcsec : float
        Around the position.
    object_id : str
        The survey's name of an object.
    since, until : str
        The time of the alert in UTC, as ISO 8601 says it.
    mag_min, mag_max : float, optional
        The magnitude of the alert; a smaller one is brighter.
    where : str
        What else the alert must meet, such as ``score > 0.9``; see `nuncius.tom.filters`.
    limit : int
        The most objects.
    """

    catalog: str = _asked(
        "", "Catalog", "Which survey's alerts; all of the archive if left out.", "ZTF_alerts"
    )
    position: str = _asked(
        "", "Position", "ICRS: degrees, or hours and degrees in sexagesimal.", "04:46:37.9 -10:13:35"
    )
    radius_arcsec: float = _asked(5.0, "Radius [arcsec]", "Around the position.")
    object_id: str = _asked("", "Object", "The survey's name of an object.", "ZTF20aafqubg")
    since: str = _asked("", "Since", "Alerts from this time on (UTC).", "2026-05-01T00:00")
    until: str = _asked("", "Until", "Alerts before this time (UTC).", "2026-05-02T12:00")
    mag_min: float | None = _asked(None, "Magnitude from", "No brighter than this.", "14")
    mag_max: float | None = _asked(None, "Magnitude to", "No fainter than this.", "19.5")
    where: str = _asked(
        "", "Filter", "What else each alert must meet.", "score > 0.9 and candidate.ndethist >= 3"
    )
    limit: int = _asked(50, "Objects", f"The most objects; the page shows {SHOWN} of them.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make one of a form's values or of a saved query: what it lacks has its default, what is unknown is left out.

        Raises
        ------
        ConfigurationError
            If a value can't be one of its field; `position` is the field's name.
        """
        taken = {}
        for item in fields(cls):
            value = values.get(item.name)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            taken[item.name] = _as_kind(item.name, str(item.type), value)
        question = cls(**taken)
        question.check()
        return question

    def check(self) -> None:
        """Refuse what means nothing.

        Raises
        ------
        ConfigurationError, FilterError
            The message says what to write instead.
        """
        if not 1 <= self.limit <= MOST:
            raise ConfigurationError(f"the number of objects is between 1 and {MOST}", position="limit")
        if not 0 < self.radius_arcsec <= _LARGEST_ARCSEC:
            raise ConfigurationError(
                f"the radius is more than 0 and at most {_LARGEST_ARCSEC:g} arcsec", position="radius_arcsec"
            )
        low, high = self.mag_min, self.mag_max
        if low is not None and high is not None and low > high:
            raise ConfigurationError(
                f"no magnitude is from {low:g} to {high:g}: the first is the smaller", position="mag_min"
            )
        _ = self.place
        begin, end = self.mjd_range
        if begin is not None and end is not None and begin >= end:
            raise ConfigurationError("the time in 'Until' is not after that in 'Since'", position="until")
        if self.where:
            from nuncius.streams.where import parse_where

            parse_where(self.where)

    @property
    def place(self) -> tuple[float, float] | None:
        """The position in ICRS degrees."""
        text = self.position.strip()
        if not text:
            return None
        from nuncius.sky import to_positions

        words = text.replace(",", " ").split()
        try:
            given: Any = (float(words[0]), float(words[1])) if len(words) == 2 else text
        except ValueError:
            given = text
        try:
            ra, dec, _ = to_positions(given)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{text[:60]!r} is no position; write it as degrees (71.658 -10.226) or as hours and degrees "
                "(04:46:37.9 -10:13:35)",
                position="position",
            ) from error
        return float(ra[0]), float(dec[0])

    @property
    def mjd_range(self) -> tuple[float | None, float | None]:
        """The times as Modified Julian Dates in UTC."""
        return _mjd(self.since, "since"), _mjd(self.until, "until")

    @property
    def is_bounded(self) -> bool:
        """Whether it asks for a place, an object or a time: a large server can't search all that it has for the rest."""
        return bool(self.position.strip() or self.object_id or self.since)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, of which `of` makes it again."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StreamQuestion(Question):
    """The same of an archive that a stream fills, with a look at the stream itself if that is wanted.

    Parameters
    ----------
    live_s : int
        How many seconds to listen to the stream first; then only objects are shown whose alerts just came.
    live_alerts : int
        The most alerts to take meanwhile.
    """

    live_s: int = _asked(
        0,
        "Listen now [s]",
        "Take new alerts from the stream first, and show only these; 0 shows what is in the archive.",
    )
    live_alerts: int = _asked(50, "Alerts to take", "At most so many, if you listen now.")

    def check(self) -> None:
        """See `Question.check`."""
        Question.check(self)  # super() has no class to go by in a dataclass with slots
        if not 0 <= self.live_s <= LIVE_MOST_S:
            raise ConfigurationError(
                f"a page can wait at most {LIVE_MOST_S} s for a stream; the worker listens all the time",
                position="live_s",
            )
        if not 1 <= self.live_alerts <= MOST:
            raise ConfigurationError(f"take between 1 and {MOST} alerts", position="live_alerts")


def _as_kind(name: str, kind: str, value: Any) -> Any:
    try:
        if kind.startswith("int"):
            return int(value)
        if kind.startswith("float"):
            number = float(value)
            return number if math.isfinite(number) else int(number)  # which raises for what is no number
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(f"{name}={str(value)[:40]!r} is no number", position=name) from None
    return str(value)


def _mjd(text: str, name: str) -> float | None:
    if not text.strip():
        return None
    from datetime import UTC, datetime

    from nuncius.alerts.times import mjd_from_datetime

    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"{text[:40]!r} is no time; write it as 2026-05-01T12:00", position=name
        ) from None
    return mjd_from_datetime(when if when.tzinfo else when.replace(tzinfo=UTC))
