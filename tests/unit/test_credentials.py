"""Where logins are looked for, in which order, and that nothing shows them."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import traceback

import pytest

from nuncius.credentials import Credentials, Token, find_credentials, find_token
from nuncius.errors import ConfigurationError

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    """Give each test a configuration folder, a home and an environment without logins."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    for service in ("KOWALSKI", "BOOM", "MY_ARCHIVE"):
        for what in ("USERNAME", "PASSWORD", "TOKEN"):
            monkeypatch.delenv(f"NUNCIUS_{service}_{what}", raising=False)
    (tmp_path / "home").mkdir()
    return folder


@pytest.fixture
def in_file(own_config):
    """Write credentials.toml."""

    def write(text, mode=0o600):
        path = own_config / "credentials.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def in_netrc(tmp_path):
    """Write ~/.netrc."""

    def write(text):
        path = tmp_path / "home" / ".netrc"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def pair(found):
    return found and (found.username, found.reveal())


# Where they come from -------------------------------------------------------------------------------------------------


def test_nothing_anywhere():
    assert find_credentials("kowalski", host="host") is None
    assert find_token("kowalski", host="host") is None


@pytest.mark.parametrize(
    "given",
    [("me", SECRET), ["me", SECRET], {"username": "me", "password": SECRET}, Credentials("me", SECRET)],
)
def test_the_argument_in_each_form(given):
    assert pair(find_credentials("kowalski", given)) == ("me", SECRET)


def test_the_order_is_argument_environment_file_netrc(monkeypatch, in_file, in_netrc):
    in_netrc(f"machine host login netrc password {SECRET}")
    assert pair(find_credentials("kowalski", host="host")) == ("netrc", SECRET)
    in_file(f'[kowalski]\nusername = "service"\npassword = "{SECRET}"\ntoken = "t-service"\n')
    assert pair(find_credentials("kowalski", host="host")) == ("service", SECRET)
    assert find_token("kowalski", host="host").reveal() == "t-service"
    in_file(
        f'[kowalski]\nusername = "service"\npassword = "{SECRET}"\ntoken = "t-service"\n'
        f'[host]\nusername = "host"\npassword = "{SECRET}"\ntoken = "t-host"\n'
    )
    assert pair(find_credentials("kowalski", host="host")) == ("host", SECRET)
    assert pair(find_credentials("kowalski", host="another")) == ("service", SECRET)
    assert find_token("kowalski", host="host").reveal() == "t-host"
    monkeypatch.setenv("NUNCIUS_KOWALSKI_USERNAME", "environment")
    monkeypatch.setenv("NUNCIUS_KOWALSKI_PASSWORD", SECRET)
    monkeypatch.setenv("NUNCIUS_KOWALSKI_TOKEN", " t-environment\n")
    assert pair(find_credentials("kowalski", host="host")) == ("environment", SECRET)
    assert find_token("kowalski", host="host").reveal() == "t-environment"
    assert pair(find_credentials("kowalski", ("argument", SECRET), host="host")) == ("argument", SECRET)
    assert find_token("kowalski", "t-argument", host="host").reveal() == "t-argument"


def test_a_service_with_a_dash_in_its_name(monkeypatch):
    monkeypatch.setenv("NUNCIUS_MY_ARCHIVE_TOKEN", "t")
    assert find_token("my-archive").reveal() == "t"


def test_another_service_has_another_login(monkeypatch, in_file):
    monkeypatch.setenv("NUNCIUS_BOOM_TOKEN", "t")
    in_file('[boom]\nusername = "me"\npassword = "p"\n')
    assert find_credentials("kowalski", host="host") is None
    assert find_token("kowalski", host="host") is None


def test_netrc_has_a_place_of_its_own_and_a_default(monkeypatch, tmp_path):
    path = tmp_path / "elsewhere"
    path.write_text(f"machine host login me password {SECRET}\ndefault login anybody password x\n")
    monkeypatch.setenv("NETRC", str(path))
    assert pair(find_credentials("kowalski", host="host")) == ("me", SECRET)
    assert find_credentials("kowalski") is None, "without a host netrc says nothing"


def test_a_netrc_entry_without_a_password_is_no_login(in_netrc):
    in_netrc("machine host login me account a")
    assert find_credentials("kowalski", host="host") is None


# What can't work ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        (SECRET,),
        ("me", SECRET, "more"),
        ("me", 7),
        {"user": "me", "password": SECRET},
        {"username": "me"},
        {},
        7,
    ],
)
def test_an_argument_that_is_no_login(given):
    with pytest.raises(ConfigurationError, match="credentials=") as caught:
        find_credentials("kowalski", given)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("given", ["", "  ", 7, b"token", ["t"]])
def test_an_argument_that_is_no_token(given):
    with pytest.raises(ConfigurationError, match="token="):
        find_token("kowalski", given)


@pytest.mark.parametrize(
    "given", [f"{SECRET}\nX: 1", f"{SECRET} more", f"{SECRET}\x00", f"{SECRET}é", f"{SECRET}\u200b"]
)
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch, in_file, given):
    with pytest.raises(ConfigurationError) as caught:
        find_token("kowalski", given)
    assert SECRET not in shown(caught.value)
    if "\x00" not in given:
        monkeypatch.setenv("NUNCIUS_KOWALSKI_TOKEN", given)
        with pytest.raises(ConfigurationError, match="NUNCIUS_KOWALSKI_TOKEN") as caught:
            find_token("kowalski")
        assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(("there", "missing"), [("USERNAME", "PASSWORD"), ("PASSWORD", "USERNAME")])
def test_half_a_login_in_the_environment_is_loud(monkeypatch, there, missing):
    monkeypatch.setenv(f"NUNCIUS_KOWALSKI_{there}", SECRET)
    with pytest.raises(ConfigurationError, match=f"NUNCIUS_KOWALSKI_{missing} is not set") as caught:
        find_credentials("kowalski")
    assert SECRET not in shown(caught.value)


def test_empty_variables_are_as_good_as_none(monkeypatch, in_file):
    """A variable that a CI system or a container sets to nothing."""
    in_file(f'[kowalski]\nusername = "me"\npassword = "{SECRET}"\ntoken = "t"\n')
    for what in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"NUNCIUS_KOWALSKI_{what}", "")
    assert pair(find_credentials("kowalski")) == ("me", SECRET)
    assert find_token("kowalski").reveal() == "t"
    monkeypatch.setenv("NUNCIUS_KOWALSKI_TOKEN", "  \n")
    assert find_token("kowalski").reveal() == "t"


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_a_file_of_secrets_that_others_can_read_is_refused(in_file, mode):
    path = in_file(f'[kowalski]\nusername = "me"\npassword = "{SECRET}"\ntoken = "{SECRET}"\n', mode)
    for find in (find_credentials, find_token):
        with pytest.raises(ConfigurationError, match="chmod 600") as caught:
            find("kowalski")
        assert caught.value.position == str(path)
        assert SECRET not in shown(caught.value)
    assert stat.S_IMODE(path.stat().st_mode) == mode, "it is for its owner to change"


@pytest.mark.parametrize(
    "text", [f"password = {SECRET}", f'[kowalski\npassword = "{SECRET}"', f"\xff{SECRET}", f'p = "{SECRET}']
)
def test_a_file_that_is_no_toml_is_not_quoted(in_file, own_config, text):
    path = in_file("")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is no TOML") as caught:
        find_credentials("kowalski")
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'kowalski = "x"',
        "[kowalski]\nusername = 7\npassword = 8\ntoken = 9",
        '[kowalski]\nusername = "me"',
        "",
    ],
)
def test_a_file_that_says_something_else_says_nothing(in_file, text):
    in_file(text)
    assert find_credentials("kowalski") is None
    assert find_token("kowalski") is None


@pytest.mark.parametrize(
    "text", [f"machine host {SECRET} x", f'machine host password "{SECRET}', f"{SECRET}"]
)
def test_a_netrc_that_is_not_understood_is_not_quoted(in_netrc, text):
    path = in_netrc(text)
    try:
        assert find_credentials("kowalski", host="host") is None
    except ConfigurationError as error:
        assert error.position == str(path)  # noqa: PT017 - either is honest
        assert SECRET not in shown(error)  # noqa: PT017


def test_a_netrc_that_is_no_text_is_not_quoted(in_netrc):
    path = in_netrc("")
    path.write_bytes(b"machine host login me password \xff\xfe" + SECRET.encode())
    try:
        found = find_credentials("kowalski", host="host")
        assert found is None or found.username == "me"
    except ConfigurationError as error:
        assert SECRET not in shown(error)  # noqa: PT017


# Nothing shows them ---------------------------------------------------------------------------------------------------


def shown(error):
    """Return all that a person, a log or a pickle gets to see of an error."""
    return (
        "".join(traceback.format_exception(error))
        + repr(error)
        + repr(vars(error))
        + repr(pickle.dumps(error))
    )


@pytest.mark.parametrize("secret", [Credentials("me", SECRET), Token(SECRET)])
def test_secrets_are_not_shown_and_not_pickled(secret):
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!s:>3}", "{}".format(secret), repr([secret]), repr({1: secret})]  # fmt: skip  # noqa: UP032
    assert not [text for text in texts if SECRET in text]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert not hasattr(secret, "__dict__"), "what lists attributes would show it"
    assert secret.reveal() == SECRET
    assert "me" in repr(secret) or isinstance(secret, Token)
