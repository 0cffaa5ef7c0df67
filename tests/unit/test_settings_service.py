"""What is kept of a service: config.toml, credentials.toml, and the environment before both."""

from __future__ import annotations

import os
import stat
import sys
import tomllib
import traceback
from pathlib import Path

import pytest

from nuncius.credentials import Credentials, find_credentials, find_token, store_credentials
from nuncius.errors import ConfigurationError, StorageError
from nuncius.settings import config_dir, find_setting, store_settings

SECRET = "hunter2-s3cret"
JANE = Credentials("jane", SECRET)

ROOT = sys.platform != "win32" and os.geteuid() == 0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the user's own settings out of it."""
    for name in [name for name in os.environ if name.startswith(("NUNCIUS_", "BABAMUL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "config"


def write(folder, text, *, name="config.toml", mode=0o600):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


# Where ------------------------------------------------------------------------------------------------------------------


def test_the_folder_is_moved_by_a_variable(folder):
    assert config_dir() == folder


def test_the_folder_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", "~/alerts")
    assert config_dir() == Path.home() / "alerts"


@pytest.mark.parametrize("value", [None, ""])
def test_the_folder_is_the_users_by_default(monkeypatch, value):
    monkeypatch.delenv("NUNCIUS_CONFIG_DIR")
    if value is not None:
        monkeypatch.setenv("NUNCIUS_CONFIG_DIR", value)
    assert config_dir().name == "nuncius"
    assert config_dir().is_absolute()


# Settings -----------------------------------------------------------------------------------------------------------------


def test_nothing_anywhere_is_none(folder):
    assert find_setting("antares", "servers") is None
    assert not folder.exists(), "who only asks makes no folder"


def test_the_file_is_asked(folder):
    write(folder, '[antares]\nservers = "one:9092,two:9092"\n[fink]\ngroup = "night"\n')
    assert find_setting("antares", "servers") == "one:9092,two:9092"
    assert find_setting("fink", "group") == "night"
    assert find_setting("fink", "servers") is None
    assert find_setting("lasair", "group") is None


@pytest.mark.parametrize(
    ("service", "variable"),
    [("antares", "NUNCIUS_ANTARES_SERVERS"), ("my-broker", "NUNCIUS_MY_BROKER_SERVERS")],
)
def test_the_environment_comes_before_the_file(folder, monkeypatch, service, variable):
    write(folder, f'[{service}]\nservers = "file:1"\n')
    monkeypatch.setenv(variable, "environment:1")
    assert find_setting(service, "servers") == "environment:1"
    monkeypatch.setenv(variable, "")
    assert find_setting(service, "servers") == "file:1", (
        "an empty variable is one that somebody has taken back"
    )


@pytest.mark.parametrize("value", ["9092", "true", "[1]", "{a = 1}", "2026-11-21"])
def test_what_is_no_text_is_told_with_its_place(folder, value):
    path = write(folder, f"[antares]\nservers = {value}\n")
    with pytest.raises(ConfigurationError, match=r"servers in \[antares\] is not a text") as told:
        find_setting("antares", "servers")
    assert str(path) in str(told.value)


@pytest.mark.parametrize("text", ["antares = 1\n", '[[antares]]\nservers = "x"\n', 'servers = "x"\n'])
def test_what_is_no_table_of_the_service_says_nothing_of_it(folder, text):
    write(folder, text)
    assert find_setting("antares", "servers") is None


@pytest.mark.parametrize("content", [b"[antares\n", "# café".encode("latin-1"), b"\xff\xfe\x00", b"\x00"])
def test_a_broken_file_is_told_with_its_place(folder, content):
    path = write(folder, content)
    with pytest.raises(ConfigurationError, match="is no TOML") as told:
        find_setting("antares", "servers")
    assert str(path) in str(told.value)


def test_a_file_that_can_not_be_read_is_told(folder):
    (folder / "config.toml").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"config\.toml can't be read: Is a directory"):
        find_setting("antares", "servers")


@pytest.mark.skipif(ROOT, reason="the superuser may read everything")
def test_a_file_that_is_forbidden_is_told(folder):
    write(folder, '[antares]\nservers = "x"\n', mode=0)
    with pytest.raises(ConfigurationError, match=r"config\.toml can't be read: Permission denied"):
        find_setting("antares", "servers")


def test_no_folder_at_all_is_no_trouble(monkeypatch):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", "/dev/null")
    assert find_setting("antares", "servers") is None
    assert find_credentials("antares") is None


def test_what_is_stored_is_found(folder):
    path = store_settings("fink", {"servers": "broker.example.org:24499"})
    assert path == folder / "config.toml"
    assert find_setting("fink", "servers") == "broker.example.org:24499"


def test_what_was_stored_before_stays(folder, monkeypatch):
    write(folder, '# mine\n[fink]\ngroup = "night"\nother = 1\n\n[gcn]\ngroup = "x"\n')
    monkeypatch.setenv("NUNCIUS_FINK_GROUP", "of the environment")
    store_settings("fink", {"servers": "h:1"})
    store_settings("fink", {"ssl_ca_location": "/ca.pem", "servers": "h:2"})
    text = (folder / "config.toml").read_text()
    assert tomllib.loads(text) == {
        "fink": {"group": "night", "other": 1, "servers": "h:2", "ssl_ca_location": "/ca.pem"},
        "gcn": {"group": "x"},
    }
    assert text.startswith("# mine\n")


# Logins -------------------------------------------------------------------------------------------------------------------


def test_a_stored_login_is_found_and_says_where_it_is(folder):
    path = store_credentials("antares", JANE)
    assert path == folder / "credentials.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = find_credentials("antares")
    assert (found.username, found.reveal()) == ("jane", SECRET)
    assert found.source == f"[antares] in {path}"
    assert find_credentials("fink") is None


def test_a_login_of_a_host_comes_before_that_of_the_service():
    store_credentials("antares", JANE)
    store_credentials("antares", Credentials("john", "other"), host="kafka.example.org")
    assert find_credentials("antares", host="kafka.example.org").username == "john"
    assert find_credentials("antares", host="else.example.org").username == "jane"
    assert find_credentials("antares").username == "jane"


def test_a_login_is_forgotten_alone(folder):
    store_credentials("antares", JANE)
    store_credentials("fink", JANE)
    store_credentials("antares", JANE, host="h")
    assert store_credentials("antares", None) == folder / "credentials.toml"
    assert find_credentials("antares") is None
    assert find_credentials("antares", host="h") is not None
    assert find_credentials("fink") is not None


def test_who_forgets_what_was_never_kept_is_told_so(folder):
    assert store_credentials("antares", None) is None
    assert not folder.exists()
    store_credentials("fink", JANE)
    assert store_credentials("antares", None) is None
    assert store_credentials("fink", None, host="h") is None
    assert find_credentials("fink") is not None


def test_a_token_beside_the_login_stays(folder):
    write(folder, '[kowalski]\ntoken = "abc"\n', name="credentials.toml")
    store_credentials("kowalski", JANE)
    assert find_token("kowalski").reveal() == "abc"
    store_credentials("kowalski", None)
    assert find_token("kowalski").reveal() == "abc"
    assert find_credentials("kowalski") is None


@pytest.mark.parametrize("password", ["q\"uo'te\\", "😀", "密码", "x" * 10_240])
def test_a_password_of_any_letters_comes_back(password):
    store_credentials("antares", Credentials("Zoë", password))
    found = find_credentials("antares")
    assert (found.username, found.reveal()) == ("Zoë", password)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused_with_its_cure(folder, mode):
    path = write(
        folder, f'[antares]\nusername = "jane"\npassword = "{SECRET}"\n', name="credentials.toml", mode=mode
    )
    with pytest.raises(ConfigurationError, match="chmod 600") as told:
        find_credentials("antares")
    assert str(path) in str(told.value)
    assert SECRET not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize("text", [f'[antares\npassword = "{SECRET}"\n', f"password = {SECRET}\n"])
def test_a_broken_file_of_secrets_is_told_without_showing_any(folder, text):
    write(folder, text, name="credentials.toml")
    with pytest.raises(ConfigurationError, match="is no TOML") as told:
        find_credentials("antares")
    assert SECRET not in "".join(traceback.format_exception(told.value))


def test_secrets_that_can_not_be_read_are_not_taken_for_none(folder):
    (folder / "credentials.toml").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"credentials\.toml can't be read: Is a directory"):
        find_credentials("antares")


def test_a_table_without_a_login_is_none(folder):
    write(folder, '[antares]\ntoken = "abc"\n', name="credentials.toml")
    assert find_credentials("antares") is None


def test_a_password_that_can_not_be_kept_is_refused_without_showing_it(folder):
    with pytest.raises(ConfigurationError, match="can't be printed") as told:
        store_credentials("antares", Credentials("jane", f"{SECRET}\x1b[0m"))
    assert SECRET not in "".join(traceback.format_exception(told.value))
    assert not (folder / "credentials.toml").exists()


def test_a_folder_that_is_a_file_is_told(folder):
    folder.write_text("")
    with pytest.raises(StorageError, match=r"credentials\.toml") as told:
        store_credentials("antares", JANE)
    assert SECRET not in "".join(traceback.format_exception(told.value))
