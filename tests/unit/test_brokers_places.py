"""What the URL of a stream means at each broker, and what the settings of this machine add to it."""

from __future__ import annotations

import pytest

from nuncius import open_stream
from nuncius.brokers import profile_of, profiles
from nuncius.brokers.places import parse_place
from nuncius.brokers.pubsub import PubSub
from nuncius.credentials import Credentials
from nuncius.errors import ConfigurationError, LoginError, TlsError
from nuncius.settings import find_setting

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def config_dir(tmp_path, monkeypatch):
    """Give an empty folder of settings, and no variable that says otherwise."""
    import os

    for name in list(os.environ):
        if name.startswith(("NUNCIUS_", "GCN_", "BABAMUL_", "ANTARES_")) and name != "NUNCIUS_PACKETS":
            monkeypatch.delenv(name)
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(folder))
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    return folder


@pytest.fixture
def authority(tmp_path):
    """Give a file of certificates; nobody reads it here."""
    path = tmp_path / "authority.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    return path


def settings_of(url, **options):
    """Return librdkafka's settings for a URL, as a consumer gets them."""
    return parse_place(url).connection(**options).consumer_settings("g")


# Servers and topics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "servers", "topics"),
    [
        ("antares://extragalactic", "kafka.antares.noirlab.edu:9092", ["client.extragalactic"]),
        ("antares://a,b", "kafka.antares.noirlab.edu:9092", ["client.a", "client.b"]),
        ("antares://client.a", "kafka.antares.noirlab.edu:9092", ["client.a"]),
        ("antares://^client.*", "kafka.antares.noirlab.edu:9092", ["^client.*"]),
        ("antares://127.0.0.1:7/a", "127.0.0.1:7", ["client.a"]),
        ("antares://other.host/a", "other.host:9092", ["client.a"]),
        ("antares://one:1,two:2/a,b", "one:1,two:2", ["client.a", "client.b"]),
        ("antares://[::1]:7/a", "[::1]:7", ["client.a"]),
        ("antares://[::1]/a", "[::1]:9092", ["client.a"]),
        ("lsst://alerts-simulated", "rubin-alert-stream-bootstrap.slac.stanford.edu:9094", ["alerts-simulated"]),
        ("lsst://localhost/alerts", "localhost:9094", ["alerts"]),
        ("ztf://h:1/programid1", "h:1", ["ztf_{date}_programid1"]),
        ("ztf://h:1/programid1,programid2", "h:1", ["ztf_{date}_programid1", "ztf_{date}_programid2"]),
        ("ztf://h:1/ztf_20261121_programid1", "h:1", ["ztf_20261121_programid1"]),
        ("ztf://h/ztf_%7Bdate%7D_programid3", "h:9092", ["ztf_{date}_programid3"]),
        ("kafka://h:1/winter_{date}", "h:1", ["winter_{date}"]),
        ("kafka://h/a/b", "h:9092", ["a/b"]),
    ],
)  # fmt: skip
def test_servers_and_topics(url, servers, topics):
    place = parse_place(url)
    assert (place.servers, place.topics) == (servers, topics)


KAFKA = [profile for profile in profiles() if not isinstance(profile, PubSub)]


@pytest.mark.parametrize("profile", KAFKA, ids=lambda profile: profile.name)
def test_every_broker_has_servers_and_a_topic(profile):
    """Its own servers by default, others on request, and the topics as its users know them."""
    place = parse_place(f"{profile.name}://127.0.0.1:7/night")
    assert place.profile is profile_of(profile.name)
    assert place.servers == "127.0.0.1:7"
    assert place.host == "127.0.0.1"
    assert [profile.shown(topic) for topic in place.topics] == ["night"]
    if profile.servers is None:
        with pytest.raises(ConfigurationError, match=f"{profile.name}://host:port/topic"):
            parse_place(f"{profile.name}://night")
    else:
        assert parse_place(f"{profile.name}://night").servers == profile.servers
        assert parse_place(f"{profile.name}://", topics_needed=False).servers == profile.servers


@pytest.mark.parametrize("profile", KAFKA, ids=lambda profile: profile.name)
@pytest.mark.parametrize("rest", ["h:1/", "h:1", "h:1/,", "h:1/ , "])
def test_no_topic_is_told(profile, rest):
    with pytest.raises(ConfigurationError, match="lacks its topic"):
        parse_place(f"{profile.name}://{rest}")


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1", "kafka.example.org"])
@pytest.mark.parametrize("port", ["", ":7"])
def test_the_host_for_finding_a_login(host, port):
    assert parse_place(f"kafka://{host}{port}/a").host == host
    assert parse_place(f"kafka://{host}{port},other:8/a").host == host


@pytest.mark.parametrize(
    "url",
    ["nope://a", "antares", "", "://a", "host:9092/a"],
)
def test_what_is_no_stream_is_refused_with_what_is(url):
    with pytest.raises(ConfigurationError, match="antares://"):
        open_stream(url)


# Secrets ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", profiles(), ids=lambda profile: profile.name)
@pytest.mark.parametrize(
    "rest",
    [f"jane:{SECRET}@h:1/a", f"jane:{SECRET}@h", f"jane:{SECRET}@", f"a:b@{SECRET}@h/a", f"{SECRET}/x@h/a",
     f":{SECRET}@h/a", f"jane:{SECRET}@h:1/a@b"],
)  # fmt: skip
@pytest.mark.parametrize("needed", [True, False])
def test_a_password_in_a_url_is_refused_and_never_shown(profile, rest, needed):
    with pytest.raises(ConfigurationError, match="no user name or password in a URL") as caught:
        parse_place(f"{profile.name}://{rest}", topics_needed=needed)
    assert SECRET not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"gopher://jane:{SECRET}@h/a",
        f"jane:{SECRET}@h:9092/a",
        f"kafka:/jane:{SECRET}@h/a",
        f"//jane:{SECRET}@h/a",
    ],
)
def test_a_password_in_what_is_no_url_is_never_shown(url):
    with pytest.raises(ConfigurationError) as caught:
        open_stream(url)
    assert SECRET not in str(caught.value) + repr(vars(caught.value))


def test_a_password_in_the_servers_of_the_settings_is_refused_and_never_shown(monkeypatch):
    monkeypatch.setenv("NUNCIUS_ANTARES_SERVERS", f"jane:{SECRET}@h:1")
    with pytest.raises(ConfigurationError) as caught:
        parse_place("antares://a")
    assert SECRET not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize("profile", KAFKA, ids=lambda profile: profile.name)
def test_a_secret_is_in_no_repr(profile, authority):
    place = parse_place(f"{profile.name}://h:1/a")
    connection = place.connection(credentials=("jane", SECRET), ssl_ca_location=authority)
    assert SECRET not in repr(place) + repr(connection) + connection.url
    settings = connection.consumer_settings("g")
    if profile.mechanism is not None:
        assert SECRET in settings.values()


# Logins -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile", [one for one in KAFKA if one.login_required], ids=lambda profile: profile.name
)
def test_who_has_no_login_is_told_where_it_comes_from(profile):
    with pytest.raises(LoginError) as caught:
        open_stream(f"{profile.name}://h:1/a", group="g")
    text = str(caught.value)
    assert f"nuncius login {profile.name}" in text
    assert f"NUNCIUS_{profile.name.upper()}_USERNAME" in text
    assert profile.login_help in text
    assert caught.value.service == profile.name


def test_antares_logs_in_plainly_over_tls(authority):
    made = settings_of("antares://a", credentials=("key", SECRET), ssl_ca_location=authority)
    assert (made["security.protocol"], made["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
    assert (made["sasl.username"], made["sasl.password"]) == ("key", SECRET)
    assert made["ssl.ca.location"] == str(authority)
    assert made.get("ssl.endpoint.identification.algorithm", "https") == "https"


def test_rubin_logs_in_without_tls():
    made = settings_of("lsst://a", credentials=("name", SECRET))
    assert (made["security.protocol"], made["sasl.mechanism"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert not any(name.startswith("ssl.") for name in made)


def test_ztf_asks_for_no_login():
    assert "security.protocol" not in settings_of("ztf://h:1/programid1")


def test_a_plain_server_without_login_is_plain():
    assert "security.protocol" not in settings_of("kafka://h/a")


def test_a_plain_server_with_certificates_is_encrypted(authority):
    assert settings_of("kafka://h/a", ssl_ca_location=authority)["security.protocol"] == "SSL"


def test_a_login_in_the_settings_of_librdkafka_is_one(authority):
    """Who writes only name and password there means the broker's way to log in."""
    config = {"sasl.username": "key", "sasl.password": SECRET}
    made = settings_of("antares://a", config=config, ssl_ca_location=authority)
    assert (made["security.protocol"], made["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
    assert made["sasl.username"] == "key"


def test_variables_say_how_to_log_in(monkeypatch, authority):
    monkeypatch.setenv("NUNCIUS_ANTARES_USERNAME", "key")
    monkeypatch.setenv("NUNCIUS_ANTARES_PASSWORD", SECRET)
    made = settings_of("antares://a", ssl_ca_location=authority)
    assert (made["sasl.username"], made["sasl.password"]) == ("key", SECRET)
    made = settings_of("antares://a", ssl_ca_location=authority, credentials=("other", "word"))
    assert (made["sasl.username"], made["sasl.password"]) == ("other", "word")


@pytest.mark.parametrize("table", ["h", "antares"])
def test_a_file_says_how_to_log_in(config_dir, authority, table):
    path = config_dir / "credentials.toml"
    path.write_text(f'["{table}"]\nusername = "key"\npassword = "{SECRET}"\n')
    path.chmod(0o600)
    made = settings_of("antares://h:1/a", ssl_ca_location=authority)
    assert (made["sasl.username"], made["sasl.password"]) == ("key", SECRET)


def test_netrc_says_how_to_log_in(tmp_path, monkeypatch, authority):
    path = tmp_path / "netrc"
    path.write_text(f"machine h login key password {SECRET}\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert settings_of("antares://h:1/a", ssl_ca_location=authority)["sasl.username"] == "key"
    with pytest.raises(LoginError):
        parse_place("antares://other:1/a").connection()


@pytest.mark.parametrize("given", [("jane", SECRET), {"username": "jane", "password": SECRET}, Credentials("jane", SECRET)],
                         ids=["pair", "mapping", "Credentials"])  # fmt: skip
def test_forms_of_credentials(given, authority):
    assert settings_of("antares://a", credentials=given, ssl_ca_location=authority)["sasl.username"] == "jane"


# Settings -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", ["other.host:7", "other.host:7,second:8"])
def test_a_variable_names_other_servers(monkeypatch, servers):
    monkeypatch.setenv("NUNCIUS_ANTARES_SERVERS", servers)
    place = parse_place("antares://a")
    assert (place.servers, place.topics) == (servers, ["client.a"])
    assert parse_place("antares://h:1/a").servers == "h:1"


def test_a_variable_without_port_gets_the_brokers(monkeypatch):
    monkeypatch.setenv("NUNCIUS_LSST_SERVERS", "other.host")
    assert parse_place("lsst://a").servers == "other.host:9094"


def test_a_broker_without_default_gets_one_by_settings(config_dir):
    (config_dir / "config.toml").write_text('[ztf]\nservers = "partnership.example.org:9092"\n')
    place = parse_place("ztf://programid1")
    assert (place.servers, place.topics) == ("partnership.example.org:9092", ["ztf_{date}_programid1"])


def test_the_file_of_settings(config_dir, authority):
    (config_dir / "config.toml").write_text(
        f'[antares]\nservers = "h:7"\nssl_ca_location = "{authority}"\ngroup = "jane-night"\n[other]\nservers = "x"\n'
    )
    place = parse_place("antares://a")
    made = place.connection(credentials=("key", SECRET)).consumer_settings("g")
    assert (place.servers, made["ssl.ca.location"]) == ("h:7", str(authority))
    assert open_stream("antares://a", credentials=("key", SECRET)).group == "jane-night"
    assert open_stream("antares://a", credentials=("key", SECRET), group="mine").group == "mine"
    assert open_stream("antares://a", credentials=("key", SECRET), group=False).group is None


def test_an_argument_goes_before_a_variable_before_the_file(config_dir, authority, tmp_path, monkeypatch):
    first, second = tmp_path / "1.pem", tmp_path / "2.pem"
    first.write_text("")
    second.write_text("")
    (config_dir / "config.toml").write_text(f'[antares]\nssl_ca_location = "{authority}"\n')
    options = {"credentials": ("key", SECRET)}
    assert settings_of("antares://a", **options)["ssl.ca.location"] == str(authority)
    monkeypatch.setenv("NUNCIUS_ANTARES_SSL_CA_LOCATION", str(first))
    assert settings_of("antares://a", **options)["ssl.ca.location"] == str(first)
    made = settings_of("antares://a", **options, ssl_ca_location=second)
    assert made["ssl.ca.location"] == str(second)


@pytest.mark.parametrize("where", ["argument", "variable", "file"])
def test_certificates_that_are_not_there_are_told(config_dir, monkeypatch, where):
    options = {}
    if where == "argument":
        options["ssl_ca_location"] = "/no/such/file.pem"
    elif where == "variable":
        monkeypatch.setenv("NUNCIUS_ANTARES_SSL_CA_LOCATION", "/no/such/file.pem")
    else:
        (config_dir / "config.toml").write_text('[antares]\nssl_ca_location = "/no/such/file.pem"\n')
    with pytest.raises((ConfigurationError, TlsError), match=r"/no/such/file\.pem"):
        open_stream("antares://a", credentials=("key", SECRET), group="g", **options)


@pytest.mark.parametrize("text", ["servers = ", "[antares]\nservers = 5\n", "[antares]\nservers = ['a']\n"])
def test_a_file_of_settings_that_is_wrong_is_told(config_dir, text):
    (config_dir / "config.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.toml"):
        parse_place("antares://a")


@pytest.mark.parametrize("text", ["antares = 5\n", "[antares]\n", "", "[antares.more]\nservers = 'x'\n"])
def test_a_file_of_settings_that_says_nothing(config_dir, text):
    (config_dir / "config.toml").write_text(text)
    assert find_setting("antares", "servers") is None
    assert parse_place("antares://a").servers == "kafka.antares.noirlab.edu:9092"


def test_a_file_of_settings_that_is_no_text_is_told(config_dir):
    (config_dir / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"config\.toml"):
        parse_place("antares://a")


# A client that only asks --------------------------------------------------------------------------------------------------


def test_who_only_asks_reaches_the_broker_as_who_reads(tmp_path):
    """The user's settings may say how to get there at all."""
    from confluent_kafka import Consumer

    config = {
        "broker.address.family": "v4", "client.dns.lookup": "use_all_dns_ips", "session.timeout.ms": 7000,
        "socket.connection.setup.timeout.ms": 5000, "group.id": "other", "enable.auto.commit": True,
    }  # fmt: skip
    connection = parse_place("kafka://127.0.0.1:1/a").connection(config=config)
    asking = connection.asking_settings("g")
    for name in ("broker.address.family", "client.dns.lookup", "socket.connection.setup.timeout.ms"):
        assert asking[name] == config[name]
    assert (asking["group.id"], asking["enable.auto.commit"]) == ("g", False)
    Consumer({**asking, "log_level": 0}).close()
