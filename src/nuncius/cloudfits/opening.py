"""`open_fits`: from a URL to a remote file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.cloudfits._async import AsyncRemoteFits
from nuncius.cloudfits._sync import RemoteFits
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.headers import Walking, check_options
from nuncius.cloudfits.ranges import CONCURRENCY
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.walk import OVERREAD
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping

    import pyarrow as pa

    from nuncius.cloudfits.hdu import FileDescription
    from nuncius.cloudfits.index import HeaderIndex


def open_fits(
    url: str | os.PathLike[str],
    *,
    hdus: int | str | None = None,
    like: RemoteFits | FileDescription | None = None,
    index: str | os.PathLike[str] | pa.Table | HeaderIndex | None = None,
    whole_file: bool = False,
    overread_bytes: int = OVERREAD,
    max_concurrency: int = CONCURRENCY,
    credentials: Mapping[str, str] | tuple[str, str] | None = None,
    anon: bool | None = None,
    requester_pays: bool = False,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    headers: Mapping[str, str] | None = None,
    ssl_ca_location: str | None = None,
    timeout_s: float = 30.0,
    retries: int = 10,
) -> RemoteFits:
    """Open a FITS file wherever it is: its headers are read, and nothing else until it is asked for.

    Parameters
    ----------
    url : str or path
        ``s3://``, ``gs://``, ``az://`` and ``abfs://``, ``do://`` (Spaces), ``https://`` (also presigned links; links to
        objects of S3, Google, Azure and Spaces are recognised), ``file://`` or a path, and whatever fsspec knows.
    hdus : int or str, optional
        Read only so many headers, or those up to the HDU of that name.
    like : RemoteFits or FileDescription, optional
        A file that probably has the same layout: its offsets are tried first, all at once. They are checked.
    index : path, pyarrow.Table or HeaderIndex, optional
        Headers that `scan_headers` has read: none is read again. If the file has changed since, reading its data is an
        error.
    whole_file : bool
        Read the whole file into memory: of a server that sends no ranges, or of a file that gzip has compressed.
    overread_bytes : int
        How many bytes the first read takes: most headers follow each other at once.
    max_concurrency : int
        How many requests may run side by side.
    credentials : mapping or (str, str), optional
        (key id, secret), or a mapping; see :doc:`/howto/fits-stores`. By default they are searched for.
    anon : bool, optional
        True: search for no credentials. False: never go on without.
    requester_pays : bool
        The bucket's owner lets those pay who read.
    endpoint, region, profile : str, optional
        Of a store with the interface of S3; a profile of ``~/.aws``.
    headers : mapping, optional
        Header lines that are sent along.
    ssl_ca_location : str, optional
        A file with certificates, for servers whose certificates are their own.
    timeout_s : float
        For one request.
    retries : int
        How often a request is sent again.

    Returns
    -------
    RemoteFits
        A sequence of HDUs, which are also found by name.

    Raises
    ------
    FitsError
        If it is no FITS file or a header is damaged; `TruncatedFitsError` if it ends inside a header.
    NotFoundError, ForbiddenError, LoginError
        If there is no such file, or it is not for us: the message says what to try.
    UnsupportedError
        If the server sends no ranges: the file is not downloaded in silence.
    UnreachableError, DeadlineError, ServerError
        If the store does not answer, or fails, in spite of retries.

    Examples
    --------
    >>> fits = nuncius.open_fits("s3://stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits")  # doctest: +SKIP
    >>> fits[1].section[100:105, 200:205]  # doctest: +SKIP
    """
    access = Access(
        credentials=credentials,
        anon=anon,
        requester_pays=requester_pays,
        endpoint=endpoint,
        region=region,
        profile=profile,
        headers=headers,
        ssl_ca_location=ssl_ca_location,
        timeout_s=timeout_s,
        retries=retries,
    )
    source = open_source(url, access)
    walking = _walking(url, hdus, like, index, whole_file, overread_bytes, max_concurrency)
    return RemoteFits(source, walking).open()


class _AwaitableFits(AsyncRemoteFits):
    """What `aio.open_fits` gives: awaited or entered, it is open."""

    def __await__(self) -> Generator[Any, None, AsyncRemoteFits]:
        return self.open().__await__()


def open_async_fits(
    url: str | os.PathLike[str],
    *,
    hdus: int | str | None = None,
    like: AsyncRemoteFits | RemoteFits | FileDescription | None = None,
    index: str | os.PathLike[str] | pa.Table | HeaderIndex | None = None,
    whole_file: bool = False,
    overread_bytes: int = OVERREAD,
    max_concurrency: int = CONCURRENCY,
    credentials: Mapping[str, str] | tuple[str, str] | None = None,
    anon: bool | None = None,
    requester_pays: bool = False,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    headers: Mapping[str, str] | None = None,
    ssl_ca_location: str | None = None,
    timeout_s: float = 30.0,
    retries: int = 10,
) -> _AwaitableFits:
    """Open a FITS file wherever it is, to be awaited or entered with ``async with``; see `nuncius.open_fits`.

    Examples
    --------
    >>> async with nuncius.aio.open_fits("s3://stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits") as fits:  # doctest: +SKIP
    ...     await fits[1].section[100:105, 200:205]
    """
    access = Access(
        credentials=credentials,
        anon=anon,
        requester_pays=requester_pays,
        endpoint=endpoint,
        region=region,
        profile=profile,
        headers=headers,
        ssl_ca_location=ssl_ca_location,
        timeout_s=timeout_s,
        retries=retries,
    )
    source = open_source(url, access)
    walking = _walking(url, hdus, like, index, whole_file, overread_bytes, max_concurrency)
    return _AwaitableFits(source, walking)


def _walking(
    url: str | os.PathLike[str],
    hdus: int | str | None,
    like: AsyncRemoteFits | RemoteFits | FileDescription | None,
    index: str | os.PathLike[str] | pa.Table | HeaderIndex | None,
    whole_file: bool,
    overread_bytes: int,
    max_concurrency: int,
) -> Walking:
    check_options(hdus, overread_bytes=overread_bytes, max_concurrency=max_concurrency)
    if index is not None and whole_file:
        raise ConfigurationError(
            "index= knows the headers so that pieces can be read, and whole_file=True reads everything; give one of them"
        )
    if isinstance(like, (AsyncRemoteFits, RemoteFits)):
        like = like.description
    if like is not None and not hasattr(like, "hdus"):
        raise ConfigurationError(
            f"like= is a file that is open, or its description, not {type(like).__name__}: like=open_fits(…)"
        )
    known = None
    if index is not None:
        from nuncius.cloudfits.index import HeaderIndex

        known = HeaderIndex.of(index).find(url)  # also by what its query says
    return Walking(
        hdus=hdus,
        like=like,
        known=known,
        whole_file=whole_file,
        overread_bytes=overread_bytes,
        max_concurrency=max_concurrency,
    )
