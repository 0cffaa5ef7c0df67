"""The survey: it observes a synthetic sky night by night and sends the packets of what it detects."""

from __future__ import annotations

import math
from datetime import date
from enum import IntEnum
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from nuncius.alerts.times import JD_OF_MJD_0
from nuncius.errors import ConfigurationError
from nuncius.sandbox.sky.cutouts import draw_cutouts
from nuncius.sandbox.sky.objects import draw_neighbours, draw_object, object_name
from nuncius.sandbox.sky.packets import candidate_record, earlier_record, forced_record
from nuncius.sandbox.sky.schema import SCHEMA_VERSION, PacketWriter
from nuncius.sandbox.sky.telescope import date_of, exposures_of, find_place, mjd_of
from nuncius.sandbox.sky.visits import HISTORY_DAYS, Track, observe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from nuncius.sandbox.sky.objects import SkyObject, Star
    from nuncius.sandbox.sky.visits import Visit

_FORCED_DAYS = 18
_MOST_OBJECTS = 100_000
_POSSIBLE_NIGHTS = (58849, 90000)  # from 2020 on: the reference images are older


class _Draw(IntEnum):
    """What random numbers are drawn for."""

    OBJECTS = 0
    PAST = 1
    NIGHT = 2
    SCENE = 3
    RECORD = 4
    TEMPLATE = 5
    IMAGE = 6


class SyntheticSky:
    """A synthetic sky and the survey that observes it.

    Parameters
    ----------
    seed : int
        What makes one sky differ from another; the same seed gives the same packets, byte for byte.
    objects : int
        How many objects: six variable stars, two supernovae and two asteroids in ten.
    night_mjd : float
        The day of the first night (Modified Julian Date, UTC; its fraction is ignored). Histories begin 30 days before.

    Attributes
    ----------
    objects : list of SkyObject
        What is in the sky.

    Raises
    ------
    ConfigurationError
        If the number of objects is not between 1 and 100,000, the first night is before 2020, or the seed is negative.

    Examples
    --------
    >>> from nuncius import Alert
    >>> sky = SyntheticSky(seed=7, objects=20)
    >>> alerts = [Alert.from_bytes(packet) for packet in sky.alerts(3)]
    >>> [alert.survey for alert in alerts]
    ['ztf', 'ztf', 'ztf']
    >>> alerts[0].mjd <= alerts[1].mjd <= alerts[2].mjd
    True
    """

    objects: list[SkyObject]

    def __init__(self, *, seed: int = 1, objects: int = 200, night_mjd: float = 61000.0) -> None:
        if not 1 <= objects <= _MOST_OBJECTS:
            raise ConfigurationError(f"objects={objects}: a synthetic sky holds 1 to {_MOST_OBJECTS} objects")
        if not _POSSIBLE_NIGHTS[0] <= night_mjd < _POSSIBLE_NIGHTS[1]:
            raise ConfigurationError(
                f"night_mjd={night_mjd}: give a Modified Julian Date from {_POSSIBLE_NIGHTS[0]} on"
            )
        if seed < 0:
            raise ConfigurationError(f"seed={seed}: the seed of a synthetic sky is 0 or larger")
        self._seed = seed
        self._night = math.floor(night_mjd)
        self._scenes: dict[int, list[Star]] = {}
        rng = self._random(_Draw.OBJECTS)
        self.objects = [draw_object(rng, index, self._night) for index in range(objects)]

    def alerts(self, n: int) -> Iterator[bytes]:
        """Give the first `n` packets of the survey, in time order, one by one.

        Parameters
        ----------
        n : int
            How many; the survey goes on from night to night until there are so many.

        Returns
        -------
        iterator of bytes
            Avro object containers of one record each, made when they are asked for. Every call begins again.

        Raises
        ------
        ValueError
            If `n` is negative.
        """
        return islice(self._packets(), n)

    def _packets(self) -> Iterator[bytes]:
        writer, new_names = PacketWriter(), count(len(self.objects))
        for visit, history in self._detections():
            name = visit.source.object_id
            if visit.source.kind == "asteroid":
                name = object_name(next(new_names), date_of(visit.exposure.mjd).year)
            yield writer.write(self._packet(name, visit, history))

    def _detections(self) -> Iterator[tuple[Visit, tuple[Visit, ...]]]:
        """Observe night by night; give each detection with the visits of the 30 days before it, oldest first."""
        tracks = self._tracks()
        reference_mags: dict[tuple[int, str], float | None] = {}
        for night in count(self._night - HISTORY_DAYS):
            rng = self._random(_Draw.NIGHT, night)
            objects = self._by_field(night)
            for exposure in exposures_of(rng, night):
                for row, index in enumerate(objects.get(exposure.field, ()), 1):
                    source, key = self.objects[index], (index, exposure.band)
                    if key not in reference_mags:
                        reference_mags[key] = source.reference_magnitude(exposure.band)
                    visit = observe(rng, exposure, index, source, row, reference_mags[key])
                    # Nobody sees an asteroid twice at one place.
                    track = Track(0, 0, None) if source.kind == "asteroid" else tracks[index]
                    history = track.add(visit)
                    if visit.is_detection and night >= self._night:
                        yield visit, history

    def _tracks(self) -> list[Track]:
        """Return what the survey knew before the first night: stars have varied since they have their names."""
        rng = self._random(_Draw.PAST)
        tracks = []
        for source in self.objects:
            detections, covered = int(rng.integers(20, 300)), int(rng.integers(400, 2000))
            if source.kind != "variable star":
                tracks.append(Track(0, covered, None))
                continue
            new_year = mjd_of(date(2000 + int(source.object_id[3:5]), 1, 1))
            first_jd = min(new_year + rng.uniform(60, 330), self._night - 100.0) + JD_OF_MJD_0
            tracks.append(Track(detections, covered, round(first_jd, 7)))
        return tracks

    def _by_field(self, night: int) -> dict[int, list[int]]:
        """Tell which objects are in which field."""
        found: dict[int, list[int]] = {}
        for index, source in enumerate(self.objects):
            place = find_place(*source.position(night + 0.3))
            if place is not None and (source.kind != "asteroid" or night >= self._night):
                found.setdefault(place.field, []).append(index)
        return found

    def _packet(self, name: str, visit: Visit, history: Sequence[Visit]) -> dict[str, Any]:
        oldest = visit.exposure.mjd - _FORCED_DAYS
        earlier = [
            earlier_record(past, self._candidate(past) if past.is_detection else None) for past in history
        ]
        forced = [forced_record(past) for past in reversed(history) if past.exposure.mjd >= oldest]
        rng = self._random(_Draw.IMAGE, visit.candid)
        # The noise of the reference image is the same in every alert of the object in that band.
        template_rng = self._random(_Draw.TEMPLATE, visit.scene_key, visit.exposure.fid)
        return {
            "schemavsn": SCHEMA_VERSION,
            "publisher": "nuncius sandbox",
            "objectId": name,
            "candid": visit.candid,
            "candidate": self._candidate(visit),
            "prv_candidates": earlier or None,
            "fp_hists": forced or None,
            **draw_cutouts(rng, template_rng, visit, self._scene(visit)),
        }

    def _candidate(self, visit: Visit) -> dict[str, Any]:
        if visit.record is None:
            rng = self._random(_Draw.RECORD, visit.candid)
            visit.record = candidate_record(rng, visit, self._scene(visit))
        return visit.record

    def _scene(self, visit: Visit) -> list[Star]:
        """Return the stars around an object, the closest first."""
        stars = self._scenes.get(visit.scene_key)
        if stars is None:
            stars = draw_neighbours(self._random(_Draw.SCENE, visit.scene_key))
            if visit.source.kind != "asteroid":  # it never comes back to its surroundings
                self._scenes[visit.scene_key] = stars
        return stars

    def _random(self, draw: _Draw, *key: int) -> np.random.Generator:
        """Return the source of random numbers for one thing, which does not depend on what was drawn before."""
        import numpy as np

        return np.random.default_rng([self._seed, draw, *key])


def synthetic_alerts(n: int, *, seed: int = 1) -> list[bytes]:
    """Return `n` alert packets of a synthetic sky; see `SyntheticSky`.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        What makes one sky differ from another.

    Raises
    ------
    ValueError
        If `n` is negative.

    Examples
    --------
    >>> len(synthetic_alerts(2)), synthetic_alerts(2) == synthetic_alerts(2)
    (2, True)
    """
    return list(SyntheticSky(seed=seed).alerts(n))
