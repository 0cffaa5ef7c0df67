"""What the object stores' client says of a failure, in our errors. Its texts hold answers and queries: they stay here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FileChangedError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    TlsError,
    UnreachableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place
    from nuncius.cloudfits.stores.logins import Login
    from nuncius.errors import NunciusError

Reason: TypeAlias = Literal[
    "status", "no ranges", "no size", "cut", "timeout", "unreachable", "tls", "region", "identity", "other"
]

_STATUS = re.compile(r"(?:status code|error with status|with status)[: ]+(\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,64})</Region>")
_RETRIES = re.compile(r"after (\d+) retries")
# Both 403 and 400 are given for keys that the store does not accept.
_WRONG_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
    "InvalidSecurity",
    "AuthorizationQueryParametersError",
}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_IDENTITY = re.compile(
    r"169\.254\.|metadata\.google\.internal|/latest/(?:api/token|meta-data)|identity/oauth2/token"
    r"|computeMetadata|InstanceProfile|TaskPod"
)


# Refusals that are given with other statuses than 403.
_REFUSALS = {"PublicAccessNotPermitted", "UserProjectMissing"}
_CURES = {
    "InvalidObjectState": "It lies in an archive (Glacier), from which its owner has to bring it back first",
    "RequestTimeTooSkewed": "The clock of this machine is wrong: set it",
    "UserProjectMissing": "Those who read pay: give requester_pays=True",
}
_PRESIGNED = "A link with a signature may be over, or be meant for another object: get a new one"


class Failure(NamedTuple):
    """How a request failed, without any text of the answer but codes that are checked."""

    reason: Reason
    status: int | None = None
    code: str = ""
    region: str | None = None
    attempts: int = 1


def read_failure(error: Exception) -> Failure:
    """Say how a request failed, from an exception of obstore."""
    from obstore import exceptions

    text = str(error)
    found = _RETRIES.search(text)
    attempts = 1 + int(found[1]) if found else 1
    if isinstance(error, FileNotFoundError):
        return _of_status(404, text, attempts)
    if isinstance(error, exceptions.PreconditionError):
        return _of_status(412, text, attempts)
    if isinstance(error, exceptions.NotSupportedError):
        return Failure("no ranges")
    if _IDENTITY.search(text.partition("Debug source")[0]):
        return Failure("identity", attempts=attempts)
    if "redirect without LOCATION" in text or "BareRedirect" in text:
        return Failure("region", 301)
    if match := _STATUS.search(text):
        return _of_status(int(match[1]), text, attempts)
    if isinstance(error, exceptions.PermissionDeniedError):
        return Failure("status", 403)
    if isinstance(error, exceptions.UnauthenticatedError):
        return Failure("status", 401)
    return Failure(_reason(text), attempts=attempts)


def _of_status(status: int, text: str, attempts: int) -> Failure:
    code, region = _CODE.search(text), _REGION.search(text)
    name = code[1] if code else ""
    if status in {301, 307, 400, 403} and (name in _WRONG_REGION or (region and status == 400)):
        return Failure("region", status, name, region[1] if region else None, attempts)
    return Failure("status", status, name, None, attempts)


def _reason(text: str) -> Reason:
    if "CONTENT_RANGE" in text or "ontent-Length" in text or "CONTENT_LENGTH" in text or "Requested " in text:
        return "no size"
    if re.search(r"certificate|InvalidCert|tls|Tls|TLS|handshake", text):
        return "tls"
    if "Timeout" in text or "TimedOut" in text or "timed out" in text:
        return "timeout"
    if re.search(r"kind: (?:Interrupted|Body|Decode)|IncompleteBody|body error|UnexpectedEof", text):
        return "cut"
    if "kind: Connect" in text or "error sending request" in text or "kind: Request" in text:
        return "unreachable"
    return "other"


def to_error(failure: Failure, place: Place, access: Access, login: Login) -> NunciusError:
    """Return the error that says what failed, where and what to do."""
    url, service = place.url, place.service
    match failure.reason:
        case "status":
            assert failure.status is not None
            return status_error(
                failure.status, place, access, login, code=failure.code, attempts=failure.attempts
            )
        case "no ranges":
            return no_ranges(place)
        case "region" if place.kind == "s3":
            return ConfigurationError(
                f"{service} keeps the bucket {place.bucket!r} in another region than {login.region!r} "
                f"({failure.code or 'redirect'}, reading {url}). Name it with region=, or its address with endpoint=",
                service=service,
                url=url,
                status=failure.status,
            )
        case "timeout":
            return DeadlineError(
                f"{url}: no answer of {service} was complete within {access.timeout_s:g} s, tried "
                f"{failure.attempts} times. Give a request more time with timeout_s=",
                service=service,
                url=url,
                attempts=failure.attempts,
            )
        case "tls":
            return TlsError(
                f"{url}: the connection can't be secured. If the server's certificates are its own, name them with "
                "ssl_ca_location='/path/to/certificates.pem'",
                service=service,
                url=url,
            )
        case "unreachable":
            return UnreachableError(
                f"nobody answers at {where(place, login)} for {url} (tried {failure.attempts} times). Check the address, "
                "the network and the proxy variables",
                service=service,
                url=url,
                attempts=failure.attempts,
            )
        case "identity":
            return LoginError(
                f"{url}: {login.source} gave no credentials for {service}. Give credentials=, or anon=True for data "
                "that are public",
                service=service,
                url=url,
            )
        case "cut":
            return UnreachableError(
                f"{url}: the connection broke before the answer was complete, each of {failure.attempts} times; try "
                "again later, or with more retries=",
                service=service,
                url=url,
                attempts=failure.attempts,
            )
        case _:
            return ServerError(
                f"{url}: {service} answered with something that is not understood. If it is no {service}, give the "
                "link that a browser would open",
                service=service,
                url=url,
                attempts=failure.attempts,
            )


def status_error(
    status: int, place: Place, access: Access, login: Login, *, code: str = "", attempts: int = 1
) -> NunciusError:
    """Return the error for an HTTP status that is no success."""
    url, service = place.url, place.service
    told = f"{status} {code}".strip()
    facts: dict[str, Any] = {"service": service, "url": url, "status": status}
    if status == 401 or code in _WRONG_KEYS:
        refused = "wants a login" if login.anonymous else f"does not accept {login.source}"
        if place.is_secret and "?" in place.address:
            refused = "does not accept the signature of the link"
        return LoginError(f"{service} {refused} ({told}) for {url}. {_key_cure(code, place, login)}", **facts)
    if status == 403 or code in _REFUSALS:
        return ForbiddenError(
            f"{service} refuses {url} ({told}), asked {_asked(access, login)}. {_cure(code, place, access, login)}",
            **facts,
        )
    if status in {404, 410}:
        what = (
            f"no bucket {place.bucket!r}"
            if place.bucket and ("Bucket" in code or "Container" in code)
            else "no such object"
        )
        return NotFoundError(f"{service} has {what}: {url} ({told}). {_spelling(place, login)}", **facts)
    if status == 412:
        return changed(place)
    if status >= 500 or status == 429:
        return ServerError(
            f"{service} failed to answer for {url}: {told}, tried {attempts} times; try again later",
            attempts=attempts,
            **facts,
        )
    return ServerError(
        f"{service} answered {told} for {url}, which is neither the object nor a known failure", **facts
    )


def changed(place: Place) -> FileChangedError:
    """Return the error for an object that was replaced while it was read."""
    return FileChangedError(
        f"{place.url} was replaced while it was read; open it again", service=place.service, url=place.url
    )


def no_ranges(place: Place) -> UnsupportedError:
    """Return the error for a server that would send the whole object where a piece was asked for."""
    return UnsupportedError(
        f"{place.service} sends {place.url} only whole (it ignores Range); whole_file=True reads the whole file",
        service=place.service,
        url=place.url,
    )


def other_bytes(place: Place) -> ServerError:
    """Return the error for an answer whose body is not what it says, or not what was asked for."""
    return ServerError(
        f"{place.service} sent other bytes of {place.url} than it was asked for: nothing of them can be trusted",
        service=place.service,
        url=place.url,
    )


def packed(place: Place, coding: str) -> UnsupportedError:
    """Return the error for pieces of a compressed stream, of which no part can be read alone."""
    return UnsupportedError(
        f"{place.service} sends {place.url} compressed (Content-Encoding: {coding!r}), so that its bytes can't be asked for in "
        "pieces; whole_file=True reads and unpacks the whole file",
        service=place.service,
        url=place.url,
    )


def too_large(place: Place, size: int | None, max_bytes: int) -> UnsupportedError:
    """Return the error for an object that is larger than what may be read whole."""
    has = f"has {size:,} bytes, more than" if size is not None else "is longer than"
    return UnsupportedError(
        f"{place.url} {has} the {max_bytes:,} that are read whole", service=place.service, url=place.url
    )


def where(place: Place, login: Login) -> str:
    """Return the address of a store, for people."""
    if place.kind == "http":
        return place.service
    return login.address or place.service


def _asked(access: Access, login: Login) -> str:
    who = "without credentials" if login.anonymous else f"with {login.source}"
    return who + (" as the one who pays" if access.requester_pays else "")


def _key_cure(code: str, place: Place, login: Login) -> str:
    if place.is_secret:
        return _PRESIGNED if "?" in place.address else "Look at the user name and the password in the address"
    if "Expired" in code or "Refresh" in code:
        return "They are over: log in again, or get new ones"
    if login.anonymous:
        return (
            "It wants credentials: give credentials= or profile=, or headers={'Authorization': …} for a token"
        )
    return "Look at the key, its secret and its token; for public data anon=True needs none"


def _cure(code: str, place: Place, access: Access, login: Login) -> str:
    """Return what to try after a 403."""
    if code in _CURES:
        return _CURES[code]
    if place.kind == "http":
        if place.is_secret:
            return _PRESIGNED
        return "If it needs a login, give headers={'Authorization': 'Bearer …'}"
    tries = []
    if place.kind in {"s3", "gs"} and not access.requester_pays:
        tries.append("requester_pays=True if those who read pay")
    if login.anonymous:
        tries.append("with credentials (credentials=, profile= or the environment)")
    else:
        tries.append("anon=True if the data are public")
        tries.append("other credentials")
    if place.kind == "s3":
        tries.append(f"region= (it was {login.region!r})")
    text = "Try " + ", ".join(tries)
    return (
        text
        + ". A store that may not be listed refuses names that it does not have, too: look at the spelling"
    )


def _spelling(place: Place, login: Login) -> str:
    if place.kind == "az" and login.anonymous:
        return "Azure says so of what is private, too: try with credentials (credentials= or the environment)"
    if "%" in place.key:
        return "In such an address a key is written as it is, not percent-encoded: is '%20' a space?"
    return "Look at the spelling, also of upper and lower case"
