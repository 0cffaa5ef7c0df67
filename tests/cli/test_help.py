import pytest

COMMANDS = [
    (),
    ("demo",),
    ("stream",),
    ("archive",),
    *[
        (name,)
        for name in ("antares", "brokers", "doctor", "health", "lag", "login", "publish", "rewind", "topics")
    ],
    *[("archive", name) for name in ("info", "find", "cone", "object", "prune", "backup")],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(cli, command):
    said = cli(*command, "--help").stdout
    assert said.startswith("Usage:")
    assert len(said.split()) > 20


def test_a_misspelt_command_and_option(cli):
    assert "No such command 'strem'" in cli("strem", code=2).stderr
    assert "No such option" in cli("stream", "replay:///x", "--untill", "end", code=2).stderr


def test_version(cli):
    assert cli("--version").stdout.startswith("nuncius 0.")
