"""Build the decoder with sanitizers and fuzz it: `python tests/fuzz/run_fuzzer.py SECONDS [FOLDER]`.

Needs clang and atheris. Inputs that lead to something new are put into the folder, or are forgotten; tests/fuzz/corpus is
read and never changed. Whatever goes wrong ends the run with an error, and leaves the input in a file named crash-….
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris
from build_decoder import build

HERE = Path(__file__).parent
SHARES = {"avro": 2 / 3, "container": 1 / 3}  # of the time


def main(seconds, folder):
    """Fuzz for so many seconds; return the sum of the exit codes."""
    environment = {
        **os.environ,
        "NUNCIUS_FUZZ_DECODER": str(build(folder / "build")),
        "LD_PRELOAD": str(Path(atheris.path(), "asan_with_fuzzer.so")),
        "PYTHONMALLOC": "malloc",  # so that each value lies alone in memory, and each overrun is seen
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # Python itself gives back not all at its end
    }
    options = ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={Path.cwd()}/"]
    more = {"avro": ["-max_len=400"], "container": ["-max_len=1500", f"-dict={HERE / 'schema.dict'}"]}
    failures = 0
    for name, share in SHARES.items():
        found = folder / name
        found.mkdir(exist_ok=True)
        command = [sys.executable, HERE / f"fuzz_{name}.py", *options, *more[name]]
        command += [f"-max_total_time={round(share * seconds)}", found, HERE / "corpus" / name]
        failures += abs(subprocess.run(command, env=environment, check=False).returncode)
    return failures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(int(sys.argv[1]), Path(*(sys.argv[2:] or [temporary]))))
