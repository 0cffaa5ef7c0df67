"""User names and passwords: where they are looked for, and that a password is never shown."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest

import nuncius.aio
from nuncius import open_stream
from nuncius.alerts.packets.registry import RegistrySchemas
from nuncius.brokers.places import parse_place
from nuncius.credentials import Credentials, find_credentials
from nuncius.errors import ConfigurationError, NunciusError, UnreachableError

SECRET = "hunter2-s3cret"


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("NUNCIUS_KAFKA_USERNAME", raising=False)
    monkeypatch.delenv("NUNCIUS_KAFKA_PASSWORD", raising=False)


def test_a_pair_is_taken():
    found = find_credentials("kafka", ("jane", SECRET))
    assert (found.username, found.reveal()) == ("jane", SECRET)


def test_a_mapping_is_taken():
    found = find_credentials("kafka", {"username": "jane", "password": SECRET})
    assert (found.username, found.reveal()) == ("jane", SECRET)


def test_credentials_are_taken_as_they_are():
    given = Credentials("jane", SECRET)
    assert find_credentials("kafka", given) is given


def test_none_anywhere_is_none():
    assert find_credentials("kafka") is None


def test_the_surroundings_are_asked(monkeypatch):
    monkeypatch.setenv("NUNCIUS_KAFKA_USERNAME", "jane")
    monkeypatch.setenv("NUNCIUS_KAFKA_PASSWORD", SECRET)
    found = find_credentials("kafka")
    assert (found.username, found.reveal()) == ("jane", SECRET)
    assert "NUNCIUS_KAFKA_PASSWORD" in found.source


def test_a_service_with_a_dash_has_variables_with_underscores(monkeypatch):
    monkeypatch.setenv("NUNCIUS_SCHEMA_REGISTRY_USERNAME", "jane")
    monkeypatch.setenv("NUNCIUS_SCHEMA_REGISTRY_PASSWORD", SECRET)
    assert find_credentials("schema-registry").username == "jane"


def test_the_argument_comes_before_the_surroundings(monkeypatch):
    monkeypatch.setenv("NUNCIUS_KAFKA_USERNAME", "john")
    monkeypatch.setenv("NUNCIUS_KAFKA_PASSWORD", "other")
    assert find_credentials("kafka", ("jane", SECRET)).username == "jane"


@pytest.mark.parametrize(("is_set", "missing"), [("USERNAME", "PASSWORD"), ("PASSWORD", "USERNAME")])
def test_half_a_login_is_told(monkeypatch, is_set, missing):
    monkeypatch.setenv(f"NUNCIUS_KAFKA_{is_set}", SECRET)
    with pytest.raises(ConfigurationError, match=f"NUNCIUS_KAFKA_{missing} is not set") as told:
        find_credentials("kafka")
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "given",
    [("jane",), ("jane", SECRET, "x"), ("jane", None), (1, SECRET), {"user": "jane", "password": SECRET}, {}, SECRET,
     ("jane", SECRET.encode())],
)  # fmt: skip
def test_what_is_no_pair_is_refused_without_showing_it(given):
    with pytest.raises(ConfigurationError, match="username, password") as told:
        find_credentials("kafka", given)
    assert SECRET not in "".join(traceback.format_exception(told.value))


# Never shown ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "show", [repr, str, ascii, format, "{0!r} {0}".format, lambda it: f"{it}", "%s %r".__mod__]
)
def test_no_text_of_credentials_holds_the_password(show):
    credentials = Credentials("jane", SECRET)
    text = show((credentials, credentials)) if show.__name__ == "__mod__" else show(credentials)
    assert SECRET not in text
    assert "jane" in text


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_credentials_are_not_copied_anywhere(make):
    with pytest.raises(TypeError, match="not pickled") as told:
        make(Credentials("jane", SECRET))
    assert SECRET not in str(told.value)


def test_credentials_hold_no_dict_to_print():
    credentials = Credentials("jane", SECRET)
    with pytest.raises(TypeError):
        vars(credentials)


@pytest.mark.parametrize("open_one", [open_stream, nuncius.aio.open_stream])
def test_a_stream_shows_no_password_and_is_not_pickled(open_one):
    stream = open_one("kafka://127.0.0.1:1/alerts", group="g", credentials=("jane", SECRET))
    assert SECRET not in repr(stream)
    assert SECRET not in repr(stream.stats())
    assert SECRET not in stream.url
    with pytest.raises(TypeError):
        pickle.dumps(stream)


@pytest.mark.parametrize(
    "url",
    [
        f"kafka://jane:{SECRET}@broker:9092/alerts",
        f"kafka://jane:{SECRET}@broker/alerts",
        f"kafka://jane:{SECRET}@broker",
        f"kafka://:{SECRET}@broker/alerts",
        f"kafka://jane:p@{SECRET}@broker/alerts",
        f"kafka://jane:a/{SECRET}@broker/alerts",
        f"kafka://broker,jane:{SECRET}@other/alerts",
        f"kafak://jane:{SECRET}@broker/alerts",
        f"hop://jane:{SECRET}@broker/alerts",
        f"KAFKA://jane:{SECRET}@broker/alerts",
        f"jane:{SECRET}@broker/alerts",
        f"https://jane:{SECRET}@broker/alerts",
    ],
)
@pytest.mark.parametrize("open_one", [open_stream, nuncius.aio.open_stream])
def test_a_password_in_a_url_is_refused_and_not_repeated(url, open_one):
    with pytest.raises(ConfigurationError) as told:
        open_one(url, group="g")
    shown = "".join(traceback.format_exception_only(told.value)) + repr(vars(told.value))
    assert SECRET not in shown


def test_a_password_in_a_url_is_refused_with_its_cure():
    with pytest.raises(
        ConfigurationError, match=r"kafka://broker:9093/alerts.*credentials=.*NUNCIUS_KAFKA_PASSWORD"
    ):
        parse_place(f"kafka://jane:{SECRET}@broker:9093/alerts")


def test_nothing_that_goes_wrong_shows_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    stream = open_stream(
        "kafka://127.0.0.1:1/alerts",
        group="g",
        credentials=("jane", SECRET),
        connect_timeout_s=0.5,
        config={"security.protocol": "SASL_PLAINTEXT", "debug": "conf,security"},
    )
    with pytest.raises(UnreachableError) as told:
        next(stream)
    shown = "".join(traceback.format_exception(told.value)) + repr(vars(told.value)) + caplog.text
    assert SECRET not in shown


def test_a_setting_that_is_refused_does_not_show_the_password():
    stream = open_stream(
        "kafka://127.0.0.1:1/alerts",
        group="g",
        config={"sasl.mechanism": "NO-SUCH", "security.protocol": "SASL_PLAINTEXT", "sasl.username": "jane",
                "sasl.password": SECRET},
    )  # fmt: skip
    with pytest.raises(NunciusError) as told:
        next(stream)
    assert SECRET not in "".join(traceback.format_exception(told.value))


def test_a_registry_with_a_password_does_not_show_it(tmp_path):
    registry = RegistrySchemas(f"http://jane:{SECRET}@127.0.0.1:1/schemas", tmp_path)
    with pytest.raises(UnreachableError) as told:
        registry.find(7)
    assert SECRET not in "".join(traceback.format_exception(told.value)) + repr(vars(told.value)) + repr(
        registry
    )
