"""Queries shared among instances: divided, asked side by side, and asked elsewhere if an instance fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Gather, calling
from nuncius.compat.penquins.answers import Answer, merged
from nuncius.compat.penquins.errors import CatalogError, InstanceNameError
from nuncius.compat.penquins.splitting import assign, catalogs_of
from nuncius.errors import ConfigurationError, DeadlineError, NunciusError, ServerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius._core.drivers import Driver
    from nuncius._core.operations import Operation, Outcome
    from nuncius.compat.penquins.instances import Instance

log = logging.getLogger("nuncius.penquins")

_MOST_THREADS = 32  # connections of one instance
_ASIDE = (UnreachableError, ServerError, DeadlineError)  # what another instance can make good
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Part:
    """What one instance is asked: a query, or some of its catalogs.

    Parameters
    ----------
    index : int
        Which query it is of.
    name : str
        The name of the instance.
    instance : Instance
        Who is asked.
    query : dict
        What.
    movable : bool
        Whether another instance may be asked instead.
    tried : frozenset of str
        Who has failed to answer it.
    """

    index: int
    name: str
    instance: Instance
    query: dict[str, Any]
    movable: bool
    tried: frozenset[str] = frozenset()


def named(instances: Mapping[str, Instance], name: str) -> Instance:
    """Return the instance of a name.

    Raises
    ------
    InstanceNameError
        If there is none.
    """
    if name not in instances:
        raise InstanceNameError(f"Instance {name} not found in the list of instances: {list(instances)}")
    return instances[name]


def divide(
    instances: Mapping[str, Instance],
    queries: Iterable[dict[str, Any]],
    name: str | None,
    load: dict[str, int] | None = None,
) -> list[Part]:
    """Divide checked queries among the instances, or give them all to one; `load` counts what each has to do.

    Raises
    ------
    CatalogError
        If nobody has a catalog.
    ConfigurationError
        If there is no instance, or it can't be said which one is meant.
    """
    if not instances:
        raise ConfigurationError("there is no instance to ask; add one")
    if load is None:
        load = {key: instance.asked for key, instance in instances.items()}
    parts = []
    for index, query in enumerate(queries):
        if name is None:
            movable = query.get("query_type") != "drop"
            for key, share in _assigned(instances, query, load).items():
                parts.append(Part(index, key, instances[key], share, movable))
        else:
            instance = named(instances, name)
            _check_catalogs(name, instance, query)
            load[name] = load.get(name, 0) + 1
            parts.append(Part(index, name, instance, query, movable=False))
    return parts


def ask_all(
    instances: Mapping[str, Instance],
    parts: Sequence[Part],
    driver: Driver,
    *,
    limit: int,
    advance: Callable[[int], None],
) -> list[Outcome]:
    """Ask parts, at most `limit` at a time; the outcomes are lists of (name of who answered, answer), in that order."""

    def answered(part: Part) -> list[tuple[str, Answer]]:
        try:
            return _answered(instances, part)
        finally:
            advance(1)

    def gathered() -> Operation[list[Outcome]]:
        outcomes: list[Outcome] = yield Gather([calling(answered, part) for part in parts], limit)
        return outcomes

    return driver.run(gathered()) if parts else []


def collated(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> list[dict[str, Answer]]:
    """Return for each query its answers by instance; in the place of one that failed stands an answer that says so."""
    found: dict[int, dict[str, list[Answer]]] = {}
    for part, outcome in zip(parts, outcomes, strict=True):
        pairs = [(part.name, Answer.failed(outcome.error))] if outcome.error is not None else outcome.value
        for name, answer in pairs:
            found.setdefault(part.index, {}).setdefault(name, []).append(answer)
    result = []
    for index in sorted(found):
        whole = {name: merged(answers) for name, answers in found[index].items()}
        for answer in whole.values():
            answer.index = index
        result.append(whole)
    return result


def threads(count: Any) -> int:
    """Return how many requests are sent at a time.

    Raises
    ------
    ConfigurationError
        If it is no number of threads.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"{count!r} is no number of threads; give 1 or more")
    return min(count, _MOST_THREADS)


def _answered(instances: Mapping[str, Instance], part: Part) -> list[tuple[str, Answer]]:
    """Ask a part of its instance; or of others, if it has failed since the queries were divided."""
    parts = [part]
    if part.movable and part.instance.is_ill:
        parts = _divided(instances, part, part.tried) or parts
    return [pair for one in parts for pair in _asked(instances, one)]


def _asked(instances: Mapping[str, Instance], part: Part) -> list[tuple[str, Answer]]:
    """Ask a part of its instance, and if that one fails of those that are left."""
    try:
        answer = part.instance.ask(part.query)
    except _ASIDE as error:
        if error.status == _TOO_LARGE:
            raise
        part.instance.note_failure()
        others = _divided(instances, part, part.tried | {part.name}) if part.movable else []
        if not others:
            raise
        names = ", ".join(other.name for other in others)
        log.warning("%s did not answer, so %s is asked: %s", part.name, names, error)
        return [pair for other in others for pair in _asked(instances, other)]
    return [(part.name, answer)]


def _divided(instances: Mapping[str, Instance], part: Part, tried: frozenset[str]) -> list[Part]:
    """Divide a part among the instances that have not failed to answer it; an empty list if they can't."""
    left = {name: instance for name, instance in instances.items() if name not in tried}
    if not left or not catalogs_of(part.query):
        return []
    load = {name: instance.asked for name, instance in left.items()}
    try:
        shares = _assigned(left, part.query, load, may_refresh=False)
    except CatalogError:
        return []
    return [
        replace(part, name=name, instance=left[name], query=share, tried=tried)
        for name, share in shares.items()
    ]


def _assigned(
    instances: Mapping[str, Instance],
    query: dict[str, Any],
    load: dict[str, int],
    *,
    may_refresh: bool = True,
) -> dict[str, dict[str, Any]]:
    """Divide a query; if nobody has a catalog, the instances are asked once more which they have."""
    ill = [name for name, instance in instances.items() if instance.is_ill]
    try:
        return assign(query, _having(instances), load, ill=ill)
    except CatalogError:
        if not may_refresh:
            raise
    for name, instance in instances.items():
        try:
            instance.refresh()
        except NunciusError as error:
            log.warning("%s does not say which catalogs it has: %s", name, error)
    return assign(query, _having(instances), load, ill=ill)


def _having(instances: Mapping[str, Instance]) -> dict[str, list[str]]:
    return {name: instance.catalogs for name, instance in instances.items()}


def _check_catalogs(name: str, instance: Instance, query: Mapping[str, Any]) -> None:
    wanted = set(catalogs_of(query))
    if not wanted.issubset(instance.catalogs) and not wanted.issubset(instance.refresh()):
        missing = ", ".join(sorted(wanted - set(instance.catalogs)))
        raise CatalogError(
            f"One or more catalogs specified in the query are not available in the specified instance: {name} has no "
            f"{missing}"
        )
