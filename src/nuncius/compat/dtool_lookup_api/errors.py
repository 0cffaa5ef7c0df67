"""Errors that are ours and, for programs that were written for dtool-lookup-api, what they catch.

::

    LookupServerError
    ├── LookupLoginError (LoginError, RuntimeError)
    ├── LookupTokenServerError (ServerError, RuntimeError)
    ├── LookupForbiddenError (ForbiddenError)
    ├── LookupNotFoundError (NotFoundError)
    ├── LookupUnreachableError (UnreachableError)
    │   └── LookupTlsError (TlsError)
    ├── LookupDeadlineError (DeadlineError)
    ├── LookupFailureError (ServerError)
    ├── LookupUnsupportedError (UnsupportedError)
    ├── LookupQueryError (FilterError)
    └── LookupConfigurationError (ConfigurationError)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nuncius.compat.kinds import alike
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTHENTICATION_FAILED = "Authentication failed"
"""How the message of a failed login begins."""


class LookupServerError(NunciusError):
    """Anything that goes wrong here."""


class LookupLoginError(LookupServerError, LoginError, RuntimeError):
    """The server, or the token generator, does not accept who we say we are."""


class LookupTokenServerError(LookupServerError, ServerError, RuntimeError):
    """The token generator answered, with a failure of its own."""


class LookupForbiddenError(LookupServerError, ForbiddenError):
    """The base URI is unknown, or not ours to see or change."""


class LookupNotFoundError(LookupServerError, NotFoundError):
    """No such data set, user or base URI."""


class LookupUnreachableError(LookupServerError, UnreachableError):
    """Nobody answers."""


class LookupTlsError(LookupUnreachableError, TlsError):
    """The connection can't be secured."""


class LookupDeadlineError(LookupServerError, DeadlineError):
    """No answer in time."""


class LookupFailureError(LookupServerError, ServerError):
    """The server answered, with a failure of its own."""


class LookupUnsupportedError(LookupServerError, UnsupportedError):
    """The server lacks a plugin, or it is switched off."""


class LookupQueryError(LookupServerError, FilterError):
    """The server does not understand what is asked, or it can't be asked."""


class LookupConfigurationError(LookupServerError, ConfigurationError):
    """A setting or an argument that can't work, or a record that can't be registered."""


_KINDS: tuple[tuple[type[NunciusError], type[LookupServerError]], ...] = (
    (LoginError, LookupLoginError),
    (ForbiddenError, LookupForbiddenError),
    (NotFoundError, LookupNotFoundError),
    (TlsError, LookupTlsError),  # before its parent
    (UnreachableError, LookupUnreachableError),
    (DeadlineError, LookupDeadlineError),
    (ServerError, LookupFailureError),
    (UnsupportedError, LookupUnsupportedError),
    (FilterError, LookupQueryError),
    (ConfigurationError, LookupConfigurationError),
)


@contextmanager
def translating() -> Iterator[None]:
    """Raise our errors as kinds that programs for dtool-lookup-api catch too."""
    try:
        yield
    except NunciusError as error:
        kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), None)
        if kind is None or isinstance(error, LookupServerError):
            raise
        message = error.message
        if kind is LookupLoginError:
            message = f"{AUTHENTICATION_FAILED}: {message}"
        raise alike(error, kind, message) from error


def not_logged_in(error: LoginError | ServerError) -> LookupServerError:
    """Return the error for a token generator that gives no token."""
    refused = error.status in {None, 200}
    begin = (
        AUTHENTICATION_FAILED
        if refused
        else f"Error {error.status} retrieving data from authentication server."
    )
    kind = LookupLoginError if isinstance(error, LoginError) else LookupTokenServerError
    return alike(error, kind, f"{begin}{':' if refused else ''} {error.message}")
