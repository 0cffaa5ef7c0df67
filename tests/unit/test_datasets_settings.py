"""Where a dserver is and who we are there: argument, environment, dtool's file; and a login stands beside its URL."""

from __future__ import annotations

import json
import os
import pickle

import pytest

import nuncius
from nuncius import aio
from nuncius.credentials import Token
from nuncius.datasets import configuration
from nuncius.datasets.configuration import config_path, find_settings, store_setting
from nuncius.errors import ConfigurationError

A, B = "https://a.example:5000", "https://b.example/lookup"
SECRET = "s3cret-value"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Give each test a home and an environment of its own."""
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "nuncius"))
    monkeypatch.delenv("NETRC", raising=False)
    for name in list(os.environ):
        if name.startswith(("DSERVER_", "DTOOL_", "NUNCIUS_DSERVER")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def write(own_home):
    """Write dtool's file."""

    def written(values=None, *, text=None):
        path = own_home / ".config" / "dtool" / "dtool.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values) if text is None else text)
        return path

    return written


@pytest.fixture
def environment(monkeypatch):
    def told(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"DSERVER_{name}", value)

    return told


def told(found):
    """Return settings as what can be compared."""
    login = found.credentials
    return {
        "url": found.url,
        "token": found.token and found.token.reveal(),
        "token_url": found.token_url,
        "login": login and (login.username, login.reveal()),
        "username": found.username,
        "verify": found.verify,
        "authenticate": found.authenticate,
    }


NAMES = {
    "url": ("URL", "https://{}.example"),
    "token": ("TOKEN", "token-{}"),
    "token_url": ("TOKEN_GENERATOR_URL", "https://{}.example/token"),
}


@pytest.mark.parametrize("argument", [True, False])
@pytest.mark.parametrize("in_environment", [True, False])
@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("setting", ["url", "token", "token_url"])
def test_argument_before_environment_before_file(
    write, environment, setting, argument, in_environment, in_file
):
    name, value = NAMES[setting]
    if in_file:
        write({f"DSERVER_{name}": value.format("file")})
    if in_environment:
        environment(**{name: value.format("environment")})
    options = {} if setting == "url" else {"url": A}
    if argument:
        options[setting] = value.format("argument")
    first = next(
        (
            place
            for place, there in (("argument", argument), ("environment", in_environment), ("file", in_file))
            if there
        ),
        None,
    )
    if first is None and setting == "url":
        with pytest.raises(ConfigurationError, match=r"no dserver is named: give its URL, set DSERVER_URL"):
            find_settings()
        return
    assert told(find_settings(**options))[setting] == (first and value.format(first))


def test_a_login_of_argument_environment_and_file(write, environment):
    write({"DSERVER_USERNAME": "of the file", "DSERVER_PASSWORD": 12345})
    assert told(find_settings(A))["login"] == ("of the file", "12345")
    environment(USERNAME="of the environment", PASSWORD=" with blanks ")
    assert told(find_settings(A))["login"] == ("of the environment", " with blanks ")
    given = find_settings(A, credentials=("vera", SECRET))
    assert told(given)["login"] == ("vera", SECRET)
    assert SECRET not in repr(given)


def test_an_empty_setting_is_none(write, environment):
    write({"DSERVER_URL": A, "DSERVER_TOKEN": None, "DSERVER_TOKEN_GENERATOR_URL": ""})
    environment(URL="", TOKEN="  ", USERNAME="", PASSWORD=" ")
    assert told(find_settings()) == {
        "url": A,
        "token": None,
        "token_url": None,
        "login": None,
        "username": None,
        "verify": True,
        "authenticate": True,
    }


EVERYTHING = {
    "TOKEN": "token",
    "TOKEN_GENERATOR_URL": f"{A}/token",
    "USERNAME": "vera",
    "PASSWORD": SECRET,
    "VERIFY_SSL": "no",
    "DISABLE_AUTHENTICATION": "yes",
}
OWN = {"token": "token", "token_url": f"{A}/token", "login": ("vera", SECRET), "username": "vera", "verify": False,
       "authenticate": False}  # fmt: skip
NOTHING = {
    "token": None,
    "token_url": None,
    "login": None,
    "username": None,
    "verify": True,
    "authenticate": True,
}


@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize(
    ("beside", "asked", "expected"),
    [
        (A, A, OWN),
        (A, f"{A}/", OWN),
        (f"{A}/some/path", A, OWN),
        ("http://a.example:5000", A, NOTHING),
        ("https://a.example:5001", A, NOTHING),
        ("https://a.example", A, NOTHING),
        (B, A, NOTHING),
        (None, A, OWN),
        ("https://a.example:443/x", "https://a.example", OWN),
        ("https://[bad", A, NOTHING),
        ("https://a.example:99999", A, NOTHING),
    ],
)
def test_what_stands_beside_a_url_is_for_that_server(write, environment, place, beside, asked, expected):
    values = EVERYTHING | ({} if beside is None else {"URL": beside})
    if place == "file":
        write({f"DSERVER_{name}": value for name, value in values.items()})
    else:
        environment(**values)
    assert told(find_settings(asked)) == {"url": asked.rstrip("/"), **expected}


def test_the_file_may_know_a_login_for_the_url_of_the_environment(write, environment):
    write({"DSERVER_URL": A, "DSERVER_TOKEN": "of-a"})
    environment(URL=B)
    assert told(find_settings())["token"] is None
    environment(URL=A)
    assert told(find_settings())["token"] == "of-a"
    environment(URL=B, TOKEN="of-b")
    assert told(find_settings(A))["token"] == "of-a"


def test_what_is_not_used_is_named_and_not_shown(write):
    write({"DSERVER_URL": B, "DSERVER_TOKEN": SECRET})
    found = find_settings(A)
    assert any("DSERVER_TOKEN in" in name for name in found.elsewhere)
    assert SECRET not in repr(found)


def test_a_login_that_is_given_comes_before_a_token_that_is_found(environment):
    environment(TOKEN="found")
    assert told(find_settings(A, credentials=("vera", "p")))["token"] is None
    assert told(find_settings(A, credentials=("vera", "p"), token="given"))["token"] == "given"


@pytest.mark.parametrize("word", ["no", "No", "false", "0", "off", "N", False, 0])
def test_servers_that_are_not_verified(write, word):
    write({"DSERVER_VERIFY_SSL": word})
    assert find_settings(A).verify is False
    assert find_settings(A, verify=True).verify is True


@pytest.mark.parametrize("word", ["yes", "true", "1", "on", "", "perhaps", True, 1, None])
def test_servers_that_are_verified(write, word):
    write({"DSERVER_VERIFY_SSL": word})
    assert find_settings(A).verify is True
    assert find_settings(A, verify="/some/ca.pem").verify == "/some/ca.pem"


@pytest.mark.parametrize(("word", "wanted"), [("true", False), (True, False), ("1", False), ("no", True), ("", True), (None, True),
                                             ("perhaps", True)])  # fmt: skip
def test_servers_that_want_no_token(write, word, wanted):
    write({"DSERVER_DISABLE_AUTHENTICATION": word})
    assert find_settings(A).authenticate is wanted
    assert find_settings(A, authenticate=not wanted).authenticate is not wanted


@pytest.mark.parametrize(("given", "used"), [(A, f"{A}/token"), (f"{A}/", f"{A}/token"), (f"{A}/token", f"{A}/token"),
                                             (f"{A}/a/b/", f"{A}/a/b"), ("http://localhost:5001", "http://localhost:5001/token")])  # fmt: skip
def test_where_tokens_are_got(given, used):
    assert find_settings(A, token_url=given).token_url == used


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host:5000",
        "https://",
        "https://vera:s3cret-value@host",
        "http://[bad",
        "http://h:99999",
        "/path",
        "nonsense",
    ],
)
@pytest.mark.parametrize("name", ["url", "token_url"])
def test_addresses_that_are_none(url, name):
    with pytest.raises(ConfigurationError) as caught:
        find_settings(**({"url": url} if name == "url" else {"url": A, "token_url": url}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("token", ["", "  ", 5, "a b", "tök", "a\nb", b"bytes"])
def test_tokens_that_are_none(token):
    with pytest.raises(ConfigurationError, match="token") as caught:
        find_settings(A, token=token)
    assert "tök" not in str(caught.value)


def test_a_token_may_be_given_as_one():
    assert find_settings(A, token=Token("t")).token.reveal() == "t"
    assert find_settings(A, token="  t\n").token.reveal() == "t"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        '"text"',
        "null",
        '{"DSERVER_URL": "' + SECRET,
        "\x00",
        "[" * 100_000,
        f'{{"DSERVER_TOKEN": "{SECRET}",}}',
    ],
)
def test_a_file_that_is_broken(write, text):
    path = write(text=text)
    with pytest.raises(ConfigurationError) as caught:
        find_settings(A)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert path.read_text() == text


@pytest.mark.parametrize("value", [[], {}, ["https://a.example"], {"a": 1}])
def test_a_setting_that_is_no_text(write, value):
    write({"DSERVER_URL": value})
    with pytest.raises(ConfigurationError, match=r"DSERVER_URL in .*dtool\.json is not a text"):
        find_settings()


def test_a_file_that_can_not_be_read(write, tmp_path):
    path = write({"DSERVER_URL": A})
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match=r"dtool\.json can't be read"):
        find_settings(A)


def test_a_file_in_no_text_at_all(write):
    path = write({})
    path.write_bytes(b"\xff\xfe\x00s3cret-value")
    with pytest.raises(ConfigurationError, match="is no JSON") as caught:
        find_settings(A)
    assert SECRET not in str(caught.value)


def test_another_file_than_dtools_own(write, tmp_path):
    write({"DSERVER_URL": A})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"DSERVER_URL": B, "DTOOL_S3_ENDPOINT_bucket": "http://there"}))
    assert find_settings(config_file=other).url == B
    assert find_settings(config_file=str(other)).url == B
    assert store_setting("DTOOL_S3_ENDPOINT_bucket", other) == "http://there"
    assert store_setting("DTOOL_S3_ENDPOINT_bucket") is None
    assert config_path().name == "dtool.json"


def test_where_there_is_no_file(tmp_path):
    assert find_settings(A).url == A  # dtool's own may be absent, one that was named may not
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none.json", tmp_path / "file" / "none.json"):
        with pytest.raises(ConfigurationError, match=r"none\.json is not there"):
            find_settings(A, config_file=path)


def test_what_is_changed_outside_is_seen_by_the_next(write, environment):
    path = write({"DSERVER_URL": A})
    assert find_settings().url == A
    path.write_text(json.dumps({"DSERVER_URL": B}))
    assert find_settings().url == B
    environment(URL="https://c.example")
    assert find_settings().url == "https://c.example"


@pytest.mark.parametrize("open_one", [nuncius.open_dserver, aio.open_dserver])
def test_a_dserver_is_pickled_without_any_secret(write, open_one):
    write({"DSERVER_URL": A, "DSERVER_TOKEN": "of-the-file"})
    dserver = open_one(
        A,
        token=SECRET,
        credentials=("vera", SECRET),
        token_url=B,
        timeout_s=5,
        verify=False,
        interactive=False,
    )
    text = pickle.dumps(dserver)
    assert SECRET.encode() not in text
    assert b"vera" not in text
    twin = pickle.loads(text)
    assert type(twin) is type(dserver)
    assert (twin.url, twin._service.timeout_s, twin._service.interactive) == (A, 5, False)
    assert twin._service.settings.token_url == B
    assert twin._service.settings.verify is False
    assert twin._service.settings.token.reveal() == "of-the-file"
    assert repr(twin) == repr(dserver)
    assert SECRET not in repr(dserver) + repr(vars(dserver)) + repr(vars(dserver._service))


@pytest.mark.parametrize("timeout_s", [0, -1, "5", True])
def test_times_are_looked_at_when_it_is_opened(timeout_s):
    with pytest.raises(ConfigurationError, match="timeout_s="):
        nuncius.open_dserver(A, timeout_s=timeout_s)


def test_settings_of_stores_come_from_environment_and_file(write, monkeypatch):
    write({"DTOOL_S3_ENDPOINT_b": "of the file", "DTOOL_S3_ENDPOINT_c": "of the file"})
    monkeypatch.setenv("DTOOL_S3_ENDPOINT_b", "of the environment")
    found = [store_setting(f"DTOOL_S3_ENDPOINT_{name}") for name in "bcd"]
    assert found == ["of the environment", "of the file", None]


def test_words_for_yes_and_no_have_nothing_in_common():
    assert not configuration._YES & configuration._NO
