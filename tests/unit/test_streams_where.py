"""Filters written as text: what they mean, what they decode, and what is wrong with those that mean nothing."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from types import SimpleNamespace

import pytest
from astropy.coordinates import SkyCoord

import builders
from nuncius import Alert
from nuncius.alerts import Notice, Origin
from nuncius.errors import FilterError, PacketError
from nuncius.streams.where import LONGEST, WORDS, parse_where


def alert(**candidate):
    return Alert.from_bytes(builders.ztf(candidate=candidate))


def plain(**values):
    """Make an alert of a packet that is only known by its names."""
    return Alert.from_bytes(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("score > 0.8 and mag < 19", True),
        ("score > 0.8 and mag < 18", False),
        ("score > 0.9 or mag < 19", True),
        ("not score > 0.9", True),
        ("15 < mag < 18.5", False),
        ("15 < mag <= 18.5", True),
        ("18.5 == mag", True),
        ("mag != 18.5", False),
        ("band == 'r'", True),
        ("band in ['g', 'i']", False),
        ("band not in ('g', 'i')", True),
        ("band in 'gr'", True),
        ("is_positive", True),
        ("not is_positive", False),
        ("is_positive == True", True),
        ("survey == 'ztf' and object_id != 'ZTF20abcdefh'", True),
        ("alert_id == 2475433850215010007", True),
        ("alert_id == 2475433850215010008", False),
        ("startswith(object_id, 'ZTF20')", True),
        ("not startswith(object_id, 'ZTF20')", False),
        ("contains(object_id, 'cde')", True),
        ("matches(object_id, '^ZTF2[0-3][a-z]{7}$')", True),
        (r"matches(object_id, '\d\d\w')", True),
        ("not matches(object_id, 'LSST')", True),
        ("candidate.drb > 0.8", True),
        ("candidate['drb'] > 0.8 and candidate.field == 0", False),
        ("packet.publisher == 'ZTF (www.ztf.caltech.edu)'", True),
        ("packet.prv_candidates is None and candidate.magap is None", True),
        ("candidate.nothing.further is None", True),
        ("packet.candidate is not None", True),
        ("abs(dec) < 21 and -dec > 20", True),
        ("mag + 2 * mag_err < 18.7 and mag / 2 > 9 and mag ** 2 < 343 and mag - 1 == 17.5", True),
        ("(ra - 150) * 4 == 1", True),
        ("59000 <= mjd < 59001", True),
        ("flux_njy > 0 and flux_err_njy > 0", True),
        ("True", True),
        ("not True or False", False),
        ("mag <\n 19 and\tmag > 18", True),
    ],
)
def test_what_a_filter_lets_through(text, passes):
    assert parse_where(text)(alert()) is passes


@pytest.mark.parametrize(
    "text",
    [
        "mag < 18",
        "mag >= 18",
        "not mag < 18",
        "mag == 18",
        "mag != 18",
        "not mag == 18",
        "mag in [18]",
        "mag not in [18]",
        "mag + 1 < 30",
        "15 < mag < 18",
        "not (15 < mag < 18)",
        "is_positive",
        "not is_positive",
        "startswith(packet.none, 'Z')",
        "not contains(packet.none, 'Z')",
        "'AGN' in packet.none",
        "'AGN' not in packet.none",
        "broker == 'fink'",
        "broker != 'fink'",
        "packet.text < 3",
        "packet.text != 3",
        "not packet.text",
        "packet.nan < 3 or packet.nan >= 3 or packet.nan != 3",
        "packet.zero / packet.zero < 1 or 1 / packet.zero > 1",
        "(-1) ** 0.5 < 1",
        "10.0 ** 300 * packet.huge < 1",
    ],
)
def test_what_is_unknown_never_passes(text):
    raw = b'{"objectId": "A", "text": "5", "nan": NaN, "zero": 0, "huge": "1"}'
    assert parse_where(text)(Alert.from_bytes(raw)) is False


def test_unknown_joins_as_in_sql():
    item = plain(objectId="A")
    assert parse_where("mag < 18 or object_id == 'A'")(item)
    assert parse_where("not (mag < 18 and object_id == 'B')")(item)
    assert not parse_where("not (mag < 18 or object_id == 'B')")(item)
    assert parse_where("mag is None and not mag is not None")(item)


def test_notices_pass_through_the_same_filters():
    notice = Notice(
        id="S250101a-1", kind="igwn.gwalert", ra=10.0, dec=5.0, text="a BNS merger", packet={"event": {"far": 1e-9}},
        origin=Origin("kafka", "igwn.gwalert", broker="gcn"),
    )  # fmt: skip
    passing = parse_where(
        "broker == 'gcn' and topic == kind and startswith(id, 'S') and contains(text, 'BNS') "
        "and event.far < 1e-8 and ra < 20"
    )
    assert passing(notice)
    assert not parse_where("mag < 30 or score > 0 or not mag < 30")(notice)


def test_an_alert_has_none_of_the_words_of_notices():
    assert parse_where("kind is None and id is None and text is None")(plain(objectId="A", id=4, kind="x"))


def test_where_it_came_from():
    item = Alert(alert().raw, alert()._opened, origin=Origin("kafka", "ztf_programid1", broker="fink"))
    assert parse_where("topic == 'ztf_programid1' and broker == 'fink'")(item)
    assert parse_where("broker is None and topic is None")(alert())


def test_annotations_of_brokers():
    base = alert()
    item = Alert(
        base.raw, base._opened, annotations={"fink": {"rf": 0.7, "v:lapse": 2}, "antares": {"tags": ["sso", "AGN"]}}
    )  # fmt: skip
    assert parse_where("annotations.fink.rf > 0.5 and 'AGN' in annotations.antares.tags")(item)
    assert parse_where("annotations.fink['v:lapse'] == 2 and 'SN' not in annotations.antares.tags")(item)
    assert parse_where("contains(annotations.antares.tags, 'sso') and annotations.alerce is None")(item)
    assert not parse_where("'SN' in annotations.alerce.tags or 'SN' not in annotations.alerce.tags")(item)


def test_lists_in_packets_have_numbers():
    item = plain(objectId="A", history=[{"mag": 17.5}, {"mag": 18.5}])
    assert parse_where("history[0].mag < 18 and history[-1].mag > 18 and history[2].mag is None")(item)


@pytest.mark.parametrize(
    ("ra", "dec"), [(0, 0), (266.4, -28.94), (192.86, 27.13), (192.86, -62.9), (12.9, -27.1)]
)
def test_galactic_latitude_is_astropy_s(ra, dec):
    expected = SkyCoord(ra, dec, unit="deg").galactic.b.deg.item()
    item = plain(objectId="A", ra=ra, dec=dec)
    text = f"{expected - 2e-5!r} < galactic_latitude < {expected + 2e-5!r}"
    assert parse_where(text)(item)
    assert parse_where("galactic_latitude is None")(plain(objectId="A"))


# What is decoded -----------------------------------------------------------------------------------------------------


def test_only_the_beginning_of_a_packet_is_decoded():
    cut = Alert.from_bytes(builders.ztf())
    names = []
    whole = cut._opened.__class__.decode_beginning
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cut._opened.__class__,
            "decode_beginning",
            lambda self, some: names.append(some) or whole(self, some),
        )
        assert parse_where("mag < 19 and candidate.drb > 0.8 and ra < 160")(cut)
    assert [sorted(some) for some in names] == [["candid", "candidate", "objectId", "objectid"]]
    assert cut._packet is None


def test_what_is_asked_last_of_a_broker_is_decoded_only_if_it_decides():
    item = alert()
    assert not parse_where("mag < 10 and annotations.fink.rf > 0.5")(item)
    assert item._packet is None


def test_the_fields_that_a_filter_needs():
    text = "mag < 18 and candidate.drb > 0.9 and packet.publisher != 'x' and annotations.fink.rf > 0 and fp_hists[0].x > 0"
    assert parse_where(text).fields == {"candidate", "publisher", "fp_hists"}
    assert parse_where("mag < 18").fields == frozenset()


def test_damage_is_let_through():
    schema = builders.record_type("nova.alert", {"candid": "long", "name": "string"})
    damaged = builders.container(schema, [b"\x02\x04\xff\xff"])
    for text in ("mag < 18", "packet.name == 'x'", "annotations.fink.rf > 0"):
        with pytest.raises(PacketError):
            parse_where(text)(Alert.from_bytes(damaged))


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("scor > 0.9", 1, "did you mean score?"),
        ("scor > 0.9", 1, "packet.scor"),
        ("mag < 18 and band == g", 22, '"g"'),
        ("mag == null", 8, "did you mean None?"),
        ("mag == None", 8, "is None"),
        ("mag", 1, "not a condition"),
        ("not band", 5, "not a condition"),
        ("mag < '18'", 7, "a number can't be compared with a text"),
        ("band < True", 8, "can't be compared"),
        ("mag in ['18']", 8, "can't be compared"),
        ("band in [1, 2]", 9, "can't be compared"),
        ("band in ['g', 1]", 9, "not both"),
        ("band in []", 9, "not both and not nothing"),
        ("mag in [18, None]", 13, "is None"),
        ("band in [survey]", 10, "plain texts or numbers"),
        ("'g' in mag", 8, "a list stands behind in"),
        ("score is 5", 10, "=="),
        ("score = 0.9", 7, "== compares"),
        ("score > 0.9 AND mag < 18", 13, "and, or, not"),
        ("score > 0.9 && mag < 18", 14, "and, or, not"),
        ("score > 0.9 & mag < 18", 9, "and, or, not"),
        ("~is_positive", 1, "write not"),
        ("mag % 2 == 0", 1, "known are"),
        ("band + 'x' == 'gx'", 1, "calculate with a text"),
        ("(mag < 3) == True", 2, "a condition is no value"),
        ("mag.err < 3", 1, "packet.mag"),
        ("packet > 3", 1, "packet.FIELD"),
        ("packet[0] > 3", 1, "packet.NAME"),
        ("annotations is None", 1, "annotations.BROKER.NAME"),
        ("candidate[mag] > 3", 11, "whole number"),
        ("candidate[1:2] > 3", 11, "Slice"),
        ("abs(mag).x > 3", 1, "begins with a name"),
        ("abs(mag, ra) > 3", 1, "abs takes 1 values, not 2"),
        ("startswith(object_id, 5)", 1, 'startswith(object_id, "ZTF")'),
        ("startswith(mag, '5')", 1, 'startswith(object_id, "ZTF")'),
        ("matches(object_id, '[')", 20, "no regular expression"),
        ("matches(object_id, '(a+)+')", 20, "take for ever"),
        ("matches(object_id, '(?:a|ab)*')", 20, "take for ever"),
        ("matches(object_id, '((x?)y){5}')", 20, "take for ever"),
        (r"matches(object_id, '(a)\\1')", 20, "refer back"),
        (r"matches(object_id, '\bZTF')", 20, "control"),
        (f"matches(object_id, '{'a' * 201}')", 20, "at most 200"),
        ("mag < 1e999", 7, "too large"),
        ("open('x') > 1", 1, "the functions are"),
        ("mag.__class__.__mro__ > 1", 1, "has no parts"),
        ("().__class__ is None", 1, "begins with a name"),
        ("(lambda: 1)() > 1", 1, "the functions are"),
        ("[x for x in y]", 1, "ListComp"),
        ("f'{mag}' == 'x'", 1, "JoinedStr"),
        ("b'g' == band", 1, "Constant"),
        ("(y := 3) > 1", 2, "NamedExpr"),
        ("((mag < 18)", 1, "never closed"),
        ("mag < 18) or (True", 9, "unmatched"),
        ("é == 'ü' and magg < 3", 1, "no word 'é'"),
        ("band == 'üüü' and magg < 3", 19, "did you mean mag?"),
        ("mag < 18; True", 9, "invalid syntax"),
        ("mag <", 6, "missing"),
        ("mag < 18 and band in", 21, "missing"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_an_error_at_its_place(text, column, words):
    with pytest.raises(FilterError) as caught:
        parse_where(text)
    assert words in str(caught.value)
    assert caught.value.position == f"column {column}"
    first, shown, caret = str(caught.value).splitlines()
    assert first.startswith("where: ")
    assert shown.removeprefix("    ").removesuffix("…") == text[: column - 1 + 48]
    assert caret.index("^") == column - 1 + 4


def test_in_a_long_filter_the_place_is_shown_alone():
    text = " and ".join(["mag < 18"] * 30 + ["magg < 3"] + ["mag < 18"] * 30)
    with pytest.raises(FilterError) as caught:
        parse_where(text)
    _, shown, caret = str(caught.value).splitlines()
    assert len(shown) < 110
    assert shown[caret.index("^") :].startswith("magg < 3")
    assert caret.endswith("^~~~")


@pytest.mark.parametrize(
    "text",
    ["", "  ", None, 5, "a\0b", "(" * 1500, "not " * 40 + "True", "-" * 1900 + "1 > 0", "mag < 1 or " * 200,
     "candidate" + ".a" * 40 + " > 1", "\ud800 > 1", "mag < 1" + "9" * 1900],
)  # fmt: skip
def test_hostile_texts_are_errors_too(text):
    with pytest.raises(FilterError):
        parse_where(text)


def test_the_longest_filters_work():
    text = " or ".join(["mag > 18"] * 160)
    assert len(text) < LONGEST
    assert parse_where(text)(alert())
    assert parse_where("(" * 28 + "mag > 18" + ")" * 28)(alert())
    assert parse_where("not " * 26 + "mag > 18")(alert())


def test_a_pattern_looks_at_texts_up_to_a_length():
    assert parse_where("matches(packet.t, 'end$')")(plain(t="x" * 10_000 + "end"))
    assert parse_where("matches(packet.t, '(ab+|cd)x')")(plain(t="abbx"))
    assert not parse_where("matches(packet.t, 'end')")(plain(t="x" * 20_000 + "end"))
    assert parse_where("contains(packet.t, 'end')")(plain(t="x" * 20_000 + "end"))


def test_no_warning_of_what_python_thinks_of_the_text():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_where(r"matches(object_id, '\w\d')")(alert())


# Values --------------------------------------------------------------------------------------------------------------


def test_a_filter_is_a_value():
    where = parse_where(" mag < 19 ")
    assert where.text == "mag < 19"
    assert repr(where) == "<Where mag < 19>"
    assert where == parse_where("mag < 19")
    assert where != parse_where("mag < 20")
    assert len({where, parse_where("mag < 19")}) == 1
    copy = pickle.loads(pickle.dumps(where))
    assert copy == where
    assert copy(alert())


def test_every_word_is_known_to_an_alert_or_a_notice():
    item = alert()
    known = {name for name in WORDS if hasattr(item, name) or hasattr(Notice("1", "x"), name)}
    assert WORDS.keys() - known == {"broker", "topic", "galactic_latitude"}
    for name in WORDS:
        assert parse_where(f"{name} is None or {name} is not None")(item)


def test_other_objects_are_read_by_their_attributes():
    item = SimpleNamespace(mag=18, band="g", packet={"x": {"y": 1}}, origin=None, annotations={})
    assert parse_where("mag < 19 and x.y == 1 and ra is None and topic is None")(item)
    assert not parse_where("mag < 19")(SimpleNamespace(mag=math.nan))
    assert not parse_where("mag < 19")(SimpleNamespace(mag="18"))
