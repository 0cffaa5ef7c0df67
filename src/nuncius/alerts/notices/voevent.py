"""VOEvent 2.0, as XML and as the JSON that Hopskotch makes of it.

Source: IVOA Recommendation "Sky Event Reporting Metadata" 2.0 (2011).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from nuncius.alerts.notices.values import MAX_TEXT_BYTES, Reading, place, utc, word
from nuncius.alerts.surveys.base import number
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from xml.etree.ElementTree import Element

_MAX_DEPTH = 64
_MAX_ELEMENTS = 100_000
_FRAMES = frozenset({"", "ICRS", "FK5"})  # FK5 at J2000 lies within 0.03 arcsec of ICRS
_UTC = frozenset({"", "UTC", "UT"})
_OTHER_SCALES = {"TT": "tt", "TDB": "tdb", "TAI": "tai"}


def read_xml(raw: bytes) -> Reading:
    """Read a VOEvent in XML. Documents with a DTD or entities of their own are refused.

    Raises
    ------
    PacketError
        If it is damaged, hostile, or another kind of XML.
    """
    root = _parsed(raw)
    name = _local(root.tag)
    if name != "VOEvent":
        raise PacketError(f"an XML document <{name[:40]}>, not a VOEvent")
    record = _value(root)
    return read_record(record if isinstance(record, dict) else {})


def read_record(record: dict[str, Any]) -> Reading:
    """Read a VOEvent as a record: attributes and elements by name, repeated elements as lists."""
    coordinates = _at(record, "WhereWhen", "ObsDataLocation", "ObservationLocation", "AstroCoords")
    system = word(_at(coordinates, "coord_system_id")) or ""
    scale, frame = ([*system.upper().split("-"), "", ""])[:2] if system else ("", "")
    here = _at(coordinates, "Position2D")
    ra = dec = radius = None
    if frame in _FRAMES and str(_at(here, "unit") or "deg").startswith("deg"):
        ra, dec, radius = place(
            _number(_at(here, "Value2", "C1")),
            _number(_at(here, "Value2", "C2")),
            _number(_at(here, "Error2Radius")),
        )
    role = word(record.get("role"))
    params = _params(record.get("What"))
    return Reading(
        form="voevent",
        id=word(record.get("ivorn")),
        time=_utc(_content(_at(coordinates, "Time", "TimeInstant", "ISOTime")), scale),
        ra=ra,
        dec=dec,
        radius_deg=radius,
        text="\n".join(_descriptions(record, 0)),
        packet={**record, "params": params},
        is_test=role == "test",
    )


# XML --------------------------------------------------------------------------------------------------------------


def _parsed(raw: bytes) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree

    if len(raw) > MAX_TEXT_BYTES:
        raise PacketError(f"the XML has {len(raw)} bytes; more than {MAX_TEXT_BYTES} are not read")
    root: Element | None = None
    depth = count = 0
    try:
        events = ElementTree.iterparse(
            io.BytesIO(raw.lstrip(b" \t\r\n")), events=("start", "end"), forbid_dtd=True
        )
        for event, element in events:
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            count += event == "start"
            if depth > _MAX_DEPTH or count > _MAX_ELEMENTS:
                raise PacketError(
                    f"the XML nests deeper than {_MAX_DEPTH} levels or has more than {_MAX_ELEMENTS} elements"
                )
    except DefusedXmlException as error:
        raise PacketError("the XML brings a DTD or entities of its own, which are not read") from error
    except (ParseError, LookupError, ValueError) as error:
        if isinstance(error, PacketError):
            raise
        raise PacketError(f"the XML is damaged: {error}") from error
    if root is None:
        raise PacketError("the XML holds no element")
    return root


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _value(element: Element) -> dict[str, Any] | str | None:
    """Turn an element into a record of its attributes and children, or into its text if it has neither."""
    record: dict[str, Any] = {_local(name): value for name, value in element.attrib.items()}
    for child in element:
        name, value = _local(child.tag), _value(child)
        if name not in record:
            record[name] = value
        elif isinstance(record[name], list):
            record[name].append(value)
        else:
            record[name] = [record[name], value]
    text = (element.text or "").strip()
    if not record:
        return text or None
    if text:
        record["#text"] = text
    return record


# What it says -----------------------------------------------------------------------------------------------------


def _at(value: Any, *path: str) -> Any:
    """Follow names down into a record; of a repeated element the first is taken."""
    for name in path:
        value = _first(value)
        value = value.get(name) if isinstance(value, dict) else None
    return _first(value)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _content(value: Any) -> Any:
    """Return what stands in an element, whether it has attributes or not."""
    return value.get("#text") if isinstance(value, dict) else value


def _number(value: Any) -> float | None:
    value = _content(value)
    if not isinstance(value, str) or len(value) > 64:
        return number(value)
    try:
        return number(float(value))
    except ValueError:
        return None


def _utc(value: Any, scale: str) -> datetime | None:
    found = utc(value)
    if found is None or scale in _UTC:
        return found
    if scale not in _OTHER_SCALES:
        return None  # GPS and the like: better no time than a wrong one
    import warnings

    from astropy.time import Time
    from erfa import ErfaWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ErfaWarning)  # of leap seconds to come
        exact = Time(found.replace(tzinfo=None), scale=_OTHER_SCALES[scale]).utc
        return utc(exact.isot)


def _params(what: Any) -> dict[str, Any]:
    """List the parameters by name, those of a group under the group's name; the values stay texts."""
    found: dict[str, Any] = dict(_named(what))
    for group in _many(what.get("Group") if isinstance(what, dict) else None):
        if isinstance(group, dict):
            name = word(group.get("name")) or word(group.get("type")) or "Group"
            found[name] = dict(_named(group))
    return found


def _named(holder: Any) -> Iterator[tuple[str, Any]]:
    for param in _many(holder.get("Param") if isinstance(holder, dict) else None):
        name = word(param.get("name")) if isinstance(param, dict) else None
        if name is not None:
            yield name, param.get("value", _content(param.get("Value")))


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _descriptions(value: Any, depth: int) -> Iterator[str]:
    """Collect what stands in elements named Description, but for those of single parameters."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _descriptions(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "Description":
                yield from (text for part in _many(item) if isinstance(text := _content(part), str))
            elif name not in {"Param", "Group"}:
                yield from _descriptions(item, depth + 1)
