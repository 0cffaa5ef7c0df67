"""What the URL of a Pub/Sub stream means, with what the environment and the settings of this machine add; nothing is sent."""

from __future__ import annotations

import os

import pytest

from nuncius import open_stream
from nuncius.brokers.subscriptions import is_subscription, parse_address
from nuncius.errors import ConfigurationError, LoginError, UnsupportedError
from nuncius.streams.pubsub import Plan, check_config
from nuncius.streams.pubsub.client import Server
from nuncius.streams.pubsub.login import GoogleLogin

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")

GOOGLE = "pubsub.googleapis.com:443"


@pytest.fixture(autouse=True)
def config_dir(tmp_path, monkeypatch):
    """Give an empty folder of settings, and no variable that says otherwise."""
    for name in list(os.environ):
        if name.startswith(("NUNCIUS_", "GOOGLE_", "PUBSUB_", "PITTGOOGLE_")) and name != "NUNCIUS_PACKETS":
            monkeypatch.delenv(name)
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(folder))
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return folder


class Nobody:
    """Credentials that are never asked for anything."""

    token = "ya29.s3cret"
    valid = True

    def before_request(self, *_):
        raise AssertionError("something was sent")


def paths(url, group=None, project=None):
    login = None if project is None else GoogleLogin(Nobody(), "a test", project)
    address = parse_address(url)
    return address.subscription(group, Server(address.server, login))


# Servers and names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "server", "is_emulator", "names"),
    [
        ("pubsub://my-project/ztf", GOOGLE, False, ("my-project", "ztf")),
        ("pubsub://my-project/ztf/", GOOGLE, False, ("my-project", "ztf")),
        ("pubsub://projects/my-project/subscriptions/ztf", GOOGLE, False, ("my-project", "ztf")),
        ("pubsub://127.0.0.1:8085/my-project/ztf", "127.0.0.1:8085", True, ("my-project", "ztf")),
        ("pubsub://127.0.0.2:8085/my-project/ztf", "127.0.0.2:8085", True, ("my-project", "ztf")),
        ("pubsub://localhost:8085/my-project/ztf", "localhost:8085", True, ("my-project", "ztf")),
        ("pubsub://[::1]:8085/my-project/ztf", "[::1]:8085", True, ("my-project", "ztf")),
        ("pubsub://pubsub.example.org:443/my-project/ztf", "pubsub.example.org:443", False, ("my-project", "ztf")),
        ("pubsub://10.0.0.7:443/my-project/ztf", "10.0.0.7:443", False, ("my-project", "ztf")),
        ("pubsub://example.com:my-project/ztf", GOOGLE, False, ("example.com:my-project", "ztf")),
        ("pubsub://my-project/a%2Eb", GOOGLE, False, ("my-project", "a.b")),
        ("pittgoogle://ztf-loop", GOOGLE, False, ("ztf-loop",)),
        ("pittgoogle://my-project/ztf-loop", GOOGLE, False, ("my-project", "ztf-loop")),
        ("pittgoogle://projects/my-project/topics/ztf-loop", GOOGLE, False, ("my-project", "ztf-loop")),
        ("pittgoogle://127.0.0.1:8085/ztf-loop", "127.0.0.1:8085", True, ("ztf-loop",)),
        ("pittgoogle://127.0.0.1:8085/my-project/ztf-loop", "127.0.0.1:8085", True, ("my-project", "ztf-loop")),
    ],
)  # fmt: skip
def test_servers_and_names(url, server, is_emulator, names):
    address = parse_address(url)
    assert (address.server, address.is_emulator, address.names) == (server, is_emulator, names)


@pytest.mark.parametrize(
    "url",
    [
        "pubsub://",
        "pubsub:///",
        "pubsub://ztf",
        "pubsub://a/b/c",
        "pubsub://127.0.0.1:8085",
        "pubsub://127.0.0.1:8085/ztf",
        "pubsub://my-project/ztf,lsst",
        "pittgoogle://",
        "pittgoogle://a/b/c",
        "pittgoogle://ztf-loop,lvk-alerts",
        "pittgoogle://127.0.0.1:8085",
        "pubsub://vera:s3cret@my-project/ztf",
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["ab", "1abc", "with space", "sub?x=1", "sub#x", "goog-mine", "ztf\u00e9", "a" * 256, "../secrets"],
)
def test_names_that_google_does_not_have(name):
    from urllib.parse import quote

    with pytest.raises(ConfigurationError, match=r"letter first|not understood"):
        paths(f"pubsub://my-project/{quote(name, safe='')}")
    with pytest.raises(ConfigurationError, match="letter first"):
        paths("pittgoogle://ztf-loop", group=name, project="mine")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("pubsub://a/b", True),
        ("pittgoogle://b", True),
        ("kafka://h/b", False),
        ("replay:///b", False),
        ("pubsub", False),
        ("pubsub:/a/b", False),
        ("", False),
        ("unknown://a", False),
    ],
)
def test_which_urls_are_subscriptions(url, expected):
    assert is_subscription(url) is expected


# The emulator ---------------------------------------------------------------------------------------------------------


def test_the_emulators_variable(monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "emulator.example.org:8085")
    address = parse_address("pubsub://my-project/ztf")
    assert (address.server, address.is_emulator) == ("emulator.example.org:8085", True)
    assert address.log_in().login is None
    named = parse_address("pubsub://other.example.org:443/my-project/ztf")
    assert (named.server, named.is_emulator) == ("other.example.org:443", False)


def test_a_variable_that_is_empty_says_nothing(monkeypatch):
    """As shells leave it behind; Google's server would be spoken to without TLS and login."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "")
    address = parse_address("pubsub://my-project/ztf")
    assert (address.server, address.is_emulator) == (GOOGLE, False)
    with pytest.raises(LoginError, match="PUBSUB_EMULATOR_HOST"):
        address.log_in()


def test_the_end_comes_sooner_on_loopback():
    assert parse_address("pubsub://127.0.0.1:1/my-project/ztf").quiet_s == 2
    assert parse_address("pubsub://my-project/ztf").quiet_s == 10


def test_loopback_with_an_authority_is_no_emulator(tmp_path):
    address = parse_address("pubsub://127.0.0.1:8085/my-project/ztf")
    assert address.log_in().is_emulator
    with pytest.raises(LoginError):
        address.log_in(ssl_ca_location=tmp_path / "ca.pem")
    server = address.log_in(Nobody(), tmp_path / "ca.pem")
    assert (server.ca_file, server.who) == (tmp_path / "ca.pem", "login from credentials=")


# Pitt-Google's topics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "project"),
    [
        ("ztf-loop", "ardent-cycling-243415"),
        ("lvk-alerts", "ardent-cycling-243415"),
        ("lsst-alerts", "pitt-alert-broker"),
        ("lsst-upsilon-mytest", "pitt-alert-broker"),
        ("lsstish", "ardent-cycling-243415"),
        ("elsewhere/topic", "elsewhere"),
    ],
)
def test_in_which_project_a_topic_is(topic, project):
    subscription, found = paths(f"pittgoogle://{topic}", project="mine")
    name = topic.rpartition("/")[2]
    assert found == f"projects/{project}/topics/{name}"
    assert subscription == f"projects/mine/subscriptions/{name}"


def test_a_subscription_of_another_name():
    assert paths("pittgoogle://ztf-loop", "tonight", "mine")[0] == "projects/mine/subscriptions/tonight"


def test_each_subscription_for_one_stream_has_its_own_name():
    names = {paths("pittgoogle://ztf-loop", False, "mine")[0] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("projects/mine/subscriptions/nuncius-") for name in names)


def test_a_subscription_that_is_named_has_no_other_name():
    assert paths("pubsub://mine/ztf") == ("projects/mine/subscriptions/ztf", None)
    with pytest.raises(ConfigurationError, match="group="):
        paths("pubsub://mine/ztf", "other")


def test_the_name_may_stand_in_the_settings(config_dir):
    (config_dir / "config.toml").write_text('[pittgoogle]\ngroup = "vera-2026"\nproject = "my-observatory"\n')
    assert paths("pittgoogle://ztf-loop")[0] == "projects/my-observatory/subscriptions/vera-2026"
    assert paths("pittgoogle://ztf-loop", "other")[0] == "projects/my-observatory/subscriptions/other"


def test_whose_project(config_dir, monkeypatch):
    """Google's variable, then the settings, then that of the login; without a login the sandbox's."""
    url = "pittgoogle://ztf-loop"
    assert paths(url)[0] == "projects/nuncius-sandbox/subscriptions/ztf-loop"
    assert paths(url, project="of-the-key")[0] == "projects/of-the-key/subscriptions/ztf-loop"
    (config_dir / "config.toml").write_text('[pittgoogle]\nproject = "of-the-settings"\n')
    assert paths(url, project="of-the-key")[0] == "projects/of-the-settings/subscriptions/ztf-loop"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-the-shell")
    assert paths(url, project="of-the-key")[0] == "projects/of-the-shell/subscriptions/ztf-loop"


def test_no_project_is_told():
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        paths("pittgoogle://ztf-loop", project="")


# Options --------------------------------------------------------------------------------------------------------------


def test_what_config_says():
    assert check_config(None) == {}
    given = {"lease_s": 600, "max_messages": 1, "max_bytes": 2**40}
    assert check_config(given) == given
    assert Plan("s", None).lease_s == 20


@pytest.mark.parametrize(
    "config",
    [
        {"lease_s": 9},
        {"lease_s": 601},
        {"lease_s": 20.0},
        {"lease_s": True},
        {"lease_s": "20"},
        {"lease_s": None},
        {"max_messages": 0},
        {"max_messages": 10**7},
        {"max_bytes": -1},
        {"ack_deadline": 10},
        {"group.protocol": "consumer"},
        {"": 1},
    ],
)
def test_what_config_can_not_say(config):
    with pytest.raises(ConfigurationError) as caught:
        open_stream("pubsub://127.0.0.1:1/my-project/ztf", config=config)
    assert caught.value.position == next(iter(config))


def test_options_that_mean_nothing_here():
    with pytest.raises(UnsupportedError, match="names the one to read"):
        open_stream("pubsub://127.0.0.1:1/my-project/ztf", group=False)
    with pytest.raises(ConfigurationError, match="group="):
        open_stream("pubsub://127.0.0.1:1/my-project/ztf", group="mine")
    with pytest.raises(ConfigurationError, match="pace="):
        open_stream("pubsub://127.0.0.1:1/my-project/ztf", pace=1)
    with pytest.raises(ConfigurationError, match="whole number"):
        open_stream("pubsub://127.0.0.1:1/my-project/ztf", config={"max_messages": 1.5})


@pytest.mark.parametrize(
    ("stop", "where", "expected"), [(10, None, 10), (5000, None, 1000), (10, "mag < 18", 1000)]
)
def test_no_more_is_lent_to_us_than_is_wanted(stop, where, expected):
    stream = open_stream("pubsub://127.0.0.1:1/my-project/ztf", stop=stop, where=where)
    assert stream._engine._transport._max_messages == expected
    stream = open_stream("pubsub://127.0.0.1:1/my-project/ztf", stop=stop, config={"max_messages": 77})
    assert stream._engine._transport._max_messages == 77


def test_what_a_stream_says_of_itself():
    stream = open_stream("pittgoogle://127.0.0.1:1/ztf-loop")
    assert stream.group == "ztf-loop"
    assert repr(stream) == (
        "<Stream pittgoogle://127.0.0.1:1/ztf-loop, group ztf-loop: 0 alerts, 0 quarantined>"
    )
    assert open_stream("pittgoogle://127.0.0.1:1/ztf-loop", group=False).group is None


def test_of_several_streams_each_has_its_part():
    urls = [
        "pubsub://127.0.0.1:1/my-project/ztf",
        "pittgoogle://127.0.0.1:1/ztf-loop",
        "kafka://127.0.0.1:1/a",
    ]
    config = {"lease_s": 33, "fetch.wait.max.ms": 50}
    engines = open_stream(urls, group="tonight", config=config)._engine._engines
    plans = [engine._transport._plan for engine in list(engines.values())[:2]]
    assert [plan.lease_s for plan in plans] == [33, 33]
    assert [plan.subscription.rpartition("/")[2] for plan in plans] == ["ztf", "tonight"]
    with pytest.raises(UnsupportedError):
        open_stream(urls, group=False)


def test_no_secret_in_what_is_shown():
    login = GoogleLogin(Nobody(), "a test", "mine")
    server = Server("h:1", login)
    for shown in (
        repr(login),
        repr(server),
        login.who,
        server.who,
        repr(parse_address("pittgoogle://ztf-loop")),
    ):
        assert "s3cret" not in shown
