"""The tests of the app that run within the Toolkit's own environment, without a server: started there, one by one version."""

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSIDE = [
    "test_services.py", "test_cache.py", "test_legacy.py", "test_alertstreams.py", "test_compat_broker.py"
]  # fmt: skip


@pytest.mark.timeout(700)
def test_inside_of_the_toolkit(tom_python):
    command = [
        tom_python,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        HERE,
        "--noconftest",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *(HERE / name for name in INSIDE)], capture_output=True, text=True, timeout=600, cwd=HERE
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
