"""The store as Google Cloud Storage, through its XML interface.

Sources: the Cloud Storage documentation ("XML API overview", "HTTP status and error codes for XML", "Requester Pays").
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, ClassVar

from nuncius.sandbox.store.interfaces import Interface, locate
from nuncius.sandbox.store.listing import list_bucket
from nuncius.sandbox.store.messages import Answer, RefusedError, page
from nuncius.sandbox.store.signature import query_pairs

if TYPE_CHECKING:
    from nuncius.sandbox.store.messages import Request

_HOSTS = re.compile(r"(?:(?P<bucket>[a-z0-9._-]+)\.)?storage\.googleapis\.com")
_CODES = {
    400: "InvalidArgument",
    401: "AuthenticationRequired",
    403: "AccessDenied",
    404: "NoSuchKey",
    429: "TooManyRequests",
    500: "InternalError",
}


class GoogleStorage(Interface):
    """The XML interface of Google Cloud Storage."""

    name: ClassVar[str] = "gcs"

    def failure_code(self, status: int) -> str:
        """Return what Google calls a failure with this status."""
        return _CODES.get(status, "ServiceUnavailable")

    def _find(self, request: Request) -> Answer:
        known = has_token(request, self._world.bearer_token)
        name, key = locate(request, _HOSTS)
        query = dict(query_pairs(request.query))
        project = request.headers.get("x-goog-user-project") or query.get("userProject")
        bucket = self._world.buckets.get(name)
        if bucket is None:
            raise RefusedError(404, "NoSuchBucket", "The specified bucket does not exist.")
        if not key:
            _check(known=known, project=project, public=bucket.public, payer=bucket.requester_pays)
            if request.method == "HEAD":
                return Answer(200, sends_body=False)
            return page(200, "application/xml", list_bucket(name, bucket, query, self._world.knobs.page_size))
        stored = bucket.objects.get(key)
        if stored is None:
            _check(known=known, project=project, public=bucket.public, payer=False)
            raise RefusedError(404, "NoSuchKey", "The specified key does not exist.")
        _check(known=known, project=project, public=stored.public, payer=stored.requester_pays)
        return self._serve(request, stored)


def has_token(request: Request, token: str) -> bool:
    """Tell whether a request carries the token; one that carries another is refused.

    Raises
    ------
    RefusedError
        If its token is none of ours.
    """
    header = request.headers.get("authorization")
    if header is None:
        return False
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise RefusedError(
            401,
            "AuthenticationRequired",
            "Authentication required.",
            headers={"www-authenticate": 'Bearer error="invalid_token"'},
        )
    return True


def _check(*, known: bool, project: str | None, public: bool, payer: bool) -> None:
    if payer and not project:
        raise RefusedError(
            400, "UserProjectMissing", "Bucket is a requester pays bucket but no user project provided."
        )
    if not known and (payer or not public):
        raise RefusedError(
            403,
            "AccessDenied",
            "Access denied.",
            details={"Details": "Anonymous caller does not have storage.objects.get access to the object."},
        )
