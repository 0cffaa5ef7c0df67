"""Who reads from Google Cloud Storage."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.cloudfits.access import Hidden
from nuncius.cloudfits.stores.logins import (
    Login,
    first_file,
    may_ask_machine,
    nobody,
    read_given,
    variable,
)
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place

_NAMES = {
    "service_account": "service_account",
    "service_account_key": "service_account_key",
    "bearer_token": "token",
    "token": "token",
    "project": "project",
}


def find_login(place: Place, access: Access) -> Login:
    """Say who reads from a bucket and who pays: the argument, the environment, gcloud's file, the machine, or nobody.

    Raises
    ------
    ConfigurationError
        If what is found can't be used, or nobody may read.
    MissingExtraError
        If the file of credentials needs google-auth, which is not installed.
    """
    login = _search(place, access)
    if access.requester_pays:
        return replace(login, headers=(("x-goog-user-project", _project(access, login)),))
    return login


def _search(place: Place, access: Access) -> Login:
    where: dict[str, Any] = {"endpoint": place.endpoint or variable("GOOGLE_BASE_URL")}
    if access.given:
        return _of_argument(read_given(access.given, _NAMES), where)
    if access.anon:
        return nobody(place, access, **where)
    if token := variable("GOOGLE_BEARER_TOKEN"):
        return Login(
            "the token in GOOGLE_BEARER_TOKEN", secrets=Hidden({"token": token}, "credentials"), **where
        )
    if text := variable("GOOGLE_SERVICE_ACCOUNT_KEY"):
        options = (("service_account_key", text),)
        return Login("the account in GOOGLE_SERVICE_ACCOUNT_KEY", options=options, **where)
    named = variable(
        "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"
    )
    folder = variable("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    path = first_file([named]) if named else first_file([f"{folder}/application_default_credentials.json"])
    if named and path is None:
        raise ConfigurationError(
            f"GOOGLE_APPLICATION_CREDENTIALS names {named}, and there is no such file; unset it, or give anon=True for "
            "public data"
        )
    if path is not None:
        return _of_file(path, where)
    if may_ask_machine("gs"):
        return Login("the account of this machine", machine=True, **where)
    return nobody(place, access, **where)


def _project(access: Access, login: Login) -> str:
    """Return the project that pays for what is read."""
    named = access.given.get("project") or variable("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
    for name, value in login.options:
        if not named and name in {"application_credentials", "service_account"}:
            facts = _read(value)
            named = facts.get("quota_project_id") or facts.get("project_id")
    if not isinstance(named, str) or not named.isascii() or not named.isprintable():
        raise ConfigurationError(
            "requester_pays=True: Google wants to know the project that pays. Set GOOGLE_CLOUD_PROJECT, or name it in "
            'credentials={…, "project": "my-project"}'
        )
    return named


def _of_argument(given: dict[str, str], where: Mapping[str, Any]) -> Login:
    given.pop("project", None)
    if len(given) != 1:
        raise ConfigurationError(
            "credentials= for Google need one of service_account (a file), service_account_key (its text) and bearer_token"
        )
    ((name, value),) = given.items()
    if name == "token":
        return Login("credentials=", secrets=Hidden(given, "credentials"), **where)
    if name == "service_account":
        if first_file([value]) is None:
            raise ConfigurationError(f"credentials=: there is no file {value} with a service account")
        value = str(Path(value).expanduser())
    return Login("credentials=", options=((name, value),), **where)


def _of_file(path: str, where: Mapping[str, Any]) -> Login:
    source = f"the account in {path}"
    kind = _read(path).get("type")
    if kind in {"service_account", "authorized_user"} or kind is None:
        return Login(source, options=(("application_credentials", path),), **where)
    return Login(source, refresh=_exchange(path), **where)


def _read(path: str) -> dict[str, Any]:
    try:
        facts = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} holds no account of Google that can be read ({type(error).__name__}); repair it, or give anon=True "
            "for public data",
            position=path,
        ) from None
    return facts if isinstance(facts, dict) else {}


@functools.lru_cache(maxsize=8)
def _exchange(path: str) -> Callable[[], Mapping[str, Any]]:
    """Return what gets tokens for an account of another kind (workload identity), by google-auth."""
    auth = require("google.auth", extra="gcs")
    from obstore.auth.google import GoogleCredentialProvider

    @functools.cache
    def provider() -> GoogleCredentialProvider:
        scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
        return GoogleCredentialProvider(auth.load_credentials_from_file(path, scopes=scopes)[0])

    def exchange() -> Mapping[str, Any]:
        return provider()()

    return exchange
