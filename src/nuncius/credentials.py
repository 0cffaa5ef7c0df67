"""User names and passwords: where they are looked for. They never stand in a repr, a log line, a pickle or an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from nuncius.errors import ConfigurationError


class Credentials:
    """A user name and a password.

    Parameters
    ----------
    username : str
        The name.
    password : str
        The secret.
    source : str
        Where they came from, for error messages.
    """

    __slots__ = ("_password", "source", "username")

    def __init__(self, username: str, password: str, *, source: str = "credentials=") -> None:
        self.username = username
        self._password = password
        self.source = source

    def reveal(self) -> str:
        """Return the password; only for handing it to the library that logs in."""
        return self._password

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, password=***, from {self.source})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; name them again where they are needed")


CredentialsLike: TypeAlias = "Credentials | tuple[str, str] | Mapping[str, Any] | None"
"""What is accepted as `credentials=`: a pair, a mapping with `username` and `password`, or `Credentials`."""


def find_credentials(service: str, given: CredentialsLike = None) -> Credentials | None:
    """Find a login: the argument, else ``NUNCIUS_<SERVICE>_USERNAME`` and ``…_PASSWORD``; None if there is none.

    Raises
    ------
    ConfigurationError
        If the argument is no pair of texts, or only half of the two variables is set.
    """
    if isinstance(given, Credentials):
        return given
    if isinstance(given, Mapping):
        given = (given.get("username"), given.get("password"))  # type: ignore[assignment]
    if given is not None:
        if not (
            isinstance(given, (tuple, list))
            and len(given) == 2
            and all(isinstance(part, str) for part in given)
        ):
            raise ConfigurationError("credentials= takes (username, password), both texts")
        return Credentials(given[0], given[1])
    prefix = f"NUNCIUS_{service.upper().replace('-', '_')}"
    username, password = os.environ.get(f"{prefix}_USERNAME"), os.environ.get(f"{prefix}_PASSWORD")
    if (username is None) != (password is None):
        missing = "PASSWORD" if password is None else "USERNAME"
        raise ConfigurationError(f"{prefix}_{missing} is not set, but its partner is; set both or none")
    if username is None or password is None:
        return None
    return Credentials(username, password, source=f"{prefix}_USERNAME and {prefix}_PASSWORD")
