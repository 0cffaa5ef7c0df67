"""Light curves: order, repetition, merging, tables, and magnitudes against fluxes."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from nuncius.alerts.lightcurve import (
    LightCurve,
    Point,
    flux_err_from_mag,
    flux_from_mag,
    mag_err_from_flux,
    mag_from_flux,
)


def detection(mjd, alert_id=None, band="g", **values):
    return Point("detection", mjd, band, alert_id=alert_id, **values)


def test_points_are_sorted_and_those_without_a_time_last():
    curve = LightCurve([detection(3.0, 3), detection(None, 9), detection(1.0, 1)])
    assert [point.alert_id for point in curve] == [1, 3, 9]


def test_the_first_of_repeated_points_stays():
    curve = LightCurve([detection(1.0, 5, mag=18.0), detection(1.0, 5, mag=19.0)])
    assert [point.mag for point in curve] == [18.0]


def test_limits_of_one_image_are_one():
    limits = [
        Point("limit", 60000.1, "r", limiting_mag=20.0),
        Point("limit", 60000.1 + 1e-10, "r", limiting_mag=20.5),
    ]
    assert len(LightCurve(limits)) == 1


@pytest.mark.parametrize(
    "other", [Point("limit", 60000.1, "g"), Point("limit", 60000.2, "r"), Point("forced", 60000.1, "r")]
)
def test_other_bands_times_and_kinds_are_other_points(other):
    assert len(LightCurve([Point("limit", 60000.1, "r"), other])) == 2


def test_small_ids_that_repeat_do_not_hide_another_measurement():
    # DECam counts its alerts anew each night, and two surveys may use one number.
    night_1, night_2 = LightCurve([detection(60000.0, 5)]), LightCurve([detection(60001.0, 5)])
    assert [point.mjd for point in night_1.merged(night_2)] == [60000.0, 60001.0]


def test_measurements_without_a_time_are_not_taken_for_one():
    curve = LightCurve([Point("forced", None, "g", flux_njy=1.0), Point("forced", None, "g", flux_njy=2.0)])
    assert [point.flux_njy for point in curve] == [1.0, 2.0]


def test_kinds_bands_slices_and_equality():
    curve = LightCurve(
        [detection(1.0, 1), Point("limit", 2.0, "r"), Point("forced", 3.0, None), detection(4.0, 4, "i")]
    )
    assert [len(part) for part in (curve.detections, curve.limits, curve.forced)] == [2, 1, 1]
    assert curve.bands == ["g", "i", "r"]
    assert isinstance(curve[1:], LightCurve)
    assert curve[1:] == LightCurve(list(curve)[1:])
    assert hash(curve) == hash(LightCurve(reversed(list(curve))))
    assert curve != list(curve)
    assert curve[0] in curve
    assert pickle.loads(pickle.dumps(curve)) == curve
    assert repr(curve) == "<LightCurve: 2 detections, 1 limits, 1 forced; bands g i r>"


def test_table():
    table = LightCurve(
        [
            detection(60000.5, 2475433850215010007, mag=18.5, is_positive=False, ra=1.0, dec=2.0),
            Point("limit", 59999.5, None, limiting_mag=20.5),
        ]
    ).to_table()
    assert list(table["kind"]) == ["limit", "detection"]
    assert table["mag"].mask.tolist() == [True, False]
    assert table["mag"][1] == 18.5
    assert table["alert_id"][1] == "2475433850215010007"
    assert table["is_positive"].mask.tolist() == [True, False]
    assert table["is_positive"].dtype == np.bool_
    assert not table["is_positive"][1]
    assert table["band"].mask.tolist() == [True, False]
    assert [str(table[name].unit) for name in ("mjd", "mag", "flux_njy", "ra")] == ["d", "mag", "nJy", "deg"]


def test_empty():
    curve = LightCurve()
    assert (len(curve), curve.bands, len(curve.to_table())) == (0, [], 0)
    assert repr(curve) == "<LightCurve: 0 detections, 0 limits, 0 forced; bands unknown>"
    assert "<table" in curve._repr_html_()


def test_magnitudes_and_fluxes():
    assert flux_from_mag(31.4, is_positive=True) == pytest.approx(1.0)
    assert flux_from_mag(23.9, is_positive=False) == pytest.approx(-1000.0)
    assert mag_from_flux(-1230.28) == pytest.approx(23.675, abs=1e-3)
    assert mag_err_from_flux(-100.0, 10.0) == pytest.approx(0.10857, rel=1e-4)
    assert flux_err_from_mag(23.9, 0.10857362) == pytest.approx(100.0)


@pytest.mark.parametrize("flux", [None, 0, 0.0, math.nan, math.inf])
def test_no_magnitude(flux):
    assert mag_from_flux(flux) is None


def test_no_flux():
    assert flux_from_mag(None, is_positive=True) is None
    assert flux_from_mag(18.0, is_positive=None) is None
    assert flux_err_from_mag(18.0, None) is None
    assert flux_err_from_mag(None, 0.1) is None
    assert mag_err_from_flux(0.0, 1.0) is None
    assert mag_err_from_flux(None, 1.0) is None
    assert mag_err_from_flux(1.0, None) is None
