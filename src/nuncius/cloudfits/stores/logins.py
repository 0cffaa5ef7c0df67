"""Who reads: credentials from the argument, the environment, a profile or the machine, or none."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuncius.cloudfits.access import Access, Hidden
    from nuncius.cloudfits.places import Place

log = logging.getLogger("nuncius.cloudfits")

_announced: set[str] = set()
_without_identity: set[str] = set()


@dataclass(frozen=True, slots=True)
class Login:
    """Who reads from a store, and where it answers.

    Parameters
    ----------
    source : str
        Where the credentials came from, for people.
    anonymous : bool
        Whether nothing is signed.
    endpoint : str, optional
        The store's address, ``{region}`` standing for the region; None is the client's own choice.
    region : str, optional
        Of the bucket.
    secrets : Hidden, optional
        What the store's client is given to sign with.
    options : tuple of (str, Any)
        More settings of the store's client.
    headers : tuple of (str, str)
        Header lines that go along: who pays, at Google.
    refresh : callable, optional
        Gets credentials that end after a while.
    machine : bool
        Whether the machine itself is asked, which may have none to give.
    """

    source: str
    anonymous: bool = False
    endpoint: str | None = None
    region: str | None = None
    secrets: Hidden | None = None
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)  # may be a key
    headers: tuple[tuple[str, str], ...] = ()
    refresh: Callable[[], Mapping[str, Any]] | None = None
    machine: bool = False

    @property
    def address(self) -> str | None:
        """The store's address."""
        if self.endpoint is None or self.region is None:
            return self.endpoint
        return self.endpoint.replace("{region}", self.region)

    def provider(self) -> Provider | None:
        """Return what the store's client calls for credentials; None if it finds them itself."""
        if self.secrets is None and self.refresh is None:
            return None
        return Provider(self.secrets, self.refresh)


class Provider:
    """What the store's client calls for credentials: it keeps them out of the client's settings, which it prints."""

    __slots__ = ("_refresh", "_secrets")

    def __init__(self, secrets: Hidden | None, refresh: Callable[[], Mapping[str, Any]] | None) -> None:
        self._secrets = secrets
        self._refresh = refresh

    async def __call__(self) -> dict[str, Any]:
        """Return credentials, and when they end."""
        if self._refresh is not None:
            return dict(await asyncio.to_thread(self._refresh))
        return {**(self._secrets or {}), "expires_at": None}


def nobody(place: Place, access: Access, **where: Any) -> Login:
    """Return the login of nobody, and say so once, if that is allowed.

    Raises
    ------
    ConfigurationError
        If `anon` forbids it, or somebody has to pay.
    """
    service = place.service
    if access.anon is False:
        raise ConfigurationError(
            f"no credentials were found for {service}, and anon=False forbids to read without. Give credentials= or "
            f"profile=, or set {_VARIABLES[place.kind]}",
            service=service,
            url=place.url,
        )
    if access.requester_pays:
        raise ConfigurationError(
            f"requester_pays=True needs an account that pays, but no credentials were found for {service}. Give "
            f"credentials= or profile=, or set {_VARIABLES[place.kind]}",
            service=service,
            url=place.url,
        )
    if access.anon is None and service not in _announced:
        _announced.add(service)
        log.info(
            "no credentials were found for %s: reading without, as anybody may read public data. "
            "anon=True says so itself, anon=False forbids it",
            service,
        )
    return Login("no credentials", anonymous=True, **where)


_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY for Spaces)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def read_given(given: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the credentials of the argument under the names of the client.

    Parameters
    ----------
    given : mapping
        As the user wrote them.
    names : mapping
        The accepted names, and what the client calls them.

    Raises
    ------
    ConfigurationError
        If there is another name.
    """
    unknown = sorted(name for name in given if name not in names)
    if unknown:
        raise ConfigurationError(
            f"credentials=: {', '.join(unknown)} is not understood here; the names are {', '.join(names)}"
        )
    return {names[name]: value for name, value in given.items()}


def variable(*names: str) -> str | None:
    """Return the first of some environment variables that is set to something."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def pair(name: str, secret: str) -> tuple[str, str] | None:
    """Return two variables that belong together; None if neither is set.

    Raises
    ------
    ConfigurationError
        If one of them is missing.
    """
    values = variable(name), variable(secret)
    if values == (None, None):
        return None
    if values[0] is None or values[1] is None:
        missing = name if values[0] is None else secret
        raise ConfigurationError(f"{missing} is not set, but its partner is; set both or none")
    return values[0], values[1]


def may_ask_machine(cloud: str) -> bool:
    """Whether this is a machine of a cloud that may give credentials itself; nothing is asked for it."""
    return cloud not in _without_identity and cloud == machine_cloud()


def forget_machine(cloud: str) -> None:
    """Remember that this machine has no credentials to give."""
    _without_identity.add(cloud)


@functools.cache
def machine_cloud() -> str | None:
    """Return the cloud that this machine evidently belongs to ("s3", "gs", "az"), from what its firmware says."""
    facts = {name: _firmware(name) for name in ("sys_vendor", "product_name", "chassis_asset_tag")}
    if facts["sys_vendor"] == "Amazon EC2" or _text("/sys/hypervisor/uuid").startswith("ec2"):
        return "s3"
    if facts["product_name"] == "Google Compute Engine":
        return "gs"
    # What Microsoft's documentation gives as the tag of its virtual machines.
    if facts["chassis_asset_tag"] == "7783-7084-3265-9085-8269-3286-77":
        return "az"
    return None


def _firmware(name: str) -> str:
    return _text(f"/sys/class/dmi/id/{name}")


def _text(path: str) -> str:
    try:
        return Path(path).read_text("latin-1").strip()
    except OSError:
        return ""


def first_file(paths: Iterable[str | None]) -> str | None:
    """Return the first of some paths that is a file."""
    for path in paths:
        if path and (full := Path(path).expanduser()).is_file():
            return str(full)
    return None
