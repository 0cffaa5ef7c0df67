"""Data sets page by page, so that none is missing and none comes twice."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import read_json
from nuncius.datasets.values import DataSet
from nuncius.errors import ConfigurationError, NotFoundError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.datasets.service import DServerService

LARGEST_PAGE = 100
_MOST_STEPS_BACK = 100  # a server that forgets all the time is not followed for ever


class Question:
    """What is asked page by page.

    Parameters
    ----------
    method, path : str
        Where.
    body : mapping, optional
        What is sent.
    params : mapping, optional
        The query string, but for the page.
    keeps : callable, optional
        Decides here what the server can't be asked.
    what : str
        What is asked for, for messages.
    key : str
        The field that tells one row from another.
    """

    def __init__(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        keeps: Callable[[DataSet], bool] | None = None,
        what: str = "data sets",
        key: str = "uri",
    ) -> None:
        self.method, self.path, self.body, self.params = method, path, body, dict(params or {})
        self.keeps, self.what, self.key = keeps, what, key

    def page(
        self, service: DServerService, number: int, size: int, deadline: Deadline
    ) -> Operation[tuple[list[DataSet], Response]]:
        """Ask for one page."""
        params = {**self.params, "page": number, "page_size": size}
        answer, response = yield from service.ask(
            self.method, self.path, deadline, json=self.body, params=params, what=self.what
        )
        if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
            raise service.strange(f"a list of {self.what}", answer)
        return [DataSet(row) for row in answer], response


class DataSetWalk:
    """All pages of some questions, one after the other.

    Data sets that are registered meanwhile may push others onto the next page, which then come twice, and are given once.
    Where some were deleted meanwhile, others have moved to a page that was read already: it is read again.

    Parameters
    ----------
    service : DServerService
        Who is asked.
    questions : sequence of Question
        What.
    size : int
        How many are asked for at a time.
    """

    def __init__(
        self, service: DServerService, questions: Sequence[Question], size: int = LARGEST_PAGE
    ) -> None:
        self._service, self._questions, self._size = service, deque(questions), check_page_size(size)
        self._number = 1
        self._total: int | None = None
        self._seen: set[str] = set()
        self._steps_back = 0
        self._missing: tuple[int, int | None] | None = None  # the page that was promised and was not there
        self.sorting: dict[str, int] = {}

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return not self._questions

    def page(self, deadline: Deadline) -> Operation[list[DataSet]]:
        """Read the next page; return what is new in it."""
        if self.over:
            return []
        question = self._questions[0]
        try:
            found, response = yield from question.page(self._service, self._number, self._size, deadline)
        except NotFoundError as error:
            if self._number == 1:
                raise
            self._past_the_end(question.what, error)
            return []
        self._go_on(header(response, "x-pagination"), len(found))
        self.sorting = sorting_of(response)
        return [
            row
            for row in found
            if (question.keeps is None or question.keeps(row)) and self._is_new(row.get(question.key))
        ]

    def _go_on(self, pagination: Mapping[str, Any], found: int) -> None:
        total = whole(pagination.get("total"))
        shrunk = (self._total or 0) - (self._total or 0 if total is None else total)
        self._total = total
        if shrunk > 0 and self._number > 1 and self._steps_back < _MOST_STEPS_BACK:
            self._steps_back += 1
            self._number = max(1, self._number - math.ceil(shrunk / self._size))
        elif is_last(pagination, self._number, found, self._size):
            self._next_question()
        else:
            self._number += 1

    def _past_the_end(self, what: str, error: NotFoundError) -> None:
        """Go on where some servers say that there is no such page: it is the end, or so much was deleted meanwhile."""
        if (self._total or 0) <= (self._number - 1) * self._size:
            self._next_question()
            return
        promised = (self._number, self._total)
        if promised == self._missing or self._steps_back >= _MOST_STEPS_BACK:
            raise ServerError(
                f"{self._service.base} has {self._total} {what}, as it says, but does not give page {self._number} of "
                f"them; ask again, or look at what stands before it",
                service=self._service.service,
                url=self._service.base,
                status=404,
            ) from error
        self._missing = promised
        self._steps_back += 1
        self._number = 1  # how much was deleted nothing says: only from the beginning is nothing left out

    def _next_question(self) -> None:
        self._questions.popleft()
        self._number, self._total = 1, None

    def _is_new(self, name: object) -> bool:
        if not isinstance(name, str):
            return True
        known = name in self._seen
        self._seen.add(name)
        return not known


def whole_list(
    service: DServerService, question: Question, size: int, timeout: Callable[[], Deadline]
) -> Operation[tuple[list[DataSet], dict[str, int]]]:
    """Read all pages of one question; return what is there, and by what the server has sorted it."""
    walk = DataSetWalk(service, [question], size)
    found: list[DataSet] = []
    while not walk.over:
        found += yield from walk.page(timeout())
    return found, walk.sorting


def header(response: Response, name: str) -> dict[str, Any]:
    """Return what a header line says in JSON; nothing if there is none."""
    try:
        value = read_json(response.headers.get(name, "").encode())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def sorting_of(response: Response) -> dict[str, int]:
    """Return by what a page is sorted: 1 is upward, -1 downward."""
    order = header(response, "x-sort").get("sort")
    return dict(order) if isinstance(order, dict) else {}


def whole(value: Any) -> int | None:
    """Return a whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def check_page_size(size: int) -> int:
    """Return a page size that the server takes.

    Raises
    ------
    ConfigurationError
        If it takes none such.
    """
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_PAGE:
        raise ConfigurationError(
            f"page_size={size!r}: a dserver gives 1 to {LARGEST_PAGE} data sets at a time"
        )
    return size


def check_page_number(number: int) -> int:
    """Return the number of a page.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigurationError(f"page_number={number!r}: the first page is 1")
    return number


def is_last(pagination: Mapping[str, Any], number: int, found: int, size: int) -> bool:
    """Tell whether a page is the last one."""
    last = whole(pagination.get("last_page"))
    if last is None:
        last = whole(pagination.get("total_pages"))
    # Who may see nothing gets no such header at all.
    return found < size if last is None else number >= last or found == 0
