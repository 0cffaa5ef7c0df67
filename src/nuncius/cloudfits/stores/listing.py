"""What is in a folder of a store, or of this machine."""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.places import find_place
from nuncius.cloudfits.stores.clients import find_login
from nuncius.cloudfits.stores.files import tag
from nuncius.cloudfits.stores.objects import ObjectSource
from nuncius.cloudfits.stores.problems import Failure
from nuncius.cloudfits.stores.sessions import Session
from nuncius.errors import NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from nuncius.cloudfits.places import Place

_CHUNK = 1000
_MAGIC = re.compile(r"[*?\[]")


class Listed(NamedTuple):
    """An object of a listing."""

    url: str
    """As `open_source` takes it."""
    size: int
    """In bytes."""
    etag: str | None


async def list_objects(url: str | os.PathLike[str], access: Access | None = None) -> AsyncIterator[Listed]:
    """List what is in a folder and below it, or what a pattern matches.

    Parameters
    ----------
    url : str or path
        A folder or a pattern: ``s3://``, ``gs://``, ``az://``, ``abfs://``, ``do://``, ``file://`` or a path. In a
        pattern ``*``, ``?`` and ``[…]`` stand for what a name between two slashes holds, ``**`` for any folders.
    access : Access, optional
        How it is reached.

    Yields
    ------
    Listed
        URL, size in bytes, and ETag.

    Raises
    ------
    NotFoundError
        If there is nothing.
    UnsupportedError
        If the place can't be listed: a link.
    NunciusError
        What `Source.read` raises.

    Examples
    --------
    >>> async for found in list_objects("s3://stpubdata/tess/public/ffi/s0001/2018/*/1-1/*_ffic.fits"):  # doctest: +SKIP
    ...     print(found.url, found.size)
    """
    access = access or Access()
    place = find_place(url, access.endpoint)
    count = 0
    if place.kind == "file":
        as_url = isinstance(url, str) and url.lower().startswith("file:")
        for found in await asyncio.to_thread(lambda: list(_files(place.key, as_url=as_url))):
            count += 1
            yield found
    else:
        _check_listable(place)
        async for found in _objects(place, access):
            count += 1
            yield found
    if not count:
        raise NotFoundError(
            f"{place.url}: nothing is there. Look at the spelling; a folder or a pattern such as …/night-*/*.fits lists what "
            "is below it",
            service=place.service,
            url=place.url,
        )


def _check_listable(place: Place) -> None:
    if place.kind not in {"s3", "gs", "az"} or place.address.lower().startswith("http"):
        raise UnsupportedError(
            f"{place.url} can't be listed: only s3://, gs://, az://, abfs://, do:// and folders of this machine can. Name "
            "the files themselves",
            service=place.service,
            url=place.url,
        )


async def _objects(place: Place, access: Access) -> AsyncIterator[Listed]:
    session = Session(place, access, find_login(place, access))
    scheme, _, rest = place.address.partition("://")
    root = f"{scheme}://{rest.partition('/')[0]}/"
    is_empty = True
    async for meta in _matching(session, "", place.key.removesuffix("/").split("/") if place.key else []):
        is_empty = False
        yield Listed(root + meta["path"], meta["size"], _quoted(meta["e_tag"]))
    if is_empty and place.key and not place.key.endswith("/") and not _MAGIC.search(place.key):
        # Not a folder: an object?
        piece = await ObjectSource(place, access, session.login).read(0, 1)
        yield Listed(place.address, piece.size, piece.etag)


async def _matching(
    session: Session, folder: str, parts: Sequence[str], *, in_pattern: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects below a folder that match the parts of a pattern; all, if there are no more parts."""
    while parts and not _MAGIC.search(parts[0]):
        folder, parts = f"{folder}{parts[0]}/", parts[1:]
    if in_pattern and not parts:
        # What stands behind a pattern, as in night-*/image.fits, is an object first.
        name = folder.removesuffix("/")
        found = await session.ask(
            lambda store, _: store.head_async(name), returned=lambda failure: failure.status == 404
        )
        if not isinstance(found, Failure):
            yield found
            return
    if not parts or "**" in parts:
        async for meta in _all_below(session, folder):
            if not parts or _fits(parts, meta["path"].removeprefix(folder).split("/")):
                yield meta
        return
    here = await session.ask(lambda store, _: store.list_with_delimiter_async(folder or None))
    assert isinstance(here, dict)
    if len(parts) == 1:
        folders = {folder.removesuffix("/"), *(below.removesuffix("/") for below in here["common_prefixes"])}
        for meta in here["objects"]:
            if meta["path"] not in folders and fnmatch.fnmatchcase(meta["path"].rpartition("/")[2], parts[0]):
                yield meta
        return
    for below in here["common_prefixes"]:
        if fnmatch.fnmatchcase(below.removesuffix("/").rpartition("/")[2], parts[0]):
            under = f"{below.removesuffix('/')}/"
            async for meta in _matching(session, under, parts[1:], in_pattern=True):
                yield meta


async def _all_below(session: Session, folder: str) -> AsyncIterator[dict[str, Any]]:
    stream: Any = None
    last: str | None = None

    async def advance(store: Any, _key: str) -> Any:
        nonlocal stream
        # After a failure the stream ends as if there were no more: it begins anew behind what is known.
        current = stream if stream is not None else store.list(folder or None, offset=last, chunk_size=_CHUNK)
        stream = None
        chunk = await anext(current, None)
        stream = current
        return chunk

    # Consoles keep folders as empty objects whose names end with a slash, which the client takes away.
    empty: list[dict[str, Any]] = []
    folders = {folder.removesuffix("/")}
    while chunk := await session.ask(advance):
        assert isinstance(chunk, list)
        for meta in chunk:
            above = meta["path"].rpartition("/")[0]
            while above and above not in folders:
                folders.add(above)
                above = above.rpartition("/")[0]
            if meta["size"]:
                yield meta
            else:
                empty.append(meta)
        last = chunk[-1]["path"]
    for meta in empty:
        if meta["path"] not in folders:
            yield meta


def _quoted(etag: str | None) -> str | None:
    """Return an ETag as the object's own answer gives it: Azure's lists leave the quotes out."""
    return etag if etag is None or '"' in etag else f'"{etag}"'


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        return any(_fits(parts[1:], names[begin:]) for begin in range(len(names))) or len(parts) == 1
    return fnmatch.fnmatchcase(names[0], parts[0]) and _fits(parts[1:], names[1:])


def _files(path: str, *, as_url: bool) -> Iterator[Listed]:
    names: Iterator[str]
    if os.path.isdir(path):  # noqa: PTH112 - a text, with whatever bytes are in it
        names = (os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files)  # noqa: PTH118
    elif os.path.exists(path):  # noqa: PTH110
        names = iter([path])
    else:
        names = glob.iglob(path, recursive=True)  # noqa: PTH207
    for name in sorted(names):
        if os.path.isfile(name):  # noqa: PTH113
            status = os.stat(name)  # noqa: PTH116
            url = f"file://{quote(os.fsencode(name))}" if as_url else name
            yield Listed(url, status.st_size, tag(status))
