"""The shape of the project: who imports whom, what is public, and what every part owes its reader."""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import json
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nuncius
from nuncius import errors
from nuncius._core.lazy import UPWARD

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "nuncius").rglob("*.py"))

PUBLIC_NAMES = [
    "Alert",
    "LightCurve",
    "Notice",
    "NunciusError",
    "Sandbox",
    "__version__",
    "open_archive",
    "open_dserver",
    "open_fits",
    "open_publisher",
    "open_stream",
    "read_headers",
    "read_packets",
    "scan_headers",
]

HEAVY_MODULES = {
    "asyncio",
    "astropy",
    "click",
    "confluent_kafka",
    "fastavro",
    "httpx2",
    "matplotlib",
    "numpy",
    "obstore",
    "platformdirs",
    "rich",
}

ERROR_CLASSES = [getattr(errors, name) for name in errors.__all__]


# Who imports whom


def test_imports_point_down_only():
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_nuncius_loads_nothing_heavy():
    # The interpreter may have loaded some of them itself, for path hooks of an editable installation.
    script = "import json, sys; before = set(sys.modules); import nuncius; print(json.dumps(sorted(set(sys.modules) - before)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = json.loads(result.stdout)
    assert "nuncius" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY_MODULES == set()


def test_upward_imports_are_those_listed():
    assert {module for path in SOURCES for module in _upward_calls(path)} == set(UPWARD)


def _upward_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and _called_name(node) == "upward":
            (argument,) = node.args
            assert isinstance(argument, ast.Constant), (
                f"{path}:{node.lineno}: upward() takes a name written out"
            )
            yield argument.value


def _called_name(call: ast.Call) -> str | None:
    return getattr(call.func, "id", getattr(call.func, "attr", None))


def test_sync_twins_are_fresh():
    command = [sys.executable, "tools/make_sync.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


# What is public


def test_public_names_are_pinned():
    assert sorted(nuncius.__all__) == sorted(PUBLIC_NAMES)
    assert dir(nuncius) == sorted(PUBLIC_NAMES)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_loads(name):
    assert getattr(nuncius, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="open_everything"):
        _ = nuncius.open_everything


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_public_things_are_documented(path):
    module = ast.parse(path.read_bytes())
    missing = [] if ast.get_docstring(module) else ["the module"]
    missing += [name for name, node in _public_definitions(module) if not ast.get_docstring(node)]
    assert missing == []


def _public_definitions(parent: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in parent.body:
        if not isinstance(
            node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ) or node.name.startswith("_"):
            continue
        if any(_is_part_of_another(decorator) for decorator in node.decorator_list):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public_definitions(node, f"{prefix}{node.name}.")


def _is_part_of_another(decorator: ast.expr) -> bool:
    # An overload and a setter are documented where the function and the property are.
    return getattr(decorator, "id", getattr(decorator, "attr", None)) in {"overload", "setter", "deleter"}


# The errors


def test_error_tree_is_drawn_whole():
    drawn = dict(_drawn_errors())
    assert set(drawn) == set(errors.__all__)
    assert {cls.__name__: tuple(base.__name__ for base in cls.__bases__) for cls in ERROR_CLASSES} == drawn


def _drawn_errors() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Read the tree in the docstring: each class with the names of its bases."""
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(
            r" {4}(?P<lines>(?:│ {3}| {4})*(?:[├└]── )?)(?P<name>\w+Error)(?: \((?P<builtin>\w+)\))?", line
        )
        if found is None:
            continue
        depth = len(found["lines"]) // 4
        above[depth:] = [found["name"]]
        ours = above[depth - 1] if depth else "Exception"
        yield found["name"], (ours,) if found["builtin"] is None else (ours, found["builtin"])


def test_all_errors_stand_in_one_file():
    for module in pkgutil.walk_packages(nuncius.__path__, "nuncius."):
        # What runs within the TOM Toolkit needs it.
        in_toolkit = module.name.startswith("nuncius.tom") or module.name.endswith("broker_stream_python")
        if not in_toolkit and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    elsewhere = {
        cls
        for cls in _subclasses(errors.NunciusError)
        if cls.__module__.startswith("nuncius.")
        and cls not in ERROR_CLASSES
        # Those of other clients' interfaces are ours and also what their users catch.
        and not cls.__module__.startswith("nuncius.compat.")
    }
    assert elsewhere == set()


def _subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_error_is_copied_whole(cls):
    error = cls("it failed", service="ztf", url="kafka://127.0.0.1", position="topic[0]@7", attempts=3)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert str(twin) == twin.message == "it failed"
        assert vars(twin) == vars(error)
        assert (twin.service, twin.url, twin.position, twin.attempts) == (
            "ztf",
            "kafka://127.0.0.1",
            "topic[0]@7",
            3,
        )


@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_error_hides_no_builtin(cls):
    assert not hasattr(builtins, cls.__name__)
