"""`read_headers`: the headers of many files, given as they come."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, TypeAlias

from nuncius._core.progress import progress_bar
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.listing import count_of, find_urls
from nuncius.cloudfits.side_by_side import FILES, FailedFile, Options, async_results_of, results_of
from nuncius.cloudfits.walk import OVERREAD
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping

    from nuncius.cloudfits.hdu import FileDescription
    from nuncius.cloudfits.listing import Urls
    from nuncius.cloudfits.side_by_side import Result

OnError: TypeAlias = Literal["raise", "yield"]


def _check_on_error(on_error: str) -> None:
    if on_error not in {"raise", "yield"}:
        raise ConfigurationError(
            f"on_error={on_error!r}: it is 'raise', or 'yield' to be given a FailedFile for each file that fails"
        )


def _given(result: Result, on_error: OnError) -> FileDescription | FailedFile:
    if isinstance(result.found, FailedFile) and on_error == "raise":
        raise result.found.error
    return result.found


def _shown_while(
    results: Generator[Result], on_error: OnError, total: int | None, *, progress: bool
) -> Iterator[FileDescription | FailedFile]:
    with contextlib.closing(results), progress_bar("files", total=total, wanted=progress) as advance:
        for result in results:
            advance(1)
            yield _given(result, on_error)


def read_headers(
    urls: Urls | str,
    *,
    hdus: int | str | None = None,
    ordered: bool = False,
    on_error: OnError = "raise",
    max_files: int = FILES,
    overread_bytes: int = OVERREAD,
    progress: bool = True,
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
) -> Iterator[FileDescription | FailedFile]:
    """Read the headers of many files side by side, and give each file as soon as it is read.

    Files that look alike are expected to have the same layout; that is checked, and makes those of many HDUs take two
    round trips. However many URLs there are, only some hundred are in memory. Leaving the loop early stops the reading.

    Parameters
    ----------
    urls : iterable of str or path, or str
        The files, as `open_fits` takes them: a list, a generator, a column of a table. One text is a folder of a store
        (it ends in ``/``), a pattern (``s3://bucket/night-*/*.fits``), or ``@files.txt``, a file with one URL on each
        line.
    hdus : int or str, optional
        Read only so many headers of each file, or those up to the HDU of that name.
    ordered : bool
        Give the files in the order asked; then a slow file holds up those behind it.
    on_error : {"raise", "yield"}
        What happens when the headers of a file can't be read: its error is raised and the reading ends, or a
        `FailedFile` is given in its place and the reading goes on.
    max_files : int
        How many files are read side by side.
    overread_bytes : int
        How many bytes the first read of each file takes.
    progress : bool
        Whether to show a progress bar where a person looks.
    credentials, anon, requester_pays, endpoint, region, profile, headers, ssl_ca_location, timeout_s, retries
        As in `open_fits`.

    Yields
    ------
    FileDescription or FailedFile
        One for each URL.

    Raises
    ------
    NunciusError
        As `open_fits` raises it, unless ``on_error="yield"``.

    Examples
    --------
    >>> for file in nuncius.read_headers(urls):  # doctest: +SKIP
    ...     print(file.url, file["SCI"].get("EXPTIME"))
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
    options = Options(hdus=hdus, max_files=max_files, overread_bytes=overread_bytes, access=access)
    _check_on_error(on_error)
    found = find_urls(urls, access)
    results = results_of(found, options, ordered=ordered)
    return _shown_while(results, on_error, count_of(found), progress=progress)


def read_async_headers(
    urls: Urls | str,
    *,
    hdus: int | str | None = None,
    ordered: bool = False,
    on_error: OnError = "raise",
    max_files: int = FILES,
    overread_bytes: int = OVERREAD,
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
) -> AsyncIterator[FileDescription | FailedFile]:
    """Read the headers of many files side by side, for ``async for``; see `nuncius.read_headers`.

    The URLs may come from an async iterator too. There is no progress bar.

    Examples
    --------
    >>> async for file in nuncius.aio.read_headers(urls):  # doctest: +SKIP
    ...     print(file.url, len(file))
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
    options = Options(hdus=hdus, max_files=max_files, overread_bytes=overread_bytes, access=access)
    _check_on_error(on_error)
    return _given_async(async_results_of(find_urls(urls, access), options, ordered=ordered), on_error)


async def _given_async(
    results: AsyncGenerator[Result], on_error: OnError
) -> AsyncIterator[FileDescription | FailedFile]:
    async with contextlib.aclosing(results):
        async for result in results:
            yield _given(result, on_error)
