"""Sort orders, and documents put into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.values import MISSING, check_path, found, order_key
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.archives.language.values import Document, SortLike

_MOST_FIELDS = 32  # as MongoDB
_SPARE = 1024  # how many documents are collected before those that can't be among the first are let go


def check_sort(sort: SortLike) -> list[tuple[str, int]]:
    """Check a sort order: a field (``"-candidate.jd"`` sorts downward), pairs ``[("candidate.jd", -1)]``, a mapping.

    Raises
    ------
    FilterError
        If it is none.

    Examples
    --------
    >>> check_sort("-candidate.jd")
    [('candidate.jd', -1)]
    """
    if sort is None:
        return []
    if not isinstance(sort, (str, Mapping, Sequence)):
        raise FilterError(f"sort: {sort!r} is no list of pairs of a field and 1 or -1", position="sort")
    pairs = (
        [(sort.removeprefix("-"), -1 if sort.startswith("-") else 1)]
        if isinstance(sort, str)
        else list(sort.items() if isinstance(sort, Mapping) else sort)
    )
    if len(pairs) > _MOST_FIELDS:
        raise FilterError(f"sort: at most {_MOST_FIELDS} fields, not {len(pairs)}", position="sort")
    for pair in pairs:
        if not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], (int, float))
            and pair[1] in {1, -1}
        ):
            raise FilterError(f"sort: {pair!r} is not a pair of a field and 1 or -1", position="sort")
        check_path(pair[0], "sort")
    return [(name, int(direction)) for name, direction in pairs]


def sort_documents(documents: Iterable[Document], order: Sequence[tuple[str, int]]) -> list[Document]:
    """Sort documents; an array counts by its smallest element upward and its largest downward.

    Equal ones stay in the order in which they came.
    """
    documents = list(documents)
    for name, direction in reversed(order):
        path = name.split(".")
        documents.sort(
            key=lambda document, path=path, direction=direction: sort_key(document, path, direction),  # type: ignore[misc]
            reverse=direction == -1,
        )
    return documents


def first_documents(
    documents: Iterable[Document], order: Sequence[tuple[str, int]], limit: int
) -> list[Document]:
    """Return what a sort puts first, without keeping all the others in memory."""
    kept: list[Document] = []
    for document in documents:
        kept.append(document)
        if len(kept) >= 2 * limit + _SPARE:
            kept = sort_documents(kept, order)[:limit]
    return sort_documents(kept, order)[:limit]


def sort_key(document: Any, path: Sequence[str], direction: int) -> tuple[Any, ...]:
    """Return what a document is sorted by at a path, upward (1) or downward (-1)."""
    values = found(document, path)
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not flat:  # an empty array comes even before null
        return (0,) if values else (1, order_key(None))
    keys = [order_key(None if value is MISSING else value) for value in flat]
    return (1, (min if direction == 1 else max)(keys))
