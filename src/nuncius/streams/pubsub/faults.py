"""What goes wrong at a Pub/Sub server in our words, with the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import (
    AlreadyExistsError,
    ConfigurationError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    TlsError,
    UnreachableError,
)

if TYPE_CHECKING:
    from nuncius.errors import NunciusError

# By what gRPC calls them. These pass by themselves: https://cloud.google.com/pubsub/docs/reference/error-codes
_PASSING = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"}
)
_TLS = ("SSL_ERROR", "Ssl handshake", "CERTIFICATE_VERIFY", "TSI_", "Hostname Verification")
_ROLES = {
    "read": "roles/pubsub.subscriber on the subscription",
    "create": "roles/pubsub.editor in the project of the subscription, and roles/pubsub.subscriber on the topic",
    "look": "roles/pubsub.viewer",
    "delete": "roles/pubsub.editor in the project of the subscription",
}
_SHOWN = 500


def code_of(error: Any) -> str:
    """Return the name of the status of a call that failed, such as ``NOT_FOUND``."""
    return str(error.code().name)


def passes(error: NunciusError) -> bool:
    """Tell whether it is worth while to ask again: what can't be secured stays so."""
    return isinstance(error, UnreachableError) and not isinstance(error, TlsError)


def typed(error: Any, *, where: str, path: str, action: str = "read", who: str = "no login") -> NunciusError:
    """Return the error that says what is wrong and what to do.

    Parameters
    ----------
    error : grpc.RpcError
        Of the call.
    where : str
        The server.
    path : str
        The subscription or topic.
    action : str
        ``read``, ``create``, ``look`` or ``delete``.
    who : str
        As whom we are logged in.
    """
    code, text = code_of(error), " ".join((error.details() or "").split())[:_SHOWN].rstrip(".")
    facts: dict[str, Any] = {"service": "pubsub", "url": f"pubsub://{where}", "position": path}
    if any(word in text for word in _TLS):
        return TlsError(
            f"the connection to {where} can't be secured: {text}. ssl_ca_location=FILE names the authority that "
            "signed the server's certificate",
            **facts,
        )
    if code == "NOT_FOUND":
        return NotFoundError(
            f"{where} has no {path}: {text}. `nuncius subscription touch URL --topic TOPIC` makes a subscription; "
            "messages published before are not in it",
            **facts,
        )
    if code == "ALREADY_EXISTS":
        return AlreadyExistsError(f"{where} has {path} already: {text}", **facts)
    if code == "PERMISSION_DENIED":
        return ForbiddenError(
            f"{where} does not let us {action} {path} ({who}): {text}. Needed is {_ROLES[action]}",
            **facts,
        )
    if code == "UNAUTHENTICATED":
        return LoginError(
            f"{where} refuses the login ({who}): {text}. Give a key file with credentials= or "
            "GOOGLE_APPLICATION_CREDENTIALS, or log in with `nuncius login pittgoogle`",
            **facts,
        )
    if code in {"INVALID_ARGUMENT", "OUT_OF_RANGE"}:
        return ConfigurationError(f"{where} does not accept what was asked of {path}: {text}", **facts)
    if code == "UNAVAILABLE" and "connect" in text:
        return UnreachableError(
            f"nobody answers at {where}: {text}. Check the address and the network; if it is an emulator, is it running?",
            **facts,
        )
    if code in _PASSING:
        return UnreachableError(
            f"{where} does not serve {path} now ({code}): {text or 'no reason given'}", **facts
        )
    return ServerError(f"{where} answered {code} for {path}: {text}", **facts)
