"""Sending a request again, where that is safe.

What was never sent may always be sent again. An answer that says "not now" (429, 502, 503, 504) and a connection that
broke are tried again only where the request reads; what writes, deletes or costs is sent once. A request that timed out
is never sent again: the server may still be working on it, and asking again would make two of it.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from nuncius._core.operations import Sleep
from nuncius.errors import TlsError, UnreachableError

if TYPE_CHECKING:
    from nuncius._core.operations import Deadline, Operation, Request, Response

RETRIES = 3
TRANSIENT = frozenset({429, 502, 503, 504})
_FIRST_WAIT_S = 0.3
_LONGEST_WAIT_S = 30.0
_LONGEST_ASKED_S = (
    60.0  # a server that asks for more gets its answer passed on: nobody expects to wait for hours
)


def send(request: Request, deadline: Deadline, *, reads: bool, retries: int = RETRIES) -> Operation[Response]:
    """Send a request, and again where that is safe and the deadline allows it.

    Parameters
    ----------
    request : Request
        Its `timeout_s` is for one attempt; the deadline cuts it.
    deadline : Deadline
        For all attempts together.
    reads : bool
        Whether the request changes nothing on the server.
    retries : int
        How many attempts more than one.

    Returns
    -------
    Response
        Also one with a status of failure: what that means is for the caller to say.

    Raises
    ------
    UnreachableError, TlsError, DeadlineError, ServerError
        With `attempts`.
    """
    attempt = 0
    while True:
        attempt += 1
        deadline.check(request.url)
        wait = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        try:
            response: Response = yield replace(
                request, timeout_s=min(request.timeout_s, deadline.remaining_s)
            )
        except TlsError:
            raise
        except UnreachableError as error:
            may_repeat = reads or not error.sent
            if not may_repeat or attempt > retries or wait > deadline.remaining_s:
                error.attempts = attempt
                raise
        else:
            if response.status not in TRANSIENT or not reads or attempt > retries:
                return response
            wait = max(wait, retry_after_s(response) or 0.0)
            if wait > min(deadline.remaining_s, _LONGEST_ASKED_S):
                return response
        yield Sleep(wait)


def retry_after_s(response: Response) -> float | None:
    """Return how long a server asks us to wait: seconds or a date in ``Retry-After`` (RFC 9110, 10.2.3)."""
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
