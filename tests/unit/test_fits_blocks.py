"""Headers by their bytes: where they end, and what the mandatory keywords say."""

from __future__ import annotations

import pytest
from astropy.io import fits

from nuncius.cloudfits import blocks
from nuncius.errors import FitsError


def header(*cards, end=True):
    lines = [card.encode().ljust(80) for card in cards] + ([b"END".ljust(80)] if end else [])
    raw = b"".join(lines)
    return raw.ljust(blocks.padded(len(raw)))


def structure(*cards):
    return blocks.parse_structure(header(*cards), where="file", position="HDU 1")


@pytest.mark.parametrize(
    "trap",
    [
        "OBJECT  = 'END     '",
        "COMMENT END" + " " * 69,
        "ENDDATE = '2026-01-01'",
        "END-TIME= 3",
        "END_OF  = 3",
        "X       = 'a' /" + " " * 60 + "END",
    ],
)
def test_end_counts_at_the_beginning_of_a_card_only(trap):
    raw = header("SIMPLE  =                    T", trap, "NAXIS   =                    0")
    assert blocks.find_end(raw) == 240
    assert blocks.header_length(raw) == 2880


def test_end_across_two_cards_is_none():
    raw = header("SIMPLE  =                    T", " " * 78 + "EN", "D" + " " * 79)
    assert blocks.find_end(raw) == 240


def test_end_is_found_from_where_the_header_begins():
    raw = b"x" * 7 + header("XTENSION= 'IMAGE   '")
    assert blocks.find_end(raw, 7) == 87
    assert blocks.find_end(raw) is None


def test_end_followed_by_what_is_no_blank_ends_a_header_all_the_same():
    """Some writers pad with zero bytes."""
    raw = header("SIMPLE  =                    T", end=False)[:80] + b"END" + bytes(2797)
    assert blocks.find_end(raw) == 80


def test_without_end_there_is_no_length():
    assert blocks.header_length(header("SIMPLE  =                    T", end=False)) is None
    assert blocks.header_length(b"") is None
    assert blocks.find_end(b"EN") is None


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("KEY     =                   -7 / comment", -7),
        ("KEY     = 12", 12),
        ("KEY     = 'it''s '", "it's"),
        ("KEY     = '/ no comment' / END", "/ no comment"),
        ("KEY     =                    T", True),
        ("KEY     = F / no", False),
        ("KEY     = ''", ""),
        ("KEY     = 1.5", None),
        ("KEY     =", None),
        ("KEYS    = 3", None),
        ("COMMENT KEY     = 3", None),
    ],
)
def test_value_of(card, value):
    assert blocks.value_of(header(card), "KEY") == value
    assert type(blocks.value_of(header(card), "KEY")) is type(value)


def test_the_first_card_counts():
    assert blocks.value_of(header("KEY     = 1", "KEY     = 2"), "KEY") == 1


@pytest.mark.parametrize(
    ("cards", "size"),
    [
        (("BITPIX  = 8", "NAXIS   = 0"), 0),
        (("BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 5"), 120),
        (("BITPIX  = 16", "NAXIS   = 1", "NAXIS1  = 0"), 0),
        (("BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 10", "NAXIS2  = 4", "PCOUNT  = 33", "GCOUNT  = 1"), 73),
    ],
)
def test_the_size_of_the_data(cards, size):
    assert structure("XTENSION= 'IMAGE   '", *cards).data_size == size


def test_random_groups_leave_out_their_first_axis():
    cards = (
        "BITPIX  = -32",
        "NAXIS   = 3",
        "NAXIS1  = 0",
        "NAXIS2  = 3",
        "NAXIS3  = 4",
        "PCOUNT  = 5",
        "GCOUNT  = 7",
    )
    assert structure("SIMPLE  = T", *cards, "GROUPS  = T").data_size == 4 * 7 * (5 + 12)
    assert structure("SIMPLE  = T", *cards, "GROUPS  = F").data_size == 4 * 7 * 5
    assert structure("XTENSION= 'IMAGE   '", *cards, "GROUPS  = T").data_size == 4 * 7 * 5


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        (("NAXIS   = 0",), "no readable BITPIX"),
        (("BITPIX  = 8",), "no readable NAXIS"),
        (("BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 3"), "no readable NAXIS2"),
        (("BITPIX  = 7", "NAXIS   = 0"), "BITPIX 7"),
        (("BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = -3"), "impossible data"),
        (("BITPIX  = 8", "NAXIS   = 1000"), "NAXIS = 1000"),
        (("BITPIX  = 8", "NAXIS   = -1"), "NAXIS = -1"),
        (("BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 3", "PCOUNT  = 'x'"), "no readable PCOUNT"),
        (("BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = T"), "no readable NAXIS1"),
        (("BITPIX  = 8.5", "NAXIS   = 1", "NAXIS1  = 1"), "no readable BITPIX"),
    ],
)
def test_impossible_headers_are_refused_with_their_place(cards, message):
    with pytest.raises(FitsError, match=message) as caught:
        structure("XTENSION= 'IMAGE   '", *cards)
    assert caught.value.position == "HDU 1"


def test_axes_as_large_as_anybody_claims_are_numbers_without_a_limit():
    cards = ("BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 100000000000000000", "NAXIS2  = 100000000000000000")
    assert structure("SIMPLE  = T", *cards).data_size == 8 * 10**34


def test_every_header_of_astropy_has_the_length_that_astropy_gives():
    made = fits.Header()
    for number in range(200):
        made[f"KEY{number}"] = ("END", "END")
        raw = made.tostring().encode()
        assert blocks.header_length(raw) == len(raw)
