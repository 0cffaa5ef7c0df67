"""Readmes, manifests and pages of a dserver, beside dtool-lookup-api and beside a bare HTTP client.

All ask the sandbox's dserver in a process of its own, near and at a distance; so what differs is how many requests they
make over how many connections, how they wait for them, and what they do with the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from benchmarks import dserver_peers as peers
from benchmarks.dserver_place import far, near
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import open_dserver
from nuncius.aio import open_dserver as open_async_dserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.dserver_peers import Asked
    from benchmarks.dserver_place import Place
    from benchmarks.measure import Scale
    from nuncius.aio import AsyncDServer
    from nuncius.datasets import DServer

    Ask = Callable[[Sequence[Asked]], list[Any]]

_LATENCY_S = 0.04
_PARTS = ("readme", "manifest")

_OLD, _OLD_ASYNC, _OLD_GATHERED, _OLD_KEPT = (
    f"{peers.PEER}, {how}"
    for how in ("synchronous", "asynchronous, in turn", "asynchronous, gathered", "one session, in turn")
)
_BARE, _BARE_ASYNC, _BARE_GATHERED = (
    f"httpx2, {how}" for how in ("in turn", "async, in turn", f"async, {peers.IN_FLIGHT} in flight")
)
_OURS, _MANY, _ASYNC, _ASYNC_MANY = "DServer, in turn", "get_many", "AsyncDServer, in turn", "async get_many"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    with near(scale.of(300, 30)) as place, far(place, _LATENCY_S) as distant:
        yield from asking(place, scale, scale.of(50, 5))
        yield from _around(place, scale)
        yield from asking(distant, scale, scale.of(25, 5))
        yield pages(place, scale)
        yield pages(distant, scale)


# Readmes and manifests --------------------------------------------------------------------------------------------------


def asking(place: Place, scale: Scale, sample: int) -> Iterator[Table]:
    """Ask for readmes and manifests: how many a second, and what processor time each costs the client."""
    count = min(scale.of(200, 20), len(place.uris))
    cpu: dict[str, list[float]] = {}

    def side(name: str, ask: Ask, asked: Sequence[Asked]) -> Callable[[], float]:
        def measure() -> float:
            begin_cpu, begin = process_time(), perf_counter()
            ask(asked)
            seconds = perf_counter() - begin
            cpu.setdefault(name, []).append((process_time() - begin_cpu) * 1e3 / len(asked))
            return len(asked) / seconds

        return measure

    with _sides(place) as sides:
        few = _asked(place.uris[:sample])
        _check_same(sides, few)
        side_by_side = {_MANY, _ASYNC_MANY, _BARE_GATHERED}
        quick = side_by_side if place.latency_s else side_by_side | {_BARE, _BARE_ASYNC, _OURS, _ASYNC}
        all_of_them = _asked(place.uris[:count])
        chosen = {name: all_of_them if name in quick else few for name in sides}
        speed = interleaved({name: side(name, ask, chosen[name]) for name, ask in sides.items()}, scale.runs)
    yield _speeds(place, count, sample, speed)
    yield _cpu_times(place, cpu)


def _asked(uris: Sequence[str]) -> list[Asked]:
    return [(part, uri) for part in _PARTS for uri in uris]


def _check_same(sides: dict[str, Ask], asked: Sequence[Asked]) -> None:
    """Ask once with each side: now its modules are imported and its connections open, and its answers are known."""
    expected = sides[_BARE](asked)
    for name, ask in sides.items():
        check(ask(asked) == expected, f"{name} and {_BARE}")


def _speeds(place: Place, count: int, sample: int, measured: dict[str, list[float]]) -> Table:
    table = Table(f"dserver: {count} readmes and {count} manifests {place.where}", "calls/s")
    # In turn, two round trips are saved of three; what more there is at a distance comes from what is in flight at once.
    judged = {_MANY: Goal("≥", 20)} if place.latency_s else {_OURS: Goal("≥", 9), _MANY: Goal("≥", 9)}
    other = _OLD if _OLD in measured else _BARE
    for name in measured:
        goal = judged.get(name) if other == _OLD else None
        table.add(name, measured, to=None if name == other else other, label="the first", goal=goal)
    table.notes += [peers.versions(), *peers.missing()]
    few = "all sides that ask in turn, and those" if place.latency_s else "those"
    table.notes.append(f"measured with {sample} readmes and {sample} manifests: {few} of {peers.PEER}")
    table.notes.append(f"get_many has {peers.IN_FLIGHT} requests in flight; manifests are not kept")
    if place.latency_s:
        table.notes.append("a new connection costs one round trip more")
    return table


def _cpu_times(place: Place, measured: dict[str, list[float]]) -> Table:
    table = Table(f"dserver: processor time of the client {place.where}", "ms a call")
    for name in measured:
        other = _BARE_ASYNC if "async" in name.lower() else _BARE
        table.add(name, measured, to=None if name == other else other)
    return table


@contextlib.contextmanager
def _sides(place: Place, *, with_peer: bool = True) -> Iterator[dict[str, Ask]]:
    """Give what asks, by name; the first is what the others are compared with, if it is installed."""
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(asyncio.Runner()).run
        found: dict[str, Ask] = {}
        if with_peer and peers.is_there():
            old = stack.enter_context(peers.old_client(place))
            found |= {_OLD: old.in_turn, _OLD_ASYNC: _run(run, old.awaited)}
            found |= {_OLD_GATHERED: _run(run, old.gathered), _OLD_KEPT: _run(run, old.kept)}
        # Each has a client of its own: one with idle connections looks at all of them with each request.
        bare, many_bare = peers.Bare(place), peers.Bare(place)
        for each in (bare, many_bare):
            stack.callback(each.close, run)
        found |= {_BARE: bare.in_turn, _BARE_ASYNC: _run(run, bare.awaited)}
        found[_BARE_GATHERED] = _run(run, many_bare.gathered)
        login: dict[str, Any] = {"token": place.token, "manifest_cache": False, "interactive": False}
        for name, ask in ((_OURS, _in_turn), (_MANY, _many)):
            found[name] = partial(ask, stack.enter_context(open_dserver(place.url, **login)))
        for name, ask in ((_ASYNC, _awaited), (_ASYNC_MANY, _many_awaited)):
            dserver = open_async_dserver(place.url, **login)
            stack.callback(lambda dserver=dserver: run(dserver.close()))
            found[name] = _run(run, partial(ask, dserver))
        yield found


def _run(run: Callable[[Any], Any], ask: Callable[[Sequence[Asked]], Any]) -> Ask:
    return lambda asked: run(ask(asked))


def _in_turn(dserver: DServer, asked: Sequence[Asked]) -> list[Any]:
    asks = {"readme": dserver.readme, "manifest": dserver.manifest}
    return [asks[part](uri) for part, uri in asked]


async def _awaited(dserver: AsyncDServer, asked: Sequence[Asked]) -> list[Any]:
    asks = {"readme": dserver.readme, "manifest": dserver.manifest}
    return [await asks[part](uri) for part, uri in asked]


def _many(dserver: DServer, asked: Sequence[Asked]) -> list[Any]:
    uris = [uri for part, uri in asked if part == _PARTS[0]]
    found = dserver.get_many(uris, _PARTS, limit=peers.IN_FLIGHT, progress=False)
    return [details[part] for part in _PARTS for details in found]


async def _many_awaited(dserver: AsyncDServer, asked: Sequence[Asked]) -> list[Any]:
    uris = [uri for part, uri in asked if part == _PARTS[0]]
    found = await dserver.get_many(uris, _PARTS, limit=peers.IN_FLIGHT, progress=False)
    return [details[part] for part in _PARTS for details in found]


# What stands around the client -------------------------------------------------------------------------------------------


def _around(place: Place, scale: Scale) -> Iterator[Table]:
    """Compare with the bare clients in short turns, so that what else the machine does meets both alike."""
    asked = _asked(place.uris[: scale.of(20, 5)])
    with _sides(place, with_peer=False) as sides:
        _check_same(sides, asked)
        for ours, theirs in ((_OURS, _BARE), (_ASYNC, _BARE_ASYNC)):
            timed = {name: partial(_ms_a_call, sides[name], asked) for name in (theirs, ours)}
            measured = interleaved(timed, scale.runs * scale.of(8, 1))
            table = Table(f"dserver: a readme or manifest {place.where}, short turns", "ms")
            table.add(theirs, measured)
            table.add(ours, measured, to=theirs, goal=Goal("≤", 1.1))
            yield table


def _ms_a_call(ask: Ask, asked: Sequence[Asked]) -> float:
    begin = perf_counter()
    ask(asked)
    return (perf_counter() - begin) * 1e3 / len(asked)


# Pages -------------------------------------------------------------------------------------------------------------------


def pages(place: Place, scale: Scale) -> Table:
    """List all data sets."""
    walk, search, bare_pages = "iter_data_sets", "search", "httpx2, pages of 100"
    olds = {f"{peers.PEER}, pages of {size}": size for size in (10, 100)}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Callable[[], list[str]]] = {}
        if peers.is_there():
            old = stack.enter_context(peers.old_client(place))
            sides |= {name: partial(old.pages, size, len(place.uris)) for name, size in olds.items()}
        run = stack.enter_context(asyncio.Runner()).run
        bare = peers.Bare(place)
        stack.callback(bare.close, run)
        dserver = stack.enter_context(open_dserver(place.url, token=place.token))
        sides[bare_pages] = bare.pages
        sides[walk] = lambda: [row.uri for row in dserver.iter_data_sets()]
        sides[search] = lambda: [row.uri for row in dserver.search()]
        for name, read in sides.items():
            check(sorted(read()) == sorted(place.uris), f"{name} and what there is")
        measured = interleaved({name: _timed(read) for name, read in sides.items()}, scale.runs)
    table = Table(f"dserver: {len(place.uris)} data sets, page by page, {place.where}", "ms")
    for name in sides:
        table.add(name, measured, to=None if name == bare_pages else bare_pages)
    table.notes += peers.missing()
    return table


def _timed(read: Callable[[], list[str]]) -> Callable[[], float]:
    def measure() -> float:
        begin = perf_counter()
        read()
        return (perf_counter() - begin) * 1e3

    return measure
