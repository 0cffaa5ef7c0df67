"""Notices as records: gravitational waves (IGWN) and GCN's unified schema.

Sources: the IGWN Public Alerts User Guide (notice contents), and the core schemas of nasa-gcn/gcn-schema.
"""

from __future__ import annotations

from typing import Any

from nuncius.alerts.notices.values import Reading, fits_in, joined, place, utc, word
from nuncius.alerts.surveys.base import number

_SECONDS_A_YEAR = 365.25 * 86400
_TEST_TENSES = frozenset({"test", "injection"})
_UNIFIED_FIELDS = frozenset(
    {
        "alert_datetime",
        "alert_tense",
        "alert_type",
        "trigger_time",
        "event_name",
        "healpix_file",
        "healpix_url",
    }
)


def read_gravitational_wave(record: dict[str, Any]) -> Reading:
    """Read a notice of IGWN; a retraction has no event and so neither time nor sky map."""
    name = word(record.get("superevent_id"))
    kind = word(record.get("alert_type"))
    event = record.get("event")
    event = event if isinstance(event, dict) else {}
    return Reading(
        form="igwn.gwalert",
        id=joined(name, kind, record.get("time_created")),
        time=utc(event.get("time")),
        skymap=fits_in(event.get("skymap")),
        text=_summary(name, kind, event, record),
        packet=record,
        # S is a candidate; M (mock data challenge) and T (test) come before it in names of what never happened.
        is_test=name is not None and name[:1] in "MT",
    )


def _summary(name: str | None, kind: str | None, event: dict[str, Any], record: dict[str, Any]) -> str:
    parts = [" ".join(part for part in (name, kind) if part)]
    far = number(event.get("far"))
    if far is not None and far > 0:
        parts.append(f"one false alarm in {1 / far / _SECONDS_A_YEAR:.3g} years")
    classes = event.get("classification")
    if isinstance(classes, dict):
        known = {label: value for label, value in classes.items() if number(value) is not None}
        best = sorted(known, key=lambda label: -known[label])[:3]
        parts.append(", ".join(f"{label} {known[label]:.2f}" for label in best))
    if url := _links(record):
        parts.append(url)
    return "; ".join(part for part in parts if part)


def _links(record: dict[str, Any]) -> str:
    urls = record.get("urls")
    return (word(urls.get("gracedb")) or "") if isinstance(urls, dict) else ""


def is_unified(record: dict[str, Any]) -> bool:
    """Tell whether a record follows GCN's unified schema: it names it, or has fields that no alert has."""
    schema = record.get("$schema")
    return (isinstance(schema, str) and "gcn" in schema) or bool(_UNIFIED_FIELDS & record.keys())


def read_unified(record: dict[str, Any]) -> Reading:
    """Read a notice in GCN's unified schema, or any other JSON record, whose fields of other names stay in `packet`."""
    inner = (record.get(name) for name in ("localization", "most_probable_direction"))
    sources = [record, *(source for source in inner if isinstance(source, dict))]
    ra, dec, radius = next(
        (found for source in sources if (found := _place(source))[0] is not None), (None, None, None)
    )
    own = _names(record.get("id"))
    event = _names(record.get("event_name")) or own or _names(record.get("ref_ID"))
    revision = word(record.get("record_number")) or word(record.get("alert_datetime"))
    times = (utc(record.get(name)) for name in ("trigger_time", "event_time", "observation_start"))
    return Reading(
        form="notice.json",
        id=joined(event, own if own != event else None, record.get("alert_type"), revision),
        time=next((time for time in times if time is not None), None),
        ra=ra,
        dec=dec,
        radius_deg=radius,
        skymap=fits_in(record.get("healpix_file")) or fits_in(record.get("skymap")),
        text=_described(record, event),
        packet=record,
        is_test=_is_test(record),
    )


def _is_test(record: dict[str, Any]) -> bool:
    tense, role = record.get("alert_tense"), record.get("role")
    return (isinstance(tense, str) and tense.lower() in _TEST_TENSES) or role == "test"


def _place(source: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
    error = next(
        (
            source[name]
            for name in ("ra_dec_error", "ra_uncertainty", "error_radius", "semi_major")
            if source.get(name) is not None
        ),
        None,
    )
    # An ellipse is given as its two half axes and an angle; the larger half axis holds the circle around it.
    if isinstance(error, list):
        axes = [axis for axis in map(number, error[:2]) if axis is not None]
        error = max(axes, default=None)
    return place(source.get("ra"), source.get("dec"), error)


def _names(value: Any) -> str | None:
    """Read one name or a list of them."""
    if isinstance(value, list):
        return joined(*value, by="+")
    return word(value)


def _described(record: dict[str, Any], event: str | None) -> str:
    head = joined(record.get("mission"), record.get("instrument"), event, record.get("alert_type"), by=" ")
    more = (word(record.get(name)) for name in ("title", "additional_info", "description", "message_text"))
    return "\n".join(part for part in (head, *more) if part)
