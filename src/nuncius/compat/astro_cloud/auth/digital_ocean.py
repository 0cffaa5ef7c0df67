"""Requests to Spaces of Digital Ocean, unsigned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius._core.lazy import require

if TYPE_CHECKING:
    from requests import PreparedRequest

__all__ = ["DigitalOceanAuth"]


class DigitalOceanAuth(require("requests.auth", extra="aws").AuthBase):  # type: ignore[misc]
    """Leaves a request as it is, as it is documented: for public files.

    `load_headers` finds the credentials of Spaces of Digital Ocean by itself.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request, untouched."""
        return request
