"""What `open_stream` takes and refuses, before anything is sent over a network."""

from __future__ import annotations

import inspect

import pytest

import nuncius
import nuncius.aio
from nuncius.errors import ConfigurationError, NotFoundError, UnsupportedError

KAFKA = "kafka://127.0.0.1:1/alerts"


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("NUNCIUS_KAFKA_USERNAME", raising=False)
    monkeypatch.delenv("NUNCIUS_KAFKA_PASSWORD", raising=False)
    return tmp_path / "data"


@pytest.fixture(params=["sync", "async"])
def open_one(request):
    return nuncius.open_stream if request.param == "sync" else nuncius.aio.open_stream


def test_the_two_colours_take_the_same():
    sync, asynchronous = (
        inspect.signature(it).parameters for it in (nuncius.open_stream, nuncius.aio.open_stream)
    )
    assert {name: (it.kind, it.default) for name, it in sync.items()} == {
        name: (it.kind, it.default) for name, it in asynchronous.items()
    }
    assert all(it.kind is it.KEYWORD_ONLY for name, it in sync.items() if name != "url")


@pytest.mark.parametrize(
    "url",
    ["", "kafka", "kafka:", "kafka://", "kafka:///alerts", "kafka://broker", "kafka://broker/", "kafka://broker/,",
     "replay://", "replay:", "gopher://broker/alerts", "broker:9092/alerts", "/path/to/packets", "://broker/alerts"],
)  # fmt: skip
def test_a_url_that_names_no_stream_is_refused(open_one, url):
    with pytest.raises(ConfigurationError, match=r"kafka://host:port/topic"):
        open_one(url, group="g")


@pytest.mark.parametrize(
    ("option", "value"),
    [("acknowledge", "manually"), ("acknowledge", "Manual"), ("acknowledge", None), ("acknowledge", True),
     ("on_error", "ignore"), ("on_error", ""), ("on_error", None), ("start", "end"), ("stop", "eof"),
     ("max_unacknowledged", 0), ("max_unacknowledged", -1), ("schema", 7), ("schema", "/no/such/folder"),
     ("credentials", "jane"), ("group", True), ("group", 5), ("group", "")],
)  # fmt: skip
def test_a_misspelt_value_is_refused_and_named(open_one, option, value):
    with pytest.raises(ConfigurationError, match=f"{option}|schema directory"):
        open_one(KAFKA, **{option: value})


def test_a_misspelt_option_is_refused(open_one):
    with pytest.raises(TypeError, match="on_eror"):
        open_one(KAFKA, on_eror="skip")


@pytest.mark.parametrize(
    ("url", "server", "topics"),
    [
        ("kafka://broker/a", "broker:9092", ["a"]),
        ("kafka://broker:9093/a,b", "broker:9093", ["a", "b"]),
        ("kafka://broker/a, b,,c", "broker:9092", ["a", "b", "c"]),
        ("kafka://one:1,two/a", "one:1,two:9092", ["a"]),
        ("kafka://broker/%5Eztf_.*%2C", "broker:9092", ["^ztf_.*,"]),
        ("kafka://broker/^ztf_.*_programid1", "broker:9092", ["^ztf_.*_programid1"]),
        ("kafka://127.0.0.1:9092/a", "127.0.0.1:9092", ["a"]),
        ("kafka://[::1]:9092/a", "[::1]:9092", ["a"]),
        ("kafka://[::1]/a", "[::1]:9092", ["a"]),
    ],
)
def test_servers_and_topics_of_a_url(url, server, topics):
    from nuncius.brokers.places import parse_place

    place = parse_place(url)
    assert (place.servers, place.topics) == (server, topics)


def test_the_group_is_the_users_own_by_default(open_one, own_data_dir):
    first, second = open_one(KAFKA), open_one(KAFKA)
    assert first.group == second.group == (own_data_dir / "group").read_text().strip()


def test_a_group_is_named(open_one):
    assert open_one(KAFKA, group="caltech-night").group == "caltech-night"


def test_no_group_is_no_group(open_one, own_data_dir):
    assert open_one(KAFKA, group=False).group is None
    assert not own_data_dir.exists()


def test_opening_sends_nothing_and_needs_no_closing(open_one):
    """No thread is started and no address looked up before the stream is entered or read."""
    import threading

    before = threading.active_count()
    open_one("kafka://no.such.host.invalid:1/alerts", group="g")
    assert threading.active_count() == before


# Replay -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:03}.json").write_text(f'{{"candid": {number}}}')
    return folder


def test_a_folder_is_read_in_the_order_of_its_names(night):
    with nuncius.open_stream(f"replay://{night}") as stream:
        alerts = list(stream)
    assert [alert.alert_id for alert in alerts] == list(range(30))
    assert alerts[7].origin.topic == str(night / "007.json")
    assert (alerts[7].origin.service, stream.group) == ("replay", None)


def test_a_single_file_is_read(night):
    with nuncius.open_stream(f"replay://{night / '005.json'}") as stream:
        assert [alert.alert_id for alert in stream] == [5]


def test_a_path_with_odd_letters_is_read(night):
    odd = night.rename(night.with_name("night of 20% ü"))
    from urllib.parse import quote

    with nuncius.open_stream(f"replay://{quote(str(odd))}", stop=2) as stream:
        assert [alert.alert_id for alert in stream] == [0, 1]


@pytest.mark.parametrize(
    "options", [{"stop": "end"}, {"start": "earliest"}, {"start": "committed"}, {"group": False}]
)
def test_options_that_say_what_a_replay_does_anyway(night, options):
    with nuncius.open_stream(f"replay://{night}", **options) as stream:
        assert len(list(stream)) == 30


@pytest.mark.parametrize("options", [{"group": "g"}, {"start": "latest"}, {"start": "-2h"}])
def test_what_a_replay_can_not_do_is_refused(open_one, night, options):
    with pytest.raises(UnsupportedError, match="replay"):
        open_one(f"replay://{night}", **options)


def test_a_replay_does_not_move_and_has_no_topics(night):
    with nuncius.open_stream(f"replay://{night}") as stream:
        next(stream)
        with pytest.raises(UnsupportedError, match="replay streams can't seek"):
            stream.seek("earliest")
        with pytest.raises(UnsupportedError, match="replay streams have no topics"):
            stream.topics()
        assert len(list(stream)) == 29


def test_a_replay_knows_what_is_left(night):
    with nuncius.open_stream(f"replay://{night}") as stream:
        assert list(stream.lag().values()) == [30]
        for _ in range(10):
            next(stream)
        assert list(stream.lag().values()) == [21]


@pytest.mark.parametrize("entered", [True, False])
def test_a_folder_that_is_not_there_is_told(tmp_path, entered):
    stream = nuncius.open_stream(f"replay://{tmp_path}/nothing")
    with pytest.raises(NotFoundError, match="nothing"):
        stream.__enter__() if entered else next(stream)


def test_a_folder_without_packets_is_told(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(ConfigurationError, match="no packet"), nuncius.open_stream(f"replay://{tmp_path}"):
        pass


async def test_an_async_replay(night):
    async with nuncius.aio.open_stream(f"replay://{night}") as stream:
        batches = [len(batch) async for batch in stream.batches(20)]
    assert sum(batches) == 30
    assert max(batches) <= 20


@pytest.fixture
def anyio_backend():
    return "asyncio"
