"""Objects in stores, and links: read by obstore, one request for each piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Piece
from nuncius.cloudfits.access import is_telling, refuse_pickling
from nuncius.cloudfits.stores import problems
from nuncius.cloudfits.stores.answers import identity, is_strong, unpack
from nuncius.cloudfits.stores.problems import Failure
from nuncius.cloudfits.stores.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place
    from nuncius.cloudfits.stores.logins import Login

_UNKNOWN_TIME = 0  # what the client says where the server says nothing of the time
_CHUNK = 16 << 20  # bytes
_LEFT_BEHIND = frozenset({"authorization", "cookie", "proxy-authorization"})

# The folders of links whose server answers in a way that the client can't read.
_unusual: set[str] = set()


class ObjectSource:
    """An object in a store, or behind a link.

    Parameters
    ----------
    place : Place
        Where it is.
    access : Access
        How it is reached.
    login : Login
        Who reads.
    """

    __slots__ = ("_session", "url")

    def __init__(self, place: Place, access: Access, login: Login) -> None:
        self.url = place.url
        self._session = Session(place, access, login)

    async def read(self, start: int, end: int, *, etag: str | None = None) -> Piece:
        """Read the bytes from `start` to before `end`; see `Source`."""
        wanted = max(start + 1, end)  # nothing is asked for as one byte: it tells the size too
        if self._folder in _unusual or self._has_own_secrets:
            piece = await self._session.plain.read(start, wanted, etag)
        else:
            piece = await self._read(start, wanted, etag)
        if etag is not None and piece.etag != etag:
            raise problems.changed(self._session.place)
        return piece if end > start else piece._replace(data=b"")

    async def read_all(self, max_bytes: int) -> Piece:
        """Read the whole object, unpacked if the server packs it; UnsupportedError if it is larger than that."""
        if self._session.place.kind == "http":
            # Also of servers that know neither ranges nor sizes.
            return await self._session.plain.read_all(max_bytes)
        piece = await self._session.ask(lambda store, key: self._get_all(store, key, max_bytes), whole=True)
        assert isinstance(piece, Piece)
        return piece

    def __repr__(self) -> str:
        return f"ObjectSource({self.url!r})"

    def __reduce__(self) -> Any:
        from nuncius.cloudfits.stores import open_source

        place = self._session.place
        if place.is_secret:
            refuse_pickling(
                f"the address of {self.url} lets in whoever holds it, and so is among the secrets"
            )
        return open_source, (place.address, self._session.access)

    @property
    def _has_own_secrets(self) -> bool:
        """Whether there are header lines that the client would carry on to another host, where a link sends it there."""
        headers = self._session.access.headers or {}
        return self._session.place.kind == "http" and any(
            is_telling(name) and name.lower() not in _LEFT_BEHIND for name in headers
        )

    @property
    def _folder(self) -> str:
        return self._session.place.address.partition("?")[0].rpartition("/")[0]

    async def _read(self, start: int, end: int, etag: str | None) -> Piece:
        options: dict[str, Any] = {"range": (start, end)}
        if etag is not None and is_strong(etag):
            options["if_match"] = etag
        is_link = self._session.place.kind == "http"
        result = await self._session.ask(
            lambda store, key: self._get(store, key, options),
            returned=lambda failure: (
                failure.reason == "no ranges"
                or failure.status == 416
                or (is_link and failure.reason == "no size")
            ),
        )
        if isinstance(result, Failure) and result.reason == "no ranges":
            # An empty object has no range either.
            described = await self._session.ask(_head, returned=lambda _: True)
            if isinstance(described, Failure) or described.size > 0:
                raise problems.no_ranges(self._session.place)
            return described
        if isinstance(result, Failure) and result.status == 416:
            # Beyond the end: the answer to a request for the whole tells the size, also where a link is signed for GET.
            del options["range"]
            result = await self._session.ask(
                lambda store, key: self._get(store, key, options),
                returned=lambda failure: is_link and failure.reason == "no size",
            )
            if isinstance(result, Piece) and result.size > start:
                raise problems.no_ranges(self._session.place)
        if isinstance(result, Failure):
            _unusual.add(self._folder)
            return await self._session.plain.read(start, end, etag)
        return result

    async def _get(self, store: Any, key: str, options: Mapping[str, Any]) -> Piece:
        """Read a range; without one only what the answer says of the object, its body being left where it is."""
        import obstore

        result = await obstore.get_async(store, key, options=dict(options))  # type: ignore[arg-type]
        piece, coding = _described(result)
        if "range" not in options:
            return piece
        if coding:
            raise problems.packed(self._session.place, coding)
        start, end = options["range"][0], min(options["range"][1], piece.size)
        data = await _body(result, end - start) if tuple(result.range) == (start, end) else b""
        if len(data) != end - start:
            raise problems.other_bytes(self._session.place)
        return piece._replace(data=data)

    async def _get_all(self, store: Any, key: str, max_bytes: int) -> Piece:
        import obstore

        result = await obstore.get_async(store, key)
        piece, coding = _described(result)
        if piece.size > max_bytes:
            raise problems.too_large(self._session.place, piece.size, max_bytes)
        data = await _body(result, piece.size)
        if len(data) != piece.size:
            raise problems.other_bytes(self._session.place)
        if coding:
            data = unpack(self._session.place, data, coding, max_bytes)
        return piece._replace(data=data, size=len(data))


async def _body(result: Any, size: int) -> bytes:
    """Return the body of an answer, or more than `size` bytes of one that is longer, which may have no end."""
    pieces: list[bytes] = []
    count = 0
    least = min(size + 1, _CHUNK)
    async for piece in result.stream(min_chunk_size=least):
        pieces.append(bytes(piece))
        count += len(pieces[-1])
        if count > size or len(pieces[-1]) < least:  # only the last one is shorter
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _head(store: Any, key: str) -> Piece:
    import obstore

    return _piece(await obstore.head_async(store, key))


def _described(result: Any) -> tuple[Piece, str]:
    """Return what an answer says of its object, and how its body is packed."""
    coding = str(result.attributes.get("Content-Encoding") or "").lower()
    return _piece(result.meta), "" if coding in {"identity", "aws-chunked"} else coding


def _piece(meta: Any) -> Piece:
    modified = meta["last_modified"] if meta["last_modified"].timestamp() != _UNKNOWN_TIME else None
    return Piece(b"", meta["size"], identity(meta["e_tag"], modified, meta["size"]), modified)
