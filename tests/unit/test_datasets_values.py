"""What a dserver answers, as values: times, readmes, annotations, tables, manifests, graphs, and their views."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from nuncius.datasets import DataSet, DataSets, Details, Graph, Manifest, Readme, Record
from nuncius.datasets.manifests import ManifestCache
from nuncius.datasets.values import annotation, moment
from nuncius.errors import ServerError

WHEN = datetime(2020, 11, 8, 18, 38, 40, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>&\"'"
ROW = {
    "uri": "s3://b/u",
    "uuid": "u",
    "base_uri": "s3://b",
    "name": "n",
    "creator_username": "vera",
    "created_at": 1604860720.736269,
    "frozen_at": "1604860720.736",
    "number_of_items": 3,
    "size_in_bytes": 5_000_000_000,
    "tags": ["a", "b"],
}


# Times ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        1604860720,
        1604860720.0,
        "1604860720",
        " 1604860720.0 ",
        "Sun, 08 Nov 2020 18:38:40 GMT",
        "Sun, 08 Nov 2020 19:38:40 +0100",
        "Sun, 08 Nov 2020 18:38:40 -0000",
        "2020-11-08T18:38:40Z",
        "2020-11-08T18:38:40",
        "2020-11-08 18:38:40+00:00",
        "2020-11-08T13:08:40-05:30",
    ],
)
def test_times_in_the_forms_in_which_servers_write_them(written):
    found = DataSet(created_at=written, frozen_at=written)
    assert found.created == found.frozen == WHEN
    assert found.created.utcoffset() == timedelta(0)
    assert found.created_at == written


def test_times_to_the_microsecond():
    assert moment(1604860720.736269).microsecond == 736269
    assert moment("1604860720.736").microsecond == 736000
    assert moment(-0.5) == datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [None, True, False, "", "  ", "soon", "1_0", "--5", "²", "1.2.3", "-", ".", [], [1, ","], {"a": 1, "b": 2}, ", ", "a, b",
     ",,,", float("nan"), float("inf"), 1e308, -1e300, 10**400, "9" * 5000, "Sun, 99 Nov 2020 18:38:40 GMT",
     "Sun, 08 Nov 99999999999 18:38:40 GMT", "Sun, 08 Nov 2020 18:38:40 +9999", "2020-13-45", "0001-01-01T00:00:00+23:59",
     "9999-12-31T23:59:59-23:59", "Wed, 3 Apr 2002 12.34.56.78+0800", "\x00", "\ud800"],
)  # fmt: skip
def test_what_is_no_time(written):
    assert DataSet(created_at=written).created is None


def test_a_data_set_that_says_nothing():
    found = DataSet()
    assert (found.created, found.frozen) == (None, None)
    assert repr(found) == "<DataSet None None>"
    with pytest.raises(AttributeError, match="there is no 'uri'"):
        found.uri  # noqa: B018


def test_keys_are_attributes():
    found = Record(a=1)
    assert (found.a, found["a"], "a" in dir(found)) == (1, 1, True)
    assert not hasattr(found, "_repr_html_")
    for twin in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (type(twin), twin) == (Record, {"a": 1})


# Readmes ----------------------------------------------------------------------------------------------------------------


def test_a_readme_is_its_text_and_what_it_says():
    found = Readme(
        "description: a spectrum\ndate: 2020-11-08\nat: 2020-11-08T18:38:40Z\nn: 5\nowners:\n- {name: Vera}\n"
    )
    assert found == str(found)
    assert found.startswith("description")
    assert found.data == {
        "description": "a spectrum",
        "date": date(2020, 11, 8),
        "at": WHEN,
        "n": 5,
        "owners": [{"name": "Vera"}],
    }
    assert found.error is None
    assert pickle.loads(pickle.dumps(found)).data == found.data


def test_coordinates_in_readmes_stay_as_they_are_written():
    found = Readme(
        "ra: 10:20:30\ndec: -05:10:20.5\nut: 12:30:45.25\ndays: 61000.5\nhex: 0x1F\nmany: 1_000\nexplicit: !!int 1:2"
    )
    assert found.data == {
        "ra": "10:20:30",
        "dec": "-05:10:20.5",
        "ut": "12:30:45.25",
        "days": 61000.5,
        "hex": 31,
        "many": 1000,
        "explicit": "1:2",
    }


@pytest.mark.parametrize(("text", "data"), [("", None), ("\n", None), ("# only a remark", None), ("plain text", "plain text"),
                                            ("- 1\n- 2", [1, 2]), ("5", 5), ("null", None), ("ü: 名前", {"ü": "名前"})])  # fmt: skip
def test_readmes_that_are_yaml_of_another_kind(text, data):
    assert (Readme(text).data, Readme(text).error) == (data, None)


@pytest.mark.parametrize(
    "text",
    ["a: [b", "a: b: c", "\tx: 1\n\ty", "{", "a: *b", "a: &b 1\nc: *b", "%", "@", "a: !!python/object:os.system x", "a: !own 1",
     "a: 1\n--- \nb: 2", "? [a]\n: b", "a: !!bool maybe", "a: !!int ''", "a: !!float x", "a: !!timestamp today", "a: 2020-13-45",
     "a: !!binary é", "a: \x07", "a: \ud800", "<<: 5", "a: !!omap 5", "a: !!set [1]", "&a [*a]", "a: 1" + "0" * 5000],
)  # fmt: skip
def test_readmes_that_are_no_yaml(text):
    found = Readme(text)
    assert found.data is None
    assert found.error
    assert found.error == " ".join(found.error.split())
    assert found == text


def test_a_text_that_stands_for_gigabytes_is_not_unfolded():
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert Readme("\n".join(lines)).error == "it has aliases"


def test_a_text_that_is_nested_deeply_ends_no_process():
    # In a process of its own: where this goes wrong, it goes wrong for good.
    program = (
        "import sys\nfrom nuncius.datasets import Readme\n"
        "for text in sys.argv[1:]:\n    print(Readme(text * 100_000).data)"
    )
    texts = ["[", "{a: ", "- ", "? ", "[]{}", "k: [", "- - {"]
    done = subprocess.run([sys.executable, "-c", program, *texts], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "None\n" * len(texts))


def test_a_text_that_is_nested_no_deeper_than_people_write():
    found = Readme("\n".join(f"{' ' * n}level{n}:" for n in range(90)))
    assert found.error is None
    assert list(found.data["level0"]) == ["level1"]
    assert "nested" in Readme("[" * 101 + "]" * 101).error


def test_a_text_of_one_endless_number_takes_no_time():
    assert Readme("a: " + "1:" * 100_000 + "1").data["a"].startswith("1:1:1")


def test_a_text_that_is_too_large_is_left_alone():
    found = Readme("a: " + "x" * 2_000_000)
    assert found.data is None
    assert "characters" in found.error


def test_a_readme_in_a_notebook_is_escaped():
    assert (
        Readme(HOSTILE)._repr_html_() == "<pre>&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;</pre>"
    )


# Annotations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [3, -2.5, 1e300, True, False, [1, [2.5, "a'\"b"]], {"a": [1, 2], "b": None}, [], {}, 0]
)
def test_annotations_that_a_server_wrote_as_text(value):
    assert annotation(str(value)) == value
    assert type(annotation(str(value))) is type(value)


@pytest.mark.parametrize(
    "text",
    ["2020_11_08", "0x10", "1e5", "+5", " 3", "3 ", "3 # of 4", "1_000", "007", "[1,2]", "{'a':1}", "nan", "inf", "1e999", "'a'",
     '"a"', "b'x'", "(1, 2)", "{1, 2}", "1+2j", "1j", "text", "", "None", "None of them", "true", "null", "__import__('os')", "...",
     "-" * 5000 + "1", "[" * 5000, "1" * 5000, "0x" + "f" * 5000, "\x00", "3\n", "[1, (2, 3]"],
)  # fmt: skip
def test_annotations_that_are_texts_stay_texts(text):
    assert annotation(text) == text
    assert type(annotation(text)) is str


@pytest.mark.parametrize("value", [3, 2.5, True, None, [1, "2"], {"a": "3"}])
def test_annotations_that_a_later_server_sends_typed(value):
    assert annotation(value) is value


# Lists and tables -------------------------------------------------------------------------------------------------------


def test_a_table_with_what_is_missing():
    table = DataSets([DataSet(ROW), DataSet(name="bare", number_of_items=None, frozen_at="never")]).to_table()
    assert table["name"].tolist() == ["n", "bare"]
    assert table["created"][0] == np.datetime64("2020-11-08T18:38:40.736269")
    assert table["size_in_bytes"].tolist() == [5_000_000_000, None]
    assert table["tags"].tolist() == ["a, b", None]
    for name in ("created", "frozen", "number_of_items", "size_in_bytes", "uri", "tags", "creator_username"):
        assert table[name].mask.tolist() == [False, True], name


def test_a_data_frame_with_what_is_missing():
    pandas = pytest.importorskip("pandas")
    frame = DataSets([DataSet(ROW), DataSet(name="bare", created_at=None)]).to_pandas()
    assert frame["name"].tolist() == ["n", "bare"]
    assert frame["created"][0] == pandas.Timestamp("2020-11-08T18:38:40.736269Z")
    assert str(frame["created"].dt.tz) == "UTC"
    assert str(frame["size_in_bytes"].dtype) == "Int64"
    assert frame.isna().sum().tolist() == [0] + [1] * (len(frame.columns) - 1)


@pytest.mark.parametrize("row", [
    {"created_at": 1e11, "frozen_at": -6e10}, {"number_of_items": 2**80, "size_in_bytes": -5}, {"name": 5, "tags": "one"},
    {"name": None, "tags": [None, 5]}, {"name": {"a": 1}, "number_of_items": "3"}, {"number_of_items": 2.5, "size_in_bytes": True},
    {"name": "\x00\ud7ff", "creator_username": "名前"},
])  # fmt: skip
def test_tables_of_strange_rows(row):
    found = DataSets([DataSet(row), DataSet(ROW)])
    table = found.to_table()
    assert len(table) == 2
    assert found._repr_html_()
    pytest.importorskip("pandas")
    assert len(found.to_pandas()) == 2
    if "size_in_bytes" in row or row.get("number_of_items"):
        assert table["number_of_items"].mask.tolist() == [True, False]
    if "created_at" in row:
        assert table["created"][0].item().year == 5138
        assert found.to_pandas()["created"][0].year == 5138


def test_tables_of_nothing():
    found = DataSets()
    assert len(found.to_table()) == 0
    assert "<p>0 data sets.</p>" in found._repr_html_()
    assert repr(found) == "<DataSets: 0>"
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_pandas(), pandas.DataFrame)
    assert len(found.to_pandas()) == 0


def test_views_are_escaped():
    found = DataSets(
        [DataSet(ROW, name=HOSTILE, uri=HOSTILE, tags=[HOSTILE], creator_username=HOSTILE)] * 60, total=99
    )
    shown = found._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 200
    assert "60 data sets of 99. The first 50 of 60 are shown." in shown
    assert "5,000,000,000" in shown
    assert "2020-11-08 18:38" in shown


def test_what_a_terminal_would_obey_is_not_shown():
    row = DataSet(ROW, name="\x1b[2J", uri="s3://b/\x1b]0;x\x07\n")
    for shown in (repr(row), repr(DataSets([row])), repr(Details(uri="s3://b/u", errors={}))):
        assert shown.isprintable()


def test_data_sets_are_pickled_with_what_is_said_of_them():
    found = DataSets([DataSet(ROW)], pagination={"page": 2}, sorting={"uri": 1}, total=7)
    twin = pickle.loads(pickle.dumps(found))
    assert (twin, twin.pagination, twin.sorting, twin.total) == ([ROW], {"page": 2}, {"uri": 1}, 7)
    assert type(twin[0]) is DataSet


# Manifests --------------------------------------------------------------------------------------------------------------


def manifest_of(**items):
    return Manifest({"hash_function": "md5sum_hexdigest", "items": items}, "s3://b/u")


def entry(relpath="a.fits", **more):
    return {"relpath": relpath, "size_in_bytes": 5, "hash": "h", "utc_timestamp": 1604860720.0, **more}


def test_the_items_of_a_manifest():
    found = manifest_of(b=entry("z/b.fits"), a=entry("a.fits", size_in_bytes=7))
    assert [(item.relpath, item.identifier, item.size, item.hash) for item in found.files] == [
        ("a.fits", "a", 7, "h"),
        ("z/b.fits", "b", 5, "h"),
    ]
    assert [item.name for item in found.files] == ["a.fits", "b.fits"]
    assert found.files[0].modified == WHEN
    assert found.files[0].data_set_uri == found.data_set_uri == "s3://b/u"
    assert (found.size, found.hash_function) == (12, "md5sum_hexdigest")
    assert repr(found) == "<Manifest of s3://b/u: 2 items>"
    for twin in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (type(twin), twin, twin.data_set_uri) == (Manifest, found, "s3://b/u")


@pytest.mark.parametrize("items", [None, 5, "text", [], [{"relpath": "a"}], True])
def test_a_manifest_without_items_is_damaged(items):
    found = Manifest({"items": items}, "s3://b/u")
    with pytest.raises(ServerError, match="has no items: it is damaged"):
        found.files  # noqa: B018
    assert repr(found) == "<Manifest of s3://b/u: no items>"


@pytest.mark.parametrize(
    "item", [None, 5, "text", [], {}, {"relpath": None}, {"relpath": 5}, {"relpath": ["a"]}]
)
def test_an_item_that_is_none(item):
    with pytest.raises(ServerError, match="the item 'x' has no relpath"):
        manifest_of(x=item).files  # noqa: B018


@pytest.mark.parametrize("size", [None, -5, "5", 5.5, True, [], 10**30])
def test_sizes_that_are_none(size):
    assert manifest_of(x=entry(size_in_bytes=size)).files[0].size == 0


def test_an_item_that_says_little():
    (item,) = manifest_of(x={"relpath": ""}).files
    assert (item.relpath, item.name, item.size, item.hash, item.modified) == ("", "", 0, "", None)


def test_a_manifest_in_a_notebook_is_escaped():
    shown = manifest_of(**{str(n): entry(f"{HOSTILE}{n}") for n in range(60)})._repr_html_()
    assert "<script" not in shown
    assert "60 items, 300 bytes. The first 50 of 60 are shown." in shown
    assert shown.count("<tr>") == 51


def test_manifests_are_kept_by_uri_and_time_of_freezing():
    cache = ManifestCache()
    cache.put("a", 1.0, b"one")
    assert cache.get("a", 1.0) == b"one"
    assert cache.get("a", 2.0) is None
    assert cache.get("b", 1.0) is None


def test_the_manifest_that_was_not_used_for_longest_is_let_go():
    cache = ManifestCache(10)
    for name in "abc":
        cache.put(name, 1, b"123")
    assert cache.get("a", 1) == b"123"
    cache.put("d", 1, b"123")
    assert [cache.get(name, 1) for name in "abcd"] == [b"123", None, b"123", b"123"]
    cache.put("d", 1, b"12345")  # again, and larger
    assert [cache.get(name, 1) for name in "acd"] == [None, b"123", b"12345"]


def test_a_manifest_that_is_too_large_pushes_no_others_out():
    cache = ManifestCache(10)
    cache.put("a", 1, b"123")
    cache.put("b", 1, b"x" * 11)
    assert (cache.get("a", 1), cache.get("b", 1)) == (b"123", None)


# Graphs -----------------------------------------------------------------------------------------------------------------


def node(uuid, *parents, **more):
    return DataSet(
        {"uuid": uuid, "name": f"name {uuid}", "uri": f"s3://b/{uuid}", "derived_from": list(parents), **more}
    )


def test_a_graph_as_edges():
    graph = Graph([node("3", "2", "2"), node("2", "1", "gone"), node("1"), node("2", "1", "gone")], "2")
    assert [row["uuid"] for row in graph.data_sets] == ["3", "2", "1"]
    assert graph.edges == [("3", "2"), ("2", "1"), ("2", "gone")]
    assert graph.missing == ["gone"]
    assert (graph.parents("2"), graph.children("1"), len(graph)) == (["1", "gone"], ["2"], 3)
    assert graph.levels() == {"1": 0, "gone": 0, "2": 1, "3": 2}
    assert (graph.name("1"), graph.name("gone"), graph.name("nowhere-at-all")) == (
        "name 1",
        "gone…",
        "nowhere-…",
    )
    assert repr(graph) == "<Graph of 2: 3 data sets, 3 edges, 1 missing>"


def test_circles_come_to_an_end():
    graph = Graph([node("1", "3"), node("2", "1"), node("3", "2"), node("4", "4")], "1")
    levels = graph.levels()
    assert set(levels) == {"1", "2", "3", "4"}
    assert all(0 <= level < 4 for level in levels.values())
    assert levels["4"] == 0
    assert graph.to_dot().count("->") == 4


def test_a_long_chain_has_as_many_levels():
    graph = Graph([node(str(n), str(n + 1)) for n in range(20_000)], "0")
    assert graph.levels()["0"] == 20_000


@pytest.mark.parametrize("derived", [None, "1", ["1", "1"], ["1", None, 5, ["x"], {"y": 1}]])
def test_rows_that_say_strange_things(derived):
    graph = Graph(
        [
            DataSet(uuid="2", derived_from=derived),
            DataSet(uuid=None, derived_from=[]),
            DataSet(name="x"),
            DataSet(uuid=5),
        ],
        "2",
    )
    assert graph.edges == ([] if derived is None else [("2", "1")])
    assert len(graph) == 1
    assert graph.name("2") == "2"


def test_a_graph_of_nothing():
    graph = Graph([], "1")
    assert (graph.edges, graph.missing, graph.levels(), len(graph)) == ([], [], {}, 0)
    assert graph.to_dot().startswith("digraph data_sets {")


def test_a_graph_in_the_language_of_graphviz():
    graph = Graph([node("2", "1", name='a "b" \\ c\nd'), node("3", "2")], "2")
    lines = graph.to_dot().splitlines()
    assert r'  "2" [label="a \"b\" \\ c d", penwidth=2];' in lines
    assert '  "1" [label="1…", style=dashed];' in lines
    assert '  "1" -> "2";' in lines
    assert '  "2" -> "3";' in lines


def test_a_graph_for_networkx():
    pytest.importorskip("networkx")
    graph = Graph([node("2", "1", self=5, node_for_adding="x"), node("3", "2")], "2").to_networkx()
    assert set(graph.nodes) == {"1", "2", "3"}
    assert set(graph.edges) == {("1", "2"), ("2", "3")}
    assert (graph.nodes["2"]["name"], graph.nodes["2"]["self"], graph.nodes["1"]) == ("name 2", 5, {})


def test_a_graph_in_a_notebook_is_escaped():
    shown = Graph([node("2", "1", name=HOSTILE), node("1", name=HOSTILE)], HOSTILE)._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 3


def test_a_graph_is_pickled():
    graph = Graph([node("2", "1")], "2")
    twin = pickle.loads(pickle.dumps(graph))
    assert (twin.edges, twin.missing, twin.data_sets) == (graph.edges, graph.missing, graph.data_sets)


def test_times_of_another_zone_are_turned():
    zone = timezone(timedelta(hours=5, minutes=30))
    assert moment(WHEN.astimezone(zone).isoformat()) == WHEN
    assert json.dumps(DataSet(ROW)) == json.dumps(ROW)
