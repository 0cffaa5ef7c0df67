"""The dserver's other clients: dtool-lookup-api as it is used, and httpx2 with nothing around it.

dtool-lookup-api writes its token into ``~/.config/dtool/dtool.json`` at each call, so it gets a home of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2

from benchmarks.measure import check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from benchmarks.dserver_place import Place

    # What is asked: "readme" or "manifest", and of which data set.
    Asked = tuple[str, str]

PEER = "dtool-lookup-api"
IN_FLIGHT = 8


def is_there() -> bool:
    """Tell whether dtool-lookup-api is installed."""
    return find_spec("dtool_lookup_api") is not None


def versions() -> str:
    """Return which versions the peers have."""
    return ", ".join(f"{name} {_version(name)}" for name in (PEER, "aiohttp", "httpx2") if _version(name))


def missing() -> list[str]:
    """Say what is not compared because it isn't installed."""
    note = f"{PEER} is not compared: pip install {PEER}==0.10.3"
    return [] if is_there() else [note]


class Old:
    """dtool-lookup-api at a dserver."""

    def __init__(self, place: Place) -> None:
        from dtool_lookup_api import asynchronous, synchronous
        from dtool_lookup_api.core.LookupClient import TokenBasedLookupClient

        self._sync, self._async = synchronous, asynchronous
        self._kept = lambda: TokenBasedLookupClient(place.url, place.token)

    def in_turn(self, asked: Sequence[Asked]) -> list[Any]:
        return [getattr(self._sync, f"get_{part}")(uri) for part, uri in asked]

    async def awaited(self, asked: Sequence[Asked]) -> list[Any]:
        return [await getattr(self._async, f"get_{part}")(uri) for part, uri in asked]

    async def gathered(self, asked: Sequence[Asked]) -> list[Any]:
        return await asyncio.gather(*(getattr(self._async, f"get_{part}")(uri) for part, uri in asked))

    async def kept(self, asked: Sequence[Asked]) -> list[Any]:
        """Ask with one session, which is open all the time: the class below its functions."""
        async with self._kept() as client:
            return [await getattr(client, f"get_{part}")(uri) for part, uri in asked]

    def pages(self, size: int, count: int) -> list[str]:
        """Return the URIs of so many data sets, page after page."""
        numbers = range(1, math.ceil(count / size) + 1)
        return [
            row["uri"]
            for number in numbers
            for row in self._sync.get_datasets(page_number=number, page_size=size)
        ]


@contextlib.contextmanager
def old_client(place: Place) -> Iterator[Old]:
    """Give dtool-lookup-api, with a valid token in its settings."""
    settings = _home() / ".config/dtool/dtool.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"DSERVER_TOKEN": place.token}))
    before = {name: os.environ.get(name) for name in ("HOME", "DSERVER_URL")}
    os.environ |= {"HOME": str(_home()), "DSERVER_URL": place.url}
    try:
        client = Old(place)
        from dtool_lookup_api.core.config import CONFIG_PATH  # which it looks for when it is imported

        check(Path(CONFIG_PATH) == settings, f"{PEER} would write {CONFIG_PATH}")
        yield client
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


_homes: list[tempfile.TemporaryDirectory[str]] = []


def _home() -> Path:
    if not _homes:
        _homes.append(tempfile.TemporaryDirectory(prefix="nuncius-benchmark-"))
    return Path(_homes[0].name)


class Bare:
    """httpx2 with nothing around it: connections that are kept, and no more checks than of the status."""

    def __init__(self, place: Place) -> None:
        self._url = place.url
        self._headers = {"Authorization": f"Bearer {place.token}"}
        self._client: httpx2.Client | None = None
        self._async_client: httpx2.AsyncClient | None = None

    def in_turn(self, asked: Sequence[Asked]) -> list[Any]:
        if self._client is None:
            self._client = httpx2.Client(headers=self._headers)
        get = self._client.get
        return [_value(part, get(self._address(part, uri))) for part, uri in asked]

    async def awaited(self, asked: Sequence[Asked]) -> list[Any]:
        get = self._getter()
        return [_value(part, await get(self._address(part, uri))) for part, uri in asked]

    async def gathered(self, asked: Sequence[Asked]) -> list[Any]:
        get = self._getter()
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(part: str, uri: str) -> Any:
            async with slots:
                return _value(part, await get(self._address(part, uri)))

        return await asyncio.gather(*(one(part, uri) for part, uri in asked))

    def pages(self) -> list[str]:
        """Return the URIs of all data sets, a hundred a page."""
        if self._client is None:
            self._client = httpx2.Client(headers=self._headers)
        found: list[str] = []
        page: dict[str, Any] = {"page": 0, "last_page": 1}
        while page["page"] < page["last_page"]:
            params = {"page": page["page"] + 1, "page_size": 100, "sort": "uri"}
            answer = self._client.post(f"{self._url}/uris", json={}, params=params).raise_for_status()
            found += [row["uri"] for row in answer.json()]
            page = json.loads(answer.headers["x-pagination"])
        return found

    def close(self, run: Callable[[Any], Any]) -> None:
        if self._client is not None:
            self._client.close()
        if self._async_client is not None:
            run(self._async_client.aclose())

    def _getter(self) -> Callable[[str], Awaitable[httpx2.Response]]:
        if self._async_client is None:
            self._async_client = httpx2.AsyncClient(headers=self._headers)
        return self._async_client.get

    def _address(self, part: str, uri: str) -> str:
        return f"{self._url}/{part}s/{quote(uri.replace('://', '/', 1), safe='/')}"


def _value(part: str, answer: httpx2.Response) -> Any:
    found = answer.raise_for_status().json()
    return found["readme"] if part == "readme" else found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
