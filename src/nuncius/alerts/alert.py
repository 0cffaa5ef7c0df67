"""What an alert is, whatever the survey."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

from nuncius.alerts.lightcurve import LightCurve
from nuncius.alerts.origin import Origin
from nuncius.alerts.packets import as_source, open_packet, open_packets
from nuncius.alerts.surveys import survey_of_schema
from nuncius.alerts.times import astropy_time
from nuncius.errors import NotFoundError, NunciusError, PacketError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from astropy.time import Time

    from nuncius.alerts.cutouts import Cutouts
    from nuncius.alerts.packets import Packet, Parts, SchemaLike
    from nuncius.alerts.packets.schemas import WriterSchema
    from nuncius.alerts.sink import Delivery
    from nuncius.alerts.surveys import Reading, Survey

T = TypeVar("T")
Key: TypeAlias = "tuple[str, int | str] | tuple[str, str | None, int | str]"


@final
class Alert:
    """One alert of any survey.

    Made by `Alert.from_bytes`, `nuncius.read_packets` or a stream. Its outside (container, lengths, schema) was checked
    when it was made; fields are decoded when the first of them is touched, and then kept. What a survey doesn't give,
    gives as NaN or as a stand-in such as -999 is None here; `packet` keeps everything as it came.

    Examples
    --------
    >>> alert = Alert.from_bytes(b'{"candid": 7, "objectId": "A1", "ra": 10.0, "dec": -5.0, "jd": 2460000.5}')
    >>> alert.alert_id, alert.object_id, alert.ra, alert.dec, alert.mjd
    (7, 'A1', 10.0, -5.0, 60000.0)
    """

    __slots__ = (
        "_annotations",
        "_curve",
        "_delivery",
        "_opened",
        "_origin",
        "_packet",
        "_raw",
        "_reading",
        "_survey",
    )

    def __init__(
        self,
        raw: bytes,
        opened: Packet,
        *,
        origin: Origin | None = None,
        delivery: Delivery | None = None,
        annotations: dict[str, dict[str, Any]] | None = None,
        survey: Survey | None = None,
    ) -> None:
        self._raw = raw
        self._opened = opened
        self._origin = origin
        self._delivery = delivery
        self._annotations = annotations
        self._survey = survey  # named by a broker's profile where the schema alone doesn't tell
        self._packet: dict[str, Any] | None = None
        self._reading: Reading | None = None
        self._curve: LightCurve | None = None

    @classmethod
    def from_bytes(cls, raw: bytes, *, schema: SchemaLike = None) -> Alert:
        """Make an alert of the bytes of one packet, whatever its container.

        Parameters
        ----------
        raw : bytes
            The packet: an Avro object container, a framed or bare Avro record, BSON or JSON, plain or compressed.
        schema : optional
            For packets without a schema of their own: a directory of schemas, the URL of a schema registry, a mapping
            from number to writer schema, or the one writer schema.

        Raises
        ------
        PacketError
            If the bytes are not one readable alert.
        SchemaError
            If the schema is not known.
        """
        return cls(bytes(raw), open_packet(bytes(raw), schema))

    @classmethod
    def many_from_bytes(cls, raw: bytes, *, schema: SchemaLike = None) -> list[Alert]:
        """Make the alerts of one file or message, which may hold several records or none.

        Raises
        ------
        PacketError
            If the bytes are not readable.
        SchemaError
            If the schema is not known.
        """
        return [cls(alone, opened) for alone, opened in open_packets(bytes(raw), schema)]

    # What it is ---------------------------------------------------------------------------------------------------

    @property
    def survey(self) -> str:
        """``ztf``, ``lsst``, ``winter``, ``turbo``, ``pgir``, ``decam``, else the name of the packet's schema."""
        name = self._known_survey.name
        return name if name != "generic" else (self._opened.schema_name or name)

    @property
    def alert_id(self) -> int | str:
        """The survey's id of this alert; for a packet without one, a digest of its content."""
        found = self._read.alert_id
        return self.digest if found is None else found

    @property
    def object_id(self) -> str | None:
        """The survey's name of the object."""
        return self._read.object_id

    @property
    def key(self) -> Key:
        """What identifies the alert: survey and alert id, with the object id between where alert ids repeat."""
        if self._known_survey.unique_alert_ids:
            return (self.survey, self.alert_id)
        return (self.survey, self.object_id, self.alert_id)

    @property
    def digest(self) -> str:
        """A digest of the packet's content: 32 hexadecimal digits, equal for equal content."""
        schema, values = self._opened.content()
        return hashlib.blake2b(values, digest_size=16, key=schema).hexdigest()

    # Where and when -----------------------------------------------------------------------------------------------

    @property
    def ra(self) -> float | None:
        """ICRS right ascension in degrees."""
        return self._read.point.ra

    @property
    def dec(self) -> float | None:
        """ICRS declination in degrees."""
        return self._read.point.dec

    @property
    def mjd(self) -> float | None:
        """Modified Julian Date in UTC of the exposure, its start or middle as the survey has it."""
        return self._read.point.mjd

    @property
    def time(self) -> Time | None:
        """The time of the exposure, in the scale in which the survey gives it."""
        value = self._read.time
        return None if value is None else astropy_time(*value)

    # How bright ---------------------------------------------------------------------------------------------------

    @property
    def band(self) -> str | None:
        """The survey's letter for the filter."""
        return self._read.point.band

    @property
    def mag(self) -> float | None:
        """Difference magnitude."""
        return self._read.point.mag

    @property
    def mag_err(self) -> float | None:
        """Error of the magnitude, 1 sigma."""
        return self._read.point.mag_err

    @property
    def flux_njy(self) -> float | None:
        """Signed difference flux in nJy."""
        return self._read.point.flux_njy

    @property
    def flux_err_njy(self) -> float | None:
        """Error of the flux in nJy, 1 sigma."""
        return self._read.point.flux_err_njy

    @property
    def is_positive(self) -> bool | None:
        """Whether the source is brighter than in the template."""
        return self._read.point.is_positive

    @property
    def score(self) -> float | None:
        """How real the survey's classifier takes it to be, 0 to 1."""
        return self._read.point.score

    @property
    def history(self) -> LightCurve:
        """Earlier measurements of the object as the packet has them, without this alert."""
        mine = self._read.point
        return LightCurve(point for point in self.light_curve if point is not mine)

    @property
    def light_curve(self) -> LightCurve:
        """The history and this alert."""
        if self._curve is None:
            mine, earlier = self._read.point, self._known_survey.history(self.packet)
            self._curve = LightCurve((mine, *(point for point in earlier if not _is_same(point, mine))))
        return self._curve

    @property
    def cutouts(self) -> Cutouts:
        """The images: `science`, `template` and `difference`, each of them or None."""
        return self._known_survey.cutouts(self.packet)

    @property
    def annotations(self) -> dict[str, dict[str, Any]]:
        """What brokers added (classes, scores, tags, cross-matches), by broker."""
        return self.annotations_in(self.packet)

    def annotations_in(self, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Find the annotations in the values of the packet, which may be without their histories."""
        survey = self._known_survey
        found = dict(survey.annotations(values))
        broker = None if self._origin is None else self._origin.broker
        if broker is not None and survey.own_fields:
            added = {name: values[name] for name in values.keys() - survey.own_fields}
            if added:
                found[broker] = {**found.get(broker, {}), **added}
        return {**found, **(self._annotations or {})}

    # As it came ---------------------------------------------------------------------------------------------------

    @property
    def packet(self) -> dict[str, Any]:
        """All values of the packet, as they were sent. Treat it as read-only.

        Raises
        ------
        PacketError
            If the packet is damaged where only decoding finds it. A stream has then put it into its quarantine.
        """
        if self._packet is None:
            self._packet = self._decoded()
        return self._packet

    @property
    def raw(self) -> bytes:
        """The packet, byte for byte as it was sent."""
        return self._raw

    @property
    def schema_name(self) -> str:
        """The full name of the Avro schema that the packet was written with; empty for BSON and JSON."""
        return self._opened.schema_name

    @property
    def origin(self) -> Origin | None:
        """Where in which stream it came from."""
        return self._origin

    @property
    def _known_survey(self) -> Survey:
        if self._survey is None:
            self._survey = survey_of_schema(self._opened.schema_name)
        return self._survey

    @property
    def _read(self) -> Reading:
        if self._reading is None:
            survey = self._known_survey
            if self._packet is not None or not survey.reading_fields:
                self._reading = survey.read(self.packet)
            else:
                self._reading = survey.read(self._decoded(survey.reading_fields))
        return self._reading

    def beginning(self, names: frozenset[str]) -> dict[str, Any]:
        """Return the named top-level values of the packet, and perhaps others, decoding no more than is needed.

        They are not kept: a filter looks at them once, and thousands of alerts may wait.

        Raises
        ------
        PacketError
            If the packet is damaged there.
        """
        survey = self._known_survey
        if (
            self._packet is not None or not survey.reading_fields
        ):  # all has to be decoded anyway, so it is kept
            return self.packet
        found = self._decoded(names | survey.reading_fields)
        if self._reading is None:
            self._reading = survey.read(found)
        return found

    def check(self) -> None:
        """See that all values can be decoded, which for most packets is quicker than to decode them.

        Raises
        ------
        PacketError
            If the packet is damaged where only decoding finds it. A stream has then put it into its quarantine.
        """
        if self._packet is None and not self._decoding(self._opened.passes):
            _ = self.packet

    def in_parts(self, keys: frozenset[str]) -> Parts | None:
        """Decode all but the entries of histories, of which only some fields are; None where that is no gain.

        Raises
        ------
        PacketError
            If the packet is damaged, in an entry or elsewhere.
        """
        survey = self._known_survey
        if self._packet is not None or not survey.reading_fields:
            return None
        parts = self._decoding(lambda: self._opened.decode_in_parts(survey.history_lists, keys))
        if parts is not None and self._reading is None:
            self._reading = survey.read(parts.values)
        return parts

    def _decoded(self, names: frozenset[str] | None = None) -> dict[str, Any]:
        """Decode the values named, or all."""
        if names is None:
            return self._decoding(self._opened.decode)
        return self._decoding(lambda: self._opened.decode_beginning(names))

    def _decoding(self, decode: Callable[[], T]) -> T:
        """Decode, and report damage to the stream."""
        try:
            return decode()
        except PacketError as error:
            if self._delivery is not None:
                self._delivery.damaged(self, error)
            raise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alert) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (
            self._raw,
            self._opened._schema,
            self._opened.container,
            self._origin,
            self._annotations,
            self._survey,
        )

    def __repr__(self) -> str:
        try:
            point = self._read.point
        except PacketError as error:
            return f"<Alert {self.survey}, damaged: {error}>"
        place = "" if point.ra is None or point.dec is None else f" at {point.ra:.5f} {point.dec:+.5f}"
        brightness = "" if point.mag is None else f" {point.band or 'mag'}={point.mag:.2f}"
        when = "" if point.mjd is None else f" MJD {point.mjd:.4f}"
        return f"<Alert {self.survey} {self.alert_id} of {self.object_id}{place}{brightness}{when}>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = {
            "survey": self.survey,
            "alert": self.alert_id,
            "object": self.object_id,
            "RA, Dec": None if self.ra is None else f"{self.ra:.6f}°, {self.dec:+.6f}°",
            "MJD (UTC)": None if self.mjd is None else f"{self.mjd:.6f}",
            "band": self.band,
            "magnitude": None if self.mag is None else f"{self.mag:.3f} ± {self.mag_err or float('nan'):.3f}",
            "score": None if self.score is None else f"{self.score:.3f}",
            "history": repr(self.history)[1:-1],
            "cutouts": repr(self.cutouts)[1:-1],
        }
        cells = (
            f"<tr><th>{key}</th><td>{escape(str(value))}</td></tr>"
            for key, value in rows.items()
            if value is not None
        )
        return f"<table>{''.join(cells)}</table>"


def _is_same(point: Any, mine: Any) -> bool:
    # PGIR lists the alert itself in its own history, with the same time; ids alone don't tell, for forced photometry
    # at the time of the alert is a measurement of its own.
    return point.kind == "detection" and (
        (point.alert_id is not None and point.alert_id == mine.alert_id and point.mjd == mine.mjd)
        or (
            point.mjd is not None
            and point.mjd == mine.mjd
            and point.band == mine.band
            and point.ra == mine.ra
        )
    )


@dataclass(frozen=True, slots=True)
class _Known:
    schema: WriterSchema

    def find(self, schema_id: int) -> WriterSchema:
        return self.schema


def _restore(
    raw: bytes,
    schema: WriterSchema | None,
    container: str,
    origin: Origin | None,
    annotations: dict[str, dict[str, Any]] | None,
    survey: Survey | None = None,
) -> Alert:
    # The number of a frame may stand within compression, so whatever it is, this is its schema.
    source: SchemaLike = _Known(schema) if container == "confluent" and schema is not None else schema
    return Alert(raw, open_packet(raw, source), origin=origin, annotations=annotations, survey=survey)


def read_packets(path: str | Path, *, schema: SchemaLike = None) -> Iterator[Alert]:
    """Read the alerts in a file, or in all files below a folder, in the order of their names.

    Parameters
    ----------
    path : str or Path
        A packet in any container, a container with many records, lines of JSON, or a folder of such files. In a
        folder, files of other kinds (by their endings: schemas, descriptions, hidden files) are passed over.
    schema : optional
        See `Alert.from_bytes`.

    Yields
    ------
    Alert
        Its `origin` names the file and the number of the record.

    Raises
    ------
    NotFoundError
        If the path doesn't exist.
    PacketError
        If a file is not readable; the message names it.

    Examples
    --------
    >>> for alert in nuncius.read_packets("packets/"):  # doctest: +SKIP
    ...     print(alert.object_id, alert.mag)
    """
    source = as_source(schema)
    for file in packet_files(path):
        try:
            opened = open_packets(file.read_bytes(), source)
        except OSError as error:
            if isinstance(error, NunciusError):
                raise
            raise StorageError(f"{file} can't be read: {error.strerror}", position=str(file)) from error
        except PacketError as error:
            raise type(error)(f"{file}: {error}", position=str(file)) from error
        for number, (raw, packet) in enumerate(opened):
            yield Alert(raw, packet, origin=Origin("file", str(file), offset=number))


def packet_files(path: str | Path) -> list[Path]:
    """List the files that may hold packets, sorted by path.

    Raises
    ------
    NotFoundError
        If the path doesn't exist.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFoundError(f"there is no file or folder {path}", position=str(path))
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.suffix not in {".avsc", ".md", ".txt", ".py"}
        and not file.name.endswith(".reason.json")
    )
