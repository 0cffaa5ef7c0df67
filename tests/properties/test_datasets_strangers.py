"""Whatever strangers write: times, texts, tokens, paths and lists that change while they are read."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import math
import os
import posixpath
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nuncius._core.operations import Deadline, Once, Request, Response
from nuncius._session import without
from nuncius.datasets import DataSet, DataSets, Graph, Item, Readme, questions
from nuncius.datasets.configuration import Settings
from nuncius.datasets.listing import DataSetWalk
from nuncius.datasets.service import DServerService, lifetime, place
from nuncius.datasets.values import annotation, moment
from nuncius.errors import FilterError, ServerError, UnsupportedError

quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(max_size=60)
plain = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"),
    max_size=20,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


# Values -----------------------------------------------------------------------------------------------------------------


@quick
@given(values | st.floats() | st.text("0123456789-:T., +ZSunNov", max_size=40))
def test_a_time_is_one_in_utc_or_none(value):
    found = moment(value)
    assert found is None or found.utcoffset().total_seconds() == 0


@quick
@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)))
def test_a_time_is_the_same_in_all_forms(value):
    when = value.replace(microsecond=0, tzinfo=UTC)
    seconds = when.timestamp()
    forms = [seconds, int(seconds), str(seconds), str(int(seconds)), when.isoformat(), when.isoformat().replace("+00:00", ""),
             when.strftime("%a, %d %b %Y %H:%M:%S GMT")]  # fmt: skip
    assert {moment(form) for form in forms} == {when}


@quick
@given(values)
def test_an_annotation_is_read_as_it_was_or_stays_a_text(value):
    found = annotation(str(value))
    if not isinstance(value, str | None):  # None is sent as null
        assert found == value
    assert found == str(value) or str(found) == str(value)


@quick
@given(texts)
@example("2020_11_08")
@example("0x1F")
def test_a_text_that_was_read_can_be_written_again(text):
    assert str(annotation(text)) == text


@quick
@given(st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@`# \n\tab0159.~<=\ud800é"), max_size=60) | texts)
def test_any_readme_is_yaml_or_says_why_not(text):
    found = Readme(text)
    assert found == text
    assert found.data is None or found.error is None


@quick
@given(
    st.dictionaries(
        plain,
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | plain | st.lists(plain, max_size=3),
        max_size=5,
    )
)
def test_a_readme_says_what_was_written_into_it(value):
    text = yaml.safe_dump(value, allow_unicode=True)
    assert Readme(text).data == yaml.safe_load(text)
    assert Readme(text).error is None


@quick
@given(st.lists(st.dictionaries(st.sampled_from(["name", "uri", "created_at", "frozen_at", "number_of_items", "size_in_bytes", "tags"]),
                                values, max_size=5), max_size=4))  # fmt: skip
def test_any_rows_are_a_table_and_a_view(rows):
    found = DataSets(map(DataSet, rows))
    assert len(found.to_table()) == len(rows)
    assert found._repr_html_().count("<tr>") == len(rows) + 1
    assert repr(found).isprintable()


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 12), max_size=4)), max_size=10))
def test_any_graph_has_levels_and_knows_what_is_missing(rows):
    graph = Graph(
        (DataSet(uuid=str(one), derived_from=list(map(str, parents))) for one, parents in rows), "0"
    )
    known = {row.uuid for row in graph.data_sets}
    assert len(graph.edges) == len(set(graph.edges))
    assert set(graph.missing) == {parent for _, parent in graph.edges} - known
    levels = graph.levels()
    assert set(levels) == known | set(graph.missing)
    assert all(0 <= level <= len(levels) for level in levels.values())
    assert graph.to_dot().count(" -> ") == len(graph.edges)


@quick
@given(
    st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.integers(0, 3)), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_sorting_here_is_sorting(rows, first_down, second_down):
    found = DataSets(DataSet(a=a, b=b, n=n) for n, (a, b) in enumerate(rows))
    questions.sorted_by(found, ["-a" if first_down else "a", "-b" if second_down else "b"])

    def key(value, down):
        return math.inf if value is None else -value if down else value

    expected = sorted(
        enumerate(rows), key=lambda row: (key(row[1][0], first_down), key(row[1][1], second_down), row[0])
    )
    assert [row.n for row in found] == [n for n, _ in expected]


# Tokens and secrets -----------------------------------------------------------------------------------------------------


@quick
@given(
    texts
    | values.map(
        lambda value: f"a.{base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip('=')}.c"
    )
)
def test_the_life_of_anything(token):
    begun, end = lifetime(token)
    assert begun is None or math.isfinite(begun)
    assert not math.isnan(end)


@quick
@given(
    st.dictionaries(
        st.sampled_from(["iat", "exp"]), st.integers() | st.floats() | st.text(max_size=3) | st.none()
    )
)
def test_the_life_of_a_token(claims):
    body = json.dumps(claims).encode()
    begun, end = lifetime(f"a.{base64.urlsafe_b64encode(body).decode()}.c")
    assert begun in {None, claims.get("iat")}
    assert end == math.inf or end == claims["exp"]


@quick
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=5, max_size=30),
    st.sampled_from(["#", "#" * 190, "#" * 250]),
    st.sampled_from([str, lambda text: json.dumps(text)[1:-1], html.escape, lambda text: html.escape(text, quote=False),
                     quote, lambda text: quote(text, safe="")]),
)  # fmt: skip
def test_a_secret_is_found_however_it_is_written(secret, before, write):
    assert (
        without(f"{before}{write(secret)}{before}", secret).replace("#", "") in {"***", "*" * len(secret), ""}
        or "#" in secret
    )


# Addresses --------------------------------------------------------------------------------------------------------------


@quick
@given(st.text(st.sampled_from("abü /:.%+?#\\\n名"), max_size=20).map(lambda text: f"s3://{text}") | texts)
@example("s3://../../users/bob")
@example("..")
def test_a_uri_is_one_place_or_none(uri):
    try:
        path = place(uri)
    except FilterError:
        return
    assert path.isascii()
    assert f"{posixpath.normpath(f'/uris/{path}')}/".startswith("/uris/")
    assert not {".", ".."} & set(path.split("/"))
    assert unquote(path) == uri.replace("://", "/", 1)


@quick
@given(st.text(st.sampled_from("ab./\\%\0ü "), max_size=12), st.text(st.sampled_from("0af/."), max_size=45))
def test_no_item_leads_out_of_its_data_set(relpath, identifier):
    for uri in ("file:///data/set", "s3://bucket/u", "azure://account/u"):
        found = Item(relpath, identifier, 0, "", None, uri)
        try:
            url = found.url
        except UnsupportedError:
            continue
        if uri.startswith("file:"):
            assert os.path.normpath(url).startswith("/data/set/data")
        else:
            assert url.endswith(f"/{identifier}")
            assert "/" not in identifier


# Pages ------------------------------------------------------------------------------------------------------------------


def run(operation, answer):
    try:
        need = next(operation)
        while True:
            assert isinstance(need, (Request, Once))
            need = operation.send(answer(need))
    except StopIteration as end:
        return end.value


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 30),
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 999), max_size=6)), max_size=12),
    st.booleans(),
)
@example(
    2,
    6,
    [(False, []), (False, [0]), (False, []), (False, []), (False, [0] * 4), (True, [0, 15, 16, 17])],
    True,
)
def test_what_stays_is_found_while_others_come_or_go(size, count, changes, says_missing):
    """Between two answers some are registered, or some are deleted: both at once could not be told from neither."""
    names = [f"{n * 30:04d}" for n in range(count)]
    always, waiting = set(names), iter(changes)

    def answer(request):
        coming, numbers = next(waiting, (True, []))
        if coming:
            names.extend(set(f"{n:03d}x" for n in numbers) - set(names))  # noqa: C401
            names.sort()
        else:
            for n in numbers:
                if names:
                    always.discard(names.pop(n % len(names)))
        number, pages = int(request.params["page"]), math.ceil(len(names) / size)
        if says_missing and number > max(1, pages):
            return Response(404, {}, b"{}")
        rows = [{"uri": name, "name": name} for name in names[(number - 1) * size : number * size]]
        said = {"total": len(names), "total_pages": pages} | ({"last_page": pages} if pages else {})
        return Response(200, {"x-pagination": json.dumps(said)}, json.dumps(rows).encode())

    service = DServerService(Settings("http://127.0.0.1:1", authenticate=False), interactive=False)
    walk = DataSetWalk(service, questions.search(), size)
    found = []
    # A page that was promised twice and never given is too much at once, and that is said.
    with contextlib.suppress(ServerError):
        while not walk.over:
            found += [row.name for row in run(walk.page(Deadline(60)), answer)]
    assert len(found) == len(set(found))
    assert always <= set(found) or not walk.over
