"""What it costs to begin: an import, and the command line's help."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.measure import Goal, Row, Table, check, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_BARE = "python -c pass"
_IMPORT = 'python -c "import nuncius"'
_HELP = "nuncius --help"
_STARTS = 10  # in each run


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    from nuncius import __version__

    program = shutil.which("nuncius", path=str(Path(sys.executable).parent)) or shutil.which("nuncius")
    check(program is not None, "the program nuncius is not installed")
    commands = {
        _BARE: [sys.executable, "-c", "pass"],
        _IMPORT: [sys.executable, "-c", "import nuncius"],
        _HELP: [str(program), "--help"],
    }
    answer = _output([sys.executable, "-c", "import nuncius; print(nuncius.__version__)"])
    check(answer.strip() == __version__, f"the child process imports nuncius {answer.strip()}")
    check("Usage:" in _output(commands[_HELP]), "nuncius --help")
    sides = {name: _start(command) for name, command in commands.items()}
    measured = interleaved(sides, scale.runs)
    table = Table("imports: a new process, from start to end", "ms")
    table.add(_BARE, measured)
    table.add(_IMPORT, measured, to=_BARE)
    table.add(_HELP, measured, to=_BARE)
    own = [whole - bare for whole, bare in zip(measured[_IMPORT], measured[_BARE], strict=True)]
    table.rows.append(Row("import nuncius alone", own, goal=Goal("≤", 30, "ms")))
    yield table


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _start(command: list[str]) -> Callable[[], float]:
    def measure() -> float:
        durations_ms = []
        for _ in range(_STARTS):
            begin = perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            durations_ms.append((perf_counter() - begin) * 1000)
        return statistics.median(durations_ms)

    return measure
