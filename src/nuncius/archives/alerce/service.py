"""The conversation with ALeRCE's servers of ZTF: the objects, the forced photometry and the images have one each.

Source: the interfaces as the client alerce 2.3.1 uses them, and the published code of the server of objects
(alercebroker/web-services). What surprises is said where it is handled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nuncius.archives.paged.listing import Listing, place
from nuncius.archives.paged.rest import RestService
from nuncius.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.language import Document

SERVICE = "alerce"
PUBLIC = "https://api.alerce.online"
PROBABILITY = ("classifier", "classifier_version", "class", "ranking", "probability")
"""The fields of an object's document that say how a classifier sees it."""

_ENTRY = "ztf/v1"
_STAMPS = {PUBLIC: "https://avro.alerce.online"}
_LSST_HOST = "api-lsst.alerce.online"


class AlerceService(RestService):
    """ALeRCE's servers, as operations.

    Parameters
    ----------
    url : str
        ``alerce+https://api.alerce.online``, with or without ``/ztf/v1`` behind it, or where others are. Images come
        from ``https://avro.alerce.online``; of other servers from the same address.
    timeout_s : float
        For one request.
    """

    service = SERVICE
    title = "ALeRCE"
    example = f"alerce+{PUBLIC}"

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        super().__init__(url, timeout_s=timeout_s)
        if urlsplit(self.base).hostname == _LSST_HOST:
            raise ConfigurationError(
                f"ALeRCE's server of LSST is not spoken with here, only that of ZTF: write {self.example}"
            )
        self.base = self.base.removesuffix(f"/{_ENTRY}")
        self.objects = f"{self.base}/{_ENTRY}/objects"
        self.classifiers = f"{self.base}/{_ENTRY}/classifiers"
        self.forced = f"{self.base}/v2/lightcurve/forced-photometry"
        self.stamps = f"{_STAMPS.get(self.base, self.base)}/get_stamp"

    def rows(self, path: str, deadline: Deadline, what: str) -> Operation[list[Document]]:
        """Ask for something that is a list of documents."""
        found = yield from self.json(path, deadline, what=what)
        return self.listed(found, what)

    def listed(self, found: Any, what: str) -> list[Document]:
        """Return an answer that is a list of documents."""
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.strange(found, what)
        return found


class ObjectListing(Listing):
    """Objects, page by page.

    Parameters
    ----------
    server : AlerceService
        Who is asked.
    params : mapping
        What is asked.
    size : int
        Objects on a page.
    counted : bool
        Whether the server is to count them all, which tells the end without another question.
    """

    def __init__(
        self, server: AlerceService, params: Mapping[str, Any], *, size: int, counted: bool = False
    ) -> None:
        self._server, self._params = server, params
        self._size, self._counted = size, counted
        self._page = 0
        self._read = 0
        self.total: int | None = None

    def page(self, deadline: Deadline) -> Operation[list[Document]]:
        """Return the objects of the next page.

        Unless it counts, the server says that there is no next page whatever there is, and the number of the page may
        be null. So pages are numbered here, and the end is where a page is empty or missing.
        """
        server, number = self._server, self._page + 1
        params = {
            **self._params,
            "page": number,
            "page_size": self._size,
            "count": str(self._counted).lower(),
        }
        try:
            answer = yield from server.json(
                server.objects, deadline, params, what=f"page {number} of its objects"
            )
        except NotFoundError:
            if number == 1:
                raise
            self._page, self.over = number, True
            return []
        items = answer.get("items") if isinstance(answer, dict) else None
        objects = server.listed(items, "a page of objects")
        self._page = number
        self._turn(answer, len(objects))
        return [self._object(item) for item in objects]

    def key(self, document: Document) -> Hashable:
        """Return what tells documents apart: an object comes once for each version of a classifier."""
        return (document["_id"], *(document.get(name) for name in PROBABILITY))

    def _turn(self, answer: Mapping[str, Any], count: int) -> None:
        self._read += count
        total = answer.get("total")
        if self._counted and isinstance(total, int) and not isinstance(total, bool):
            self.total = total
            self.over = self._read >= total or not count
        else:
            self.over = not count

    def _object(self, row: Document) -> Document:
        name = row.get("oid")
        if not isinstance(name, str) or not name:
            raise self._server.strange("an object without its oid", "an object")
        document = object_document(row)
        for field in PROBABILITY[:-1]:  # not every version of the server says again what was asked for
            if field in self._params and document.get(field) is None:
                document[field] = self._params[field]
        return document


def object_document(row: Mapping[str, Any]) -> Document:
    """Make the document of an object: as it came, with `_id` and `coordinates`."""
    return {"_id": row.get("oid"), **row, **place(row.get("meanra"), row.get("meandec"))}
