"""AWS Signature Version 4, the checking side: who signed a request, and whether the signature fits it.

Written from the public description, "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API Reference,
for header lines and for query strings. The path is encoded once and not normalised, as S3 has it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_plus

from nuncius.sandbox.store.messages import RefusedError, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.sandbox.store.messages import Request

_ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"
_SKEW = timedelta(minutes=15)
_LONGEST_S = 7 * 86400
_UNSIGNED = "UNSIGNED-PAYLOAD"
_EMPTY = hashlib.sha256(b"").hexdigest()
_SIGNATURE = "X-Amz-Signature"


class S3Key(NamedTuple):
    """A key that opens the store's S3 interface.

    Parameters
    ----------
    access_key, secret_key : str
        What it is called, and its secret.
    session_token : str or None
        The token that goes with it.
    needs_token : bool
        Whether it is good for nothing without the token, as temporary keys are.
    """

    access_key: str
    secret_key: str
    session_token: str | None = None
    needs_token: bool = False

    def __repr__(self) -> str:
        return f"S3Key({self.access_key!r}, ...)"


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says to have signed a request, and how.

    Parameters
    ----------
    access_key : str
        Whose key.
    day, region, service : str
        The scope of the signature.
    stamp : str
        When it was signed, as ``YYYYMMDDTHHMMSSZ``.
    signed : tuple of str
        Which header lines are signed, by lower-case name.
    signature : str
        The signature.
    payload : str
        The digest of the body, or what stands for it.
    token : str or None
        The session token.
    expires_s : int or None
        How long a presigned URL is good, in seconds; None for a signature in the header.
    """

    access_key: str
    day: str
    region: str
    service: str
    stamp: str
    signed: tuple[str, ...]
    signature: str
    payload: str
    token: str | None
    expires_s: int | None = None

    @property
    def scope(self) -> str:
        """The scope, as it is signed."""
        return f"{self.day}/{self.region}/{self.service}/aws4_request"

    @property
    def time(self) -> datetime:
        """When it was signed."""
        return datetime.strptime(self.stamp, _STAMP).replace(tzinfo=UTC)


# Reading --------------------------------------------------------------------------------------------------------------


def query_pairs(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a query string, decoded."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return [
        (unquote_plus(name, errors="surrogateescape"), unquote_plus(value, errors="surrogateescape"))
        for name, _, value in pairs
    ]


def read_claim(request: Request) -> Claim | None:
    """Return who says to have signed a request; None if nobody does.

    Raises
    ------
    RefusedError
        If the signature is malformed.
    """
    header = request.headers.get("authorization")
    query = dict(query_pairs(request.query))
    if header is not None:
        if _SIGNATURE in query:
            raise RefusedError(
                400,
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string"
                " parameter or the Authorization header should be specified",
            )
        return _claim_in_header(header, request.headers)
    return _claim_in_query(query) if _SIGNATURE in query else None


def _claim_in_header(header: str, headers: Mapping[str, str]) -> Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise RefusedError(400, "InvalidArgument", "Unsupported Authorization Type")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if missing := [name for name in ("Credential", "SignedHeaders", "Signature") if not parts.get(name)]:
        raise _malformed(f"missing {missing[0]}")
    if "x-amz-content-sha256" not in headers:
        raise RefusedError(
            400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    return Claim(
        *_credential(parts["Credential"]),
        headers.get("x-amz-date", ""),
        tuple(parts["SignedHeaders"].split(";")),
        parts["Signature"],
        headers["x-amz-content-sha256"],
        headers.get("x-amz-security-token"),
    )


def _claim_in_query(query: Mapping[str, str]) -> Claim:
    needed = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")
    expires = query.get("X-Amz-Expires", "")
    if not all(query.get(name) for name in needed) or query["X-Amz-Algorithm"] != _ALGORITHM:
        raise RefusedError(
            400,
            "AuthorizationQueryParametersError",
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature,"
            " X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    if not re.fullmatch(r"[0-9]{1,9}", expires) or int(expires) > _LONGEST_S:
        raise RefusedError(
            400,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be a number, and less than a week (in seconds); that is, the given X-Amz-Expires must be"
            f" less than {_LONGEST_S} seconds",
        )
    return Claim(
        *_credential(query["X-Amz-Credential"]),
        query["X-Amz-Date"],
        tuple(query["X-Amz-SignedHeaders"].split(";")),
        query[_SIGNATURE],
        query.get("X-Amz-Content-Sha256", _UNSIGNED),
        query.get("X-Amz-Security-Token"),
        int(expires),
    )


def _credential(text: str) -> tuple[str, str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or parts[3] != "s3":
        raise _malformed(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/s3/aws4_request".'
        )
    return parts[0], parts[1], parts[2], parts[3]


def _malformed(reason: str) -> RefusedError:
    return RefusedError(
        400, "AuthorizationHeaderMalformed", f"The authorization header is malformed; {reason}"
    )


# Checking -------------------------------------------------------------------------------------------------------------


def verify(request: Request, claim: Claim, keys: Mapping[str, S3Key], at: datetime) -> None:
    """Check that a request was signed by whom it says, now, as it is.

    Parameters
    ----------
    request : Request
        The request, whose body is empty.
    claim : Claim
        Who says to have signed it.
    keys : mapping
        The keys there are, by access key.
    at : datetime
        The time.

    Raises
    ------
    RefusedError
        If not.
    """
    key = keys.get(claim.access_key)
    if key is None or (key.needs_token and claim.token is None):
        raise RefusedError(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            details={"AWSAccessKeyId": claim.access_key},
        )
    if claim.token is not None and claim.token != key.session_token:
        raise RefusedError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    _check_time(claim, at)
    _check_what_is_signed(request, claim)
    canonical = canonical_request(request, claim)
    to_sign = string_to_sign(canonical, claim)
    if not hmac.compare_digest(sign(to_sign, claim, key.secret_key).encode(), claim.signature.encode()):
        raise RefusedError(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing"
            " method.",
            details={
                "AWSAccessKeyId": claim.access_key,
                "StringToSign": to_sign,
                "SignatureProvided": claim.signature,
                "CanonicalRequest": canonical,
            },
        )
    if claim.payload not in {_UNSIGNED, _EMPTY}:
        raise RefusedError(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )


def _check_time(claim: Claim, at: datetime) -> None:
    try:
        signed_at = claim.time
    except ValueError:
        raise RefusedError(
            403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        ) from None
    if not claim.stamp.startswith(claim.day):
        raise _malformed(f'Invalid credential date "{claim.day}". This date is not the same as X-Amz-Date.')
    if claim.expires_s is not None:
        until = signed_at + timedelta(seconds=claim.expires_s)
        if signed_at - at > _SKEW:
            raise RefusedError(403, "AccessDenied", "Request is not valid yet")
        if at >= until:
            details = {"Expires": f"{until:%Y-%m-%dT%H:%M:%SZ}", "ServerTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
            raise RefusedError(403, "AccessDenied", "Request has expired", details=details)
    elif abs(at - signed_at) > _SKEW:
        raise RefusedError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )


def _check_what_is_signed(request: Request, claim: Claim) -> None:
    missing = [name for name in request.headers if name.startswith("x-amz-") and name not in claim.signed] + [
        name for name in ("host",) if name not in claim.signed
    ]
    # The digest of the body is signed by itself, on the last line.
    if missing := [name for name in missing if name != "x-amz-content-sha256"]:
        raise RefusedError(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            details={"HeadersNotSigned": ", ".join(missing)},
        )


# Signing --------------------------------------------------------------------------------------------------------------


def canonical_request(request: Request, claim: Claim) -> str:
    """Return what is signed of a request: what S3 understands of it, in one order and one encoding."""
    pairs = [pair for pair in query_pairs(request.query) if pair[0] != _SIGNATURE]
    query = sorted((_encode(name), _encode(value)) for name, value in pairs)
    lines = [f"{name}:{re.sub(' +', ' ', request.headers.get(name, ''))}" for name in claim.signed]
    return "\n".join(
        (
            request.method,
            _encode(decode(request.path, plus_is_space=True), safe="/"),
            "&".join(f"{name}={value}" for name, value in query),
            *lines,
            "",
            ";".join(claim.signed),
            claim.payload,
        )
    )


def string_to_sign(canonical: str, claim: Claim) -> str:
    """Return the text whose authentication code is the signature."""
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{_ALGORITHM}\n{claim.stamp}\n{claim.scope}\n{digest}"


def sign(to_sign: str, claim: Claim, secret_key: str) -> str:
    """Return the signature."""
    key = f"AWS4{secret_key}".encode()
    for part in (claim.day, claim.region, claim.service, "aws4_request", to_sign):
        key = hmac.digest(key, part.encode("utf-8", "surrogateescape"), "sha256")
    return key.hex()


def presign(
    request: Request, key: S3Key, *, region: str, signed_at: datetime, expires_s: int, payer: bool = False
) -> str:
    """Return the query string that makes a URL open a private object for a while.

    Parameters
    ----------
    request : Request
        The request that the URL stands for, with its host among the headers.
    key : S3Key
        Who signs; his token goes along where the key needs one.
    region : str
        The region.
    signed_at : datetime
        From when on.
    expires_s : int
        For how many seconds.
    payer : bool
        Whether who signs pays.
    """
    stamp = signed_at.astimezone(UTC).strftime(_STAMP)
    token = key.session_token if key.needs_token else None
    claim = Claim(key.access_key, stamp[:8], region, "s3", stamp, ("host",), "", _UNSIGNED, token, expires_s)
    given = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{key.access_key}/{claim.scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    if token is not None:
        given["X-Amz-Security-Token"] = token
    if payer:
        given["x-amz-request-payer"] = "requester"
    query = "&".join(f"{_encode(name)}={_encode(value)}" for name, value in given.items())
    asked = type(request)(request.method, request.path, query, request.headers, keeps_alive=True)
    signature = sign(string_to_sign(canonical_request(asked, claim), claim), claim, key.secret_key)
    return f"{query}&{_SIGNATURE}={signature}"


def _encode(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="surrogateescape")
