"""Errors that are ours and, for programs that were written for penquins, the kinds that they catch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.compat.kinds import alike
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    TlsError,
    UnreachableError,
)

if TYPE_CHECKING:
    from nuncius.errors import (
        NunciusError,
    )


class CatalogError(NotFoundError, ValueError):
    """No instance has that catalog."""


class InstanceNameError(NotFoundError, KeyError, ValueError):
    """There is no instance of that name."""


class InstanceLoginError(LoginError, ValueError):
    """An instance was not added: it refuses the login."""


class InstanceForbiddenError(ForbiddenError, ValueError):
    """An instance was not added: it knows us and does not answer."""


class InstanceTlsError(TlsError, ValueError):
    """An instance was not added: the connection can't be secured."""


class InstanceUnreachableError(UnreachableError, ValueError):
    """An instance was not added: nobody answers."""


class InstanceDeadlineError(DeadlineError, ValueError):
    """An instance was not added: it did not answer in time."""


class InstanceServerError(ServerError, ValueError):
    """An instance was not added: what answers is no Kowalski, or not well."""


_KINDS: tuple[tuple[type[NunciusError], type[NunciusError]], ...] = (
    (LoginError, InstanceLoginError),
    (ForbiddenError, InstanceForbiddenError),
    (TlsError, InstanceTlsError),  # before its parent
    (UnreachableError, InstanceUnreachableError),
    (DeadlineError, InstanceDeadlineError),
    (ServerError, InstanceServerError),
)


def not_added(name: str, error: NunciusError) -> NunciusError:
    """Return the error that says why an instance was not added."""
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), ConfigurationError)
    return alike(error, kind, f"Failed to add instance {name}: {error.message}")
