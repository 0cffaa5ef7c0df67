"""Every code block of the documentation runs, or says why it doesn't.

The Python blocks of one page run in order, in one namespace and one fresh folder, in an interpreter of their own; blocks
with prompts (``>>>``) run as doctests. In ``console`` and ``bash`` blocks the lines that begin with ``$ nuncius`` run
between them, in the same folder. A comment before a block changes that for this block::

    <!-- nuncius-test: skip needs an account -->
    <!-- nuncius-test: run -->        (all lines that begin with "$ ", not only those of nuncius)
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT = {"_build", "generated"}
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.is_file() and not BUILT & set(page.relative_to(ROOT).parts)
]
TIMEOUT_S = 200

PYTHON, SHELL = "python", "shell"
LANGUAGES = {"python": PYTHON, "console": SHELL, "bash": SHELL}
FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)")
MARK = re.compile(r"<!-- nuncius-test: (?P<word>\w+) ?(?P<reason>.*?) *-->")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""


def blocks_of(text: str) -> list[Block]:
    """Find all fenced blocks, each with the mark that stands right before it."""
    found, mark, lines = [], ("", ""), iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if opening := FENCE.fullmatch(line):
            body = []
            for _, inner in lines:
                if re.fullmatch(rf" *{opening['fence']}[`~]* *", inner):
                    break
                body.append(inner.removeprefix(opening["indent"]))
            found.append(Block(number, opening["info"].strip(), "\n".join(body) + "\n", *mark))
            mark = ("", "")
        elif marked := MARK.fullmatch(line.strip()):
            mark = (marked["word"], marked["reason"])
        elif line.strip():
            mark = ("", "")
    return found


def commands_of(block: Block) -> list[str]:
    """Find the commands of a shell block that run here; a backslash at the end continues a line."""
    text = block.text.replace("\\\n", " ")
    prompts = [line[2:].strip() for line in text.splitlines() if line.startswith("$ ")]
    return [command for command in prompts if block.mark == "run" or command.split()[:1] == ["nuncius"]]


def run_page(page: str, blocks: list[Block]) -> None:
    """Run the blocks of a page, and print the line of each one that ran."""
    import pytest_socket

    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        if block.language == SHELL:
            for command in commands_of(block):
                subprocess.run(command, shell=True, check=True, stdin=subprocess.DEVNULL)
        elif block.text.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.text, namespace, page, page, block.line)
            test.globs = namespace  # not the copy that the parser makes
            if doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed:
                raise SystemExit(1)
        else:
            # Empty lines before it make a traceback name the line of the page.
            exec(compile("\n" * block.line + block.text, page, "exec"), namespace)
        print(f"\nran block {block.line}", file=sys.stderr, flush=True)


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def test_page_runs(page, tmp_path):
    blocks = [
        replace(block, language=LANGUAGES[block.language])
        for block in blocks_of(page.read_text(encoding="utf-8"))
        if block.language in LANGUAGES and block.mark != "skip"
    ]
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([asdict(block) for block in blocks]), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, __file__, page.relative_to(ROOT).as_posix(), plan],
        cwd=folder,
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    ran = [int(number) for number in re.findall(r"^ran block (\d+)$", result.stderr, re.MULTILINE)]
    assert ran == [block.line for block in blocks]


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user's own settings is seen or changed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "NUNCIUS_", "PYTEST_", "COV_"))
    }
    if packets := os.environ.get("NUNCIUS_PACKETS"):
        kept["NUNCIUS_PACKETS"] = str(Path(packets).absolute())
    # The command line of the installation under test comes first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**kept, "HOME": str(home), "PATH": path, "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}


def test_no_block_escapes(page):
    # Whatever a reader would take for Python must be written as a plain ```python block, so that it runs.
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(text)
    looks_like_python = re.compile(
        r"\{?(code|code-block|sourcecode|py|pycon|python3?|ipython3?)\b.*", re.IGNORECASE
    )
    odd = [b.line for b in blocks if looks_like_python.fullmatch(b.language) and b.language not in LANGUAGES]
    assert odd == []
    assert ">>>" not in _outside(text, blocks)


def test_marks_are_understood(page):
    text = page.read_text(encoding="utf-8")
    marked = [block for block in blocks_of(text) if block.mark]
    assert len(marked) == text.count("nuncius-test:"), "a mark stands right before its block"
    assert {block.mark for block in marked} <= {"skip", "run"}
    assert [block.line for block in marked if block.mark == "skip" and not block.reason] == []
    assert [block.line for block in marked if block.mark == "run" and not commands_of(block)] == []


def _outside(text: str, blocks: list[Block]) -> str:
    for block in blocks:
        text = text.replace(block.text, "")
    return text


def test_blocks_are_found_with_their_marks():
    text = (
        "# A page\n\n```python\nx = 1\n```\n\n<!-- nuncius-test: skip needs an account -->\n\n```python\ny\n```\n\n"
        "<!-- nuncius-test: run -->\n```console\n$ nuncius one \\\n  two\nanswer\n$ ls\n```\n\n```bash\n$ nuncius\n$ pip\n```\n"
    )
    first, second, third, fourth = blocks_of(text)
    assert (first.line, first.language, first.text, first.mark) == (3, "python", "x = 1\n", "")
    assert (second.mark, second.reason) == ("skip", "needs an account")
    assert [command.split() for command in commands_of(third)] == [["nuncius", "one", "two"], ["ls"]]
    assert commands_of(fourth) == ["nuncius"]


if __name__ == "__main__":
    run_page(
        sys.argv[1], [Block(**item) for item in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))]
    )
