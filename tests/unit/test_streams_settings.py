"""Where settings live, and the name of the consumer group that is made once."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from pathlib import Path

import pytest

from nuncius.errors import StorageError
from nuncius.settings import data_dir, default_group


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(folder))
    return folder


def test_the_data_folder_is_moved_by_a_variable(own_data_dir):
    assert data_dir() == own_data_dir


def test_the_data_folder_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", "~/alerts")
    assert data_dir() == Path.home() / "alerts"


@pytest.mark.parametrize("value", [None, ""])
def test_the_data_folder_is_the_users_by_default(monkeypatch, value):
    monkeypatch.delenv("NUNCIUS_DATA_DIR")
    if value is not None:
        monkeypatch.setenv("NUNCIUS_DATA_DIR", value)
    assert data_dir().name == "nuncius"
    assert data_dir().is_absolute()


def test_the_group_is_made_once_and_then_kept(own_data_dir):
    first = default_group()
    assert re.fullmatch(r"nuncius-[\w-]+-[0-9a-f]{8}", first)
    assert default_group() == first
    assert (own_data_dir / "group").read_text().strip() == first


def test_two_users_have_two_groups(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "one"))
    first = default_group()
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "two"))
    assert default_group() != first


def test_a_user_name_of_odd_letters_makes_a_usable_group(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "DOMAIN\\jo hn@x")
    assert re.fullmatch(r"nuncius-DOMAIN-jo-hn-x-[0-9a-f]{8}", default_group())


@pytest.mark.parametrize("fault", [OSError, KeyError, ImportError])
def test_a_machine_without_user_database_has_a_group(monkeypatch, fault):
    def getuser():
        raise fault

    monkeypatch.setattr("getpass.getuser", getuser)
    assert default_group().startswith("nuncius-user-")


def test_a_group_written_by_hand_is_used(own_data_dir):
    own_data_dir.mkdir()
    (own_data_dir / "group").write_text("  caltech-night\n")
    assert default_group() == "caltech-night"


def test_an_empty_file_does_not_give_another_group_each_time(own_data_dir):
    """A crash or a full disk between making the file and writing it must not cost the positions of each later run."""
    own_data_dir.mkdir()
    (own_data_dir / "group").write_text("")
    assert default_group() == default_group()


def _ask(folder, barrier, answers):
    os.environ["NUNCIUS_DATA_DIR"] = folder
    barrier.wait()
    answers.put(default_group())


def test_who_starts_at_the_same_time_gets_the_same_group(own_data_dir):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_ask, args=(str(own_data_dir), barrier, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    names = {answers.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(30)
    assert names == {default_group()}


def test_who_finds_the_file_before_its_name_is_in_it_gets_the_same_group(own_data_dir, monkeypatch):
    """The same race, made certain: the second asks between the creation of the file and the writing."""
    second = []
    plain_open = Path.open

    def open_slowly(path, mode="r", *args, **options):
        file = plain_open(path, mode, *args, **options)
        if "x" in mode and not second:
            second.append(None)
            second[0] = default_group()
        return file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_slowly)
        first = default_group()
    assert {first, *second} == {default_group()}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_can_not_be_written_is_told_with_its_cure(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(StorageError, match=r"group=.*NUNCIUS_DATA_DIR"):
        default_group()


def test_a_data_folder_that_is_a_file_is_told_with_its_cure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"group=.*NUNCIUS_DATA_DIR"):
        default_group()


@pytest.mark.parametrize("damage", ["folder", "not text"])
def test_a_damaged_file_is_an_error_of_ours(own_data_dir, damage):
    own_data_dir.mkdir()
    path = own_data_dir / "group"
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(StorageError, match=r"group="):
        default_group()
