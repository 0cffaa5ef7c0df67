"""Light curves, magnitudes and times: what always holds."""

from __future__ import annotations

import math
import pickle

import pytest
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.alerts.lightcurve import (
    LightCurve,
    Point,
    flux_err_from_mag,
    flux_from_mag,
    mag_err_from_flux,
    mag_from_flux,
)
from nuncius.alerts.times import JD_OF_MJD_0, mjd_from_jd, utc_from_tai

MANY = settings(max_examples=100, deadline=None)
mjds = st.integers(0, 40).map(lambda step: 60000 + step / 8)
points = st.builds(
    Point,
    kind=st.sampled_from(["detection", "limit", "forced"]),
    mjd=mjds | st.none(),
    band=st.sampled_from(["g", "r", None]),
    mag=st.floats(10, 25) | st.none(),
    is_positive=st.booleans() | st.none(),
    alert_id=st.integers(0, 5) | st.sampled_from(["a", "b"]) | st.none(),
)
curves = st.lists(points, max_size=12).map(LightCurve)


@MANY
@given(st.lists(points, max_size=20))
def test_sorted_and_each_point_from_the_input(given_points):
    curve = LightCurve(given_points)
    times = [math.inf if point.mjd is None else point.mjd for point in curve]
    assert times == sorted(times)
    assert set(curve) <= set(given_points)
    assert len(curve) <= len(given_points)
    assert len(set(curve)) == len(curve)


@MANY
@given(curves)
def test_the_kinds_divide_a_curve(curve):
    parts = (curve.detections, curve.limits, curve.forced)
    assert sum(len(part) for part in parts) == len(curve)
    assert set(LightCurve().merged(*parts)) == set(curve)
    assert pickle.loads(pickle.dumps(curve)) == curve


@MANY
@given(curves, curves, curves)
def test_merging(one, two, three):
    assert one.merged(one) == one
    assert one.merged(LightCurve()) == one
    assert one.merged(two).merged(three) == one.merged(two, three)
    merged = one.merged(two)
    assert set(one) <= set(merged)
    assert len(merged) >= max(len(one), len(two))


@MANY
@given(curves, curves)
def test_merging_keeps_every_time_kind_and_band(one, two):
    def places(curve):
        return {(point.kind, point.mjd, point.band) for point in curve if point.mjd is not None}

    assert places(one.merged(two)) >= places(one) | places(two)


@settings(max_examples=25, deadline=None)
@given(curves)
def test_tables(curve):
    table = curve.to_table()
    assert len(table) == len(curve)
    for point, row in zip(curve, table, strict=True):
        assert row["kind"] == point.kind
        for name in ("mjd", "mag", "band", "is_positive"):
            assert table[name].mask[row.index] == (getattr(point, name) is None)
            if getattr(point, name) is not None:
                assert row[name] == getattr(point, name)


@MANY
@given(st.floats(-5, 35), st.booleans(), st.floats(1e-4, 1))
def test_magnitudes_come_back(mag, positive, err):
    flux = flux_from_mag(mag, is_positive=positive)
    assert (flux > 0) is positive
    assert mag_from_flux(flux) == pytest.approx(mag, abs=1e-9)
    assert mag_err_from_flux(flux, flux_err_from_mag(mag, err)) == pytest.approx(err)


@MANY
@given(st.floats(1e-6, 1e12) | st.floats(-1e12, -1e-6))
def test_fluxes_come_back(flux):
    assert flux_from_mag(mag_from_flux(flux), is_positive=flux > 0) == pytest.approx(flux)


@MANY
@given(st.integers(41400, 61400), st.floats(0.001, 0.999))
def test_utc_is_astropys(day, fraction):
    tai = day + fraction  # on the day of a leap second the results may differ by up to a second
    assert utc_from_tai(tai) == pytest.approx(Time(tai, format="mjd", scale="tai").utc.mjd, abs=1.2e-5)
    assert mjd_from_jd(tai + JD_OF_MJD_0) == pytest.approx(tai, abs=1e-9)


@MANY
@given(st.floats(allow_nan=True))
def test_any_number_is_a_time_or_none(value):
    for result in (utc_from_tai(value), mjd_from_jd(value)):
        assert result is None or 14999 < result < 90001


@MANY
@given(st.floats(57754.001, 89999), st.floats(1e-6, 100))
def test_time_runs_forward(tai, step):
    later = min(tai + step, 90000.0)
    assert utc_from_tai(later) >= utc_from_tai(tai)
