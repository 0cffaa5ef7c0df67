"""The store as a plain web server."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, ClassVar

from nuncius.sandbox.store.gcs import has_token
from nuncius.sandbox.store.interfaces import Interface
from nuncius.sandbox.store.messages import RefusedError, decode, page, phrase_of

if TYPE_CHECKING:
    from nuncius.sandbox.store.messages import Answer, Request


class Plain(Interface):
    """Objects by plain HTTP; what is private wants a bearer token, what has a query string just that one."""

    name: ClassVar[str] = "http"

    def failure_code(self, status: int) -> str:
        """Return what HTTP calls this status."""
        return phrase_of(status)

    def _error_page(self, refused: RefusedError) -> Answer:
        title = f"{refused.status} {phrase_of(refused.status)}"
        html = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{escape(refused.message)}</body></html>"
        clean = html.encode("utf-8", "replace").decode()
        return page(refused.status, "text/html; charset=utf-8", clean, refused.headers)

    def _find(self, request: Request) -> Answer:
        known = has_token(request, self._world.bearer_token)
        name, _, key = decode(request.path[1:]).partition("/")
        bucket = self._world.buckets.get(name)
        stored = bucket.objects.get(key) if bucket is not None else None
        if stored is None:
            raise RefusedError(404, "Not Found", "There is no such page.")
        if stored.query is not None and request.query != stored.query:
            raise RefusedError(403, "Forbidden", "The link is not valid, or not valid any more.")
        if not stored.public and not known:
            raise RefusedError(401, "Unauthorized", "Please log in.", headers={"www-authenticate": "Bearer"})
        if stored.requester_pays:
            raise RefusedError(403, "Forbidden", "Who reads this must pay for it.")
        return self._serve(request, stored)
