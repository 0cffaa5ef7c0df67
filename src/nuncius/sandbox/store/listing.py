"""Lists of what a bucket holds, in the XML of S3 that other services speak too (ListObjectsV2 and its predecessor)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from nuncius.sandbox.store.interfaces import NOT_IN_XML
from nuncius.sandbox.store.messages import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.sandbox.store.objects import Bucket, StoredObject

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_ECHOED = (("continuation-token", "ContinuationToken"), ("start-after", "StartAfter"))


@dataclass(slots=True)
class Page:
    """What stands on one page of a list."""

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: str = ""
    truncated: bool = False


def list_bucket(name: str, bucket: Bucket, query: Mapping[str, str], page_size: int) -> str:
    """Return one page of a list, as XML.

    Parameters
    ----------
    name : str
        What the bucket is called.
    bucket : Bucket
        The bucket.
    query : mapping
        What is wanted: list-type, prefix, delimiter, max-keys, start-after, continuation-token, marker, encoding-type.
    page_size : int
        How much a page holds at most.

    Raises
    ------
    RefusedError
        If what is wanted makes no sense.
    """
    second = query.get("list-type") == "2"
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = min(number_of(query.get("max-keys", "1000")), page_size)
    if second:
        start = start_of(query.get("continuation-token")) or query.get("start-after", "")
    else:
        start = query.get("marker", "")
    page = select(bucket, prefix, delimiter, start, most)
    coded = query.get("encoding-type") == "url"

    def text(value: str) -> str:
        if coded:
            return quote(value, safe="/*", errors="surrogateescape")
        # As S3 does it, though XML knows no such references: who lists such keys asks for encoding-type=url.
        return NOT_IN_XML.sub(lambda found: f"&#x{ord(found[0]):x};", escape(value))

    parts = [_tag("Name", escape(name)), _tag("Prefix", text(prefix)), _tag("MaxKeys", str(most))]
    if delimiter:
        parts.append(_tag("Delimiter", text(delimiter)))
    if coded:
        parts.append(_tag("EncodingType", "url"))
    parts.append(_tag("IsTruncated", str(page.truncated).lower()))
    if second:
        parts.append(_tag("KeyCount", str(len(page.keys) + len(page.prefixes))))
        parts += [_tag(tag, text(query[asked])) for asked, tag in _ECHOED if asked in query]
        if page.truncated:
            parts.append(_tag("NextContinuationToken", token_for(page.last)))
    else:
        parts.append(_tag("Marker", text(start)))
        if page.truncated and delimiter:  # without one, whoever lists goes on behind the last key
            parts.append(_tag("NextMarker", text(page.last)))
    parts += [_contents(text(key), bucket.objects[key]) for key in page.keys]
    parts += [_tag("CommonPrefixes", _tag("Prefix", text(each))) for each in page.prefixes]
    body = "".join(parts)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{_NAMESPACE}">{body}</ListBucketResult>'


def list_buckets(buckets: Mapping[str, Bucket]) -> str:
    """Return the list of all buckets, as XML."""
    names = "".join(_tag("Bucket", _tag("Name", escape(name))) for name in sorted(buckets))
    body = _tag("Owner", _tag("ID", "sandbox")) + _tag("Buckets", names)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListAllMyBucketsResult xmlns="{_NAMESPACE}">{body}</ListAllMyBucketsResult>'


def select(bucket: Bucket, prefix: str, delimiter: str, start: str, most: int) -> Page:
    """Return the first keys after `start`, as many as fit; those with the delimiter after the prefix as one."""
    page = Page()
    seen: set[str] = set()
    # S3 sorts by the bytes of the keys in UTF-8, which is the order of code points.
    for key in sorted(key for key in bucket.objects if key.startswith(prefix)):
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        shown = key if cut < 0 else key[: cut + len(delimiter)]
        if key <= start or shown == start or shown in seen:
            continue
        if len(page.keys) + len(page.prefixes) >= most:
            page.truncated = most > 0
            break
        seen.add(shown)
        page.last = shown
        (page.keys if cut < 0 else page.prefixes).append(shown)
    return page


def start_of(token: str | None) -> str:
    """Return after which key a page begins, of the token that the page before ended with.

    Raises
    ------
    RefusedError
        If it is none of ours.
    """
    try:
        return base64.urlsafe_b64decode(token or "").decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        raise RefusedError(400, "InvalidArgument", "The continuation token provided is incorrect") from None


def token_for(key: str) -> str:
    """Return what continues a list after a key."""
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogateescape")).decode()


def number_of(text: str) -> int:
    """Return how many keys are wanted at most.

    Raises
    ------
    RefusedError
        If that is no number.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError(400, "InvalidArgument", "Provided max-keys not an integer or within integer range")
    return int(text)


def _contents(key: str, stored: StoredObject) -> str:
    return _tag(
        "Contents",
        _tag("Key", key)
        + _tag("LastModified", f"{stored.modified:%Y-%m-%dT%H:%M:%S}.000Z")
        + _tag("ETag", f"&quot;{escape(stored.etag)}&quot;")
        + _tag("Size", str(stored.data.size))
        + _tag("StorageClass", "STANDARD"),
    )


def _tag(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"
