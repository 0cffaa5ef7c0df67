"""Times against astropy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from astropy.time import Time

from nuncius.alerts.times import astropy_time, mjd_from_datetime, mjd_from_jd, possible_mjd, utc_from_tai


@pytest.mark.parametrize(
    "tai", [41500.25, 45000.0, 50000.125, 51180.0, 57754.5, 57755.0, 60902.99292, 61500.75]
)
def test_tai_to_utc_is_astropys(tai):
    assert utc_from_tai(tai) == pytest.approx(Time(tai, format="mjd", scale="tai").utc.mjd, abs=1e-9)


def test_utc_is_37_s_behind_tai():
    assert (60902.5 - utc_from_tai(60902.5)) * 86400 == pytest.approx(37, abs=1e-5)


def test_the_leap_second_of_2017():
    midnight_utc = 57754.0
    after = midnight_utc + 37 / 86400
    assert utc_from_tai(after + 1e-6) == pytest.approx(midnight_utc + 1e-6, abs=1e-9)
    before = midnight_utc + 36 / 86400 - 1e-3
    assert utc_from_tai(before) == pytest.approx(midnight_utc - 1e-3, abs=1e-9)


@pytest.mark.parametrize("jd", [2459000.75, 2460000.5, 2458849.123456])
def test_jd_to_mjd_is_astropys(jd):
    assert mjd_from_jd(jd) == pytest.approx(Time(jd, format="jd", scale="utc").mjd, abs=1e-9)


@pytest.mark.parametrize("mjd", [None, float("nan"), 14999.0, 90001.0, -1.0, float("inf")])
def test_impossible_dates(mjd):
    assert possible_mjd(mjd) is None
    assert utc_from_tai(mjd) is None
    assert mjd_from_jd(mjd) is None


@pytest.mark.parametrize("mjd", [15000, 60000.5, 90000.0])
def test_possible_dates(mjd):
    assert possible_mjd(mjd) == mjd
    assert isinstance(possible_mjd(mjd), float)


def test_datetimes():
    when = datetime(2026, 3, 4, 5, 6, 7, 250000, tzinfo=UTC)
    assert mjd_from_datetime(when) == pytest.approx(Time(when).mjd, abs=1e-9)
    assert mjd_from_datetime(when.astimezone(timezone(timedelta(hours=-7)))) == mjd_from_datetime(when)


def test_astropy_time_keeps_the_scale():
    time = astropy_time(60902.5, "mjd", "tai")
    assert (time.scale, time.format, time.value) == ("tai", "mjd", 60902.5)
