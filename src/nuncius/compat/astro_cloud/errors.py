"""Errors that are ours and, for programs that were written for astro-cloud, the `NotImplementedError` that they catch.

::

    AstroCloudError (NotImplementedError)
    ├── AstroCloudArgumentError (ConfigurationError)
    ├── AstroCloudLoginError (LoginError)
    ├── AstroCloudForbiddenError (ForbiddenError)
    ├── AstroCloudNotFoundError (NotFoundError)
    ├── AstroCloudServerError (ServerError)
    └── AstroCloudUnsupportedError (UnsupportedError)

Who can't be reached, what is no FITS and what takes too long keep their own kinds: they never had this one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nuncius.compat.kinds import alike
from nuncius.errors import (
    ConfigurationError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class AstroCloudError(NunciusError, NotImplementedError):
    """A service that is not known, or one that does not give the file."""


class AstroCloudArgumentError(AstroCloudError, ConfigurationError):
    """There is no such service, it can't be paid that way, or the URL is none of it."""


class AstroCloudLoginError(AstroCloudError, LoginError):
    """The service does not accept the credentials."""


class AstroCloudForbiddenError(AstroCloudError, ForbiddenError):
    """The service refuses the file to us."""


class AstroCloudNotFoundError(AstroCloudError, NotFoundError):
    """There is no such bucket or file."""


class AstroCloudServerError(AstroCloudError, ServerError):
    """The service answered, with a failure of its own."""


class AstroCloudUnsupportedError(AstroCloudError, UnsupportedError):
    """The server can't send parts of a file, or the value is not one of FITS."""


_KINDS: tuple[tuple[type[NunciusError], type[AstroCloudError]], ...] = (
    (LoginError, AstroCloudLoginError),
    (ForbiddenError, AstroCloudForbiddenError),
    (NotFoundError, AstroCloudNotFoundError),
    (ServerError, AstroCloudServerError),
    (UnsupportedError, AstroCloudUnsupportedError),
    (ConfigurationError, AstroCloudArgumentError),
)


@contextmanager
def translating() -> Iterator[None]:
    """Raise what a service answers as a kind that programs for astro-cloud catch too."""
    try:
        yield
    except NunciusError as error:
        kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), None)
        if kind is None or isinstance(error, AstroCloudError):
            raise
        raise alike(error, kind) from error
