"""Each example of antares-client's documentation, with another import line or command, against an ANTARES on loopback.

Filled in are the keys; put right are the equals signs in a dictionary, and the line ends of the commands.
"""

from __future__ import annotations

import json
import signal

import pytest
from antares_support import edited, program, run_command
from astropy.io import fits

from streams_support import new_name

pytest_plugins = ["antares_fixtures"]

EXAMPLE = """
from antares_client import Client


def main():
    # The client is instantiated; though there are more options that can be
    # passed to the constructor, the `topics` argument and the `api_key` and
    # `api_secret` keyword arguments are required.
    client = Client(
        topics=["extragalactic"],
        api_key="********************",
        api_secret="********************",
    )

    while True:
        # The `Client.poll` method will block until an alert is available.
        # The returned `alert` is a dictionary.
        topic, alert = client.poll()
        do_something(alert)

    # We must close our connection to ANTARES when we are done with it.
    client.close()


if __name__ == "__main__":
    main()
"""

CONFIG = """
from antares_client import Client

config = {
    "api_key": "********************",
    "api_secret": "********************",
}
"""

CONCISE = """
with Client(["extragalactic"], **config) as client:
    for topic, alert in client.iter():
        do_something(alert)
"""

EXPANDED = """
client = Client(["extragalactic"], **config)
try:
    while True:
        topic, alert = client.poll()
        do_something(alert)
finally:
    client.close()
"""

THUMBNAILS = """
from antares_client.thumbnails import get_thumbnails

alert_id = 9898524
thumbnails = get_thumbnails(alert_id)
print(thumbnails)

# You can also have them saved to a directory for you.
# The return value is the same as before.
alert_id = 9898524
output_dir = "/foo/bar/thumbnails/"  # Your output directory
saved = thumbnails
thumbnails = get_thumbnails(alert_id, output_dir)
"""

ONE_STREAM = """antares-client extragalactic \\
  --output-directory ~/antares \\
  --api-key ******************** \\
  --api-secret ********************"""

TWO_STREAMS = """antares-client extragalactic,nuclear_transient \\
  --output-directory ~/antares \\
  --api-key ******************** \\
  --api-secret ********************"""


class EnoughError(Exception):
    """Ends an example that never ends by itself."""


@pytest.fixture
def own_group(monkeypatch):
    """The examples name no group; without one it would be this machine's name, which the tests share."""
    monkeypatch.setenv("NUNCIUS_ANTARES_GROUP", new_name("group"))


def run(text, box, count):
    """Run an example until it has handled so many alerts; return them."""
    seen = []

    def do_something(alert):
        seen.append(alert)
        if len(seen) == count:
            raise EnoughError

    code = compile(edited(text, box), "example", "exec")
    with pytest.raises(EnoughError):
        exec(code, {"__name__": "__main__", "do_something": do_something})
    return seen


def in_stream(box, topic):
    return sum(topic in locus.tags for locus in box.loci)


def test_the_library_and_going_on_where_it_left_off(antares, own_group):
    total = in_stream(antares, "extragalactic")
    first = run(EXAMPLE, antares, 5)
    assert all(type(alert) is dict and alert for alert in first)
    # The fifth was not finished: nobody came back for a sixth.
    second = run(EXAMPLE, antares, total - 4)
    assert second[0] in first or second[0] != first[4]
    ids = [json.dumps(alert, sort_keys=True) for alert in first + second]
    assert len(set(ids)) == total
    assert sorted(ids.count(one) for one in set(ids))[-2:] == [1, 2]


@pytest.mark.parametrize("text", [CONCISE, EXPANDED], ids=["concise", "expanded"])
def test_the_client_as_a_context_and_its_expanded_form(antares, own_group, text):
    total = in_stream(antares, "extragalactic")
    found = run(CONFIG + text, antares, total)
    assert len({json.dumps(alert, sort_keys=True) for alert in found}) == total


def test_thumbnails(antares, tmp_path, capsys):
    text = edited(THUMBNAILS, antares).replace("/foo/bar/", f"{tmp_path}/foo/bar/")
    locus = next(locus for locus in antares.loci if locus.newest.thumbnails)
    namespace = {}
    exec(compile(text.replace("9898524", str(locus.old_id)), "example", "exec"), namespace)
    found = namespace["thumbnails"]
    assert list(found) == ["template", "science", "difference"]
    assert found == namespace["saved"]
    assert capsys.readouterr().out == f"{found}\n"
    folder = tmp_path / "foo" / "bar" / "thumbnails"
    assert len(list(folder.iterdir())) == 3
    for image in found.values():
        assert set(image) == {"file_name", "file_bytes"}
        assert image["file_name"].endswith(".fits.gz")
        assert (folder / image["file_name"]).read_bytes() == image["file_bytes"]
        assert fits.getdata(folder / image["file_name"]).shape == (63, 63)


@pytest.mark.parametrize(
    ("text", "topics", "command"),
    [
        (ONE_STREAM, ["extragalactic"], "nuncius.compat.antares_client"),
        (TWO_STREAMS, ["extragalactic", "nuclear_transient"], "nuncius.cli antares"),
    ],
    ids=["one", "two"],
)
def test_the_command_line(antares, own_group, tmp_path, text, topics, command):
    wanted = {
        f"{topic}/{locus.newest.alert_id}.json"
        for topic in topics
        for locus in antares.loci
        if topic in locus.tags
    }

    def files():
        return {
            str(path.relative_to(tmp_path / "antares")) for path in (tmp_path / "antares").rglob("*.json")
        }

    line = edited(text, antares).replace("antares-client", program(command))
    code, out, err = run_command(
        line, until=lambda: wanted <= files(), stop=signal.SIGTERM, HOME=str(tmp_path)
    )
    assert (code, out) == (0, ""), err
    assert files() == wanted
    assert not list((tmp_path / "antares").rglob("*.part"))
    assert err.count("list of processes") == 1
    assert antares.api_secret not in err
    one = tmp_path / "antares" / min(wanted)
    said = json.loads(one.read_text())
    assert one.read_text().startswith('{\n    "')  # an indent of 4
    locus = said.get("data", said)
    assert locus["id"] in {locus.locus_id for locus in antares.loci}


def test_the_version():
    code, out, _ = run_command(
        f"{program('nuncius.compat.antares_client')} --version", until=lambda: False, stop=signal.SIGTERM
    )
    assert code == 0
    assert out.startswith("nuncius ")
