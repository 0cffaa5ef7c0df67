"""The server in a process of its own, so that it doesn't share the interpreter with the client that is measured.

The process is told on standard input what to do, one pickled order after the other, and answers each on standard output.
It ends when standard input closes, so that it never outlives the program that started it.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError, NunciusError, UnreachableError
from nuncius.sandbox.store.server import StoreServer

if TYPE_CHECKING:
    from typing import BinaryIO

    from nuncius.sandbox.store.interfaces import World

_LENGTH = struct.Struct(">Q")
_STOP_S = 5.0


class StoreProcess:
    """A `StoreServer` in a process of its own.

    Parameters
    ----------
    world : World
        What there is.

    Attributes
    ----------
    ports : dict
        The port of each interface by its name.

    Raises
    ------
    UnreachableError
        If it does not start.
    """

    def __init__(self, world: World) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nuncius.sandbox.store"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        try:
            self.ports: dict[str, int] = self.order(world)
        except BaseException:
            self.close()
            raise

    def order(self, what: Any) -> Any:
        """Give an order and return the answer.

        Raises
        ------
        ConfigurationError
            If what is ordered can't be carried over.
        UnreachableError
            If the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            order = pickle.dumps(what, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"this can't be given to a store in a process of its own: {error}; give bytes, a Path, or an object that"
                " pickles"
            ) from error
        try:
            with self._lock:
                _write(self._process.stdin, order)
                answer = pickle.loads(_read(self._process.stdout))  # noqa: S301 - of our own process
        except (OSError, EOFError, ValueError) as error:  # a closed pipe is a ValueError
            raise UnreachableError("the process of the sandbox's store has ended", service="store") from error
        if isinstance(answer, NunciusError):
            raise answer
        return answer

    def close(self) -> None:
        """Stop it."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # it has just ended by itself
                assert pipe is not None
                pipe.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run() -> None:
    """Be that process."""
    orders, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, OSError):
        server = StoreServer(pickle.loads(_read(orders)))  # noqa: S301 - from who started us
        with contextlib.closing(server):
            _write(answers, pickle.dumps(server.ports))
            while True:
                _write(answers, pickle.dumps(_obey(server, _read(orders)), protocol=5))


def _obey(server: StoreServer, order: bytes) -> Any:
    try:
        return server.order(pickle.loads(order))  # noqa: S301 - from who started us
    except NunciusError as error:
        return error
    except (ImportError, AttributeError) as error:
        return ConfigurationError(
            f"the store in a process of its own can't read what it is given: {error}; define classes in a module that it"
            " can import"
        )


def _write(pipe: BinaryIO | Any, data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _read(pipe: BinaryIO | Any) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data: bytes = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
