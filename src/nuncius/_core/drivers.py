"""The two drivers that run operations (`operations.py`): `Driver` blocks, `AsyncDriver` awaits."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, assert_never

from nuncius._core import background, http
from nuncius._core.operations import Call, Gather, Once, Outcome, ReadRange, Request, Sleep
from nuncius.errors import DeadlineError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterable

    import httpx2

    from nuncius._core.operations import Need, Operation, Response

T = TypeVar("T")

_WAITED = "what another question was already waiting for, such as a login, was not done within {:.3g} s"


class _Running:
    """An operation that others of the same key wait for."""

    __slots__ = ("done", "outcome")

    def __init__(self, done: Any) -> None:
        self.done = done
        self.outcome: Outcome | None = None  # stays so if it is interrupted: who waits then does it himself


class _InterruptedError(BaseException):
    """Another thread of the same question was interrupted, so that nobody waits for this one."""


class Driver:
    """Runs operations in the calling thread. Threads may share it; a process after a fork gets new connections.

    Parameters
    ----------
    verify : bool or str
        How servers are verified; see `nuncius._core.http.tls_context`.
    """

    def __init__(self, *, verify: bool | str = True) -> None:
        self._verify = verify
        self._client: httpx2.Client | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Running] = {}

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result."""
        if self._process != os.getpid():
            # What other threads of the parent held or were about to do, nobody does here.
            self._lock, self._running, self._client = threading.Lock(), {}, None
            self._process = os.getpid()
        return self._run(operation, threading.Event())

    def _run(self, operation: Operation[T], stop: threading.Event) -> T:
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                need = operation.send(result) if error is None else operation.throw(error)
                result = error = None
                if stop.is_set():
                    raise _InterruptedError
                try:
                    result = self._meet(need, stop)
                except Exception as problem:  # noqa: BLE001 - the operation decides what to do with it
                    error = problem
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            operation.close()

    def listed(self, items: Iterable[T]) -> Iterable[T]:
        """Return what can be iterated over as it is: here it may be read when it is needed."""
        return items

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None and self._process == os.getpid():
            client.close()

    def _meet(self, need: Need, stop: threading.Event) -> Any:
        match need:
            case Request():
                return self._request(need)
            case Call():
                return need.function(*need.args)
            case Gather():
                return self._gather(need, stop)
            case Once():
                return self._once(need, stop)
            case Sleep():
                return time.sleep(need.seconds)
            case ReadRange():
                return background.run(need.answer())
            case _:
                assert_never(need)

    def _request(self, request: Request) -> Response:
        import httpx2

        with self._lock:
            if self._client is None:
                self._client = http.make_client(httpx2.Client, self._verify)
            client = self._client
        return http.send(client, request)

    def _gather(self, need: Gather, stop: threading.Event) -> list[Outcome]:
        outcomes = [Outcome(error=UnreachableError("interrupted")) for _ in need.operations]
        todo = iter(enumerate(need.operations))
        lock = threading.Lock()
        forced: list[BaseException] = []

        def work() -> None:
            while not stop.is_set():
                with lock:
                    index, operation = next(todo, (-1, None))
                if operation is None:
                    return
                try:
                    outcomes[index] = Outcome(self._run(operation, stop))
                except _InterruptedError:
                    return
                except Exception as error:  # noqa: BLE001 - handed to who asked
                    outcomes[index] = Outcome(error=error)
                except BaseException as error:  # noqa: BLE001 - sys.exit and its like: raised in the calling thread
                    forced.append(error)
                    stop.set()

        count = min(need.limit, len(outcomes))
        if count == 1:
            work()  # a thread of its own would only cost time
        else:
            self._work_side_by_side(work, count, stop)
        if forced:
            raise forced[0]
        return outcomes

    def _work_side_by_side(self, work: Callable[[], None], count: int, stop: threading.Event) -> None:
        # Daemons: after Ctrl-C the program need not wait for what is still on its way, and nothing more is begun.
        threads = [threading.Thread(target=work, daemon=True, name="nuncius-gather") for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            stop.set()
            raise

    def _once(self, need: Once, stop: threading.Event) -> Any:
        while True:
            with self._lock:
                running = self._running.get(need.key)
                mine = running is None
                if running is None:
                    running = self._running[need.key] = _Running(threading.Event())
            if mine:
                break
            if not running.done.wait(min(need.timeout_s, threading.TIMEOUT_MAX)):
                raise DeadlineError(_WAITED.format(need.timeout_s))
            if running.outcome is not None:
                return running.outcome.result()
        try:
            running.outcome = Outcome(self._run(need.make(), stop))
        except Exception as error:
            running.outcome = Outcome(error=error)
            raise
        finally:
            with self._lock:
                self._running.pop(need.key, None)
            running.done.set()
        return running.outcome.value


class _Kept(NamedTuple):
    """The connections of a loop."""

    client: httpx2.AsyncClient
    until_closed: AsyncGenerator[None, None]


async def _until_closed(client: httpx2.AsyncClient) -> AsyncGenerator[None, None]:
    """Close a client when this is closed: at the latest by its loop, which before it ends closes what was begun in it."""
    async with client:
        yield


class AsyncDriver:
    """Runs operations in an event loop. Each loop gets connections of its own.

    Parameters
    ----------
    verify : bool or str
        How servers are verified; see `nuncius._core.http.tls_context`.
    """

    def __init__(self, *, verify: bool | str = True) -> None:
        self._verify = verify
        self._clients: weakref.WeakKeyDictionary[Any, _Kept] = weakref.WeakKeyDictionary()
        self._running: weakref.WeakKeyDictionary[Any, dict[Hashable, _Running]] = weakref.WeakKeyDictionary()

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result."""
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                need = operation.send(result) if error is None else operation.throw(error)
                result = error = None
                try:
                    result = await self._meet(need)
                except Exception as problem:  # noqa: BLE001 - the operation decides what to do with it
                    error = problem
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            operation.close()

    async def listed(self, items: Iterable[T]) -> Iterable[T]:
        """Return a list, read in a worker thread: later nothing of it blocks the loop."""
        return items if isinstance(items, list) else await asyncio.to_thread(list, items)

    async def close(self) -> None:
        """Close the connections of the running loop; those of others are closed with their loops."""
        kept = self._clients.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.until_closed.aclose()

    async def _meet(self, need: Need) -> Any:
        match need:
            case Request():
                return await http.send_async(await self._client(), need)
            case Call():
                return await asyncio.to_thread(need.function, *need.args)
            case Gather():
                return await self._gather(need)
            case Once():
                return await self._once(need)
            case Sleep():
                return await asyncio.sleep(need.seconds)
            case ReadRange():
                return await need.answer()
            case _:
                assert_never(need)

    async def _client(self) -> httpx2.AsyncClient:
        import httpx2

        loop = asyncio.get_running_loop()
        kept = self._clients.get(loop)
        if kept is None:
            # A client holds its loop, so that neither would ever be let go.
            for other in filter(None, (reference() for reference in self._clients.keyrefs())):
                if other.is_closed():
                    self._clients.pop(other, None)  # another thread may have done so
            client = http.make_client(httpx2.AsyncClient, self._verify)
            kept = self._clients[loop] = _Kept(client, _until_closed(client))
            await anext(kept.until_closed)
        return kept.client

    async def _gather(self, need: Gather) -> list[Outcome]:
        if len(need.operations) == 1:
            return [await self._outcome(need.operations[0])]  # a task of its own would only cost time
        slots = asyncio.Semaphore(need.limit)

        async def work(operation: Operation[Any]) -> Outcome:
            async with slots:
                return await self._outcome(operation)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(operation)) for operation in need.operations]
        return [task.result() for task in tasks]

    async def _outcome(self, operation: Operation[Any]) -> Outcome:
        try:
            return Outcome(await self.run(operation))
        except Exception as error:  # noqa: BLE001 - handed to who asked
            return Outcome(error=error)

    async def _once(self, need: Once) -> Any:
        known = self._running.setdefault(asyncio.get_running_loop(), {})
        while (running := known.get(need.key)) is not None:
            try:
                async with asyncio.timeout(need.timeout_s):
                    await running.done.wait()
            except TimeoutError as error:
                raise DeadlineError(_WAITED.format(need.timeout_s)) from error
            if running.outcome is not None:
                return running.outcome.result()
        running = known[need.key] = _Running(asyncio.Event())
        try:
            running.outcome = Outcome(await self.run(need.make()))
        except Exception as error:
            running.outcome = Outcome(error=error)
            raise
        finally:
            known.pop(need.key, None)
            running.done.set()
        return running.outcome.value
