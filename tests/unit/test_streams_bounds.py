"""What users may write for `start=` and `stop=`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from astropy import units as u
from astropy.time import Time

from nuncius.errors import ConfigurationError
from nuncius.streams.bounds import Start, Stop, parse_start, parse_stop

NOW = 1_800_000_000.0
INSTANT = datetime(2026, 11, 20, 3, tzinfo=UTC)


@pytest.mark.parametrize("name", ["committed", "earliest", "latest"])
def test_start_by_name(name):
    assert parse_start(name, now=NOW) == Start(name)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("-30s", 30),
        ("-5m", 300),
        ("-5min", 300),
        ("-2h", 7200),
        ("-1.5h", 5400),
        ("-7d", 604800),
        ("-2 h", 7200),
    ],
)
def test_start_some_time_ago(text, seconds):
    assert parse_start(text, now=NOW) == Start("time", NOW - seconds)


@pytest.mark.parametrize(
    "value",
    [
        INSTANT,
        INSTANT.astimezone(timezone(timedelta(hours=-4))),
        "2026-11-20T03:00:00Z",
        "2026-11-20T03:00:00+00:00",
        "2026-11-19T23:00:00-04:00",
    ],
)
def test_a_time_is_the_same_however_it_is_written(value):
    assert parse_start(value, now=NOW) == Start("time", INSTANT.timestamp())
    assert parse_stop(value) == Stop(unix_s=INSTANT.timestamp())


@pytest.mark.parametrize("scale", ["utc", "tai", "tdb"])
def test_a_time_of_astropy_is_understood_in_its_scale(scale):
    value = getattr(Time("2026-11-20T03:00:00", scale="utc"), scale)
    start = parse_start(value, now=NOW)
    assert start.name == "time"
    assert start.unix_s == pytest.approx(INSTANT.timestamp(), abs=1e-3)
    assert parse_stop(value).unix_s == pytest.approx(INSTANT.timestamp(), abs=1e-3)


@pytest.mark.parametrize(
    "value",
    [
        "end",
        "newest",
        "Latest",
        "",
        "2h",
        "-2",
        "-2w",
        "--2h",
        "-h",
        5,
        1.5,
        True,
        None,
        date(2026, 11, 20),
        {},
        b"-2h",
    ],
)
def test_a_start_that_means_nothing_is_refused(value):
    with pytest.raises(ConfigurationError, match="start=") as refused:
        parse_start(value, now=NOW)
    assert repr(value) in str(refused.value)


def test_no_stop():
    assert parse_stop(None) == Stop()


def test_stop_at_the_end():
    assert parse_stop("end") == Stop(at_end=True)


@pytest.mark.parametrize("count", [0, 1, 10**9])
def test_stop_after_a_number_of_alerts(count):
    assert parse_stop(count) == Stop(count=count)


@pytest.mark.parametrize(
    "value", ["90s", "1.5min", "1.5m", timedelta(seconds=90), 90 * u.s, 1.5 * u.min, "90 s"]
)
def test_stop_after_some_time(value):
    assert parse_stop(value) == Stop(seconds=90.0)


@pytest.mark.parametrize(
    "value",
    ["End", "eof", "", "10", "10w", "-10m", -1, 1.5, True, False, 3 * u.m, date(2026, 11, 20), [], b"end"],
)
def test_a_stop_that_means_nothing_is_refused(value):
    with pytest.raises(ConfigurationError, match="stop="):
        parse_stop(value)


@pytest.mark.parametrize("value", [datetime(2026, 11, 20, 3), "2026-11-20T03:00:00", "2026-11-20"])
def test_a_time_without_time_zone_is_refused_with_its_cure(value):
    with pytest.raises(ConfigurationError, match=r"2026-11-20T.*has no time zone.*Z"):
        parse_start(value, now=NOW)
    with pytest.raises(ConfigurationError, match="has no time zone"):
        parse_stop(value)
