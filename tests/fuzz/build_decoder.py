"""Build the compiled decoder with sanitizers and coverage, into a folder of its own: `python tests/fuzz/build_decoder.py FOLDER`.

Needs clang (or what CC names). The module that is in use stays as it is.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/nuncius/alerts/packets/_avro.c"
FLAGS = [
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,fuzzer-no-link",
    "-fno-sanitize-recover=all",
]


def build(folder):
    """Compile the decoder into `folder`; return the path of the module."""
    folder.mkdir(parents=True, exist_ok=True)
    compiled, result = folder / "_avro.o", folder / "_avro.abi3.so"
    clang = os.environ.get("CC", "clang")
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run([clang, *FLAGS, include, "-c", str(SOURCE), "-o", str(compiled)], check=True)
    # Linked without the flags, for the sanitizers are in what atheris preloads: clang's own libraries need not be there.
    subprocess.run([clang, "-shared", str(compiled), "-o", str(result)], check=True)
    return result


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
