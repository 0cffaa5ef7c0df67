"""Which bytes are asked for together."""

from __future__ import annotations

import numpy as np
import pytest

from fits_source import MemoryFile, run
from nuncius.cloudfits import ranges
from nuncius.cloudfits.ranges import Pieces, Reader, Stats, plan
from nuncius.errors import FileChangedError, TruncatedFitsError, UnsupportedError

DATA = np.random.default_rng(4).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()


def spans(starts, ends, **options):
    made = plan(starts, ends, **options)
    return list(zip(made.starts.tolist(), made.ends.tolist(), strict=True)), made.wanted


def reader(data=DATA, head=0, **options):
    file = MemoryFile(data)
    return Reader(file, size=len(data), etag="v1", head=data[:head], stats=Stats(), **options), file


def test_short_gaps_are_read_over_and_long_ones_are_not():
    assert spans([0, 20, 200], [10, 30, 210], gap=10) == ([(0, 30), (200, 210)], 30)
    assert spans([0, 20, 200], [10, 30, 210], gap=9) == ([(0, 10), (20, 30), (200, 210)], 30)


def test_order_overlaps_and_empty_ranges_do_not_matter():
    assert spans([50, 0, 5, 7], [60, 10, 20, 7], gap=0) == ([(0, 20), (50, 60)], 30)
    assert spans([0, 2, 30], [20, 4, 40], gap=0) == ([(0, 20), (30, 40)], 30)
    assert spans([], []) == ([], 0)
    assert spans([3], [3]) == ([], 0)


def test_of_many_gaps_only_so_much_is_read_over():
    """Or a thin slice through a large cube would be the whole cube."""
    starts = np.arange(1000) * 60_000
    many, wanted = spans(starts, starts + 4, budget=600_000)
    assert wanted == 4000
    assert sum(end - start for start, end in many) <= 4000 + 600_000
    assert len(many) == 1000 - 600_000 // 59_996


def test_short_gaps_are_always_read_over():
    """Or one column of a table of a million rows would be a million requests."""
    starts = np.arange(1_000_000) * 72
    assert spans(starts, starts + 8, budget=0) == ([(0, 72 * 999_999 + 8)], 8_000_000)


def test_the_shortest_gaps_are_read_over_first():
    starts, ends = [0, 10_010, 15_020, 40_000], [10, 10_020, 15_030, 40_010]  # gaps of 10000, 5000 and 24970
    assert spans(starts, ends, budget=6000)[0] == [(0, 10), (10_010, 15_030), (40_000, 40_010)]
    assert spans(starts, ends, budget=15_000)[0] == [(0, 15_030), (40_000, 40_010)]


def test_a_hundred_thousand_requests_are_too_many():
    one, file = reader()
    one.size = 10**11
    starts = np.arange(100_001) * 900_000
    with pytest.raises(UnsupportedError, match="100,001 requests"):
        run(one.read(starts, starts + 4), file)
    assert file.ranges == []


def test_ranges_come_back_as_they_were_asked_for():
    one, file = reader()
    starts = np.array([900_000, 5, 100, 60_000])
    pieces = run(one.read(starts, starts + 50), file)
    for start in starts.tolist():
        assert pieces.get(start, start + 50) == DATA[start : start + 50]
    expected = b"".join(DATA[start : start + 50] for start in starts.tolist())
    assert pieces.gather(starts, 50).tobytes() == expected
    assert file.ranges == [(5, 60_050), (900_000, 900_050)]
    assert (one.stats.requests, one.stats.round_trips) == (2, 1)
    assert one.stats.bytes == 60_045 + 50
    assert one.stats.used_bytes == 200


def test_what_is_long_is_asked_for_in_parts(monkeypatch):
    monkeypatch.setattr(ranges, "LONGEST", 100_000)
    one, file = reader()
    assert run(one.read_one(10, 350_010), file) == DATA[10:350_010]
    assert file.ranges == [(10, 100_010), (100_010, 200_010), (200_010, 300_010), (300_010, 350_010)]
    assert one.stats.round_trips == 1


def test_what_is_known_of_the_beginning_is_not_asked_for():
    one, file = reader(head=1000)
    pieces = run(one.read([100, 500_000], [900, 500_010]), file)
    assert pieces.get(100, 900) == DATA[100:900]
    assert file.ranges == [(500_000, 500_010)]
    assert run(one.read_one(0, 1000), file) == DATA[:1000]
    assert one.stats.requests == 1


def test_bytes_that_were_not_read_are_not_made_up():
    pieces = Pieces({100: b"abcdef", 200: b"xyz"})
    assert pieces.get(101, 103) == b"bc"
    assert pieces.get(0, 0) == b""
    for start, end in [(99, 101), (104, 108), (150, 151), (203, 204), (0, 1)]:
        with pytest.raises(KeyError):
            pieces.get(start, end)
        with pytest.raises(KeyError):
            pieces.gather([start], end - start)
    with pytest.raises(KeyError):
        pieces.gather([101, 202], 2)


def test_a_file_that_ends_before_is_said_before_anything_is_read():
    one, file = reader()
    with pytest.raises(TruncatedFitsError, match="ends at byte 1,048,576"):
        run(one.read([0, len(DATA) - 5], [10, len(DATA) + 5]), file)
    assert file.ranges == []


def test_a_file_that_was_replaced_is_an_error():
    one, file = reader()
    file.etag = "v2"
    with pytest.raises(FileChangedError):
        run(one.read_one(0, 10), file)


def test_a_file_that_shrank_without_another_etag_is_an_error():
    one, file = reader()
    file.data = DATA[:1000]
    with pytest.raises(FileChangedError, match="has 1,000 bytes"):
        run(one.read_one(990, 1010), file)


def test_more_than_anybody_waits_for_is_refused():
    file = MemoryFile(b"")
    one = Reader(file, size=10**12)
    with pytest.raises(UnsupportedError, match=r"9\.3 GiB"):
        run(one.read_one(0, 10**10), file)
    assert file.ranges == []
