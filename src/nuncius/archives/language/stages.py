"""What a stage of a pipeline is, and what the checks and steps of all of them need.

No stage changes a document that it is given, because others may have it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.archives.language.expressions import DocumentScope
from nuncius.archives.language.values import MISSING, check_path, is_number, plain, unknown
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nuncius.archives.language.values import Document

Documents: TypeAlias = "Iterable[Document]"
Lookup: TypeAlias = "Callable[[str], Iterable[Document]]"
Select: TypeAlias = "Callable[[str, Mapping[str, Any]], Iterable[Document]]"


@dataclass(frozen=True, slots=True)
class Checking:
    """What is defined where a stage stands.

    Parameters
    ----------
    names : frozenset of str
        Names of variables.
    inner : callable
        Checks a pipeline within this one: its stages, place and variables.
    first : bool
        Whether the stage is the first of all.
    """

    names: frozenset[str]
    inner: Callable[[Any, str, frozenset[str]], list[dict[str, Any]]]
    first: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """What stages need to run.

    Parameters
    ----------
    variables : mapping
        Values of variables.
    lookup : callable, optional
        Gives the documents of another catalog.
    select : callable, optional
        Gives those that meet a filter, and perhaps more.
    run : callable
        Runs a pipeline within this one.
    """

    variables: Mapping[str, Any]
    run: Callable[[Documents, list[dict[str, Any]], Mapping[str, Any]], Iterator[Document]]
    lookup: Lookup | None = None
    select: Select | None = None

    def scope(self, document: Document) -> DocumentScope:
        """Return the scope of a document."""
        return DocumentScope(document, self.variables)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: what it means in one line, its check and its step."""

    meaning: str
    check: Callable[[Any, str, Checking], Any]
    run: Callable[[Documents, Any, Running], Iterator[Document]]


# What several checks need --------------------------------------------------------------------------------------------


def known_names(spec: Any, place: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Refuse a stage that is no mapping, lacks a name or has one that is not known.

    Raises
    ------
    FilterError
        If so.
    """
    if not isinstance(spec, Mapping):
        raise FilterError(f"{place} takes {', '.join((*required, *optional))} by name", position=place)
    for name in spec:
        if name not in required and name not in optional:
            raise unknown(str(name), f"{place}[{name!r}]", (*required, *optional), "is no argument")
    for name in required:
        if name not in spec:
            raise FilterError(f"{place}: the argument {name!r} is missing", position=place)


def whole_number(spec: Any, place: str, least: int) -> int:
    """Return a whole number that is not smaller than another.

    Raises
    ------
    FilterError
        If it is none.
    """
    value = plain(spec, place)
    if not is_number(value) or not math.isfinite(value) or value != int(value) or value < least:
        raise FilterError(f"{place} takes a whole number from {least} on, not {value!r}", position=place)
    return int(value)


def field_name(spec: Any, place: str) -> str:
    """Return the name of a new field, which has no dots and no dollar sign in front.

    Raises
    ------
    FilterError
        If it is none.
    """
    if not isinstance(spec, str) or not spec or "." in spec or spec.startswith("$"):
        raise FilterError(
            f"{place} takes the name of a field without dots and $, not {spec!r}", position=place
        )
    return spec


def field_path(spec: Any, place: str) -> str:
    """Return a dotted path without a dollar sign in front.

    Raises
    ------
    FilterError
        If it is none.
    """
    if not isinstance(spec, str) or spec.startswith("$"):
        raise FilterError(f"{place} takes a path without $ in front, not {spec!r}", position=place)
    return check_path(spec, place)


def with_value(document: Mapping[str, Any], names: Sequence[str], value: Any) -> Document:
    """Return a document with a value at a path, or without it if that is MISSING."""
    changed = dict(document)
    name, rest = names[0], names[1:]
    if rest:
        inner = changed.get(name)
        changed[name] = with_value(inner if isinstance(inner, Mapping) else {}, rest, value)
    elif value is MISSING:
        changed.pop(name, None)
    else:
        changed[name] = value
    return changed
