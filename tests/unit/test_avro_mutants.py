"""Each test of a bound fails when its line is taken out of the decoder: so it needs that line.

Each builds a decoder of its own, which takes some minutes in all: it runs where NUNCIUS_TEST_BOUNDS is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from test_avro_bounds import BOUNDS

from nuncius.alerts.packets import compiled

SOURCE = Path(compiled.__file__).with_name("_avro.c")
TESTS = [str(Path(__file__).with_name(f"test_avro_{name}.py")) for name in ("bounds", "references")]
OTHERS = {  # further lines, and the test that must fail without them
    "path": ("if (c->named < SHOWN_PATH) ", "", "names_of_deep_fields"),
    "begin below 0": ("begin < 0 || begin > view.len", "begin > view.len", "beginning_outside"),
    "begin beyond": ("begin < 0 || begin > view.len", "begin < 0", "beginning_outside"),
    "block: begin below 0": ("begin >= 0 && begin <= view.len - 16", "begin <= view.len - 16", "begins_before"),
    "block: marker": ("begin >= 0 && begin <= view.len - 16", "begin >= 0", "no_lone_block"),
    "block: no records": ("count > 0 && size >= count", "size >= count", "no_lone_block"),
    "block: records": ("count > 0 && size >= count", "count > 0", "no_lone_block"),
    "block: size": ("size == (int64_t)left(&c) - 16 && ", "", "no_lone_block"),
    "block: second marker": ("memcmp(c.at + size, sync, 16) == 0", "1", "no_lone_block"),
    "node: kind below 0": ("node->kind < 0 || node->kind >= KINDS", "node->kind >= KINDS", "no_program"),
    "node: kind": ("node->kind < 0 || node->kind >= KINDS", "node->kind < 0", "no_program"),
    "node: fixed": ("node->fixed < -1 || ", "", "no_program"),
    "node: least below 0": ("node->least < 0 ||", "", "no_program"),
    "node: least": ("node->least == PY_SSIZE_T_MAX || ", "", "no_program"),
    "node: least and fixed": ("(node->fixed >= 0 && node->least != node->fixed)", "0", "no_program"),
    "node: size of fixed": ("node->kind == FIXED && node->fixed < 0", "0", "no_program"),
    "node: children": ("count != expected || ", "", "no_program"),
    "node: looked at below 0": ("node->looked_at < 0 || ", "", "no_program"),
    "node: looked at": ("(node->kind == RECORD && node->looked_at > node->count)", "0", "no_program"),
    "node: child below 0": ("child < 0 || child >= nodes", "child >= nodes", "no_program"),
    "node: child": ("child < 0 || child >= nodes", "child < 0", "no_program"),
    "node: flags": ("if (size != count)", "if (0)", "no_program"),
    "node: names": ("if (!PyUnicode_Check(name))", "if (0)", "no_program"),
    "no node": ("if (count < 1)", "if (0)", "no_program"),
    "leak of a list": ("error:\n    Py_DECREF(list);", "error:", "nothing_behind"),
    "leak of an item": ("int status = PyList_Append(list, value);\n            Py_DECREF(value);",
                        "int status = PyList_Append(list, value);", "nothing_behind"),
    "leak of a dict": ("    return dict;\nerror:\n    Py_DECREF(dict);", "    return dict;\nerror:", "nothing_behind"),
    "leak of a key": ("            Py_DECREF(key);\n", "", "nothing_behind"),
    "leak of a value": ("    Py_DECREF(value);\n    return converted;", "    return converted;", "nothing_behind"),
    "leak of an error": ("    Py_DECREF(arguments);\n", "", "nothing_behind"),
    "leak of a program": ("    Py_DECREF(type);\n}\n\n/* Fill the names", "}\n\n/* Fill the names", "references_stay"),
    "leak of a schema": ("    Py_XDECREF(node->schema);\n", "", "references_stay"),
    "leak of a converter": ("    Py_XDECREF(node->convert);\n", "", "references_stay"),
    "a symbol of nobody": ("        Py_INCREF(node->names[value]);\n", "", "references_stay"),
    "null of nobody": ("        Py_INCREF(Py_None);\n        return Py_None;\n    case BOOLEAN",
                       "        return Py_None;\n    case BOOLEAN", "nothing_behind or references_stay"),
    "leak of the buffer": ("    if (result == NULL) raise_damaged(PyType_GetModule(type), &c);\n    PyBuffer_Release(&view);",
                           "    if (result == NULL) raise_damaged(PyType_GetModule(type), &c);", "buffers"),
}  # fmt: skip


def without(bound):
    """Return the source without one bound; it is an error if the line stands elsewhere or is not there."""
    text = SOURCE.read_text(encoding="utf-8")
    begin = text.index(f"{bound.within}, ", text.index("static int skip_items")) if bound.within else 0
    at = text.index(bound.old, begin)
    return text[:at] + bound.new + text[at + len(bound.old) :]


def assert_fails_without(source, folder, *tests):
    """Build a decoder of a source, and see that tests fail with it."""
    module, file = folder / "_avro.abi3.so", folder / "_avro.c"
    file.write_text(source, encoding="utf-8")
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(
        ["cc", "-O1", "-w", "-shared", "-fPIC", include, str(file), "-o", str(module)],
        check=True,
        timeout=120,
    )
    environment = {**os.environ, "NUNCIUS_TEST_DECODER": str(module)}
    environment.pop("NUNCIUS_TEST_BOUNDS", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", *tests],
        env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1 or done.returncode < 0, done.stdout[
        -2000:
    ]  # a test failed, or the process broke


needs_compiler = pytest.mark.skipif(
    "NUNCIUS_TEST_BOUNDS" not in os.environ or shutil.which("cc") is None,
    reason="takes minutes and needs a C compiler: set NUNCIUS_TEST_BOUNDS to run it",
)


@needs_compiler
@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.id)
def test_a_bound_is_needed(bound, tmp_path):
    assert_fails_without(without(bound), tmp_path, f"{TESTS[0]}::test_a_bound_holds[{bound.id}]")


@needs_compiler
@pytest.mark.parametrize("name", OTHERS)
def test_a_line_is_needed(name, tmp_path):
    old, new, test = OTHERS[name]
    source = SOURCE.read_text(encoding="utf-8")
    assert old in source
    assert_fails_without(source.replace(old, new), tmp_path, *TESTS, "-k", test)
