"""The one client that all functions share, in both colours, and the functions that are made of operations."""

from __future__ import annotations

import inspect
import os
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from nuncius._core.drivers import AsyncDriver, Driver
from nuncius.compat.dtool_lookup_api.core.config import Config
from nuncius.compat.dtool_lookup_api.errors import translating
from nuncius.compat.dtool_lookup_api.service import LookupService

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from nuncius._core.operations import Operation
    from nuncius.datasets.configuration import Settings

P = ParamSpec("P")
T = TypeVar("T")


class SharedClient:
    """A conversation and its connections, which are closed when nobody uses it any more.

    Parameters
    ----------
    settings : Settings
        Of which server.
    """

    def __init__(self, settings: Settings) -> None:
        self.service = LookupService(settings)
        self.driver = Driver(verify=settings.verify)
        self.async_driver = AsyncDriver(verify=settings.verify)
        weakref.finalize(self, self.driver.close)


class _Shared:
    """The client of the settings as they are now: made when it is first needed, and anew when they have changed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._client: SharedClient | None = None
        self._fingerprint: Hashable = None

    def get(self) -> SharedClient:
        if self._process != os.getpid():  # a thread of the parent may have held the lock
            self._lock, self._process = threading.Lock(), os.getpid()
        fingerprint = Config.fingerprint()
        with self._lock:
            if self._client is None or fingerprint != self._fingerprint:
                self._client, self._fingerprint = SharedClient(Config.settings()), fingerprint
            return self._client


_SHARED = _Shared()


def shared() -> SharedClient:
    """Return the client of the settings as they are now.

    Raises
    ------
    LookupConfigurationError
        If no server is named, or a setting can't be used.
    """
    return _SHARED.get()


# Functions out of operations -------------------------------------------------------------------------------------------


def blocking(
    operation: Callable[Concatenate[LookupService, P], Operation[T]],
) -> Callable[P, T]:
    """Return the function that asks and waits."""

    def run(*args: P.args, **options: P.kwargs) -> T:
        warn_if_deprecated(operation)
        with translating():
            client = shared()
            return client.driver.run(operation(client.service, *args, **options))

    dress(run, operation)
    return run


def awaited(
    operation: Callable[Concatenate[LookupService, P], Operation[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the function that gives a coroutine."""

    async def ask(*args: P.args, **options: P.kwargs) -> T:
        with translating():
            client = shared()
            return await client.async_driver.run(operation(client.service, *args, **options))

    def run(*args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        warn_if_deprecated(operation)  # here, where the caller can be named
        return ask(*args, **options)

    dress(run, operation)
    return run


def dress(run: Callable[..., Any], operation: Callable[..., Any], *, method_of: str | None = None) -> None:
    """Give a function the name, the documentation and the signature of an operation, whose service it provides itself."""
    signature = inspect.signature(operation)
    _, *parameters = signature.parameters.values()
    if method_of is not None:
        parameters.insert(0, inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY))
    run.__name__ = operation.__name__
    run.__qualname__ = ".".join(filter(None, (method_of, operation.__name__)))
    run.__doc__ = operation.__doc__
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=inspect.Signature.empty
    )


def warn_if_deprecated(operation: Callable[..., Any]) -> None:
    """Say that a name is out of date, at the place where the caller of our caller uses it."""
    replacement = getattr(operation, "replacement", None)
    if replacement is not None:
        name = operation.__name__
        warnings.warn(f"{name} is deprecated; use {replacement}", DeprecationWarning, stacklevel=3)
