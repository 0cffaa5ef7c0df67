"""ALeRCE as a back end: our questions in its words, and its objects as documents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nuncius.archives.alerce.service import PROBABILITY, SERVICE, AlerceService, ObjectListing
from nuncius.archives.language import fields_of_filter
from nuncius.archives.paged.conditions import equalities, interval
from nuncius.archives.paged.listing import ListingBackend
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.language import Document
    from nuncius.archives.paged.tiles import Circle

CATALOG = "ALERCE_objects"
_RANGES = ("ndet", "firstmjd", "lastmjd")
_SORTED = frozenset(
    {"ndet", "firstmjd", "lastmjd", "deltamjd", "meanra", "meandec"}
)  # those that are never null
_MOST_NAMED = 100  # objects in one URL
_ABOVE_ZERO = 1e-9  # degrees


class AlerceBackend(ListingBackend):
    """ALeRCE's servers of ZTF.

    Parameters
    ----------
    url : str
        See `AlerceService`.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
    """

    service = SERVICE
    title = "ALeRCE"
    catalog = CATALOG
    names = ("_id", "oid")
    largest_page = 1000
    ordered_pages = 1  # objects that are equal in the order may change their places from page to page
    side_by_side = 2  # it bears few questions a minute

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self.server = AlerceService(url, timeout_s=timeout_s)
        self.url = f"{SERVICE}+{self.server.base}"

    def listing(
        self, condition: Mapping[str, Any], order: Sequence[tuple[str, int]], circle: Circle | None, size: int
    ) -> ObjectListing:
        """Begin a listing of the objects that may meet a condition.

        Without an order the server would give its pages in any, and objects would be lost between them.
        """
        params = self.asked(condition)
        name, direction = order[0] if order and self.serves(order) else ("oid", 1)
        params |= {"order_by": name, "order_mode": "ASC" if direction == 1 else "DESC"}
        if circle is not None:
            # The server takes a zero for no position at all.
            params |= {
                "ra": circle.ra or 360.0,
                "dec": circle.dec or _ABOVE_ZERO,
                "radius": circle.radius_arcsec,
            }
        return ObjectListing(self.server, params, size=size, counted=circle is not None)

    def serves(self, order: Sequence[tuple[str, int]]) -> bool:
        """Tell whether the server sorts so: by one column that is never null."""
        return len(order) == 1 and order[0][0] in _SORTED

    def asked(self, condition: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that the server gets for a filter.

        Raises
        ------
        FilterError
            If it asks for a class or a probability and doesn't say whose.
        """
        params: dict[str, Any] = {}
        classifier = _one_text(condition, "classifier")
        ranking = equalities(condition, "ranking")
        read = fields_of_filter(condition) or set()
        if classifier is None and read.intersection(PROBABILITY):
            raise FilterError(
                'a class and its probability are those of a classifier: name one, as in {"classifier": "lc_classifier", '
                '"class": "SNIa", "probability": {"$gte": 0.8}}; classifiers() lists them',
                position="filter['classifier']",
            )
        if "ranking" in read and (ranking is None or len(ranking) != 1 or type(ranking[0]) is not int):
            raise FilterError(
                'a ranking is one whole number, as in {"ranking": 2}; without it only the likeliest class is meant',
                position="filter['ranking']",
            )
        if classifier is not None:
            params["classifier"] = classifier
            for name in ("class", "classifier_version"):
                value = _one_text(condition, name)
                if value is not None:
                    params[name] = value
            if ranking is not None:
                params["ranking"] = ranking[0]
            low, _ = interval(condition, "probability")
            if low is not None and low > 0:
                params["probability"] = low
        for name in _RANGES:
            params |= _range(name, *interval(condition, name))
        names = self.named(condition)
        return {**params, "oid": names} if names and len(names) <= _MOST_NAMED else params

    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count objects, by reading them; all of them are counted by the server."""
        if condition:
            return (yield from super().count(catalog, condition, deadline, skip=skip, limit=limit))
        rest = max(0, (yield from self.estimated_count(catalog, deadline)) - skip)
        return rest if limit is None else min(rest, limit)

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return how many objects the server has by its own count."""
        yield from self.known(catalog, deadline)
        listing = ObjectListing(self.server, {"order_by": "oid", "order_mode": "ASC"}, size=1, counted=True)
        yield from listing.page(deadline)
        if listing.total is None:
            raise self.server.strange("no number", "the number of its objects")
        return listing.total

    def _read(self, condition: Mapping[str, Any], deadline: Deadline, *args: Any, **options: Any) -> Any:
        """Read objects that meet a condition; many that it names are asked for in pieces."""
        names = self.named(condition)
        if names is None or 0 < len(names) <= _MOST_NAMED or options.get("circle") is not None:
            return (yield from super()._read(condition, deadline, *args, **options))
        objects: list[Document] = []
        for begin in range(0, len(names), _MOST_NAMED):
            some = {"_id": {"$in": names[begin : begin + _MOST_NAMED]}}
            both = {"$and": [some, condition]}  # what comes first is what is asked for
            objects += yield from super()._read(both, deadline, *args, **options)
        return objects[: options.get("end")]


def _one_text(condition: Mapping[str, Any], path: str) -> str | None:
    values = equalities(condition, path)
    return values[0] if values is not None and len(values) == 1 and isinstance(values[0], str) else None


def _range(name: str, low: float | None, high: float | None) -> dict[str, Any]:
    """Write a range as the server takes it: the lower end, or both."""
    if low is None and high is None:
        return {}
    if name == "ndet":  # whole numbers
        low, high = math.floor(low or 0), None if high is None else math.ceil(high)
    return {name: [low or 0] if high is None else [low or 0, high]}
