"""Errors that are ours and, for programs that were written for antares-client, what they catch.

::

    AntaresException
    ├── AntaresNetworkingException (UnreachableError)
    │   └── AntaresTlsError (TlsError)
    ├── AntaresLoginError (LoginError)
    ├── AntaresForbiddenError (ForbiddenError)
    ├── AntaresNotFoundError (NotFoundError)
    ├── AntaresDeadlineError (DeadlineError)
    ├── AntaresServerError (ServerError)
    ├── AntaresQueryError (FilterError)
    ├── AntaresAlertParseException (PacketError)
    ├── AntaresQuarantineFullError (QuarantineFullError)
    ├── AntaresStorageError (StorageError)
    └── AntaresConfigurationError (ConfigurationError)
        └── AntaresOptionError (TypeError)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    PacketError,
    QuarantineFullError,
    ServerError,
    StorageError,
    TlsError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class AntaresException(NunciusError):  # noqa: N818 - the documented name
    """Anything that goes wrong here."""


class AntaresNetworkingException(AntaresException, UnreachableError):  # noqa: N818
    """Nobody answers."""


class AntaresTlsError(AntaresNetworkingException, TlsError):
    """The connection can't be secured."""


class AntaresLoginError(AntaresException, LoginError):
    """ANTARES does not accept the API key and secret, or there are none."""


class AntaresForbiddenError(AntaresException, ForbiddenError):
    """ANTARES knows the key and refuses this."""


class AntaresNotFoundError(AntaresException, NotFoundError):
    """There is no such stream, alert or locus."""


class AntaresDeadlineError(AntaresException, DeadlineError):
    """The time that was given is over."""


class AntaresServerError(AntaresException, ServerError):
    """ANTARES answered, with a failure of its own."""


class AntaresQueryError(AntaresException, FilterError):
    """ANTARES does not understand a search."""


class AntaresAlertParseException(AntaresException, PacketError):  # noqa: N818
    """A message that is no readable alert; only where it could not go into the quarantine."""


class AntaresQuarantineFullError(AntaresException, QuarantineFullError):
    """Too much can't be read: the stream stopped, and acknowledged nothing of it."""


class AntaresStorageError(AntaresException, StorageError):
    """A file can't be written."""


class AntaresConfigurationError(AntaresException, ConfigurationError):
    """An argument or a setting that can't work."""


class AntaresOptionError(AntaresConfigurationError, TypeError):
    """There is no such option."""


_KINDS: tuple[tuple[type[NunciusError], type[AntaresException]], ...] = (
    (TlsError, AntaresTlsError),  # before its parent
    (UnreachableError, AntaresNetworkingException),
    (LoginError, AntaresLoginError),
    (ForbiddenError, AntaresForbiddenError),
    (NotFoundError, AntaresNotFoundError),
    (DeadlineError, AntaresDeadlineError),
    (ServerError, AntaresServerError),
    (FilterError, AntaresQueryError),
    (PacketError, AntaresAlertParseException),
    (QuarantineFullError, AntaresQuarantineFullError),
    (StorageError, AntaresStorageError),
    (ConfigurationError, AntaresConfigurationError),
)


def translated(error: NunciusError) -> NunciusError:
    """Return an error as one that programs for antares-client catch too; those about Python itself stay as they are."""
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), None)
    if kind is None or isinstance(error, AntaresException):
        return error
    return kind(
        error.message,
        service=error.service,
        url=error.url,
        position=error.position,
        attempts=error.attempts,
        status=error.status,
    )


@contextmanager
def translating() -> Iterator[None]:
    """Raise errors as `translated` gives them."""
    try:
        yield
    except NunciusError as error:
        ours = translated(error)
        if ours is error:
            raise
        raise ours from error
