"""`scan_headers`: the headers of many files as one table."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nuncius._core import background
from nuncius._core.lazy import require
from nuncius._core.progress import progress_bar
from nuncius.cloudfits import backends
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.index import HeaderIndex
from nuncius.cloudfits.listing import count_of, find_urls
from nuncius.cloudfits.parts import FolderParts, MemoryParts, Part, merged, write_tables
from nuncius.cloudfits.rows import LAYOUT, Rows, column_names, digest_of, name_of
from nuncius.cloudfits.side_by_side import FILES, Options
from nuncius.cloudfits.walk import OVERREAD
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import distributed
    import pyarrow as pa

    from nuncius.cloudfits.listing import Urls

PARTITION = 500
"""Files in one part: some seconds of reading."""


def scan_headers(
    urls: Urls | str | os.PathLike[str],
    *,
    keywords: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    backend: Literal["local", "processes", "dask"] = "local",
    partition: int = PARTITION,
    hdus: int | str | None = None,
    on_error: Literal["row", "raise"] = "row",
    with_headers: bool = True,
    resume: bool = True,
    max_files: int = FILES,
    overread_bytes: int = OVERREAD,
    processes: int | None = None,
    client: distributed.Client | None = None,
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
) -> pa.Table | HeaderIndex:
    """Read the headers of many files into one table, with a row for each HDU.

    The table is an index as well: ``open_fits(url, index=…)`` opens a file from it without reading its headers again.

    Parameters
    ----------
    urls : iterable of str or path, or str
        The files: a list, a generator, a column of a table. One text is a folder of a store (it ends in ``/``), a
        pattern (``s3://bucket/night-*/*.fits``), ``@files.txt`` (a file with one URL on each line), or one file.
    keywords : sequence of str
        Header keywords that become columns of their own. A column has integers, floats, logicals, or, where no such
        type holds all its values, texts. One that is named like another column gets ``key_`` before its name.
    out : path, optional
        Write the table to this Parquet file, which is there whole or not at all. What is done is kept in ``OUT.parts``
        meanwhile: after a crash the same call reads only what is missing.
    backend : {"local", "processes", "dask"}
        Where the files are read: here, in processes of this machine, or on the workers of a Dask cluster.
    partition : int
        How many files are one part.
    hdus : int or str, optional
        Read only so many headers of each file, or those up to the HDU of that name.
    on_error : {"row", "raise"}
        A file that can't be read is a row that says so in its column ``error``, or it ends the scan.
    with_headers : bool
        Whether the table holds the headers themselves, without which it is no index.
    resume : bool
        Whether to use what an unfinished scan of these files into `out` has left.
    max_files : int
        How many files are read side by side, in each process.
    overread_bytes : int
        How many bytes the first read of each file takes.
    processes : int, optional
        How many, for ``backend="processes"``; one for each processor by default.
    client : distributed.Client, optional
        For ``backend="dask"``; the current one by default.
    progress : bool
        Whether to show a progress bar where a person looks.
    credentials, anon, requester_pays, endpoint, region, profile, headers, ssl_ca_location, timeout_s, retries
        As in `open_fits`. Secrets are not carried to other processes.

    Returns
    -------
    pyarrow.Table or HeaderIndex
        The table; with `out` an index over the file. Files are in the order asked.

    Raises
    ------
    NunciusError
        As `open_fits` raises it, with ``on_error="raise"``.
    StorageError
        If `out` can't be written, or another scan is writing it.
    PartialResultError
        If a process or a worker ended; with `out` the same call goes on from there.
    ConfigurationError
        If options contradict each other, or secrets would be carried to other processes.

    Examples
    --------
    >>> index = nuncius.scan_headers("s3://bucket/night/", keywords=["EXPTIME"], out="headers.parquet")  # doctest: +SKIP
    >>> index.table.filter(pc.field("EXPTIME") > 30)["url"]  # doctest: +SKIP
    """
    require("pyarrow.parquet", extra="parquet")
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
    _check(backend, partition, on_error, client, processes)
    options = Options(hdus=hdus, max_files=max_files, overread_bytes=overread_bytes, access=access)
    plan = backends.Plan(column_names(keywords), options, with_headers, on_error == "raise")
    run = backends.choose(backend, plan, processes=processes, client=client)
    found = find_urls(urls, access)
    scan = _Scan(plan, run, partition)
    with progress_bar("files", total=count_of(found), wanted=progress) as advance:
        if out is None:
            return scan.into_memory(_taken(found), advance)
        return scan.into_file(_taken(found), Path(out), advance, resume=resume)


def _check(backend: str, partition: int, on_error: str, client: Any, processes: int | None) -> None:
    if backend not in {"local", "processes", "dask"}:
        raise ConfigurationError(f"backend={backend!r}: it is 'local', 'processes' or 'dask'")
    if on_error not in {"row", "raise"}:
        raise ConfigurationError(f"on_error={on_error!r}: it is 'row' or 'raise'")
    for name, value in (("partition", partition), ("processes", processes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigurationError(f"{name}={value!r}: it is a whole number, 1 or more")
    if client is not None and backend != "dask":
        raise ConfigurationError("client= is for backend='dask'")
    if processes is not None and backend != "processes":
        raise ConfigurationError("processes= is for backend='processes'")


def _taken(urls: Urls) -> Iterator[str | os.PathLike[str]]:
    return background.iterate(aiter(urls)) if isinstance(urls, AsyncIterable) else iter(urls)


@dataclass(frozen=True, slots=True)
class _Scan:
    """A scan, once it is known what is read of each file and where."""

    plan: backends.Plan
    run: backends.Backend
    partition: int

    def into_memory(self, urls: Iterator[str | os.PathLike[str]], advance: Callable[[int], None]) -> pa.Table:
        arrow = require("pyarrow", extra="parquet")
        kept = MemoryParts()
        return arrow.concat_tables(self._tables(self._read(urls, kept, None, advance), kept))

    def into_file(
        self,
        urls: Iterator[str | os.PathLike[str]],
        out: Path,
        advance: Callable[[int], None],
        *,
        resume: bool,
    ) -> HeaderIndex:
        kept = FolderParts(out, resume=resume)
        done = False
        try:
            parts = self._read(urls, kept, backends.Folder(str(kept.path.resolve()), kept.token), advance)
            write_tables(out, self._tables(parts, kept), beside=kept.path)
            done = True
        finally:
            kept.close(done=done)
        return HeaderIndex.of(out)

    def _read(
        self,
        urls: Iterator[str | os.PathLike[str]],
        kept: MemoryParts | FolderParts,
        folder: backends.Folder | None,
        advance: Callable[[int], None],
    ) -> list[Part]:
        """Read what is missing; returns all parts in their order."""
        parts: list[Part] = []

        def missing() -> Iterator[Part]:
            for part in self._divided(urls):
                # Of the parts that are there only the name is needed: millions of URLs are not kept.
                parts.append(Part(part.digest, part.first, ()))
                if kept.has(part):
                    advance(len(part.urls))
                else:
                    yield part

        with contextlib.closing(self.run(missing(), folder, advance)) as tables:
            for part, table in tables:
                if table is not None:
                    kept.keep(part, table)
        return parts

    def _divided(self, urls: Iterator[str | os.PathLike[str]]) -> Iterator[Part]:
        first = 0
        while some := tuple(islice(urls, self.partition)):
            yield Part(self._digest(some), first, some)
            first += len(some)

    def _digest(self, urls: Iterable[str | os.PathLike[str]]) -> str:
        plan = self.plan
        settings = [LAYOUT, plan.keywords, plan.with_headers, plan.options.hdus, plan.options.access.endpoint]
        return digest_of([settings, [_named(url) for url in urls]])

    def _tables(self, parts: list[Part], kept: MemoryParts | FolderParts) -> Iterator[pa.Table]:
        if not parts:
            return iter([Rows(self.plan.keywords, with_headers=self.plan.with_headers).table()])
        return merged(parts, kept, self.plan.keywords)


def _named(url: Any) -> Sequence[str | None]:
    try:
        return name_of(url)
    except ConfigurationError:
        return [str(url)]  # its row will say what is wrong with it
