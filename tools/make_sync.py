"""Generate the sync twin of an async module: ``python tools/make_sync.py [--check]``.

Every `X/_async.py` below src/nuncius has a twin `X/_sync.py`, made by replacing words. `--check` writes nothing and
fails if a twin is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "nuncius"
HEADER = '"""Generated from {source} by tools/make_sync.py: do not edit."""\n'

# In this order; each is a whole word or a fixed text.
WORDS = (
    (r"async def ", "def "),
    (r"async for ", "for "),
    (r"async with ", "with "),
    (r"await ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"__aiter__", "__iter__"),
    (r"__anext__", "__next__"),
    (r"StopAsyncIteration", "StopIteration"),
    (r"\bAsync(\w)", r"\1"),
    (r"nuncius\.aio\.", "nuncius."),
    (r"\._async import", "._sync import"),
)


def make_sync(text: str, source: str) -> str:
    """Return the sync twin of an async module's text."""
    text = re.sub(r'\A""".*?"""\n', HEADER.format(source=source), text, flags=re.DOTALL)
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return text


def main(arguments: list[str]) -> int:
    """Write or check all twins; return the exit code."""
    stale = 0
    for source in sorted(SOURCE.rglob("_async.py")):
        twin = source.with_name("_sync.py")
        text = make_sync(source.read_text(encoding="utf-8"), source.name)
        if twin.is_file() and twin.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            print(f"{twin.relative_to(SOURCE.parent.parent)} is stale: run python tools/make_sync.py")
            stale += 1
        else:
            twin.write_text(text, encoding="utf-8")
            print(f"wrote {twin.relative_to(SOURCE.parent.parent)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
