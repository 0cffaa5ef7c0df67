"""Many files whose headers are read side by side, on one event loop and in bounded memory."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius._core import background
from nuncius._core.drivers import AsyncDriver
from nuncius.cloudfits.headers import check_options
from nuncius.cloudfits.places import find_place, shown_url
from nuncius.cloudfits.ranges import Stats
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.walk import OVERREAD, walk
from nuncius.errors import ConfigurationError, NunciusError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.hdu import FileDescription, HduDescription
    from nuncius.cloudfits.listing import Urls

FILES = 100
"""How many are read side by side; of 1000 files at 50 ms a request, more gains nothing for one processor."""

_LAYOUTS = 64  # that are remembered at a time
_PULL_S = 0.02  # how long a slow source of URLs may keep results waiting
_REQUESTS_PER_FILE = 16


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file whose headers could not be read.

    Parameters
    ----------
    url : str
        Where it is, without a query string or a secret.
    error : NunciusError
        Why not.
    """

    url: str
    error: NunciusError


class Result(NamedTuple):
    """One file: the how-manieth it is of those asked for, as what it was asked for, and what was found."""

    number: int
    url: str | os.PathLike[str]
    found: FileDescription | FailedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the files are read; see `read_headers`. It is carried to other processes, but never with a secret."""

    hdus: int | str | None = None
    max_files: int = FILES
    overread_bytes: int = OVERREAD
    access: Access

    def __post_init__(self) -> None:
        check_options(self.hdus, max_files=self.max_files, overread_bytes=self.overread_bytes)


class Reading:
    """Many files in the making; all of it happens on one event loop.

    Files wait, are read, and are done; at no time are there more of them, in all, than twice those that are read side
    by side. So memory is bounded however many files there are.
    """

    def __init__(self, options: Options, *, ordered: bool = False) -> None:
        self._options = options
        self._ordered = ordered
        self._driver = AsyncDriver()
        self._layouts = _Layouts()
        self._waiting: deque[tuple[int, str | os.PathLike[str]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._done: dict[int, Result] = {}
        self._broken: BaseException | None = None
        self._count = 0
        self._given = 0
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None

    @property
    def room(self) -> int:
        """How many more files may be added."""
        return 2 * self._options.max_files - (self._count - self._given)

    def add(self, url: str | os.PathLike[str]) -> None:
        """Add a file."""
        self._waiting.append((self._count, url))
        self._count += 1
        self._begin()

    def follow(self, urls: AsyncIterable[str | os.PathLike[str]]) -> None:
        """Add files as they become known."""
        self._feeding = asyncio.ensure_future(self._feed(urls))
        self._feeding.add_done_callback(self._fed)

    async def step(self, urls: Iterable[str | os.PathLike[str]] = ()) -> list[Result]:
        """Add files, wait until one is done, and return those that are; none if there are no more."""
        for url in urls:
            self.add(url)
        while True:
            results = self._take()
            if results or (self._given == self._count and self._feeding is None):
                return results
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Stop what is being read."""
        self._waiting.clear()
        tasks: list[asyncio.Task[None]] = [*self._running, *([self._feeding] if self._feeding else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self) -> list[Result]:
        if self._broken is not None:
            raise self._broken
        if self._ordered:
            results: list[Result] = []
            while self._given + len(results) in self._done:
                results.append(self._done.pop(self._given + len(results)))
        else:
            results = list(self._done.values())
            self._done.clear()
        self._given += len(results)
        self._freed.set()
        return results

    async def _feed(self, urls: AsyncIterable[str | os.PathLike[str]]) -> None:
        async for url in urls:
            self.add(url)
            while self.room <= 0:
                self._freed.clear()
                await self._freed.wait()

    def _fed(self, task: asyncio.Task[None]) -> None:
        self._feeding = None
        self._keep_error(task)
        self._changed.set()

    def _keep_error(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._options.max_files:
            task = asyncio.ensure_future(self._read(*self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._keep_error(task)
        if task.cancelled():  # whoever cancels one wants no other in its place
            self._waiting.clear()
        self._begin()
        self._changed.set()

    async def _read(self, number: int, url: str | os.PathLike[str]) -> None:
        found: FileDescription | FailedFile
        try:
            found = await self._describe(url)
        except NunciusError as error:
            found = FailedFile(error.url or url_to_show(url), error)
        self._done[number] = Result(number, url, found)

    async def _describe(self, url: str | os.PathLike[str]) -> FileDescription:
        options, stats = self._options, Stats()
        walking = walk(
            open_source(url, options.access),
            hdus=options.hdus,
            learned=self._layouts.find,
            overread=options.overread_bytes,
            stats=stats,
            concurrency=_REQUESTS_PER_FILE,
        )
        file = (await self._driver.run(walking)).file
        if stats.round_trips > 1:
            self._layouts.learn(file)
        return file


class _Layouts:
    """Where the HDUs of files began that took more than one read: files that look alike probably have the same layout."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, bytes], Sequence[HduDescription]] = OrderedDict()

    def find(self, primary: HduDescription, size: int) -> Sequence[HduDescription]:
        """Return the HDUs of the latest file of that size with the same keywords in its primary header."""
        return self._known.get(_likeness(primary, size), ())

    def learn(self, file: FileDescription) -> None:
        key = _likeness(file.hdus[0], file.size)
        self._known[key] = file.hdus
        self._known.move_to_end(key)
        if len(self._known) > _LAYOUTS:
            self._known.popitem(last=False)


def _likeness(primary: HduDescription, size: int) -> tuple[int, bytes]:
    # The names of all cards, column by column: eight slices take a hundredth of the time of a loop.
    return size, b"".join(primary.raw[column::80] for column in range(8))


def url_to_show(url: Any) -> str:
    """Return a URL as it may be shown."""
    try:
        return find_place(url).url
    except ConfigurationError:
        return shown_url(str(url))


# Both colours ------------------------------------------------------------------------------------------------------------


def results_of(urls: Urls, options: Options, *, ordered: bool = False) -> Generator[Result]:
    """Read the headers of files; URLs are taken in the caller's thread, and only as many as are needed soon."""
    reading = background.run(_new(urls if isinstance(urls, AsyncIterable) else None, options, ordered))
    items = iter(()) if isinstance(urls, AsyncIterable) else iter(urls)
    try:
        while results := background.run(reading.step(_pull(items, reading.room))):
            yield from results
    finally:
        if not sys.is_finalizing():  # the loop has ended already
            background.run(reading.close())


async def async_results_of(urls: Urls, options: Options, *, ordered: bool = False) -> AsyncGenerator[Result]:
    """Read the headers of files, in the caller's loop."""
    reading = await _new(urls if isinstance(urls, AsyncIterable) else None, options, ordered)
    items = iter(()) if isinstance(urls, AsyncIterable) else iter(urls)
    try:
        while results := await reading.step(_pull(items, reading.room)):
            for result in results:
                yield result
    finally:
        await reading.close()


async def _new(
    urls: AsyncIterable[str | os.PathLike[str]] | None, options: Options, ordered: bool
) -> Reading:
    reading = Reading(options, ordered=ordered)  # on the loop that its events belong to
    if urls is not None:
        reading.follow(urls)
    return reading


def _pull(items: Iterator[Any], room: int) -> list[Any]:
    """Take URLs, but not for so long that results would wait."""
    pulled: list[Any] = []
    end = time.monotonic() + _PULL_S
    for item in items:
        pulled.append(item)
        if len(pulled) >= room or time.monotonic() > end:
            break
    return pulled
