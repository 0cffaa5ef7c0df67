"""The store as Azure Blob Storage: account keys, shared access signatures, bearer tokens, lists.

Sources: the Blob service REST API ("Authorize with Shared Key", "Create an account SAS", "Create a service SAS", "Get Blob",
"List Blobs", "Blob service error codes"). The account's address is that of a custom domain: ``endpoint/container/blob``.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from nuncius.sandbox.store.interfaces import NOT_IN_XML, Interface
from nuncius.sandbox.store.listing import number_of, select, start_of, token_for
from nuncius.sandbox.store.messages import RefusedError, decode, page
from nuncius.sandbox.store.objects import Bucket
from nuncius.sandbox.store.signature import query_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.sandbox.store.messages import Answer, Request
    from nuncius.sandbox.store.objects import StoredObject

_VERSION = "2020-12-06"
_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
# What a grant signs, line by line; that of an account ends with an empty one.
_ACCOUNT_GRANT = ("account", "sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses", "")
_LABELS = ("rscc", "rscd", "rsce", "rscl", "rsct")
_BLOB_GRANT = ("sp", "st", "se", "resource", "si", "sip", "spr", "sv", "sr", "snapshot", "ses", *_LABELS)
_CODES = {
    400: "InvalidInput",
    403: "AuthorizationFailure",
    404: "BlobNotFound",
    412: "ConditionNotMet",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}


class AzureBlobs(Interface):
    """The Blob service of Azure Storage."""

    name: ClassVar[str] = "azure"
    id_line: ClassVar[str] = "x-ms-request-id"

    def failure_code(self, status: int) -> str:
        """Return what Azure calls a failure with this status."""
        return _CODES.get(status, "OperationTimedOut")

    def error(self, refused: RefusedError, request: Request | None = None) -> Answer:
        """Return an error as Azure tells it, which is in a header line too."""
        if refused.status == 412:
            refused.code = "ConditionNotMet"
        refused.headers |= {"x-ms-error-code": refused.code, "x-ms-version": _VERSION}
        return super().error(refused, request)

    def _find(self, request: Request) -> Answer:
        container, _, blob = decode(request.path[1:]).partition("/")
        query = dict(query_pairs(request.query))
        known = self._knows(request, container, blob, query)
        bucket = self._world.buckets.get(container)
        if bucket is None:
            raise RefusedError(404, "ContainerNotFound", "The specified container does not exist.")
        if not blob:
            return self._container(request, container, bucket, query, known=known)
        stored = bucket.objects.get(blob)
        # Who is nobody is not told whether there is such a blob.
        if not known and (stored is None or not stored.public) and not (stored is None and bucket.public):
            raise RefusedError(404, "ResourceNotFound", "The specified resource does not exist.")
        if stored is None:
            raise RefusedError(404, "BlobNotFound", "The specified blob does not exist.")
        if not {"comp", "snapshot", "versionid"}.isdisjoint(query):
            raise RefusedError(400, "InvalidQueryParameterValue", "The store only gives blobs, as they are.")
        if "x-ms-range" in request.headers:
            request = replace(request, headers=request.headers | {"range": request.headers["x-ms-range"]})
        answer = self._serve(request, stored)
        answer.headers |= {"x-ms-blob-type": "BlockBlob", "x-ms-version": _VERSION}
        if answer.status == 304:
            answer.headers["x-ms-error-code"] = "ConditionNotMet"
        return answer

    def _knows(self, request: Request, container: str, blob: str, query: dict[str, str]) -> bool:
        """Tell whether a request says who sends it; raise if it lies."""
        account, key = self._world.azure_account, base64.b64decode(self._world.azure_key)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if "sig" in query:
            _check_grant(query, listing="comp" in query)
            resource = f"/blob/{account}/{container}" + (f"/{blob}" if query.get("sr") == "b" else "")
            good = _matches(query["sig"], key, grant_to_sign(account, resource, query))
        elif scheme == "SharedKey":
            name, _, signature = given.partition(":")
            good = name == account and _matches(signature, key, shared_key_to_sign(account, request))
        elif scheme.lower() == "bearer":
            good = hmac.compare_digest(given.encode(), self._world.bearer_token.encode())
        elif scheme:
            good = False
        else:
            return False
        if not good:
            raise _unknown(
                "The MAC signature found in the HTTP request is not the same as any computed signature."
            )
        return True

    def _container(
        self, request: Request, name: str, bucket: Bucket, query: Mapping[str, str], *, known: bool
    ) -> Answer:
        if not known and not bucket.public:
            raise RefusedError(404, "ResourceNotFound", "The specified resource does not exist.")
        if query.get("restype") != "container" or query.get("comp") != "list" or request.method == "HEAD":
            raise RefusedError(
                400, "InvalidQueryParameterValue", "The store only lists blobs of a container."
            )
        listed = _list(name, bucket, query, self._world.knobs.page_size)
        return page(200, "application/xml", listed, {"x-ms-version": _VERSION})


def _list(name: str, bucket: Bucket, query: Mapping[str, str], page_size: int) -> str:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    wanted = number_of(query.get("maxresults", "5000"))
    if wanted == 0:
        raise RefusedError(
            400, "OutOfRangeQueryParameterValue", "maxresults is outside the permissible range."
        )
    most = min(wanted, page_size)
    first = query.get("startFrom", "")
    shown = Bucket(bucket.region, {key: each for key, each in bucket.objects.items() if key >= first})
    found = select(shown, prefix, delimiter, start_of(query.get("marker")), most)
    blobs = "".join(_blob(key, bucket.objects[key]) for key in found.keys)
    prefixes = "".join(f"<BlobPrefix>{_name(each)}</BlobPrefix>" for each in found.prefixes)
    marker = token_for(found.last) if found.truncated else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<EnumerationResults ContainerName="{_xml(name)}"><Prefix>{_xml(prefix)}</Prefix><MaxResults>{most}</MaxResults>'
        f"<Delimiter>{_xml(delimiter)}</Delimiter><Blobs>{blobs}{prefixes}</Blobs><NextMarker>{marker}</NextMarker>"
        "</EnumerationResults>"
    )


def _blob(key: str, stored: StoredObject) -> str:
    return (
        f"<Blob>{_name(key)}<Properties>"
        f"<Last-Modified>{format_datetime(stored.modified, usegmt=True)}</Last-Modified><Etag>{_xml(stored.etag)}</Etag>"
        f"<Content-Length>{stored.data.size}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
    )


def _name(key: str) -> str:
    if NOT_IN_XML.search(key):
        return f'<Name Encoded="true">{quote(key, safe="", errors="surrogateescape")}</Name>'
    return f"<Name>{_xml(key)}</Name>"


def _xml(text: str) -> str:
    return escape(NOT_IN_XML.sub("?", text), {'"': "&quot;"})


# Signatures -----------------------------------------------------------------------------------------------------------


def shared_key_to_sign(account: str, request: Request) -> str:
    """Return what is signed with the account's key in the header Authorization."""
    headers = request.headers
    values = {name: headers.get(name, "") for name in _SIGNED_HEADERS}
    if values["content-length"] == "0":
        values["content-length"] = ""
    if "x-ms-date" in headers:
        values["date"] = ""
    own = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    named: dict[str, list[str]] = {}
    for name, value in query_pairs(request.query):
        named.setdefault(name.lower(), []).append(value)
    asked = [f"{name}:{','.join(sorted(values_of))}" for name, values_of in sorted(named.items())]
    return "\n".join((request.method, *values.values(), *own, f"/{account}{request.path}", *asked))


def grant_to_sign(account: str, resource: str, query: dict[str, str]) -> str:
    """Return what is signed in a shared access signature: of the account, or of one container or blob (``sr``)."""
    names = _BLOB_GRANT if "sr" in query else _ACCOUNT_GRANT
    known = query | {"account": account, "resource": resource, "": ""}
    return "\n".join(known.get(name, "") for name in names)


def make_grant(account: str, key: str, until: datetime) -> str:
    """Return a shared access signature that reads and lists the blobs of an account until then, as a query string."""
    query = {
        "sv": _VERSION,
        "ss": "b",
        "srt": "sco",
        "sp": "rl",
        "se": f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    query["sig"] = _sign(base64.b64decode(key), grant_to_sign(account, "", query))
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


def _check_grant(query: Mapping[str, str], *, listing: bool) -> None:
    if query.get("sv", "") < _VERSION:
        raise _unknown(f"the store checks shared access signatures of version {_VERSION} and later")
    try:
        until = datetime.fromisoformat(query.get("se", ""))
    except ValueError:
        raise _unknown("se is mandatory. Cannot be empty") from None
    if datetime.now(UTC) >= (until if until.tzinfo else until.replace(tzinfo=UTC)):
        raise _unknown("Signature not valid in the specified time frame")
    if ("l" if listing else "r") not in query.get("sp", ""):
        raise RefusedError(
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        )


def _matches(signature: str, key: bytes, to_sign: str) -> bool:
    return hmac.compare_digest(signature.encode(), _sign(key, to_sign).encode())


def _sign(key: bytes, to_sign: str) -> str:
    return base64.b64encode(hmac.digest(key, to_sign.encode("utf-8", "surrogateescape"), "sha256")).decode()


def _unknown(reason: str) -> RefusedError:
    return RefusedError(
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly"
        " including the signature.",
        details={"AuthenticationErrorDetail": reason},
    )
