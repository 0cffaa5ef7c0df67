"""A request signed for S3, with botocore's signer (AWS Signature Version 4).

S3 signs the path and the query string in one spelling: all but letters, digits and ``-_.~`` as %XX of UTF-8. Nothing keeps
a URL from being spelt otherwise (``a+b``, ``%7E``), so it is respelt before it is signed, and sent as it was signed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_plus, unquote_to_bytes, urlsplit

from nuncius._core.lazy import require

if TYPE_CHECKING:
    from requests import PreparedRequest

PAYER = "x-amz-request-payer"
# What a request is signed with, and what must not reach another server.
_SECRETS = ("Authorization", "X-Amz-Security-Token", "X-Amz-Date", "X-Amz-Content-SHA256")
# Such as bucket.s3.dualstack.us-west-2.amazonaws.com, s3-eu-west-1.amazonaws.com or s3.eu-central-1.wasabisys.com.
_HOST = re.compile(
    r"(?P<before>(?:.+\.)?s3(?:-[a-z]+)*?(?:\.dualstack)?)"
    r"(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d+))?"
    r"(?P<domain>\.[a-z0-9.-]+)"
)
_AWS = (".amazonaws.com", ".amazonaws.com.cn")


class Keys(NamedTuple):
    """What requests are signed with at one moment."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(***)"


def is_aws(host: str) -> bool:
    """Tell whether a host is S3 of Amazon itself."""
    found = _HOST.fullmatch(host.lower())
    return found is not None and found["domain"] in _AWS


def region_of(host: str) -> str | None:
    """Return the region that a host names; us-east-1 for S3 of Amazon without one.

    Returns
    -------
    str or None
        None for a host that names none, such as that of a MinIO server.
    """
    found = _HOST.fullmatch(host.lower())
    if found is None or (found["region"] is None and found["domain"] not in _AWS):
        return None
    return found["region"] or "us-east-1"


def in_region(url: str, region: str) -> str:
    """Return the URL of an object of S3 at Amazon's servers of another region; that of another server stays."""
    parts = urlsplit(url)
    found = _HOST.fullmatch(parts.hostname or "")
    if found is None or found["domain"] not in _AWS or not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d+", region):
        return url
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{found['before']}.{region}{found['domain']}{port}").geturl()


def is_presigned(url: str) -> bool:
    """Tell whether a URL carries its signature itself; S3 refuses a second one."""
    names = {pair.partition("=")[0].lower() for pair in urlsplit(url).query.split("&")}
    return bool(names & {"x-amz-signature", "signature"})


def respell(url: str) -> str:
    """Return the same URL with its path and query string as S3 spells them for signing."""
    parts = urlsplit(url)
    path = quote(unquote_to_bytes(parts.path), safe="/-_.~") or "/"
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    query = "&".join(f"{_component(name)}{equals}{_component(value)}" for name, equals, value in pairs)
    return parts._replace(path=path, query=query).geturl()


def _component(text: str) -> str:
    # requests writes a blank of `params=` as +.
    return quote(unquote_plus(text, errors="surrogateescape"), safe="-_.~", errors="surrogateescape")


def sign(request: PreparedRequest, keys: Keys | None, *, region: str, request_payer: bool) -> None:
    """Sign a request in place; without keys it only loses the signature that it may have had.

    Parameters
    ----------
    request : requests.PreparedRequest
        Its URL is respelt; its ``Range`` and other headers aren't signed and may change.
    keys : Keys, optional
        The credentials.
    region : str
        Of the bucket.
    request_payer : bool
        Whether the one who asks pays for the transfer.
    """
    unsign(request)
    if request_payer:
        request.headers[PAYER] = "requester"
    request.url = respell(str(request.url))
    if keys is None:
        return
    auth = require("botocore.auth", extra="aws")
    signed = require("botocore.awsrequest", extra="aws").AWSRequest(
        method=request.method,
        url=request.url,
        data=request.body or b"",
        headers={name: value for name, value in request.headers.items() if _is_signed(name)},
    )
    credentials = require("botocore.credentials", extra="aws").Credentials(*keys)
    auth.S3SigV4Auth(credentials, "s3", region).add_auth(signed)
    for name in _SECRETS:
        if name in signed.headers:
            request.headers[name] = signed.headers[name]


def unsign(request: PreparedRequest) -> None:
    """Take everything from a request that only the server for which it was signed may see."""
    for name in (*_SECRETS, PAYER):
        request.headers.pop(name, None)


def signed_region(request: PreparedRequest) -> str | None:
    """Return the region for which a request was signed; None if it isn't signed."""
    signature = str(request.headers.get("Authorization", ""))
    found = re.match(r"AWS4-HMAC-SHA256 Credential=[^,]*/([^/,]+)/s3/", signature)
    return found[1] if found else None


def _is_signed(name: str) -> bool:
    # A proxy may change any other.
    return name.lower() in {"host", "content-type", "content-md5"} or name.lower().startswith("x-amz-")
