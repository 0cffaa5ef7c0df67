"""Regions compared with other ways to say what lies in them, anywhere on the sky and of any size."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nuncius.sky import CELLS, Cone, Moc, Polygon, Union, separation_arcsec

places = st.tuples(
    st.floats(0, 360, exclude_max=True) | st.sampled_from([0.0, 45.0, 90.0, 359.9999999]),
    st.floats(-90, 90) | st.sampled_from([90.0, -90.0, 0.0, 41.810314895778596, 89.9999]),
)
sizes = st.floats(-4, 1.5).map(lambda power: 10**power)  # degrees
seeds = st.integers(0, 2**32 - 1)


def vector(ra, dec):
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def position(vectors):
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def around(centre, distance_deg, angle):
    """Return positions at distances and position angles from a centre."""
    ra, dec = math.radians(centre[0]), math.radians(centre[1])
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    away = np.sin(angle)[..., None] * east + np.cos(angle)[..., None] * north
    distance = np.radians(distance_deg)[..., None]
    return position(np.cos(distance) * vector(*centre) + np.sin(distance) * away)


def covered(region, ra, dec):
    low, high = region.ranges()
    assert (low < high).all()
    assert (low[1:] > high[:-1]).all()
    assert len(low) == 0 or (low[0] >= 0 and high[-1] <= CELLS)
    return Moc(low, high).contains(ra, dec)


@settings(max_examples=60, deadline=None)
@given(places, sizes, seeds)
@example((0.0, 90.0), 1.0, 0)
@example((0.0, -90.0), 30.0, 1)
def test_convex_polygons_are_intersections_of_half_spheres(centre, size, seed):
    rng = np.random.default_rng(seed)
    angles = np.sort((np.arange(6) + rng.uniform(0, 0.9, 6)) * math.pi / 3)
    ra, dec = around(centre, np.full(6, size), -angles)
    polygon = Polygon(np.stack([ra, dec], axis=1)[:: rng.choice([-1, 1])])
    corner = vector(ra, dec)
    edges = np.cross(corner, np.roll(corner, -1, axis=0))
    edges /= np.linalg.norm(edges, axis=1)[:, None]
    edges *= np.sign(edges @ vector(*centre))[:, None]
    at = around(centre, 1.3 * size * np.sqrt(rng.random(400)), rng.uniform(0, 2 * math.pi, 400))
    depth = (vector(*at) @ edges.T).min(axis=1)
    sure = np.abs(depth) > 1e-13
    inside = polygon.contains(*at)
    assert np.array_equal(inside[sure], (depth > 0)[sure])
    assert covered(polygon, *at)[inside].all()
    anywhere = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    far = separation_arcsec(*centre, *anywhere) / 3600 > size
    assert not polygon.contains(*anywhere)[far].any()


@settings(max_examples=40, deadline=None)
@given(places, sizes, seeds)
def test_stars_are_what_is_nearer_than_their_edge(centre, size, seed):
    rng = np.random.default_rng(seed)
    count = 24
    angles = np.arange(count) * 2 * math.pi / count
    reach = size * rng.uniform(0.3, 1.0, count)
    polygon = Polygon(np.stack(around(centre, reach, angles), axis=1))
    # Along the way to a vertex the edge is just there.
    share = rng.uniform(0, 2, count)
    at = around(centre, reach * share, angles)
    sure = np.abs(share - 1) > 1e-6
    inside = polygon.contains(*at)
    assert np.array_equal(inside[sure], (share < 1)[sure])
    assert covered(polygon, *at)[inside].all()


@settings(max_examples=60, deadline=None)
@given(places, st.floats(-1, math.log10(36_000)), st.floats(0, 1), seeds)
@example((0.0, 90.0), -1.0, 0.0, 0)
@example((359.9999999, 0.0), math.log10(36_000), 0.5, 1)
def test_cones_and_unions_of_cones(centre, power, share, seed):
    radius = 10**power
    rng = np.random.default_rng(seed)
    cone = Cone(*centre, radius, minimum_arcsec=share * radius)
    at = around(centre, 1.5 * radius / 3600 * np.sqrt(rng.random(300)), rng.uniform(0, 2 * math.pi, 300))
    distance = separation_arcsec(*centre, *at)
    inside = (distance <= radius) & (distance >= share * radius)
    assert np.array_equal(cone.contains(*at), inside)
    assert covered(cone, *at)[inside].all()
    parts = [Cone(float(ra), float(dec), radius / 3) for ra, dec in zip(at[0][:5], at[1][:5], strict=True)]
    together = Union(parts)
    held = np.any([part.contains(*at) for part in parts], axis=0)
    assert np.array_equal(together.contains(*at), held)
    assert covered(together, *at)[held].all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 29), st.floats(0, 1, exclude_max=True)), max_size=40))
def test_the_cells_of_a_moc_make_the_same_moc(parts):
    order = np.array([order for order, _ in parts], dtype=np.int64)
    cells = np.array([int(share * (12 << 2 * order)) for order, share in parts], dtype=np.int64)
    moc = Moc.of_cells(cells, order)
    uniq = moc.uniq()
    orders = np.array([(int(number).bit_length() - 1) // 2 - 1 for number in uniq], dtype=np.int64)
    again = Moc.of_cells(uniq - (np.int64(4) << 2 * orders), orders)
    assert again == moc
    sizes = {int(number): 1 << 2 * (29 - int(order)) for number, order in zip(uniq, orders, strict=True)}
    assert sum(sizes.values()) == int((moc.high - moc.low).sum())  # none twice
    # Four that make a larger one are that one.
    fourths = [number for number in sizes if number % 4 == 0 and number >= 16]
    assert not any({number, number + 1, number + 2, number + 3} <= sizes.keys() for number in fourths)
