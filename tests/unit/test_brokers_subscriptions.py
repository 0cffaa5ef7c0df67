"""What the URL of a Pub/Sub stream means, and whose project a subscription is made in."""

from __future__ import annotations

import json

import pytest

from nuncius.brokers import diagnose
from nuncius.brokers.subscriptions import parse_address
from nuncius.errors import ConfigurationError, LoginError
from nuncius.settings import store_settings
from nuncius.streams.pubsub import Server

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "NUNCIUS_PITTGOOGLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_wins_over_the_file_and_the_nearer_over_the_wider(monkeypatch):
    address, server = parse_address("pittgoogle://127.0.0.1:8085/ztf-loop"), Server("127.0.0.1:8085")
    store_settings("pittgoogle", {"project": "in-the-file"})
    assert address.project(server) == "in-the-file"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-this-run")
    assert address.project(server) == "of-this-run"
    monkeypatch.setenv("NUNCIUS_PITTGOOGLE_PROJECT", "for-pitt-google")
    assert address.project(server) == "for-pitt-google"


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("pubsub://projects/observatory/subscriptions/mine", ("observatory", "mine")),
        ("pittgoogle://projects/observatory/topics/ztf-loop", ("observatory", "ztf-loop")),
    ],
)
def test_names_as_google_writes_them(url, names):
    assert parse_address(url).names == names


@pytest.mark.parametrize(
    "url",
    ["pubsub://projects/observatory/topics/mine", "pittgoogle://projects/observatory/subscriptions/mine"],
)
def test_a_topic_is_no_subscription_and_a_subscription_no_topic(url):
    with pytest.raises(ConfigurationError, match="is not understood"):
        parse_address(url)


@pytest.mark.parametrize("host", ["localhost", "http://localhost", "[::1]"])
def test_an_emulator_without_a_port_is_told(monkeypatch, host):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    with pytest.raises(ConfigurationError, match="has no port: write HOST:PORT"):
        parse_address("pubsub://observatory/mine")
    [verdict] = diagnose("pubsub://observatory/mine")
    assert (verdict.step, verdict.state) == ("settings", "failed")
    assert "PUBSUB_EMULATOR_HOST" in verdict.text


def test_a_login_that_was_not_given_for_a_server_goes_to_google_alone(monkeypatch, tmp_path):
    key = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    for host in ("", "us-east1-pubsub.googleapis.com:443/"):
        assert parse_address(f"pubsub://{host}observatory/mine").log_in().login is not None
    strange = parse_address("pubsub://pubsub.googleapis.com.example.org:443/observatory/mine")
    with pytest.raises(LoginError, match="credentials="):
        strange.log_in()
    assert strange.log_in(tmp_path / "key.json").login is not None
    store_settings("pubsub", {"servers": strange.server})
    assert strange.log_in().login is not None


def test_an_emulator_of_this_run_needs_no_certificates_that_are_kept_for_another_server(
    monkeypatch, tmp_path
):
    store_settings("pittgoogle", {"ssl_ca_location": str(tmp_path / "observatory.pem")})
    assert not parse_address("pittgoogle://127.0.0.1:8085/ztf-loop").is_open()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085")
    address = parse_address("pittgoogle://ztf-loop")
    assert address.is_open()
    assert address.log_in() == Server("127.0.0.1:8085")
    assert not address.is_open(ssl_ca_location=tmp_path / "own.pem")
