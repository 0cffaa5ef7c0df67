"""How a store is reached: credentials, who pays, endpoint, time limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TELLING = re.compile(r"auth|cookie|token|key|secret|password|signature|credential", re.IGNORECASE)


class Hidden(Mapping[str, str]):
    """A mapping whose values are shown to nobody: not in a repr, a log line or a pickle.

    Parameters
    ----------
    values : mapping of str to str
        The secrets.
    what : str
        The option that they came with, for error messages.
    """

    __slots__ = ("_values", "_what")

    def __init__(self, values: Mapping[str, str], what: str) -> None:
        self._values = dict(values)
        self._what = what

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and self._values == other._values

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: ***" for name in self._values) + "}"

    def __reduce__(self) -> Any:
        if self._what != "headers" or any(map(is_telling, self._values)):
            refuse_pickling(f"{self._what}= holds secrets")
        return Hidden, (self._values, self._what)


def is_telling(name: str) -> bool:
    """Tell whether a header line of that name probably holds a secret."""
    return _TELLING.search(name) is not None


def refuse_pickling(reason: str) -> NoReturn:
    """Raise the error of what holds a secret and is to be carried to another process."""
    raise ConfigurationError(
        f"{reason}, which are not carried to other processes. Leave them out here and let each process find them "
        "itself: in the variables of the environment (AWS_ACCESS_KEY_ID …, GOOGLE_APPLICATION_CREDENTIALS, "
        "AZURE_STORAGE_ACCOUNT_KEY …) or in a profile (profile=); or open the file again in the other process"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a store is reached. Each option has a default that suits public data.

    Parameters
    ----------
    credentials : mapping or (str, str), optional
        S3, Spaces and their like: (key id, secret), or a mapping with `access_key_id`, `secret_access_key` and `token`.
        Google: `service_account` (a file), `service_account_key` (its text) or `bearer_token`. Azure: `account_name`,
        and `account_key`, `sas_key` or `bearer_token`. Stores that fsspec reads: its storage options. Without it they
        are searched for in the environment, in profiles and on a machine of that cloud.
    anon : bool, optional
        True: search for none and sign nothing. False: never go on without. None: without if there are none, which is
        said once.
    requester_pays : bool
        The data are in a bucket whose owner lets those pay who read.
    endpoint : str, optional
        The address of a store that is not of the big ones (MinIO, Ceph, R2), such as ``https://minio.example.org``.
    region : str, optional
        Of the bucket.
    profile : str, optional
        A profile of ``~/.aws``.
    headers : mapping, optional
        Header lines that are sent along, such as ``{"Authorization": "Bearer …"}``.
    ssl_ca_location : str, optional
        A file with certificates in PEM form, for servers whose certificates are their own.
    timeout_s : float
        For one request, from connecting to its last byte.
    retries : int
        How often a request is sent again after a failure of the server or the network.

    Raises
    ------
    ConfigurationError
        If options contradict each other or are not of their kind.

    Examples
    --------
    >>> Access(credentials=("AKIA…", "very secret"), region="us-east-1").credentials
    {'access_key_id': ***, 'secret_access_key': ***}
    """

    credentials: Mapping[str, str] | tuple[str, str] | None = None
    anon: bool | None = None
    requester_pays: bool = False
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    headers: Mapping[str, str] | None = None
    ssl_ca_location: str | None = None
    timeout_s: float = 30.0
    retries: int = 10

    def __post_init__(self) -> None:
        if self.credentials is not None and not isinstance(self.credentials, Hidden):
            object.__setattr__(self, "credentials", Hidden(_as_mapping(self.credentials), "credentials"))
        if self.headers is not None and not isinstance(self.headers, Hidden):
            object.__setattr__(self, "headers", Hidden(_checked_headers(self.headers), "headers"))
        if self.endpoint is not None:
            object.__setattr__(self, "endpoint", _checked_endpoint(self.endpoint))
        if self.ssl_ca_location is not None:
            object.__setattr__(self, "ssl_ca_location", str(self.ssl_ca_location))
        self._check()

    def _check(self) -> None:
        given = [name for name in ("credentials", "profile") if getattr(self, name) is not None]
        if len(given) == 2:
            raise ConfigurationError("credentials= and profile= both say who reads; give one of them")
        if self.anon and given:
            raise ConfigurationError(
                f"anon=True reads without credentials, but {given[0]}= is given; leave one out"
            )
        if self.anon and self.requester_pays:
            raise ConfigurationError(
                "requester_pays=True needs an account that pays, but anon=True reads without one; leave anon= out"
            )
        if not (isinstance(self.timeout_s, (int, float)) and 0 < self.timeout_s < math.inf):
            raise ConfigurationError(f"timeout_s={self.timeout_s!r}: it is a number of seconds above 0")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise ConfigurationError(f"retries={self.retries!r}: it is a whole number, 0 or more")
        if self.region is not None and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", self.region):
            raise ConfigurationError(f"region={self.region!r} is no name of a region, such as 'us-east-1'")

    @property
    def given(self) -> Mapping[str, str]:
        """The credentials of the argument; empty if there are none."""
        return self.credentials if isinstance(self.credentials, Hidden) else {}


def _as_mapping(given: object) -> Mapping[str, str]:
    if isinstance(given, (tuple, list)) and len(given) == 2:
        given = {"access_key_id": given[0], "secret_access_key": given[1]}
    if isinstance(given, Mapping) and given:
        values = {str(name): value for name, value in given.items() if value is not None}
        if all(isinstance(value, str) and value for value in values.values()):
            return values
    raise ConfigurationError(
        "credentials= takes (key id, secret) or a mapping of texts: access_key_id, secret_access_key and token for S3; "
        "service_account or bearer_token for Google; account_name with account_key or sas_key for Azure"
    )


def _checked_headers(given: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in given.items():
        well = all(isinstance(text, str) and text.isascii() and text.isprintable() for text in (name, value))
        if not well or value != value.strip() or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ConfigurationError(
                f"headers=: {name!r} can't be sent: a header line is printable ASCII, without spaces around its value"
            )
        if name.lower() in {"range", "if-match", "host", "accept-encoding", "content-length"}:
            raise ConfigurationError(f"headers=: {name!r} is set by each request itself; leave it out")
    return given


def _checked_endpoint(given: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", given, re.IGNORECASE):
        raise ConfigurationError(
            "endpoint= is the address of a store, such as 'https://minio.example.org' or 'http://127.0.0.1:9000', "
            "without a user name or a query"
        )
    return given.rstrip("/")
