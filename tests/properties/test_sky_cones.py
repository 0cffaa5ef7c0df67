"""Whatever lies in a cone lies in the cells of the cone: compared with brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nuncius.sky import cells_of, cone_ranges, separation_arcsec

ARCSEC = math.radians(1 / 3600)
EDGES = (41.810314895778596, -41.810314895778596, 0.0, 90.0, -90.0)


def directions(ra, dec, distance, angle):
    """Return the positions at distances (radians) and position angles from a centre, exact at the poles too."""
    ra, dec = math.radians(ra), math.radians(dec)
    sin_dec, cos_dec = math.sin(dec), math.cos(dec)
    centre = np.array([cos_dec * math.cos(ra), cos_dec * math.sin(ra), sin_dec])
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    north = np.array([-sin_dec * math.cos(ra), -sin_dec * math.sin(ra), cos_dec])
    sideways = np.sin(angle)[:, None] * east + np.cos(angle)[:, None] * north
    point = np.cos(distance)[:, None] * centre + np.sin(distance)[:, None] * sideways
    # From the distance to the axis, for the third coordinate has no digits left near the poles.
    return (
        np.degrees(np.arctan2(point[:, 1], point[:, 0])) % 360,
        np.degrees(np.arctan2(point[:, 2], np.hypot(point[:, 0], point[:, 1]))),
    )


def missed(ra, dec, radius_arcsec, rng, points=60):
    """Count positions within a cone that its ranges of cells don't have."""
    _, low, high = cone_ranges(np.array([ra]), np.array([dec]), radius_arcsec)
    share = np.sqrt(rng.random(points))
    share[: points // 2] = 1 - 10 ** rng.uniform(
        -12, -2, points // 2
    )  # the rim, where something would be missed
    at_ra, at_dec = directions(ra, dec, share * radius_arcsec * ARCSEC, rng.uniform(0, 2 * math.pi, points))
    inside = separation_arcsec(ra, dec, at_ra, at_dec) <= radius_arcsec
    assert inside.sum() > points // 3
    order = np.argsort(low)
    low, high = low[order], high[order]
    cells = cells_of(at_ra, at_dec)
    place = np.searchsorted(low, cells, side="right") - 1
    covered = (place >= 0) & (cells < high[np.maximum(place, 0)])
    return int((inside & ~covered).sum())


def hard_centres(rng, count):
    """Give centres where the cells have their corners: poles, RA 0, the edges of the twelve base cells."""
    for number in range(count):
        ra = rng.uniform(0, 360) if number % 2 else float(rng.choice(np.arange(0, 360, 22.5)))
        dec = math.degrees(math.asin(rng.uniform(-1, 1))) if number % 3 else float(rng.choice(EDGES))
        shift = 10 ** rng.uniform(-9, 0) if number % 5 else 0.0
        yield (
            (ra + rng.choice([-1, 1]) * shift) % 360,
            float(np.clip(dec + rng.choice([-1, 1]) * shift, -90, 90)),
        )


@pytest.mark.parametrize("part", range(4))
def test_cones_from_a_tenth_of_an_arcsecond_to_the_whole_sky_miss_nothing(part):
    rng = np.random.default_rng(100 + part)
    faults = []
    for ra, dec in hard_centres(rng, 400):
        radius = 10 ** rng.uniform(-1, math.log10(648_000))
        if missed(ra, dec, radius, rng):
            faults.append((ra, dec, radius))
    assert faults == []


@pytest.mark.parametrize("sign", [1, -1])
def test_cones_near_the_poles_miss_nothing_however_small(sign):
    rng = np.random.default_rng(8)
    faults = []
    for _ in range(1500):
        ra, dec = rng.uniform(0, 360), sign * (90 - 10 ** rng.uniform(-8, -2))
        radius = 10 ** rng.uniform(-4, 0)
        if missed(ra, dec, radius, rng):
            faults.append((ra, dec, radius))
    assert faults == []


@settings(max_examples=150, deadline=None)
@given(
    st.floats(0, 360),
    st.floats(-90, 90) | st.sampled_from(EDGES),
    st.floats(0.1, 648_000) | st.sampled_from([0.1, 1.0, 60.0, 3600.0, 324_000.0, 648_000.0]),
    st.integers(0, 2**32 - 1),
)
@example(0.0, 0.0, 0.1, 0)
@example(360.0, 90.0, 648_000.0, 0)
@example(0.0, -90.0, 0.1, 0)
def test_any_cone_misses_nothing(ra, dec, radius, seed):
    assert missed(ra, dec, radius, np.random.default_rng(seed)) == 0


def test_many_cones_at_once_are_the_cones_one_by_one():
    rng = np.random.default_rng(9)
    ra, dec = np.array([*hard_centres(rng, 150)]).T
    for radius in (0.5, 5.0, 400.0, 30_000.0):
        index, low, high = cone_ranges(ra, dec, radius)
        together = sorted(zip(index.tolist(), low.tolist(), high.tolist(), strict=True))
        one_by_one = []
        for number in range(len(ra)):
            _, low, high = cone_ranges(ra[number : number + 1], dec[number : number + 1], radius)
            one_by_one += zip([number] * len(low), low.tolist(), high.tolist(), strict=True)
        assert together == sorted(one_by_one)


def test_the_centre_is_in_the_smallest_cone():
    rng = np.random.default_rng(10)
    for ra, dec in hard_centres(rng, 300):
        _, low, high = cone_ranges(np.array([ra]), np.array([dec]), 0.0)
        cell = int(cells_of(ra, dec))
        assert ((low <= cell) & (cell < high)).any(), (ra, dec)
