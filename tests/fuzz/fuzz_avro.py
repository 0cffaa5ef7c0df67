"""Fuzz the compiled decoder, guided by what of it is covered: `python tests/fuzz/fuzz_avro.py [libFuzzer's options]`.

With sanitizers (`run_fuzzer.py` makes the environment that they take) a read outside of the bytes ends the run.
"""

import sys

import atheris
from avro_target import one_input

atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
