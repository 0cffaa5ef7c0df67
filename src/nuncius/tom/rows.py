"""Rows of results, which belong to who has asked for them.

The Toolkit keeps the rows of the last query in a cache that all users share, under the numbers 0, 1, 2 …, and answers a
query that equals the last one from there. So two users would get each other's objects, and a stream would stand still for
an hour. Against it:

- Each run of a query carries a new random number (`NONCE`), so that no two are equal and the service is always asked.
- Each row is kept under a random id of its own as well. The results page offers that id, so that what is posted back means
  this row or none.
- A row that is taken from under a number, or by another user than its own, is refused.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from nuncius.errors import ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.tom.asking import Found

PROTECTED = True
"""Whether rows are protected. Only a test that shows what the protection is for sets it to False."""

NONCE = "nonce"
LIFE_S = 3600
_NUMBER = "id"  # what the Toolkit adds to a row that it keeps under a number
_MARKUP = frozenset("<>&\"'`")
_LONGEST_NAME = 100


def new_nonce() -> dict[str, str]:
    """Return what makes the parameters of one run unlike those of any other."""
    return {NONCE: secrets.token_hex(16)} if PROTECTED else {}


def row_of(found: Found, service: str, owner: str | None) -> dict[str, Any]:
    """Return the row of an object: its name and position, and small numbers."""
    row = {
        "name": found.object_id,
        "ra": found.ra,
        "dec": found.dec,
        "aliases": [alias for alias in found.aliases if _is_name(alias)],
        "catalog": found.catalog,
        "mjd": found.mjd,
        "mag": found.mag,
        "band": found.band,
        "score": found.score,
        "alert_id": found.alert_id,
    }
    if PROTECTED:
        row |= {"row_id": secrets.token_urlsafe(18), "service": service, "owner": owner}
    return row


def keep(row: Mapping[str, Any]) -> None:
    """Keep a row under its own id, where the Toolkit looks for what a user has chosen."""
    if PROTECTED:
        from django.core.cache import cache

        cache.set(f"result_{row['row_id']}", dict(row), LIFE_S)


def check(row: Mapping[str, Any], service: str, visitor: str | None) -> None:
    """Refuse a row that is not the visitor's own.

    Raises
    ------
    NotFoundError
        If it came from under a number, or from another service: nobody knows whose object that is.
    ForbiddenError
        If it is another user's.
    """
    if not PROTECTED:
        return
    if _NUMBER in row or row.get("service") != service:
        raise NotFoundError("this row is of another query; run yours again and choose from its results")
    if row.get("owner") != visitor:
        raise ForbiddenError(
            "this row is of another user's query; run yours again and choose from its results"
        )


def checked_name(name: str) -> str:
    """Return the name of a target.

    Raises
    ------
    ForbiddenError
        If it has markup in it, or is longer than names are: the Toolkit would put it into its pages as it is.
    """
    if not _is_name(name):
        raise ForbiddenError(
            f"the archive names this object {name[:40]!r}, which is no name of an object on the sky; no target was made"
        )
    return name


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and not _MARKUP & set(name) and len(name) <= _LONGEST_NAME
