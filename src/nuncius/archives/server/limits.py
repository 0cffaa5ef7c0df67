"""What one request may cost, and how it is refused."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nuncius.errors import DeadlineError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost.

    Parameters
    ----------
    body_bytes : int
        The largest body of a request, as Kowalski has it.
    body_s : float
        How long a client may take to send it, and to read each piece of an answer.
    query_s : float
        How long a whole request may take, whatever `max_time_ms` says.
    rows, answer_bytes : int
        The most documents of an answer, and its largest size. What is larger is refused and never cut.
    positions : int
        The most positions of a request.
    stages : int
        The most stages of a pipeline, those within others counted too.
    depth : int
        How deep lists and objects may be nested.
    literal_chars : int
        The longest filter that is given as a text.
    regex_chars : int
        The longest regular expression.
    threads : int
        How many queries run at once.
    queries_per_user, queries : int
        How many may wait or run at once, of one user and of all.
    memory_bytes : int
        How much the server may hold before queries that make it hold more are refused (only Linux says how much it is).
    document_bytes : int
        The largest document that a pipeline or a projection may make, about; as MongoDB.
    unread_bytes : int
        How much of answers that a user has not read may wait before the next query is refused.
    conditions : int
        The most names of fields and operators in a filter, projection or pipeline, at all depths together.
    gzip_bytes : int
        The smallest answer that is compressed.
    """

    body_bytes: int = 1_048_576
    body_s: float = 30.0
    query_s: float = 300.0
    rows: int = 200_000
    answer_bytes: int = 256_000_000
    positions: int = 30_000
    stages: int = 50
    depth: int = 60
    literal_chars: int = 65_536
    regex_chars: int = 200
    threads: int = 4
    queries_per_user: int = 16
    queries: int = 64
    memory_bytes: int = 900_000_000
    document_bytes: int = 16 * 2**20
    unread_bytes: int = 256_000_000
    conditions: int = 5_000
    gzip_bytes: int = 65_536


class Refusal(Exception):  # noqa: N818 - it becomes an answer and is never raised to a user
    """A request that is not answered as it was asked.

    Parameters
    ----------
    status : int
        The HTTP status.
    message : str
        What a client reads. Kowalski gives one for 400 and 409 alone, so others get the status's own phrase.
    detail : str, optional
        What is the matter and what to do, where the message can't say it.
    retry_after_s : float, optional
        When it is worth asking again.
    """

    def __init__(
        self, status: int, message: str = "", *, detail: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message or detail)
        self.status = status
        self.message = message
        self.detail = detail
        self.retry_after_s = retry_after_s


def wrong(kind: str, text: str) -> Refusal:
    """Return the refusal of a request that means nothing, in the words of the exception that Kowalski would have."""
    return Refusal(400, f"{kind}: {text}")


def invalid(text: str) -> Refusal:
    """Return the refusal of a query that Kowalski's validation does not let pass."""
    return wrong("ValidationError", f"1 validation error for Query\n__root__\n  {text} (type=value_error)")


def forbidden(detail: str) -> Refusal:
    """Return the refusal of what nobody may do here."""
    return Refusal(403, detail=detail)


class TimeLeft:
    """One deadline for all that a request does.

    Parameters
    ----------
    seconds : float
        From now on.
    """

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def shorten(self, seconds: float) -> None:
        """End the request after so many seconds from now, if that is earlier."""
        end = time.monotonic() + seconds
        if end < self._end:
            self.seconds, self._end = seconds, end

    def left_s(self) -> float:
        """Return how many seconds are left.

        Raises
        ------
        DeadlineError
            If none are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"the request took longer than {self.seconds:g} s")
        return left
