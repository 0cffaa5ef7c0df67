"""Who reads from Azure's blob storage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nuncius.cloudfits.access import Hidden
from nuncius.cloudfits.stores.logins import Login, may_ask_machine, nobody, read_given, variable
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place

_NAMES = {
    "account_name": "account_name",
    "account_key": "access_key",
    "sas_key": "sas_token",
    "sas_token": "sas_token",
    "bearer_token": "token",
    "token": "token",
}


def find_login(place: Place, access: Access) -> Login:
    """Say who reads from a container: the argument, the environment, the machine, or nobody.

    Raises
    ------
    ConfigurationError
        If the account is not named anywhere, what is found can't be used, or nobody may read.
    """
    given = read_given(access.given, _NAMES)
    connection = _connection()
    mine = variable("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT") or connection.get("accountname")
    account = place.account or given.pop("account_name", None) or mine
    if not account:
        raise ConfigurationError(
            f"{place.url} names no account of Azure: write abfs://container@account.dfs.core.windows.net/key, set "
            'AZURE_STORAGE_ACCOUNT_NAME, or give credentials={"account_name": …, …}',
            service=place.service,
            url=place.url,
        )
    given.pop("account_name", None)
    endpoint = place.endpoint or variable("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    if account == connection.get("accountname"):
        endpoint = endpoint or _blob_endpoint(connection)
    where: dict[str, Any] = {"endpoint": endpoint, "options": (("account_name", account),)}
    if given:
        if len(given) != 1:
            raise ConfigurationError(
                "credentials= for Azure need one of account_key, sas_key and bearer_token"
            )
        return Login("credentials=", secrets=Hidden(given, "credentials"), **where)
    if access.anon:
        return nobody(place, access, **where)
    # A key opens one account only: for another one it would spoil what anybody may read.
    if mine in {None, account} and (found := _from_environment(connection, where)) is not None:
        return found
    if variable("AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID") and variable(
        "AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"
    ):
        return Login("the application in AZURE_CLIENT_ID", **where)
    if (variable("AZURE_USE_AZURE_CLI") or "").lower() in {"1", "true"}:
        return Login("the login of the az command", **where)
    if variable("AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT", "IDENTITY_ENDPOINT") or may_ask_machine(
        "az"
    ):
        return Login("the identity of this machine", machine=True, **where)
    return nobody(place, access, **where)


def _from_environment(connection: Mapping[str, str], where: Mapping[str, Any]) -> Login | None:
    keys = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
    signatures = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
    found = (
        ("access_key", variable(*keys) or connection.get("accountkey"), keys[0]),
        ("sas_token", variable(*signatures) or connection.get("sharedaccesssignature"), signatures[0]),
        ("token", variable("AZURE_STORAGE_TOKEN"), "AZURE_STORAGE_TOKEN"),
    )
    for name, value, source in found:
        if value:
            return Login(f"the key in {source}", secrets=Hidden({name: value}, "credentials"), **where)
    return None


def _connection() -> dict[str, str]:
    """Return the parts of AZURE_STORAGE_CONNECTION_STRING, their names in lower case."""
    text = variable("AZURE_STORAGE_CONNECTION_STRING") or ""
    parts = {match[1].lower(): match[2] for match in re.finditer(r"([A-Za-z]+)=([^;]*)(?:;|$)", text)}
    # One with a shared access signature names its account in its address alone.
    if "accountname" not in parts and (
        host := re.match(r"https://([a-z0-9]{3,24})\.blob\.", _blob_endpoint(parts) or "")
    ):
        parts["accountname"] = host[1]
    return parts


def _blob_endpoint(connection: Mapping[str, str]) -> str | None:
    """Return the address that a connection string names, where it isn't the usual one."""
    if address := connection.get("blobendpoint"):
        return address.rstrip("/")
    suffix = connection.get("endpointsuffix", "core.windows.net").lower()
    if suffix == "core.windows.net" or not connection.get("accountname"):
        return None
    return (
        f"{connection.get('defaultendpointsprotocol', 'https')}://{connection['accountname']}.blob.{suffix}"
    )
