"""Rows of the TOM's results: whose they are, and what may become a target's name."""

import pytest

from nuncius.errors import ForbiddenError, NotFoundError
from nuncius.tom import rows
from nuncius.tom.asking import Found


def row(owner="1", **changes):
    return rows.row_of(Found("ZTF20abc", "ZTF_alerts", 10.0, 5.0), "Nuncius Archive", owner) | changes


@pytest.mark.parametrize("owner", ["1", None, "anonymous"])
def test_a_row_is_its_owners(owner):
    rows.check(row(owner), "Nuncius Archive", owner)


@pytest.mark.parametrize("visitor", ["2", None, "anonymous"])
def test_and_nobody_elses(visitor):
    mine = row("1")
    with pytest.raises(ForbiddenError, match="another user"):
        rows.check(mine, "Nuncius Archive", visitor)


def test_a_row_from_under_a_number_or_of_another_service_is_nobodys():
    for strange in (row(id=0), row(service="Nuncius Stream"), {"name": "ZTF20abc"}):
        with pytest.raises(NotFoundError, match="run yours again"):
            rows.check(strange, "Nuncius Archive", "1")


def test_no_two_rows_and_no_two_runs_are_alike():
    assert len({row()["row_id"] for _ in range(100)}) == 100
    assert rows.new_nonce() != rows.new_nonce()


def test_the_switch_takes_all_of_it_away(monkeypatch):
    monkeypatch.setattr(rows, "PROTECTED", False)
    assert rows.new_nonce() == {}
    assert "row_id" not in row()
    rows.check({"id": 0}, "Nuncius Archive", "2")


@pytest.mark.parametrize("name", ["<b>x</b>", "a'b", 'a"b', "a&b", "a\nb", "x" * 101, ""])
def test_what_is_no_name_becomes_none(name):
    with pytest.raises(ForbiddenError, match="no name"):
        rows.checked_name(name)
    found = Found("ZTF20abc", "ZTF_alerts", 10.0, 5.0, aliases=(name, "313853517788581904"))
    assert rows.row_of(found, "s", None)["aliases"] == ["313853517788581904"]


@pytest.mark.parametrize(
    "name", ["ZTF20abc", "SN 2026abc", "WISE J1049-5319", "313853517788581904", "PS1-10jh+2"]
)
def test_names_of_the_sky_are_names(name):
    assert rows.checked_name(name) == name
