"""What the tests of antares-client's interface share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path


def names_of(box, count=10):
    return sorted(locus.locus_id for locus in box.loci[:count])


def edited(text, box):
    """Fill in the placeholders of a documented example, and its import line or the name of its command."""
    for name, value in (("key", box.api_key), ("secret", box.api_secret)):
        text = re.sub(rf'(api[_-]{name}"?[=: ]+"?)\*+', lambda found, value=value: found[1] + value, text)
    return text.replace("from antares_client", "from nuncius.compat.antares_client")


def quarantined(folder):
    """Return what is in the quarantine, byte for byte."""
    return sorted(path.read_bytes() for path in Path(folder).rglob("*.packet"))


def run_command(command, *, until, stop, timeout_s=40, **environment):
    """Run a command line in a shell until something holds, then stop it by a signal; return (code, out, err)."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    try:
        end = time.monotonic() + timeout_s
        while not until() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(stop)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(10)
    return process.returncode, out, err


def program(name):
    """Return how a command is started here."""
    return f"{sys.executable} -m {name}"
