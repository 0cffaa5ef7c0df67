"""The progress bar: seen where a person looks, silent elsewhere, and told the truth."""

from __future__ import annotations

import io
import sys

import pytest

from nuncius._core.progress import progress_bar


class Terminal(io.StringIO):
    """A stream that says that a person reads it."""

    def isatty(self):
        return True


def test_nothing_is_shown_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar("positions", total=3) as advance:
        advance(3)
    assert sys.stderr.getvalue() == ""


def test_nothing_is_shown_to_who_does_not_want_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("positions", total=3, wanted=False) as advance:
        advance(3)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("total", [40, None])
def test_a_person_sees_how_much_is_done(monkeypatch, total):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("positions", total=total) as advance:
        for _ in range(4):
            advance(10)
    shown = sys.stderr.getvalue()
    assert "positions" in shown
    assert "40/40" in shown if total else "40/?" in shown


def test_an_error_goes_through(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), progress_bar("positions"):
        raise KeyboardInterrupt
