"""The real dserver, or the sandbox's, with the same data.

The sandbox's is asked in every run of the tests, the real one in a job of its own (NUNCIUS_TEST_DSERVER), which makes the
environment that it needs, unless NUNCIUS_DSERVER_PYTHON names the interpreter of one.
"""

import os
import subprocess
import venv

import pytest
from dserver_support import HERE, Async, Questions, RealServer, SandboxServer, Sync, fill

from nuncius.sandbox import Sandbox

ASKED = ["real"] if os.environ.get("NUNCIUS_TEST_DSERVER") else ["sandbox"]


@pytest.fixture(scope="session")
def dserver_python(tmp_path_factory):
    """Return the interpreter of the environment that has the real server."""
    if not os.environ.get("NUNCIUS_TEST_DSERVER"):
        pytest.skip("NUNCIUS_TEST_DSERVER is not set: the job `nox -s dserver` runs these tests (PyPI)")
    if given := os.environ.get("NUNCIUS_DSERVER_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("dserver")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    # All that it needs is listed: pip has nothing to work out.
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*install, "-r", str(HERE / "requirements.txt")], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the real server could not be installed: {done.stderr[-300:]}")
    return python


@pytest.fixture(scope="session", params=ASKED)
def server(request):
    """Return the server, filled; where its data sets are is in `uris`."""
    if request.param == "real":
        opened = RealServer(request.getfixturevalue("dserver_python"))
        close = opened.close
    else:
        box = Sandbox()
        opened = SandboxServer(box.dserver)
        close = box.close
    try:
        ask = Questions(opened)
        opened.uris = fill(opened, ask)
        ask.close()
        yield opened
    finally:
        close()


@pytest.fixture(scope="module")
def ask(server):
    """Return what asks the server."""
    questions = Questions(server)
    yield questions
    questions.close()


@pytest.fixture
def switched(server):
    """Return what sets switches of the server until the end of the test."""
    usual = {"allow_aggregation": False, "allow_direct_query": True, "dynamic_dependency_keys": True}
    usual |= {"authenticate": True, "token_life_s": 900.0, "delay_s": 0.0}
    yield server.set
    server.set(**usual)


@pytest.fixture(scope="session", params=ASKED)
def bare_server(request):
    """Return a server with the two plugins that it can't be without."""
    left_out = (
        "dserver_direct_mongo_plugin",
        "dserver_dependency_graph_plugin",
        "dserver_notification_plugin",
    )
    if request.param == "real":
        options = [f"--without={plugin}" for plugin in left_out]
        opened = RealServer(request.getfixturevalue("dserver_python"), *options)
        yield opened
        opened.close()
        return
    with Sandbox() as box:
        for plugin in left_out:
            box.dserver.plugins.pop(plugin)
        yield SandboxServer(box.dserver)


# Our client ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[Sync, Async])
def colour(request):
    made = request.param()
    yield made
    made.end()


@pytest.fixture
def nothing_around(monkeypatch, tmp_path):
    """Let nobody's settings be found."""
    for name in ("URL", "TOKEN", "TOKEN_GENERATOR_URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"DSERVER_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def opened(server, ask, colour, nothing_around):
    """Return what opens a client as somebody."""
    clients = []

    def open_as(who="observer", **options):
        token = {"token": ask.token(who)} if who else {}
        client = colour.open(server.url, interactive=False, **(token | options))
        clients.append(client)
        return client

    yield open_as
    for client in clients:
        colour.run(client.close())


@pytest.fixture
def call(opened, colour):
    """Call a method of a client of somebody, and return what it gives."""
    clients = {}

    def called(name, *given, who="observer", **options):
        if who not in clients:
            clients[who] = opened(who)
        return colour.run(getattr(clients[who], name)(*given, **options))

    return called
