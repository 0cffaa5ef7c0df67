"""What all tests share."""

from __future__ import annotations

import copyreg
import os
import signal
from pathlib import Path

import pytest

# A shell that starts us in the background has us ignore Ctrl-C, and so would the programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
