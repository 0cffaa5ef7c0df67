"""Where the parts of a scan are read: here, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius._core.lazy import require
from nuncius.cloudfits.parts import is_shared, write_part
from nuncius.cloudfits.places import find_place
from nuncius.cloudfits.rows import FileName, Rows, name_of
from nuncius.cloudfits.side_by_side import FailedFile, results_of
from nuncius.errors import ConfigurationError, PartialResultError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    import distributed
    import pyarrow as pa

    from nuncius.cloudfits.parts import Part
    from nuncius.cloudfits.side_by_side import Options, Result

    Read: TypeAlias = Generator[tuple[Part, pa.Table | None]]
    """Each part with its table, or without where it has been written already."""
    Backend: TypeAlias = Callable[[Iterable[Part], "Folder | None", Callable[[int], None]], Read]

_AHEAD = 2  # parts for each worker: while one is read, the next is there


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read of each file.

    Parameters
    ----------
    keywords : mapping of str to str
        Each keyword, and its column.
    options : Options
        How the files are read.
    with_headers : bool
        Whether the headers themselves are kept.
    raises : bool
        Whether a file that fails ends the scan.
    """

    keywords: Mapping[str, str]
    options: Options
    with_headers: bool
    raises: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of the parts, and how to know it where other machines may have one of the same name."""

    path: str
    token: str


def choose(
    backend: str, plan: Plan, *, processes: int | None = None, client: distributed.Client | None = None
) -> Backend:
    """Return what reads parts.

    Raises
    ------
    ConfigurationError
        If secrets would be carried to other processes, or there is no Dask cluster.
    MissingExtraError
        If Dask is not installed.
    """
    if backend == "local":
        return partial(_here, plan)
    pickle.dumps(plan)  # what holds a secret says so here
    if backend == "processes":
        return partial(_in_processes, plan, processes or os.cpu_count() or 1)
    return partial(_on_dask, plan, _client(client))


# Here --------------------------------------------------------------------------------------------------------------------


class _Open:
    """A part whose files are being read."""

    def __init__(self, part: Part, plan: Plan) -> None:
        self.part = part
        self.missing = len(part.urls)
        self.rows = Rows(plan.keywords, with_headers=plan.with_headers)

    def add(self, number: int, result: Result) -> None:
        self.missing -= 1
        if isinstance(result.found, FailedFile):
            self.rows.add_failed(number, _name(result), result.found.error)
        else:
            self.rows.add(number, name_of(result.url), result.found)


def _here(plan: Plan, parts: Iterable[Part], _folder: Folder | None, advance: Callable[[int], None]) -> Read:
    """Read parts in this process: the files of the next one begin while the last ones of this one are on their way."""
    opened: dict[int, _Open] = {}
    where: dict[int, tuple[int, int]] = {}  # of each file that is on its way: its part, and its place there

    def urls() -> Iterator[Any]:
        count = 0
        for number, part in enumerate(parts):
            opened[number] = _Open(part, plan)
            for place, url in enumerate(part.urls):
                where[count] = number, place
                count += 1
                yield url

    with contextlib.closing(results_of(urls(), plan.options)) as results:
        for result in results:
            if plan.raises and isinstance(result.found, FailedFile):
                raise result.found.error
            number, place = where.pop(result.number)
            part = opened[number]
            part.add(place, result)
            advance(1)
            if not part.missing:
                del opened[number]
                yield part.part, part.rows.table()


def _name(result: Result) -> FileName:
    try:
        return name_of(result.url)
    except ConfigurationError:
        return FileName(str(getattr(result.found, "url", "")), None)


# Elsewhere ---------------------------------------------------------------------------------------------------------------


def _read_part(part: Part, *, plan: Plan, folder: Folder | None) -> pa.Table | None:
    """Read a part; its table is returned only if it can't be written where it belongs."""
    [(_, table)] = _here(plan, [part], None, lambda count: None)  # noqa: ARG005
    if folder is None or not is_shared(Path(folder.path), folder.token):
        return table
    write_part(Path(folder.path), part, table)
    return None


def _checked(parts: Iterable[Part]) -> Iterator[Part]:
    """Give parts none of whose links lets in whoever holds it."""
    for part in parts:
        for url in part.urls:
            with contextlib.suppress(ConfigurationError):
                place = find_place(url)
                if place.is_secret:
                    break
        else:
            yield part
            continue
        raise ConfigurationError(
            f"{place.url} was given with a signature, a token or a password, and these are not carried to other "
            "processes; read such links with backend='local'"
        )


def _in_processes(
    plan: Plan, count: int, parts: Iterable[Part], folder: Folder | None, advance: Callable[[int], None]
) -> Read:
    import multiprocessing

    work = partial(_read_part, plan=plan, folder=folder)
    spawn = multiprocessing.get_context("spawn")  # connections don't survive a fork
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_end_with_parent)
    running: dict[Any, Part] = {}

    def finished(most: int) -> Iterator[tuple[Part, Any]]:
        while len(running) > most:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                advance(len(part.urls))
                yield part, future.result()

    done = False
    try:
        for part in _checked(parts):
            running[pool.submit(work, part)] = part
            yield from finished(_AHEAD * count - 1)
        yield from finished(0)
        done = True
    except BrokenProcessPool as error:
        raise PartialResultError(
            "a process that read headers ended before it was done: it was killed, or memory ran out; or this is a script "
            "that does its work outside of `if __name__ == '__main__':`. With out= the same call goes on where it ended"
        ) from error
    finally:
        # What is being read when the caller leaves is of no use any more, and would be waited for.
        workers = [] if done else list((pool._processes or {}).values())
        pool.shutdown(wait=done, cancel_futures=True)
        for worker in workers:
            worker.kill()


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and don't outlive it."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="nuncius-parent", daemon=True).start()


def _client(client: distributed.Client | None) -> distributed.Client:
    dask = require("distributed", extra="dask")
    if client is None:
        try:
            client = dask.get_client()
        except ValueError as error:
            raise ConfigurationError(
                "backend='dask' needs a cluster: make a client first, `client = distributed.Client(…)`, or give client="
            ) from error
    if client.asynchronous:
        raise ConfigurationError("client= is an asynchronous client; make one with asynchronous=False")
    return client


def _on_dask(
    plan: Plan,
    client: distributed.Client,
    parts: Iterable[Part],
    folder: Folder | None,
    advance: Callable[[int], None],
) -> Read:
    dask = require("distributed", extra="dask")
    work = partial(_read_part, plan=plan, folder=folder)
    most = _AHEAD * max(1, sum(client.nthreads().values()))
    running: dict[Any, tuple[Part, distributed.Future]] = {}
    ready = dask.as_completed()

    def finished(limit: int) -> Iterator[tuple[Part, Any]]:
        while len(running) > limit:
            part, future = running.pop(next(ready).key)
            advance(len(part.urls))
            yield part, future.result()

    try:
        for part in _checked(parts):
            future = client.submit(work, part, pure=False)
            running[future.key] = part, future
            ready.add(future)
            yield from finished(most - 1)
        yield from finished(0)
    except (dask.KilledWorker, dask.comm.CommClosedError) as error:
        raise PartialResultError(
            f"the Dask cluster lost a part of the scan: {type(error).__name__}. With out= the same call goes on where it ended"
        ) from error
    finally:
        client.cancel([future for _, future in running.values()])
