"""One page of a list: which one, in what order, and what the server says of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Deadline
from nuncius.datasets import operations, questions
from nuncius.datasets.listing import LARGEST_PAGE, header
from nuncius.datasets.values import DataSets
from nuncius.errors import FilterError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from nuncius._core.operations import Operation
    from nuncius.datasets.listing import Question
    from nuncius.datasets.service import DServerService

log = logging.getLogger("nuncius.dtool_lookup_api")

ASCENDING = 1
DESCENDING = -1


class Page:
    """The page that is wanted, and where to say what is on it.

    Parameters
    ----------
    number, size : int
        Which, from 1 on, and how long. The server refuses what it does not give.
    sort_fields : str or sequence of str
        By what it is sorted.
    sort_order : int or sequence of int
        1 (upward) or -1 (downward), one for each field or one for all.
    pagination, sorting : dict, optional
        The caller's, which are emptied and filled.

    Raises
    ------
    FilterError
        If fields and orders don't go together.
    """

    def __init__(
        self,
        number: int = 1,
        size: int = 10,
        sort_fields: str | Sequence[str] = (),
        sort_order: int | Sequence[int] = ASCENDING,
        pagination: MutableMapping[str, Any] | None = None,
        sorting: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.number, self.size = number, size
        self.fields = _signed(sort_fields, sort_order)
        self._pagination, self._sorting = pagination, sorting
        self._fill({}, {})  # what an earlier question left there is no answer to this one

    @property
    def params(self) -> dict[str, Any]:
        """The query string."""
        return {**questions.order(self.fields), "page": self.number, "page_size": self.size}

    def tell(self, pagination: dict[str, Any], sorting: dict[str, Any], found: int) -> None:
        """Say what is on the page; in the log, if there is more and the caller wants no pagination."""
        self._fill(pagination, sorting)
        total = pagination.get("total")
        if self._pagination is None and self.number == 1 and isinstance(total, int) and total > found:
            log.warning(
                "these are %d of %d; page_number=2 gives the next, and nuncius.open_dserver all",
                found,
                total,
            )

    def _fill(self, pagination: dict[str, Any], sorting: dict[str, Any]) -> None:
        for target, values in ((self._pagination, pagination), (self._sorting, sorting)):
            if target is not None:
                target.clear()
                target.update(values)


def listed(service: DServerService, asked: Sequence[Question], page: Page) -> Operation[list[dict[str, Any]]]:
    """Return one page of the answer to some questions: with one request, unless a part has to be decided here.

    The search of dservercore 0.22.0 does not find all data sets by their UUIDs (`nuncius.datasets.questions`). Where UUIDs
    are asked for beside other things, or several of them, all is read and the page cut here.
    """
    if len(asked) == 1 and asked[0].keeps is None:
        return (yield from _one_page(service, asked[0], page))
    found = yield from operations.pages(service, asked, LARGEST_PAGE, lambda: Deadline(None))
    questions.sorted_by(found, page.fields)
    cut = operations.cut_page(found, page.number, page.size)
    page.tell(cut.pagination, {"sort": found.sorting} if page.fields else {}, len(cut))
    return [dict(row) for row in cut]


def _one_page(service: DServerService, question: Question, page: Page) -> Operation[list[dict[str, Any]]]:
    question.params |= questions.order(page.fields)
    try:
        found, response = yield from question.page(service, page.number, page.size, Deadline(None))
    except NotFoundError:
        if page.number == 1:
            raise
        return []  # how some servers say that there are no more pages
    pagination, sorting = header(response, "x-pagination"), header(response, "x-sort")
    if not sorting and page.fields and pagination.get("total") == len(found):
        # What MongoDB finds is not sorted there; here it can be, where nothing is missing.
        sorting = {"sort": questions.sorted_by(found := DataSets(found), page.fields).sorting}
    page.tell(pagination, sorting, len(found))
    return [dict(row) for row in found]


def _signed(sort_fields: str | Sequence[str], sort_order: int | Sequence[int]) -> list[str]:
    """Return the fields, with a minus downward."""
    fields = [sort_fields] if isinstance(sort_fields, str) else list(sort_fields)
    orders = [sort_order] if isinstance(sort_order, int) else list(sort_order)
    if len(orders) == 1:
        orders *= len(fields)
    if len(orders) != len(fields) or not set(orders) <= {ASCENDING, DESCENDING}:
        raise FilterError(
            f"sort_order={sort_order!r} does not fit sort_fields={sort_fields!r}: give one order, 1 (ascending) or -1 "
            "(descending), for all fields, or one for each"
        )
    return [
        f"-{field}" if order == DESCENDING else field for field, order in zip(fields, orders, strict=True)
    ]
