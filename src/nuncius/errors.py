"""Everything that nuncius raises, in one tree.

::

    NunciusError
    ├── ConfigurationError (ValueError)      a setting or an argument that can't work
    ├── MissingExtraError (ImportError)      an optional part is not installed
    ├── LoginError (PermissionError)         the service does not accept who we say we are
    ├── ForbiddenError (PermissionError)     the service knows us and refuses this
    ├── NotFoundError (LookupError)          no such topic, catalog, object or file
    ├── AlreadyExistsError                   there is one of that name
    ├── UnreachableError (ConnectionError)   nobody answers
    │   └── TlsError                         the connection can't be secured
    ├── DeadlineError (TimeoutError)         the time that the caller gave is over
    ├── ServerError                          the service answered, with a failure of its own
    ├── PartialResultError                   some parts succeeded and some did not
    ├── PacketError (ValueError)             bytes that are not a readable alert
    │   └── SchemaError                      the schema of a packet is unknown or unusable
    ├── FilterError (ValueError)             a query filter that means nothing
    ├── FitsError (ValueError)               bytes that are not readable FITS
    │   └── TruncatedFitsError               a FITS file ends before its data does
    ├── FileChangedError                     a remote file was replaced while it was read
    ├── StorageError (OSError)               an archive or a file can't be read or written
    ├── QuarantineFullError                  too much can't be read: the stream stopped
    ├── UnsupportedError                     this transport or archive can't do that
    └── ForkError (RuntimeError)             a client was carried across a fork

Every message says what failed, where, what was expected and what to do next. The facts are attributes too
(`service`, `url`, `status`, `position`, `attempts`), so that a program needn't read the message. No message holds a
secret.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AlreadyExistsError",
    "ConfigurationError",
    "DeadlineError",
    "FileChangedError",
    "FilterError",
    "FitsError",
    "ForbiddenError",
    "ForkError",
    "LoginError",
    "MissingExtraError",
    "NotFoundError",
    "NunciusError",
    "PacketError",
    "PartialResultError",
    "QuarantineFullError",
    "SchemaError",
    "ServerError",
    "StorageError",
    "TlsError",
    "TruncatedFitsError",
    "UnreachableError",
    "UnsupportedError",
]


class NunciusError(Exception):
    """The base of all errors of nuncius.

    Parameters
    ----------
    message : str
        What failed, where, what was expected and what to do next.
    service : str, optional
        Who failed: a broker, an archive, a registry.
    url : str, optional
        Where, without credentials.
    position : str, optional
        The place in a stream, a file or a filter.
    attempts : int, optional
        How often it was tried.
    status : int, optional
        The HTTP status of the answer.
    """

    service: str | None
    url: str | None
    position: str | None
    attempts: int | None
    status: int | None

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        url: str | None = None,
        position: str | None = None,
        attempts: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.url = url
        self.position = position
        self.attempts = attempts
        self.status = status

    def __str__(self) -> str:
        # OSError and its family would print an errno; our message is whole as it is.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # The options are keyword-only, which the default way to copy an exception can't give back.
        return (type(self), (self.message,), self.__dict__)


class ConfigurationError(NunciusError, ValueError):
    """A setting or an argument that can't work, or settings that contradict each other."""


class MissingExtraError(NunciusError, ImportError):
    """An optional part is not installed; the message gives the pip line that installs it."""


class LoginError(NunciusError, PermissionError):
    """The service does not accept the user name, password or token."""


class ForbiddenError(NunciusError, PermissionError):
    """The service knows who we are and refuses what we ask for."""


class NotFoundError(NunciusError, LookupError):
    """No such topic, catalog, object or file; the message names close matches."""


class AlreadyExistsError(NunciusError):
    """There is a topic or a subscription of that name."""


class UnreachableError(NunciusError, ConnectionError):
    """Nobody answers at that address.

    `sent` tells whether the question may have reached the service all the same.
    """

    sent: bool = True


class TlsError(UnreachableError):
    """The connection can't be secured; the message names the certificates used."""


class DeadlineError(NunciusError, TimeoutError):
    """The time that the caller gave is over."""


class ServerError(NunciusError):
    """The service answered, with a failure of its own."""


class PartialResultError(NunciusError):
    """Some parts of what was asked succeeded and some did not.

    `result` holds what succeeded; `failures`, or those of the result, say what did not and why.
    """

    result: Any = None
    failures: Any = None


class PacketError(NunciusError, ValueError):
    """Bytes that are not a readable alert; `position` says where the reading stopped."""


class SchemaError(PacketError):
    """The schema of a packet is unknown, or can't be used."""


class FilterError(NunciusError, ValueError):
    """A query filter, projection or sort order that means nothing; `position` points at the place."""


class FitsError(NunciusError, ValueError):
    """Bytes that are not readable FITS; `position` says where the reading stopped: a byte or an HDU."""


class TruncatedFitsError(FitsError):
    """A FITS file ends before its data does: it was cut when it was written or copied."""


class FileChangedError(NunciusError):
    """A remote file was replaced while it was read; open it again."""


class StorageError(NunciusError, OSError):
    """An archive or a file can't be read or written: disk full, read-only, not an archive."""


class QuarantineFullError(NunciusError):
    """Too many messages can't be read, so the stream stopped and acknowledged none of them."""


class UnsupportedError(NunciusError):
    """The transport or archive can't do what was asked; the message says what can."""


class ForkError(NunciusError, RuntimeError):
    """A client was carried across a fork; start worker processes with the "spawn" method."""
