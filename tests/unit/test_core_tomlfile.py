"""Keys are set in a TOML file that a person has written: the rest stays as it stands, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
import tomllib
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius._core.tomlfile import set_keys
from nuncius.errors import ConfigurationError, StorageError

SECRET = "hunter2-s3cret"
LOGIN = {"username": "jane", "password": SECRET}
FORGOTTEN = dict.fromkeys(LOGIN)

ROOT = sys.platform != "win32" and os.geteuid() == 0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings" / "credentials.toml"


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(path):
    return tomllib.loads(path.read_bytes().decode())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# What is written ------------------------------------------------------------------------------------------------------


def test_a_file_and_its_folder_are_made(path):
    assert set_keys(path, "antares", LOGIN)
    assert read(path) == {"antares": LOGIN}


def test_saying_the_same_again_changes_nothing(path):
    set_keys(path, "antares", LOGIN)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert not set_keys(path, "antares", LOGIN)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize(
    "value",
    [
        'quo"te', "apo'strophe", "back\\slash", "\\", '"""', "'''", "# no remark", "[fink]", "= =", "Zoë", "密码", "€",
        "😀 beyond 16 bits", "\\u0041", "%s {} $HOME `id`", "x" * 10_240, " spaces ", "",
    ],
)  # fmt: skip
def test_a_value_comes_back_as_it_was(path, value):
    set_keys(path, "antares", {"password": value})
    assert read(path) == {"antares": {"password": value}}
    set_keys(path, "fink", {"password": "other"})
    assert read(path)["antares"] == {"password": value}


@settings(max_examples=60, deadline=None)
@given(value=st.text(max_size=20), name=st.text(max_size=12))
def test_any_text_is_kept_whole_or_refused(tmp_path_factory, value, name):
    path = tmp_path_factory.mktemp("any") / "credentials.toml"
    write(path, '[fink]\nusername = "vera"\n')
    try:
        set_keys(path, name, {"password": value})
    except ConfigurationError:
        assert read(path) == {"fink": {"username": "vera"}}
    else:
        assert read(path)[name]["password"] == value
        assert read(path)["fink"]["username"] == "vera"


@pytest.mark.parametrize(
    "value", ["a\nb", "a\tb", "a\x00b", "\x7f", "no-break\u00a0space", "\u2028", "\ufeffx", "\ud800"]
)
def test_what_can_not_be_printed_is_refused_without_showing_it(path, value):
    with pytest.raises(ConfigurationError, match="password holds a letter that can't be printed") as told:
        set_keys(path, "antares", {"username": "jane", "password": SECRET + value})
    assert SECRET not in "".join(traceback.format_exception(told.value))
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["kafka.example.org", "127.0.0.1", "hopskotch", "name with spaces", 'quo"te', "Zoë", "😀"]
)
def test_a_table_of_any_name_is_found_again(path, name):
    set_keys(path, name, LOGIN)
    set_keys(path, name, {"password": "new"})
    assert read(path) == {name: {"username": "jane", "password": "new"}}
    set_keys(path, name, FORGOTTEN)
    assert read(path) == {}


# What stays -------------------------------------------------------------------------------------------------------------

BY_HAND = """\
# Logins of the night shift.
note = "mine"

[fink]  # by Julien
username = "vera"
servers = [
  "one:9092",
  "two:9092",
]

# ANTARES: ask Tom
[antares]
# the old key stopped in May
username = 'old'
password = "old"
token = "kept"

# GCN, for the weekend
[gcn]
username = "amy"  # hers
"""


def test_remarks_other_tables_and_other_keys_stay_line_by_line(path):
    write(path, BY_HAND)
    set_keys(path, "antares", LOGIN)
    after = read(path)
    assert after.pop("antares") == {**LOGIN, "token": "kept"}
    before = tomllib.loads(BY_HAND)
    del before["antares"]
    assert after == before
    kept = [line for line in BY_HAND.splitlines() if "old'" not in line and '"old"' not in line]
    lines = path.read_text().splitlines()
    assert [line for line in lines if line in kept] == kept
    assert len(lines) == len(kept) + 2


def test_a_remark_above_the_next_table_stays_with_it(path):
    write(path, BY_HAND)
    set_keys(path, "antares", {**FORGOTTEN, "token": None})
    assert "antares" not in read(path)
    assert '# GCN, for the weekend\n[gcn]\nusername = "amy"  # hers\n' in path.read_text()


def test_a_table_with_other_keys_is_not_forgotten_whole(path):
    write(path, BY_HAND)
    set_keys(path, "antares", FORGOTTEN)
    assert read(path)["antares"] == {"token": "kept"}


def test_ends_of_lines_stay(path):
    write(path, '# hello\r\n[fink]\r\nusername = "vera"\r\n')
    set_keys(path, "fink", {"password": "x"})
    set_keys(path, "antares", LOGIN)
    content = path.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > 5
    assert read(path) == {"fink": {"username": "vera", "password": "x"}, "antares": LOGIN}


def test_a_last_line_without_an_end(path):
    write(path, '[fink]\nusername = "vera"')
    set_keys(path, "antares", LOGIN)
    assert read(path) == {"fink": {"username": "vera"}, "antares": LOGIN}


@pytest.mark.parametrize(
    "header", ["[antares]", " [ antares ] # mine", '["antares"]', "['antares']", "[antares]#[x]"]
)
def test_a_table_is_known_however_its_name_is_written(path, header):
    write(path, f'{header}\nusername = "old"\n[fink]\na = 1\n')
    set_keys(path, "antares", LOGIN)
    assert read(path) == {"antares": LOGIN, "fink": {"a": 1}}


def test_sub_tables_stay(path):
    write(path, '[antares]\nusername = "old"\n\n[antares.archive]\nurl = "x"\n')
    set_keys(path, "antares", LOGIN)
    assert read(path) == {"antares": {**LOGIN, "archive": {"url": "x"}}}


@pytest.mark.parametrize(
    "text",
    [
        'antares = {username = "a", password = "b"}\n',
        'antares.username = "a"\n',
        "[[antares]]\nusername = 'a'\n",
        'antares = "a text"\n',
        '["antar\\u0065s"]\nusername = "a"\n',
        '[antares]\n"username" = "a"\n',
        '[antares]\nusername = """\na\n"""\n',
        'x = """\n[antares]\nusername = 1\n"""\n',
    ],
)
def test_a_layout_that_can_not_be_changed_is_left_alone(path, text):
    write(path, text)
    with pytest.raises(
        ConfigurationError, match=r"laid out in a way .* write the table \[antares\] yourself"
    ) as told:
        set_keys(path, "antares", LOGIN)
    assert path.read_text() == text
    assert SECRET not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize(
    "content",
    [
        f'[fink\npassword = "{SECRET}"\n'.encode(), f"password = {SECRET}".encode(), f"# caf\xe9 {SECRET}\n".encode("latin-1"),
        SECRET.encode("utf-16"), b"\x00\x01\x02", b"[a]\n[a]\n",
    ],
)  # fmt: skip
def test_a_broken_file_is_never_written_over(path, content):
    write(path, content)
    with pytest.raises(
        ConfigurationError, match=r"credentials\.toml is no TOML .*mend it or move it away"
    ) as told:
        set_keys(path, "antares", LOGIN)
    assert path.read_bytes() == content
    assert SECRET not in "".join(traceback.format_exception(told.value))


# Forgetting ---------------------------------------------------------------------------------------------------------------


def test_forgetting_what_is_not_there_writes_nothing(path):
    assert not set_keys(path, "antares", FORGOTTEN)
    assert not path.parent.exists()
    write(path, BY_HAND)
    assert not set_keys(path, "lasair", FORGOTTEN)
    assert path.read_text() == BY_HAND


def test_forgetting_the_last_table_leaves_an_empty_file(path):
    set_keys(path, "antares", LOGIN)
    assert set_keys(path, "antares", FORGOTTEN)
    assert path.read_text().strip() == ""


# Who may read it --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_masked():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_private_file_is_private_from_its_first_byte(path, nothing_masked, monkeypatch):
    modes = []
    plain_open = os.open

    def watched(name, flags, *rest, **options):
        handle = plain_open(name, flags, *rest, **options)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return handle

    monkeypatch.setattr(os, "open", watched)
    set_keys(path, "antares", LOGIN, private=True)
    set_keys(path, "antares", {"password": "new"}, private=True)
    assert modes == [0o600, 0o600]
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700, (
        "who may rename files in the folder may read what is written to them next"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_private_file_that_others_could_read_is_closed(path):
    write(path, BY_HAND)
    path.chmod(0o644)
    set_keys(path, "antares", LOGIN, private=True)
    assert mode(path) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_file_that_its_owner_has_hidden_stays_hidden(path):
    write(path, "a = 1\n")
    path.chmod(0o600)
    set_keys(path, "antares", {"servers": "h:9092"})
    assert mode(path) == 0o600


def test_a_link_stays_a_link(path, tmp_path):
    target = tmp_path / "dotfiles" / "credentials.toml"
    target.parent.mkdir()
    target.write_text(BY_HAND)
    path.parent.mkdir()
    path.symlink_to(target)
    set_keys(path, "antares", LOGIN, private=True)
    assert path.is_symlink()
    assert read(target)["antares"]["password"] == SECRET
    assert mode(target) == 0o600


def test_a_link_to_nowhere_makes_what_it_names(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "dotfiles" / "new.toml")
    set_keys(path, "antares", LOGIN, private=True)
    assert read(tmp_path / "dotfiles" / "new.toml") == {"antares": LOGIN}


# What fails -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(ROOT, reason="the superuser may write everywhere")
def test_a_folder_that_can_not_be_written_is_told(path):
    write(path, BY_HAND)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"credentials\.toml can't be written: Permission denied"):
            set_keys(path, "antares", LOGIN)
    finally:
        path.parent.chmod(0o700)
    assert path.read_text() == BY_HAND


def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch):
    write(path, BY_HAND)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as told:
        set_keys(path, "antares", LOGIN)
    assert path.read_text() == BY_HAND
    assert os.listdir(path.parent) == [path.name], "no part with a secret is left behind"
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("damage", ["folder", "file as folder"])
def test_what_is_no_file_is_told(path, damage):
    if damage == "file as folder":
        path.parent.write_text("")
    else:
        path.parent.mkdir()
        path.mkdir()
    with pytest.raises(StorageError, match=r"credentials\.toml"):
        set_keys(path, "antares", LOGIN)


# At once ----------------------------------------------------------------------------------------------------------------


def _store(path, barrier, name):
    barrier.wait()
    for number in range(10):
        set_keys(Path(path), f"{name}{number}", {"password": name}, private=True)


def test_nothing_is_lost_where_several_write_at_once(path):
    context = multiprocessing.get_context("spawn")
    names = ("antares", "fink", "gcn")
    barrier = context.Barrier(len(names))
    workers = [context.Process(target=_store, args=(str(path), barrier, name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert read(path).keys() == {f"{name}{number}" for name in names for number in range(10)}
    assert os.listdir(path.parent) == [path.name]
