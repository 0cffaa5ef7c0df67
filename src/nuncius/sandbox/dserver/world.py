"""What the server knows: users, base URIs, rows of data sets in SQL, and their documents in MongoDB.

The real one keeps each data set three times, and the copies differ: the SQL row has times to the microsecond and goes
when the data set is deleted; the documents have times to the millisecond and stay. What came by PUT has its UUID there
as a UUID, what was indexed from storage as a text, and the two are never equal.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.dserver.answers import RefusedError
from nuncius.sandbox.dserver.freetext import TextIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Document = dict[str, Any]

REQUIRED = ("uuid", "base_uri", "uri", "name", "type", "readme", "manifest", "creator_username", "frozen_at",
            "annotations", "tags")  # fmt: skip
SHOWN = ("base_uri", "created_at", "creator_username", "frozen_at", "name", "number_of_items", "size_in_bytes", "uri",
         "uuid")  # fmt: skip


@dataclass
class Permissions:
    """Who may do what at a base URI."""

    search: list[str] = field(default_factory=list)
    register: list[str] = field(default_factory=list)


@dataclass
class Indexed:
    """A document and its words."""

    document: Document
    words: TextIndex


class World:
    """Users, base URIs and data sets.

    Attributes
    ----------
    lock : Lock
        What to hold while asking or changing it; the server answers in another thread than its user's.
    users : dict
        By name, whether one is an admin.
    base_uris : dict
        By base URI, who may do what there.
    rows : dict
        By URI, the rows of the SQL table.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.users: dict[str, bool] = {}
        self.base_uris: dict[str, Permissions] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self._documents: dict[tuple[Any, str], Indexed] = {}
        self._parsed: dict[tuple[Any, str], Document] = {}
        self._stored: dict[str, dict[str, Any]] = {}

    # Who may what -----------------------------------------------------------------------------------------------------

    def searchable(self, username: str) -> list[str]:
        """Return the base URIs that a user may search."""
        return [base_uri for base_uri, may in self.base_uris.items() if username in may.search]

    def registrable(self, username: str) -> list[str]:
        """Return the base URIs where a user may register."""
        return [base_uri for base_uri, may in self.base_uris.items() if username in may.register]

    def set_permissions(self, base_uri: str, search: Iterable[str], register: Iterable[str]) -> bool:
        """Replace who may do what at a base URI, and tell whether it is new; unknown users are left out.

        Raises
        ------
        RefusedError
            500 if a list has a user twice; a new base URI is there all the same.
        """
        new = base_uri not in self.base_uris
        may = self.base_uris.setdefault(base_uri, Permissions())
        lists = [[name for name in names if name in self.users] for names in (search, register)]
        if any(len(set(names)) < len(names) for names in lists):
            raise RefusedError(500)
        may.search, may.register = lists
        return new

    def delete_user(self, username: str) -> None:
        """Forget a user, if there is one."""
        self.users.pop(username, None)
        for may in self.base_uris.values():
            may.search = [name for name in may.search if name != username]
            may.register = [name for name in may.register if name != username]

    def delete_base_uri(self, base_uri: str) -> None:
        """Forget a base URI, if there is one; where data sets are left the real one fails."""
        if any(row["base_uri"] == base_uri for row in self.rows.values()):
            raise RefusedError(500)
        self.base_uris.pop(base_uri, None)

    # Data sets --------------------------------------------------------------------------------------------------------

    def register(self, info: Mapping[str, Any], *, stored: bool = False) -> bool:
        """Register a data set or replace it, and tell whether it is new.

        Parameters
        ----------
        info : mapping
            The fields of a PUT, or of what was found in storage.
        stored : bool
            Whether it was found in storage, so that notifications about it can register it again.

        Raises
        ------
        RefusedError
            500 if a time is no number, or MongoDB can't keep a value.
        """
        from bson import ObjectId

        new = info["uri"] not in self.rows
        frozen = _time(info["frozen_at"])
        times = {
            "frozen_at": frozen,
            "created_at": _time(info["created_at"]) if "created_at" in info else frozen,
        }
        document = _kept({**info, **times})
        key = (document["uuid"], info["uri"])
        self._documents[key] = Indexed(document, TextIndex(document))
        with contextlib.suppress(RefusedError):  # extensions may fail, without a word
            self._parsed[key] = _kept(
                {"_id": ObjectId(), **document, "readme": parsed_readme(info["readme"])}
            )
        self.rows.pop(info["uri"], None)
        row = {name: info.get(name) for name in SHOWN} | times
        self.rows[info["uri"]] = row | {"uuid": str(info["uuid"])}
        if stored:
            self._stored[info["uri"]] = dict(info)
        return new

    def register_stored(self, uri: str) -> None:
        """Register what is in storage under a URI, if anything is."""
        if uri in self._stored:
            self.register(self._stored[uri])

    def delete(self, uri: str) -> None:
        """Forget the row of a data set; the plugins keep their documents."""
        self.rows.pop(uri, None)

    def document(self, uri: str) -> Document:
        """Return what the retrieve plugin finds of a data set.

        Raises
        ------
        RefusedError
            404 if there is none.
        """
        for (_, known), indexed in self._documents.items():
            if known == uri:
                return indexed.document
        raise RefusedError(404)

    def searched(self, condition: Mapping[str, Any], free_text: str | None = None) -> list[Document]:
        """Return what the search plugin finds: documents that meet a checked filter, and have words."""
        from nuncius.archives.language import matches

        return [
            indexed.document
            for indexed in self._documents.values()
            if matches(indexed.document, condition) and (free_text is None or indexed.words.meets(free_text))
        ]

    @property
    def parsed(self) -> list[Document]:
        """All documents of the direct plugin, whose readmes are data and no text."""
        return list(self._parsed.values())


def is_valid(info: Mapping[str, Any]) -> bool:
    """Tell whether these are the fields of a data set that can be registered."""
    return (
        all(name in info for name in REQUIRED)
        and info["type"] == "dataset"
        and not info["base_uri"].endswith("/")
    )


def filter_of(asked: Mapping[str, Any], base_uris: list[str]) -> dict[str, Any]:
    """Return the filter that the plugins make of the lists of a query: one of these, but all tags."""
    wanted: dict[str, Any] = {"base_uri": {"$in": base_uris}}
    if asked.get("creator_usernames"):
        wanted["creator_username"] = {"$in": asked["creator_usernames"]}
    if asked.get("uuids"):
        wanted["uuid"] = {"$in": [_binary(each) for each in asked["uuids"]]}
    if asked.get("tags"):
        wanted["tags"] = {"$all": asked["tags"]}
    return wanted


def shown(document: Mapping[str, Any]) -> Document:
    """Return a document as queries show it: without the large parts."""
    hidden = {"_id", "readme", "manifest", "annotations"}
    return {name: item for name, item in document.items() if name not in hidden}


def parsed_readme(readme: str) -> Any:
    """Return what a readme says in YAML, with its dates as texts; nothing if it is no YAML."""
    import yaml

    try:
        return yaml.load(readme, Loader=_loader())  # noqa: S506 - derived from the safe one
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML without times."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def _time(seconds: Any) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(seconds))
    except (ValueError, OverflowError):
        raise RefusedError(500) from None


def _binary(value: uuid.UUID) -> Any:
    from bson.binary import Binary, UuidRepresentation

    return Binary.from_uuid(value, UuidRepresentation.STANDARD)


def _kept(document: Mapping[str, Any]) -> Document:
    """Return what MongoDB gives back of a document: times to the millisecond, UUIDs in binary.

    Raises
    ------
    RefusedError
        500 if it can't keep it.
    """
    import bson
    from bson.codec_options import CodecOptions
    from bson.errors import BSONError

    written = {
        key: _binary(value) if isinstance(value, uuid.UUID) else value for key, value in document.items()
    }
    try:
        return dict(bson.decode(bson.encode(written), CodecOptions(tz_aware=True)))
    except (BSONError, OverflowError, TypeError, RecursionError):
        raise RefusedError(500) from None
