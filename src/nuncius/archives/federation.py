"""Several archives as one: each question goes to who has the catalog, is well, and has least to do.

Positions are divided among all that have the catalog (`chunks.py`); any other question is asked of one of them, and of
the next if that one fails.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius._core.operations import Gather
from nuncius.archives.backend import Backend, no_such_catalog
from nuncius.archives.chunks import search
from nuncius.errors import DeadlineError, LoginError, ServerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find, Hits
    from nuncius.archives.language import Document
    from nuncius.errors import NunciusError
    from nuncius.sky.regions import Region

T = TypeVar("T")

log = logging.getLogger("nuncius.archives")

_ILL_S = 30.0  # how long an archive that failed is asked last
_MEMORY = 0.7  # how much of the time that it took counts next time
_ASIDE = (UnreachableError, ServerError, DeadlineError)  # what another archive can make good


@dataclass(slots=True)
class Member:
    """One archive of a federation, and how it has done so far."""

    name: str
    backend: Backend
    catalogs: frozenset[str] = frozenset()
    error: NunciusError | None = None  # why its catalogs are not known
    ill_until: float = 0.0
    asked: int = 0  # questions that it has not answered yet
    seconds: float = field(default=0.0)  # that an answer takes, smoothed

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Who is asked first: the healthy, then who has least to do, then the quickest."""
        return time.monotonic() < self.ill_until, self.asked, self.seconds


class FederationBackend(Backend):
    """Several archives.

    Parameters
    ----------
    members : mapping of str to Backend
        By their names.
    """

    service = "federation"

    def __init__(self, members: Mapping[str, Backend]) -> None:
        self.members = [Member(name, backend) for name, backend in members.items()]
        self.url = " + ".join(members)

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of the catalogs of all archives that answer."""
        now = time.monotonic()
        asked = [m for m in self.members if refresh or (not m.catalogs and now >= m.ill_until)]
        if asked:
            questions = [member.backend.catalogs(deadline, refresh=refresh) for member in asked]
            outcomes = yield Gather(questions, limit=len(questions))
            for member, outcome in zip(asked, outcomes, strict=True):
                member.error = None
                try:
                    member.catalogs = frozenset(outcome.result())
                except _ASIDE as error:
                    self._note(member, error)
                except LoginError as error:
                    # Not passed over: whoever gave a wrong password wants to know it, and of whom.
                    raise LoginError(
                        f"{member.name}: {error.message}",
                        service=error.service,
                        url=error.url,
                        status=error.status,
                    ) from error
            if all(member.error is not None for member in self.members):
                raise self._nobody("the names of the catalogs", [m.error for m in self.members if m.error])
        return sorted(frozenset().union(*(member.catalogs for member in self.members)))

    def known(self, catalog: str, deadline: Deadline) -> Operation[str]:
        """Return the name of a catalog that somebody has."""
        for refresh in (False, True):
            names = yield from self.catalogs(deadline, refresh=refresh)
            if catalog in names:
                return catalog
        silent = [member for member in self.members if member.error is not None]
        if silent:
            raise UnreachableError(
                f"no archive that answers has the catalog {catalog!r}; these don't answer: "
                + "; ".join(f"{member.name} ({member.error})" for member in silent),
                service=self.service,
                url=self.url,
            )
        raise no_such_catalog(catalog, names, self.service, self.url)

    def holders(self, catalog: str, deadline: Deadline, *others: str) -> Operation[list[Member]]:
        """Return the archives that have a catalog (and others besides), in the order in which they are to be asked."""
        for name in (catalog, *others):
            yield from self.known(name, deadline)
        able = [member for member in self.members if member.catalogs >= {catalog, *others}]
        return sorted(able, key=lambda member: member.rank)

    def find(self, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents."""
        return (yield from self._ask(query.catalog, lambda backend: backend.find(query, deadline), deadline))

    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count documents."""
        return (
            yield from self._ask(
                catalog,
                lambda backend: backend.count(catalog, condition, deadline, skip=skip, limit=limit),
                deadline,
            )
        )

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return about how many documents a catalog has."""
        return (
            yield from self._ask(
                catalog, lambda backend: backend.estimated_count(catalog, deadline), deadline
            )
        )

    def distinct(
        self, catalog: str, name: str, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Any]]:
        """Return the values of a field."""
        return (
            yield from self._ask(
                catalog, lambda backend: backend.distinct(catalog, name, condition, deadline), deadline
            )
        )

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        """Run a pipeline on an archive that has all the catalogs that it reads."""
        from nuncius.archives.language import collections_of

        others = sorted(collections_of(pipeline))
        return (
            yield from self._ask(
                catalog, lambda backend: backend.aggregate(catalog, pipeline, deadline), deadline, *others
            )
        )

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions."""
        return (
            yield from self._ask(query.catalog, lambda backend: backend.cone_chunk(query, deadline), deadline)
        )

    def cones(self, query: Cones, deadline: Deadline) -> Operation[Hits]:
        """Find documents around positions, divided among all archives that have the catalog."""
        able = yield from self.holders(query.catalog, deadline)
        return (yield from search([member.backend for member in able], query, deadline))

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents within a region."""
        return (
            yield from self._ask(
                query.catalog, lambda backend: backend.within(region, query, deadline), deadline
            )
        )

    def crossmatch(self, left: Find, right: Cones, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find, for the documents of one catalog, those of another that are near, wherever the two are."""
        able = yield from self.holders(left.catalog, deadline)
        yield from self.known(right.catalog, deadline)
        if any(right.catalog in member.catalogs for member in able):
            return (
                yield from self._ask(
                    left.catalog,
                    lambda backend: backend.crossmatch(left, right, deadline),
                    deadline,
                    right.catalog,
                )
            )
        return (yield from super().crossmatch(left, right, deadline))

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[Any]:
        """Say how the archive that would be asked would answer."""
        return (
            yield from self._ask(
                catalog, lambda backend: backend.explain(catalog, condition, order, deadline), deadline
            )
        )

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what each archive holds, and who has which catalog."""
        names = yield from self.catalogs(deadline, refresh=True)
        outcomes = yield Gather([member.backend.info(deadline) for member in self.members], limit=8)
        members = {
            member.name: {"error": str(outcome.error)} if outcome.error is not None else outcome.value
            for member, outcome in zip(self.members, outcomes, strict=True)
        }
        having = {name: {"archives": [m.name for m in self.members if name in m.catalogs]} for name in names}
        return {"url": self.url, "service": self.service, "catalogs": having, "archives": members}

    def close(self) -> None:
        """Close all archives."""
        for member in self.members:
            member.backend.close()

    def _ask(
        self,
        catalog: str,
        question: Callable[[Backend], Operation[T]],
        deadline: Deadline,
        *others: str,
    ) -> Operation[T]:
        """Ask one archive, and the next one if that fails."""
        able = yield from self.holders(catalog, deadline, *others)
        if not able:
            raise no_such_catalog(f"{catalog} together with {', '.join(others)}", [], self.service, self.url)
        errors: list[NunciusError] = []
        for member in able:
            begin = time.monotonic()
            member.asked += 1
            try:
                answer = yield from question(member.backend)
            except _ASIDE as error:
                self._note(member, error)
                errors.append(error)
                if deadline.remaining_s <= 0:
                    break
            else:
                taken = time.monotonic() - begin
                member.seconds = _MEMORY * member.seconds + (1 - _MEMORY) * taken
                member.ill_until, member.error = 0.0, None
                return answer
            finally:
                member.asked -= 1
        if len(errors) == 1:
            raise errors[0]
        raise self._nobody(f"the question on {catalog}", errors)

    def _note(self, member: Member, error: NunciusError) -> None:
        member.error = error
        member.ill_until = time.monotonic() + _ILL_S
        log.warning("the archive %r is asked last for %g s: %s", member.name, _ILL_S, error)

    def _nobody(self, what: str, errors: Sequence[NunciusError]) -> NunciusError:
        return UnreachableError(
            f"none of the archives answered {what}: " + "; ".join(str(error) for error in errors),
            service=self.service,
            url=self.url,
        )
