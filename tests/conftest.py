"""What all tests share."""

from __future__ import annotations

import copyreg
import os
import signal
import tempfile
from pathlib import Path

import pytest

# A shell that starts us in the background has us ignore Ctrl-C, and so would the programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes the settings and logins of who runs it, and none asks for the metadata of a cloud machine.
_PLACES = tempfile.TemporaryDirectory(prefix="nuncius-tests-")
for _name in ("NUNCIUS_CONFIG_DIR", "NUNCIUS_DATA_DIR", "CLOUDSDK_CONFIG"):
    os.environ[_name] = str(Path(_PLACES.name, _name.lower()))
os.environ["NO_GCE_CHECK"] = "true"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, on which all of nuncius runs."""
    return "asyncio"


@pytest.fixture(scope="session")
def packets_dir() -> Path:
    """Return the folder with packets of real surveys."""
    folder = os.environ.get("NUNCIUS_PACKETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs packets of real surveys: set NUNCIUS_PACKETS to the folder that holds them")
    return Path(folder)


@pytest.fixture(autouse=True)
def own_pickles():
    """Take back what an import of Dask's `distributed` does to the pickles of all errors: with tblib they carry their causes."""
    yield
    for kind, reduce in list(copyreg.dispatch_table.items()):
        if getattr(reduce, "func", reduce).__module__.startswith("tblib") and issubclass(kind, BaseException):
            del copyreg.dispatch_table[kind]


def pytest_collectreport(report):
    _note(report)


def pytest_runtest_logreport(report):
    _note(report)


def _note(report):
    """Write the id of what failed to the file that NUNCIUS_FAILED_TESTS names, for those who try it again."""
    path = os.environ.get("NUNCIUS_FAILED_TESTS")
    # The reports of xdist's workers all come to the first process too.
    is_test = report.nodeid.startswith(
        "tests"
    )  # else a worker of xdist complains, which nobody can try again
    if path and report.failed and is_test and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(path, "a", encoding="utf-8") as file:
            file.write(_id(report.nodeid) + "\n")


def _id(nodeid):
    """Return an id as the command line wants it, without the group that xdist appends."""
    return nodeid[: nodeid.rindex("@")] if nodeid.rfind("@") > nodeid.rfind("]") else nodeid
