"""What the tests of dtool-lookup-api's interface are given: a dserver on loopback that is named in the environment."""

from __future__ import annotations

import json
import warnings

import pytest
from dtool_kernel import Kernel
from dtool_support import SETTINGS, fill

from nuncius.datasets import asking
from nuncius.sandbox import SandboxDServer

FORGET = """
from nuncius.compat.dtool_lookup_api import sharing
from nuncius.compat.dtool_lookup_api.core.config import Config
Config.__init__()
sharing._SHARED.__init__()
"""


@pytest.fixture(scope="session")
def running_dserver():
    with SandboxDServer(contents=False) as box:
        fill(box)
        yield box


@pytest.fixture
def nothing_configured(tmp_path, monkeypatch):
    """Give an environment without any settings, and a program that has just been started; nobody sits before it."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(asking, "somebody_is_there", lambda: False)
    forget()
    yield
    forget()


def forget():
    """Be a program that has just been started."""
    exec(FORGET, {})


@pytest.fixture
def dserver(running_dserver, nothing_configured, monkeypatch):
    """Give a dserver that is named in the environment; nobody is logged in."""
    running_dserver.clear_faults()
    running_dserver.requests.clear()
    running_dserver.token_life_s = 900.0
    running_dserver.allow_aggregation = False
    monkeypatch.setenv("DSERVER_URL", running_dserver.url)
    yield running_dserver
    running_dserver.clear_faults()


@pytest.fixture
def with_token(dserver, monkeypatch):
    """Give a dserver whose default user's token is in the environment."""
    monkeypatch.setenv("DSERVER_TOKEN", dserver.token)
    return dserver


@pytest.fixture
def as_admin(dserver, monkeypatch):
    """Give a dserver whose administrator's token is in the environment."""
    monkeypatch.setenv("DSERVER_TOKEN", dserver.admin_token)
    return dserver


@pytest.fixture
def config_file(tmp_path):
    """Write dtool's configuration file; at the end it is as it was."""
    path = tmp_path / ".config" / "dtool" / "dtool.json"
    path.parent.mkdir(parents=True)

    def write(**values):
        path.write_text(json.dumps(values))
        path.chmod(0o640)
        write.state = state()

    def state():
        return path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode

    write.path = path
    yield write
    assert state() == write.state


@pytest.fixture(scope="session")
def running_kernel(tmp_path_factory):
    """Start a kernel for all tests."""
    for name in ("ipykernel", "jupyter_client"):
        pytest.importorskip(name, reason=f"needs {name}: pip install 'nuncius[test]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = Kernel(tmp_path_factory.mktemp("kernel"))
        yield kernel
        kernel.close()


@pytest.fixture
def kernel(running_kernel, with_token):
    """Give a kernel with the settings of the test, in which nothing has been asked yet."""
    running_kernel.run(FORGET)
    running_kernel.configure(DSERVER_URL=with_token.url, DSERVER_TOKEN=with_token.token)
    running_kernel.asked.clear()
    return running_kernel
