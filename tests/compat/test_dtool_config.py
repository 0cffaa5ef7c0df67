"""What is configured for dtool-lookup-api's interface: assigned, in the environment, in dtool's file, and typed."""

from __future__ import annotations

import ast
import asyncio
import getpass
import os
import select
import subprocess
import sys
import time

import pytest
from dtool_support import URI, run_script

from nuncius.compat.dtool_lookup_api import asynchronous, get_me, get_readme
from nuncius.compat.dtool_lookup_api.core import config
from nuncius.compat.dtool_lookup_api.core.config import Config
from nuncius.compat.dtool_lookup_api.errors import LookupServerError
from nuncius.datasets import asking
from nuncius.errors import ConfigurationError, LoginError

pytest_plugins = ["dtool_fixtures"]


def paths(dserver):
    """Return what was asked."""
    return [request.path for request in dserver.requests]


# The properties ---------------------------------------------------------------------------------------------------------


def test_nothing_is_set(nothing_configured):
    assert (Config.interactive, Config.cache) == (True, True)
    assert (Config.lookup_url, Config.token, Config.auth_url) == (None, "", "")
    assert (Config.verify_ssl, Config.disable_authentication) == (True, False)
    assert config.CONFIG_PATH.endswith("dtool.json")


PROPERTIES = {
    "lookup_url": ("DSERVER_URL", "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"),
    "token": ("DSERVER_TOKEN", "a.b.c", "d.e.f", "g.h.i"),
    "auth_url": (
        "DSERVER_TOKEN_GENERATOR_URL",
        "http://127.0.0.1:1/t",
        "http://127.0.0.1:2/t",
        "http://127.0.0.1:3/t",
    ),
    "username": ("DSERVER_USERNAME", "ada", "grace", "vera"),
    "password": ("DSERVER_PASSWORD", "one", "two", "three"),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_precedence(nothing_configured, config_file, monkeypatch, name):
    key, in_file, in_environment, assigned = PROPERTIES[name]
    config_file(**{key: in_file})
    assert getattr(Config, name) == in_file
    monkeypatch.setenv(key, in_environment)
    assert getattr(Config, name) == in_environment
    setattr(Config, name, assigned)
    assert getattr(Config, name) == assigned
    assert assigned not in repr(Config)
    setattr(Config, name, None)
    assert getattr(Config, name) == in_environment


@pytest.mark.parametrize(
    ("text", "verify", "disabled"),
    [
        ("false", False, False),
        ("0", False, False),
        ("OFF", False, False),
        ("n", False, False),
        ("yes", True, True),
        ("1", True, True),
        ("True", True, True),
        ("perhaps", True, False),
        ("", True, False),
    ],
)
def test_flags(nothing_configured, monkeypatch, text, verify, disabled):
    monkeypatch.setenv("DSERVER_VERIFY_SSL", text)
    monkeypatch.setenv("DSERVER_DISABLE_AUTHENTICATION", text)
    assert (Config.verify_ssl, Config.disable_authentication) == (verify, disabled)
    Config.verify_ssl, Config.disable_authentication = not verify, not disabled
    assert (Config.verify_ssl, Config.disable_authentication) == (not verify, not disabled)


# What the functions make of it ------------------------------------------------------------------------------------------


def test_a_token_in_the_environment(with_token):
    assert get_me()["username"] == with_token.username


def test_the_file(dserver, config_file, monkeypatch):
    monkeypatch.delenv("DSERVER_URL")
    config_file(
        DSERVER_URL=dserver.url,
        DSERVER_TOKEN_GENERATOR_URL=dserver.token_url,
        DSERVER_USERNAME=dserver.username,
        DSERVER_PASSWORD=dserver.password,
    )
    assert get_me() == asyncio.run(asynchronous.get_me())
    assert paths(dserver) == ["/token", "/me", "/me"]


def test_the_environment_before_the_file(dserver, config_file, monkeypatch):
    config_file(DSERVER_URL=dserver.url, DSERVER_TOKEN=dserver.token)
    assert get_me()["is_admin"] is False
    monkeypatch.setenv("DSERVER_TOKEN", dserver.admin_token)
    assert get_me()["is_admin"] is True
    Config.token = dserver.token
    assert get_me()["is_admin"] is False
    Config.token = None
    assert get_me()["is_admin"] is True


def test_a_token_of_the_file_stays_with_its_server(dserver, config_file):
    config_file(DSERVER_URL="http://127.0.0.1:9", DSERVER_TOKEN=dserver.token)
    with pytest.raises(LoginError, match=r"^Authentication failed"):
        get_me()


def test_the_file_changes(dserver, config_file, monkeypatch):
    monkeypatch.delenv("DSERVER_URL")
    config_file(DSERVER_URL=dserver.url, DSERVER_TOKEN=dserver.token)
    assert get_me()["is_admin"] is False
    config_file(DSERVER_URL=dserver.url, DSERVER_TOKEN=dserver.admin_token)
    assert get_me()["is_admin"] is True


def test_while_nothing_changes_the_client_stays(with_token, monkeypatch):
    for _ in range(4):
        get_readme(URI)
        monkeypatch.setenv("SOMETHING_ELSE", str(time.monotonic()))
    assert len({request.port for request in with_token.requests}) == 1
    monkeypatch.setenv("DSERVER_TOKEN", with_token.admin_token)
    assert get_me()["is_admin"] is True
    assert len({request.port for request in with_token.requests}) == 2


def test_assigned_login(dserver, monkeypatch):
    Config.auth_url, Config.username, Config.password = dserver.url, dserver.username, dserver.password
    assert get_me()["username"] == dserver.username
    assert paths(dserver) == ["/token", "/me"]


@pytest.mark.parametrize("assigned", ["username", "password"])
def test_half_of_a_login_is_assigned(dserver, monkeypatch, assigned):
    monkeypatch.setenv("DSERVER_TOKEN_GENERATOR_URL", dserver.url)
    login = {"username": dserver.username, "password": dserver.password}
    for name, value in login.items():
        monkeypatch.setenv(f"DSERVER_{name.upper()}", "wrong" if name == assigned else value)
    with pytest.raises(LoginError):
        get_me()
    setattr(Config, assigned, login[assigned])
    assert get_me()["username"] == dserver.username


def test_authentication_is_switched_off(dserver, monkeypatch):
    monkeypatch.setattr(dserver, "authenticate", False)
    assert get_me()["username"] == dserver.username  # also where nobody has said so
    monkeypatch.setenv("DSERVER_TOKEN", "no.token.atall")
    monkeypatch.setenv("DSERVER_DISABLE_AUTHENTICATION", "true")
    assert get_me()["username"] == dserver.username


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"DSERVER_URL": ["secret"]}', "\udcff".encode("utf-8", "surrogateescape")]
)
def test_a_broken_file(nothing_configured, tmp_path, text):
    path = tmp_path / ".config" / "dtool" / "dtool.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for ask in (get_me, lambda: asyncio.run(asynchronous.get_me()), lambda: Config.lookup_url):
        with pytest.raises(ConfigurationError, match=r"dtool\.json") as caught:
            ask()
        assert isinstance(caught.value, LookupServerError)
        assert "secret" not in str(caught.value)


def test_no_server_is_named(nothing_configured):
    with pytest.raises(ConfigurationError, match="DSERVER_URL") as caught:
        get_me()
    assert isinstance(caught.value, LookupServerError)


# Somebody sits there ----------------------------------------------------------------------------------------------------


class Person:
    """Who types what is asked for, and notes it."""

    def __init__(self, dserver):
        self.answers = {"username:": dserver.username, "password:": dserver.password}
        self.asked = []

    def type(self, prompt=""):
        """Answer a question."""
        self.asked.append(prompt)
        return self.answers[prompt.rpartition(" ")[2]]


@pytest.fixture
def person(dserver, monkeypatch):
    """Give somebody who sits before the terminal, and a token generator."""
    found = Person(dserver)
    monkeypatch.setenv("DSERVER_TOKEN_GENERATOR_URL", dserver.url)
    monkeypatch.setattr(asking, "somebody_is_there", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", found.type)
    monkeypatch.setattr(getpass, "getpass", found.type)
    return found


def prompts(dserver, *names):
    """Return the documented questions."""
    return [f"Authentication URL {dserver.token_url} {name}:" for name in names]


def test_one_is_asked_once(person, dserver):
    for _ in range(3):
        get_me()
    asyncio.run(asynchronous.get_me())
    assert person.asked == prompts(dserver, "username", "password")
    assert paths(dserver) == ["/token", *["/me"] * 4]


def test_what_was_typed_is_used_again(person, dserver, monkeypatch):
    get_me()
    dserver.expire_tokens()
    get_me()
    monkeypatch.setenv("DSERVER_VERIFY_SSL", "false")  # another client
    get_me()
    assert (Config.username, Config.password) == (dserver.username, dserver.password)
    assert person.asked == prompts(dserver, "username", "password")
    assert paths(dserver).count("/token") == 3


def test_what_was_typed_stays_with_its_token_generator(person, dserver, monkeypatch):
    get_me()
    monkeypatch.setenv("DSERVER_TOKEN_GENERATOR_URL", "http://127.0.0.1:9")
    person.answers["password:"] = ""
    with pytest.raises(LoginError):
        get_me()
    assert len(person.asked) == 4


def test_nothing_is_kept_without_cache(person, dserver):
    Config.cache = False
    get_me()
    get_me()
    assert len(person.asked) == 2  # the token lasts
    dserver.expire_tokens()
    get_me()
    assert person.asked == prompts(dserver, "username", "password") * 2


def test_what_was_kept_is_forgotten(person, dserver):
    get_me()
    Config.cache = False
    dserver.expire_tokens()
    get_me()
    assert len(person.asked) == 4


def test_nobody_is_asked_where_that_is_switched_off(person, dserver):
    Config.interactive = False
    with pytest.raises(RuntimeError, match=r"^Authentication failed"):
        get_me()
    assert person.asked == []
    assert (Config.username, Config.password) == (None, None)
    Config.interactive = True
    assert get_me()["username"] == dserver.username


def test_nobody_is_asked_where_there_is_a_token(person, dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_TOKEN", dserver.token)
    get_me()
    assert person.asked == []


def test_the_name_is_known(person, dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_USERNAME", dserver.username)
    get_me()
    assert person.asked == prompts(dserver, "password")


def test_the_properties_ask_too(person, dserver):
    assert Config.username == dserver.username
    assert Config.password == dserver.password
    assert (Config.username, Config.password) == (dserver.username, dserver.password)
    assert person.asked == prompts(dserver, "username", "password")
    get_me()
    assert len(person.asked) == 2
    assert dserver.password not in repr(Config)


def test_the_name_that_was_typed_is_used(person, dserver):
    assert Config.username == dserver.username
    get_me()
    assert person.asked == prompts(dserver, "username", "password")


def test_a_wrong_password_is_not_kept(person, dserver):
    person.answers["password:"] = "wrong"
    with pytest.raises(RuntimeError, match=r"^Authentication failed") as caught:
        get_me()
    assert "wrong" not in str(caught.value)
    person.answers["password:"] = dserver.password
    get_me()
    assert person.asked == prompts(dserver, "username", "password") * 2
    assert paths(dserver) == ["/token", "/token", "/me"]


def test_nobody_answers_the_question(person, dserver, monkeypatch):
    def leave(prompt=""):
        raise EOFError

    monkeypatch.setattr("builtins.input", leave)
    with pytest.raises(RuntimeError, match=r"^Authentication failed"):
        get_me()


# At a terminal ----------------------------------------------------------------------------------------------------------

TERMINAL = """
from nuncius.compat.dtool_lookup_api import get_datasets, get_me
print("ANSWER", [get_me()["username"] for _ in range(2)], "END")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_at_a_terminal(dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_TOKEN_GENERATOR_URL", dserver.url)
    terminal, its_end = os.openpty()
    ends = {"stdin": its_end, "stdout": its_end, "stderr": its_end}
    with subprocess.Popen([sys.executable, "-c", TERMINAL], start_new_session=True, **ends) as program:
        try:
            asked, told = prompts(dserver, "username", "password")
            shown = read_until(terminal, asked)
            os.write(terminal, f"{dserver.username}\n".encode())
            shown = read_until(terminal, told, shown)
            os.write(terminal, f"{dserver.password}\n".encode())
            shown = read_until(terminal, "END", shown)
        finally:
            program.kill()
            os.close(terminal)
            os.close(its_end)
    answer = shown.partition("ANSWER ")[2].partition("END")[0]
    assert ast.literal_eval(answer.strip()) == [dserver.username] * 2
    assert dserver.password not in shown  # it is not echoed
    assert shown.count("Authentication URL") == 2


def read_until(terminal, wanted, shown=""):
    """Read what a program shows until something is there."""
    end = time.monotonic() + 30
    while wanted not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown


def test_without_a_terminal_nobody_is_asked(dserver):
    code = f"{TERMINAL.replace('print', 'try: print')}\nexcept RuntimeError as error: print(error)"
    shown = run_script(code, DSERVER_TOKEN_GENERATOR_URL=dserver.url)
    assert shown.startswith("Authentication failed")
    assert "username:" not in shown
