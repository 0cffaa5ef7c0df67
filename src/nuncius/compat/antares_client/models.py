"""Loci, alerts and gravitational-wave notices as antares-client 2.0 has them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.lazy import require
from nuncius.compat.antares_client.exceptions import AntaresNotFoundError, AntaresServerError

if TYPE_CHECKING:
    from datetime import datetime

    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.timeseries import TimeSeries

    from nuncius.alerts import Alert as StreamedAlert


@dataclass
class Alert:
    """One observation of a locus.

    Parameters
    ----------
    alert_id : str
        ANTARES' name for it.
    mjd : float
        When it was observed, as a Modified Julian Date.
    properties : dict
        What the survey and ANTARES say of it.
    processed_at : datetime, optional
        When ANTARES took it.
    grav_wave_events : list of dict, optional
        The gravitational waves in whose contours it lies: `gracedb_id`, `contour_level`, `contour_area`.
    """

    alert_id: str
    mjd: float
    properties: dict[str, Any]
    processed_at: datetime | None = None
    grav_wave_events: list[dict[str, Any]] | None = None


@dataclass
class Locus:
    """One object on the sky. What is not given is asked of ANTARES when it is first touched, and then kept.

    Parameters
    ----------
    locus_id : str
        ANTARES' name for it; None if a message has none.
    ra, dec : float
        Its mean position in degrees, ICRS.
    properties : dict
        What ANTARES and its users say of it.
    tags, catalogs, watch_list_ids, watch_object_ids, grav_wave_events : list of str
        Its tags; the catalogs with a match; watch lists and objects; gravitational waves.
    lightcurve_csv : str, optional
        Its light curve, as ANTARES sends it.
    """

    locus_id: str | None
    ra: float | None
    dec: float | None
    properties: dict[str, Any]
    tags: list[str]
    catalogs: list[str] = field(default_factory=list)
    watch_list_ids: list[str] = field(default_factory=list)
    watch_object_ids: list[str] = field(default_factory=list)
    grav_wave_events: list[str] = field(default_factory=list)
    lightcurve_csv: str | None = field(default=None, repr=False)

    @classmethod
    def from_alert(cls, alert: StreamedAlert) -> Self:
        """Make a locus of what came over a stream, in any of ANTARES' shapes."""
        said = alert.annotations.get("antares", {}) if alert.packet else {}
        return cls(
            alert.object_id,
            alert.ra,
            alert.dec,
            said.get("properties", {}),
            list(said.get("tags", [])),
            list(said.get("catalogs", [])),
        )

    @cached_property
    def alerts(self) -> list[Alert]:
        """Its alerts, and the upper limits."""
        from nuncius.compat.antares_client import search

        return search.get_locus_alerts(self._name)

    @cached_property
    def lightcurve(self) -> Any:
        """Its light curve: a pandas DataFrame with the columns that ANTARES gives.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        from nuncius.compat.antares_client import search

        pandas = require("pandas", extra="pandas")
        if self.lightcurve_csv is None:
            found = search.get_by_id(self._name)
            self.lightcurve_csv = (found and found.lightcurve_csv) or ""
        return (
            pandas.read_csv(io.StringIO(self.lightcurve_csv)) if self.lightcurve_csv else pandas.DataFrame()
        )

    @cached_property
    def catalog_objects(self) -> dict[str, list[dict[str, Any]]]:
        """The objects of catalogs at its place, by catalog."""
        from nuncius.compat.antares_client import search

        return search.get_locus_catalog_matches(self._name)

    @cached_property
    def grav_wave_events_data(self) -> dict[str, GravWaveNotice]:
        """The latest notices of its gravitational waves, by name."""
        from nuncius.compat.antares_client import search

        names = self.grav_wave_events
        found = search.get_multiple_grav_wave_notices(names) if names else []
        return {notice.gracedb_id: notice for notice in found}

    @cached_property
    def timeseries(self) -> TimeSeries:
        """The properties of its alerts as a time series; what an alert lacks is masked."""
        from astropy.table import Table
        from astropy.time import Time
        from astropy.timeseries import TimeSeries

        data = Table(rows=[alert.properties for alert in self.alerts])
        return TimeSeries(time=Time([alert.mjd for alert in self.alerts], format="mjd"), data=data)

    @cached_property
    def coordinates(self) -> SkyCoord:
        """Its position."""
        from astropy.coordinates import SkyCoord

        return SkyCoord(self.ra, self.dec, unit="deg")

    def to_devkit(
        self, include_catalogs: bool = False, include_grav_wave_events: bool = False
    ) -> dict[str, Any]:
        """Return it as ANTARES' devkit takes it."""
        waves = self.grav_wave_events_data if include_grav_wave_events else {}
        return {
            "id": self.locus_id,
            "ra": self.ra,
            "dec": self.dec,
            "user_tags": self.tags,
            "old_properties": self.properties,
            "catalog_objects": self.catalog_objects if include_catalogs else {},
            "grav_wave_events_metadata": {name: notice.to_devkit() for name, notice in waves.items()},
            "alerts": [
                {
                    "id": alert.alert_id,
                    "mjd": alert.mjd,
                    "properties": alert.properties,
                    "grav_wave_events": alert.grav_wave_events,
                }
                for alert in self.alerts
            ],
        }

    @property
    def _name(self) -> str:
        return self.locus_id or ""


class GravWaveNoticeTypes(StrEnum):
    """What a notice is; the early warning is spelt in two ways."""

    EARLY_WARNING = "EARLY_WARNING"
    EARLYWARNING = "EARLYWARNING"
    PRELIMINARY = "PRELIMINARY"
    INITIAL = "INITIAL"
    UPDATE = "UPDATE"
    RETRACTION = "RETRACTION"


@dataclass
class GravWaveNotice:
    """A notice of a gravitational wave.

    Parameters
    ----------
    gracedb_id : str
        The event, such as ``S230518h``.
    notice_type : GravWaveNoticeTypes or str
        What it is; a kind that is not known yet stays a text.
    notice_datetime, event_datetime : datetime
        When it was sent, and when the wave came.
    false_alarm_rate : float, optional
        In Hz.
    skymap_base64 : str, optional
        The sky map, a multi-order FITS file.
    """

    gracedb_id: str
    notice_type: GravWaveNoticeTypes | str
    notice_datetime: datetime
    id: int | None = None
    event_datetime: datetime | None = None
    false_alarm_rate: float | None = None
    skymap_base64: str | None = field(default=None, repr=False)
    external_coinc: dict[str, Any] | None = field(default=None, repr=False)
    full_notice: dict[str, Any] | None = field(default=None, repr=False)
    version_id: int | None = 1

    @cached_property
    def skymap(self) -> Table | None:
        """The sky map as a table with `UNIQ` and `PROBDENSITY`; None if there is none."""
        from astropy.table import Table

        if self.skymap_base64 is None:
            return None
        try:
            return Table.read(io.BytesIO(base64.b64decode(self.skymap_base64)), format="fits")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AntaresServerError(
                f"the sky map of {self.gracedb_id} that ANTARES sent can't be read: {error}",
                service="antares",
            ) from error

    def get_probability_density(self, location: SkyCoord) -> float:
        """Return the probability density of the sky map at a position, in 1/sr; 0 where the map has no cell.

        Raises
        ------
        AntaresNotFoundError
            If the notice has no sky map.
        """
        return self._density_at(location)

    def get_probability_contour_level_and_area(self, location: SkyCoord) -> tuple[float, Any]:
        """Return on which contour of the sky map a position lies.

        Returns
        -------
        level : float
            The probability in percent of the cells that are denser than that of the position.
        area : Quantity
            That of the cells at least as dense, in square degrees.

        Raises
        ------
        AntaresNotFoundError
            If the notice has no sky map.
        """
        import astropy.units as u

        _, _, density, area = self._cells
        here = self._density_at(location)
        level = float((density * area)[density > here].sum() * 100)
        return level, (area[density >= here].sum() * u.sr).to(u.deg**2)

    def to_devkit(self) -> dict[str, Any]:
        """Return it as ANTARES' devkit takes it."""
        names = (
            "gracedb_id", "notice_type", "notice_datetime", "id", "event_datetime", "false_alarm_rate", "skymap_base64",
            "external_coinc", "full_notice", "version_id", "skymap",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def _density_at(self, location: SkyCoord) -> float:
        import numpy as np

        from nuncius.sky import cells_of

        low, high, density, _ = self._cells
        cell = cells_of(np.atleast_1d(location.icrs.ra.deg), np.atleast_1d(location.icrs.dec.deg))[0]
        index = int(np.searchsorted(low, cell, side="right")) - 1
        return float(density[index]) if index >= 0 and cell < high[index] else 0.0

    @cached_property
    def _cells(self) -> tuple[Any, Any, Any, Any]:
        """First and last cell of order 29 of each cell of the map, in their order; density in 1/sr, and area in sr."""
        import astropy.units as u
        import numpy as np

        from nuncius.sky import ORDER

        if self.skymap is None:
            raise AntaresNotFoundError(
                f"the notice of {self.gracedb_id} has no sky map", service="antares", position=self.gracedb_id
            )
        uniq = np.asarray(self.skymap["UNIQ"], dtype=np.int64)
        density = u.Quantity(self.skymap["PROBDENSITY"], self.skymap["PROBDENSITY"].unit or 1 / u.sr)
        # UNIQ is 4 * 4**order + cell; counting bits is exact where a logarithm may be rounded.
        order = np.array([(int(value).bit_length() - 3) // 2 for value in uniq], dtype=np.int64)
        shift = 2 * (ORDER - order)
        low = (uniq - (np.int64(4) << 2 * order)) << shift
        in_order = np.argsort(low)
        area = 4 * np.pi / (12.0 * 4.0**order)
        return (
            low[in_order],
            (low + (np.int64(1) << shift))[in_order],
            density.to_value(1 / u.sr)[in_order],
            area[in_order],
        )
