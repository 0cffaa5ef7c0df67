"""Data sets as dtool makes them: identifiers, manifests, and where the bytes of items lie in an object store."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError
from nuncius.sandbox.store.objects import HeldBytes, readable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.sandbox.store import Readable, SandboxStore

DTOOLCORE = "3.19.0"
_PIECE = 1 << 20


def identifier(relpath: str) -> str:
    """Return what an item is called in storage and in the manifest.

    Examples
    --------
    >>> identifier("simple_text_file.txt")
    'eb58eb70ebcddf630feeea28834f5256c207edfd'
    """
    return hashlib.sha1(relpath.encode(), usedforsecurity=False).hexdigest()


def manifest_of(items: Mapping[str, bytes | Path | Readable], timestamp: float) -> dict[str, Any]:
    """Return the manifest of items.

    Parameters
    ----------
    items : mapping
        Their bytes by their paths in the data set. Of what is neither bytes nor a file the `etag` counts as hash, since
        it may be far too large to be read.
    timestamp : float
        When they were changed, in seconds since 1970.

    Raises
    ------
    ConfigurationError
        If an item can't be read.
    """
    entries = {
        identifier(relpath): {
            "relpath": relpath,
            "size_in_bytes": readable(data).size,
            "hash": _hash(data),
            "utc_timestamp": timestamp,
        }
        for relpath, data in items.items()
    }
    return {"dtoolcore_version": DTOOLCORE, "hash_function": "md5sum_hexdigest", "items": entries}


def _hash(data: bytes | Path | Readable) -> str:
    etag = getattr(data, "etag", None)
    if isinstance(etag, str):
        return etag.strip('"')
    content = HeldBytes(data.read_bytes()) if isinstance(data, os.PathLike) else readable(data)
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(0, content.size, _PIECE):
        digest.update(content.read(start, min(start + _PIECE, content.size)))
    return digest.hexdigest()


def put_items(
    store: SandboxStore, base_uri: str, uuid: str, items: Mapping[str, bytes | Path | Readable]
) -> None:
    """Put the bytes of items where dtool lays them out on S3, with the mark that a data set is there.

    Raises
    ------
    ConfigurationError
        If the base URI is no bucket.
    """
    bucket = base_uri.removeprefix("s3://")
    if not base_uri.startswith("s3://") or "/" in bucket:
        raise ConfigurationError(f"the store keeps items of base URIs such as s3://bucket, not {base_uri!r}")
    store.put(f"dtool-{uuid}", b"", bucket=bucket)
    for relpath, data in items.items():
        store.put(f"{uuid}/data/{identifier(relpath)}", data, bucket=bucket)
