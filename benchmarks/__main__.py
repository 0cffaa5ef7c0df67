"""Choose benchmarks, run them and print what they say.

Goals are printed beside what was measured and judged by a reader: a machine that does something else meanwhile must not
break a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Scale

SUBJECTS = (
    "antares",
    "decoding",
    "loci",
    "streams",
    "pubsub",
    "latency",
    "memory",
    "watch",
    "ingest",
    "archive",
    "remote",
    "dserver",
    "fits",
    "imports",
)
_LIBRARIES = (
    "nuncius",
    "confluent-kafka",
    "fastavro",
    "msgspec",
    "pymongo",
    "obstore",
    "httpx2",
    "numpy",
    "astropy",
)


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of {', '.join(SUBJECTS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="small and short, to see that they work")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in SUBJECTS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    scale = Scale(quick=options.quick)
    for line in (*_machine(), _versions()):
        print(line)
    size = ", small sizes: the figures mean little" if options.quick else ""
    print(f"Medians of {scale.runs} runs, the sides of a table in turn within each run{size}", flush=True)
    for name in options.names or SUBJECTS:
        for table in import_module(f"benchmarks.{name}").tables(scale):
            print()
            print("\n".join(table.lines()), flush=True)


def _machine() -> list[str]:
    model = _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory = _line_of("/proc/meminfo", "MemTotal")
    gigabytes = f"{int(memory.split()[0]) / 1024**2:.1f} GiB" if memory else "unknown memory"
    load = f"load {os.getloadavg()[0]:.2f} before"
    folder = tempfile.gettempdir()
    return [
        f"Machine: {os.cpu_count()} cores, {model}, {gigabytes}, {load}",
        f"System: {platform.system()} {platform.release()}, temporary files in {folder} ({_file_system(folder)})",
    ]


def _versions() -> str:
    import confluent_kafka

    libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
    libraries += [f"librdkafka {confluent_kafka.libversion()[0]}", f"SQLite {sqlite3.sqlite_version}"]
    return f"Python {platform.python_version()}, {', '.join(libraries)}"


def _line_of(path: str, name: str) -> str:
    """Return what a file of the form ``name: value`` says; nothing where there is no such file."""
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _file_system(folder: str) -> str:
    """Return the type of the file system that a folder lies on; on one in memory, writing durably costs nothing."""
    mounts = Path("/proc/self/mounts")
    best = ("", "unknown file system")
    for line in mounts.read_text(encoding="utf-8").splitlines() if mounts.is_file() else ():
        _, place, kind, *_ = line.split()
        if Path(folder).resolve().is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


if __name__ == "__main__":
    sys.exit(main())
