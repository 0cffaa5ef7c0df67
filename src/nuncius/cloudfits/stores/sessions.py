"""Asking a store: again after failures, in the region that it names, without credentials where there are none."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius.cloudfits.stores import problems
from nuncius.cloudfits.stores.clients import check_process, client_of, note_answer
from nuncius.cloudfits.stores.logins import forget_machine, nobody
from nuncius.cloudfits.stores.plain import PlainReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place
    from nuncius.cloudfits.stores.logins import Login
    from nuncius.cloudfits.stores.problems import Failure

T = TypeVar("T")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 15.0

# The regions of buckets that stores have named.
_regions: dict[tuple[str | None, str], str] = {}


class Session:
    """Asks a store, and learns from its answers.

    Parameters
    ----------
    place : Place
        The object or the folder.
    access : Access
        How it is reached.
    login : Login
        Who asks.
    """

    __slots__ = ("_client", "_plain", "access", "login", "place")

    def __init__(self, place: Place, access: Access, login: Login) -> None:
        known = _regions.get((login.endpoint, place.bucket))
        self.place = place
        self.access = access
        self.login = replace(login, region=known) if known and access.region is None else login
        self._plain: PlainReader | None = None
        self._client: dict[bool, tuple[Any, str]] = {}

    @property
    def plain(self) -> PlainReader:
        """What reads a link without the stores' client."""
        if self._plain is None:
            self._plain = PlainReader(self.place, self.access, self.login)
        return self._plain

    async def ask(
        self,
        call: Callable[[Any, str], Awaitable[T]],
        *,
        returned: Callable[[Failure], bool] = lambda _: False,
        whole: bool = False,
    ) -> T | Failure:
        """Call something of the store's client until it answers.

        Parameters
        ----------
        call : callable
            Takes the client and the object's name there.
        returned : callable
            Tells the failures that the caller does something about himself.
        whole : bool
            Whether the answer may be long: then the time limit is for each piece of it.

        Raises
        ------
        NunciusError
            As the failure says.
        """
        attempt = 0
        while True:
            attempt += 1
            check_process()
            login = self.login
            if whole not in self._client:
                self._client[whole] = client_of(self.place, self.access, self.login, whole=whole)
            try:
                return await call(*self._client[whole])
            except _failures() as error:
                failure = problems.read_failure(error)
            finally:
                note_answer()
            if returned(failure):
                return failure
            if not await self._may_go_on(failure, attempt, login):
                failure = failure._replace(attempts=max(failure.attempts, attempt))
                raise problems.to_error(failure, self.place, self.access, self.login)

    async def _may_go_on(self, failure: Failure, attempt: int, login: Login) -> bool:
        """Do what can be done about a failure of one who asked so; False if that is nothing."""
        if failure.reason in {"region", "identity"} and login is not self.login:
            return True  # another request that was on its way has learned it
        if failure.reason == "region":
            return await self._learn_region(failure, login)
        if failure.reason == "identity" and self.login.machine:
            self._go_without()
            return True
        if failure.reason == "cut" and attempt <= self.access.retries:
            # The client goes on with a broken answer only where there is an ETag.
            wait = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - jitter
            return True
        return False

    async def _learn_region(self, failure: Failure, login: Login) -> bool:
        region = failure.region
        if region is None and self.place.kind == "s3":
            region = await self.plain.region_of(login.address, self.place.bucket)
            if login is not self.login:
                return True
        if region is None or region == self.login.region:
            return False
        _regions[self.login.endpoint, self.place.bucket] = region
        self._become(replace(self.login, region=region))
        return True

    def _go_without(self) -> None:
        forget_machine(self.place.kind)
        login = self.login
        where = {"endpoint": login.endpoint, "region": login.region, "options": login.options}
        self._become(nobody(self.place, self.access, **where))

    def _become(self, login: Login) -> None:
        self.login = login
        self._client.clear()


def _failures() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return (BaseError, FileNotFoundError)
