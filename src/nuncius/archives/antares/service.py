"""The conversation with one ANTARES server, by version 2 of its interface.

Source: the interface as antares-client 2.0.2 uses it. Every answer stands in an envelope of `data`, `meta` and `links`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from nuncius.archives.paged.listing import Listing, place
from nuncius.archives.paged.rest import RestService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.language import Document
    from nuncius.archives.paged.tiles import Circle

SERVICE = "antares"
PUBLIC = "https://api.antares.noirlab.edu"
NEWEST = "-properties.newest_alert_observation_time"
"""The order in which ANTARES lists loci: those with the newest alert first."""

_ENTRY = "v2"


class AntaresService(RestService):
    """One ANTARES server, as operations.

    Parameters
    ----------
    url : str
        ``antares+https://api.antares.noirlab.edu``, the public server, or where another one is. The path of the
        interface is ``/v2`` unless the URL has one.
    timeout_s : float
        For one request.
    """

    service = SERVICE
    title = "ANTARES"
    example = f"antares+{PUBLIC}"

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        super().__init__(url, timeout_s=timeout_s)
        if not urlsplit(self.base).path:
            self.base = f"{self.base}/{_ENTRY}"

    def ask(
        self, path: str, deadline: Deadline, params: Mapping[str, Any] | None = None, *, what: str = "that"
    ) -> Operation[Any]:
        """Ask for something and return the `data` of the answer; see `RestService.json` for the errors."""
        answer = yield from self.json(path, deadline, params, what=what)
        return self.data(answer, what)

    def ask_one(self, path: str, deadline: Deadline, what: str) -> Operation[Document]:
        """Do as `ask` for something that is one document."""
        found = yield from self.ask(path, deadline, what=what)
        if not isinstance(found, dict):
            raise self.strange(found, what)
        return found

    def ask_many(
        self, path: str, deadline: Deadline, what: str, params: Mapping[str, Any] | None = None
    ) -> Operation[list[Document]]:
        """Do as `ask` for something that is a list of documents."""
        found = yield from self.ask(path, deadline, params, what=what)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.strange(found, what)
        return found

    def data(self, answer: Any, what: str) -> Any:
        """Take an answer out of its envelope."""
        if not isinstance(answer, dict) or "data" not in answer:
            raise self.strange(answer, f"an answer with {what} in `data`")
        return answer["data"]


class LocusListing(Listing):
    """The loci that meet a search, page by page.

    Parameters
    ----------
    server : AntaresService
        Who is asked.
    search : mapping
        A search in Elasticsearch's words.
    sort : str
        By what the server sorts, with a minus downward.
    size : int
        Loci on a page.
    """

    def __init__(self, server: AntaresService, search: Mapping[str, Any], *, sort: str, size: int) -> None:
        self._server, self._size = server, size
        self._params: Mapping[str, Any] = {
            "limit": size,
            "sort": sort,
            "elasticsearch_query": json.dumps(search),
        }
        self._asked: set[str] = set()
        self._lost = False

    def page(self, deadline: Deadline) -> Operation[list[Document]]:
        """Return the loci of the next page."""
        server = self._server
        if self._lost:
            raise server.strange("a full page that does not say whether it is the last", "a link to the next")
        answer = yield from server.json("loci", deadline, self._params, what="a page of loci")
        data = server.data(answer, "loci")
        if not isinstance(data, list):
            raise server.strange(data, "a page of loci")
        documents = [self._locus(item) for item in data]
        self._turn(answer.get("links"), len(documents))
        return documents

    def _turn(self, links: Any, count: int) -> None:
        """Find the next page: the link to it carries all parameters."""
        following = links.get("next") if isinstance(links, dict) else None
        if following is None:
            self._lost = not isinstance(links, dict) and count >= self._size
            self.over = not self._lost
            return
        # Where it points to is not followed: only what it asks. A proxy may have changed the address.
        asked = urlsplit(following).query if isinstance(following, str) else ""
        if not asked or asked in self._asked:
            raise self._server.strange(f"{following!r} as the link to the next page, again", "another page")
        self._asked.add(asked)
        self._params = parse_qs(asked, keep_blank_values=True)

    def _locus(self, item: Any) -> Document:
        locus = item.get("locus") if isinstance(item, dict) else None
        if not isinstance(locus, dict):
            raise self._server.strange(item, "a locus")
        return locus_document(self._server, locus)


def locus_document(server: AntaresService, locus: Mapping[str, Any]) -> Document:
    """Make the document of a locus: as it came, with `_id` and `coordinates`."""
    name = locus.get("locus_id", locus.get("id"))
    if not isinstance(name, str) or not name:
        raise server.strange("a locus without its id", "a locus")
    return {"_id": name, "locus_id": name, **locus, **place(locus.get("ra"), locus.get("dec"))}


def around(circle: Circle) -> dict[str, Any]:
    """Return the clause for a cone, in ANTARES' own addition to Elasticsearch.

    Examples
    --------
    >>> from nuncius.archives.paged.tiles import Circle
    >>> around(Circle(10.5, -5.25, 3.6))
    {'sky_distance': {'radius': '0.0010000000 degree', 'location': '00h42m00.000000s -05d15m00.00000s'}}
    """
    hours = _sexagesimal(circle.ra / 15 % 24, "hms", 6, 24)
    degrees = _sexagesimal(abs(circle.dec), "dms", 5, 91)
    location = f"{hours} {'-' if circle.dec < 0 else '+'}{degrees}"
    return {"sky_distance": {"radius": f"{circle.radius_arcsec / 3600:.10f} degree", "location": location}}


def _sexagesimal(value: float, letters: str, digits: int, whole: int) -> str:
    """Write hours or degrees; what rounds up to a whole turn begins anew."""
    seconds = round(value * 3600, digits) % (whole * 3600)
    minutes, seconds = divmod(seconds, 60)
    first, minutes = divmod(int(minutes), 60)
    return f"{first:02d}{letters[0]}{minutes:02d}{letters[1]}{seconds:0{digits + 3}.{digits}f}{letters[2]}"
