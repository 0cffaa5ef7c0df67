"""The reference of the query language names every operator with its meaning, and each of its examples is true."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from pathlib import Path

import pytest

from nuncius import errors
from nuncius.archives.extended_json import from_json
from nuncius.archives.language import (
    OPERATORS,
    Projection,
    check_expression,
    check_filter,
    check_pipeline,
    evaluate,
    matches,
    near_of,
    run_pipeline,
)
from nuncius.sky import separation_arcsec

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "query-language.md"
TEXT = PAGE.read_text(encoding="utf-8")
TABLE = re.compile(r"<!-- operators: (?P<group>.+?) -->\n(?P<rows>(?:\|.*\n)+)")
DOCUMENTS = re.compile(r"<!-- documents: (?P<name>\w+) -->\n```json\n(?P<json>.*?)```", re.DOTALL)
ERRORS = re.compile(r"\| given \| the error says \|\n\|---\|---\|\n(?P<rows>(?:\|.*\n)+)")


def cells_of(rows):
    lines = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]
    return [line for line in lines if not line[0].startswith(("operator", "---"))]


GROUPS = {found["group"]: cells_of(found["rows"]) for found in TABLE.finditer(TEXT)}
CATALOGS = {found["name"]: from_json(found["json"].encode()) for found in DOCUMENTS.finditer(TEXT)}
EXAMPLES = [
    pytest.param(group, example, answer, id=f"{group} {name.strip('`')}")
    for group, rows in GROUPS.items()
    for name, _, example, answer in rows
]


def plain(value):
    """Return a value as Extended JSON has it, so that it can be compared with the page."""
    if isinstance(value, datetime):
        return {"$date": value.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if type(value).__name__ == "ObjectId":
        return {"$oid": str(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def same(left, right):
    """Tell whether two values are equal but for the last digits of a float; the order of fields counts."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-12)
    return type(left) is type(right) and left == right


def found_by(condition):
    checked = check_filter(condition)
    found = [document for document in CATALOGS["filter"] if matches(document, checked)]
    cone = near_of(checked)
    if cone is not None:  # then the nearest is first

        def distance(document):
            lon, lat = document["coordinates"]["radec_geojson"]["coordinates"]
            return float(separation_arcsec(cone.ra, cone.dec, lon + 180, lat))

        found.sort(key=distance)
    return [document["_id"] for document in found]


def given_by(stages, documents):
    return list(run_pipeline(documents, check_pipeline(stages), lookup=lambda name: CATALOGS[name]))


def answer_to(group, example):
    """Return what an example gives, as its table promises."""
    if group.startswith("filter"):
        return found_by(json.loads(example))
    if group == "projection":
        return Projection(json.loads(example)).apply(CATALOGS["filter"][0])
    if group == "stage":
        catalog = "filter" if "$geoNear" in example else "stage"
        return given_by(json.loads(f"[{example}]"), CATALOGS[catalog])
    if group == "accumulator":
        (answer,) = given_by([{"$group": {"_id": None, "x": json.loads(example)}}], CATALOGS["stage"])
        return answer["x"]
    return evaluate(check_expression(json.loads(example)), CATALOGS["filter"][0])


@pytest.mark.parametrize(("group", "example", "answer"), EXAMPLES)
def test_example_gives_what_the_page_says(group, example, answer):
    example, answer = example.strip("`"), answer.strip("`")
    if hasattr(errors, answer):
        with pytest.raises(getattr(errors, answer)):
            answer_to(group, example)
        return
    wanted = json.loads(f"[{answer}]" if group.startswith("filter") else answer)
    assert same(plain(answer_to(group, example)), wanted)


@pytest.mark.parametrize("group", OPERATORS)
def test_page_has_every_operator_with_its_meaning(group):
    said = {name.strip("`"): meaning.replace("`", "") for name, meaning, *_ in GROUPS.get(group, [])}
    assert said == dict(OPERATORS[group])


def test_page_has_no_other_operators():
    assert GROUPS.keys() == OPERATORS.keys()


@pytest.mark.parametrize(
    ("name", "example"), [(name.strip("`"), ex) for rows in GROUPS.values() for name, _, ex, _ in rows]
)
def test_example_is_of_its_operator(name, example):
    assert f'"{name}"' in example


@pytest.mark.parametrize(("given", "says"), cells_of(ERRORS.search(TEXT)["rows"]))
def test_error_says_what_the_page_says(given, says):
    wrong = json.loads(given.strip("`"))
    with pytest.raises(errors.FilterError) as caught:
        check_pipeline(wrong) if isinstance(wrong, list) else check_filter(wrong)
    assert str(caught.value) == says.strip("`")
