"""The compiled decoder that is fuzzed: that of NUNCIUS_FUZZ_DECODER, such as one with sanitizers, else the usual one."""

import importlib.util
import os

from nuncius.alerts.packets import compiled, ocf


def load():
    """Return the decoder, and have it used for everything."""
    path = os.environ.get("NUNCIUS_FUZZ_DECODER")
    if not path:
        return compiled.decoder()
    spec = importlib.util.spec_from_file_location("nuncius.alerts.packets._avro", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compiled.decoder = ocf.decoder = lambda: module
    return module


DECODER = load()
if DECODER is None:
    raise SystemExit("the compiled decoder was not built, or is switched off")
