"""Who reads from S3, Spaces and stores with their interface."""

from __future__ import annotations

import configparser
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.cloudfits.access import Hidden
from nuncius.cloudfits.stores.logins import Login, may_ask_machine, nobody, pair, read_given, variable
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place

FIRST_REGION = "us-east-1"  # where S3 answers for buckets whose region nobody named
_NAMES = {
    "access_key_id": "access_key_id",
    "aws_access_key_id": "access_key_id",
    "secret_access_key": "secret_access_key",
    "aws_secret_access_key": "secret_access_key",
    "token": "token",
    "session_token": "token",
    "aws_session_token": "token",
}
# What a profile holds that has to be exchanged for keys first.
_INDIRECT = (
    "role_arn",
    "sso_session",
    "sso_start_url",
    "credential_process",
    "credential_source",
    "login_session",
)


def find_login(place: Place, access: Access) -> Login:
    """Say who reads from a bucket: the argument, the environment, a profile, the machine, or nobody.

    Raises
    ------
    ConfigurationError
        If what is found can't be used, or nobody may read.
    MissingExtraError
        If the profile needs boto3, which is not installed.
    """
    is_spaces = place.service == "Spaces"
    searches = access.anon is not True and not access.given
    name, profile = _profile(access, is_spaces=is_spaces) if searches else ("", {})
    where = _where(place, access, profile, is_spaces=is_spaces)
    if access.given:
        return Login("credentials=", secrets=_secrets(read_given(access.given, _NAMES)), **where)
    if access.anon:
        return nobody(place, access, **where)
    if access.profile is None:
        found = _from_environment(where, is_spaces=is_spaces)
        if found is not None:
            return found
    if profile and (found := _from_profile(name, profile, where)) is not None:
        return found
    if access.profile is not None:
        raise ConfigurationError(
            f"the profile {name!r} of {' and '.join(map(str, _files()))} holds no credentials; name another profile="
        )
    if not is_spaces and (found := _from_machine(where)) is not None:
        return found
    return nobody(place, access, **where)


def _where(place: Place, access: Access, profile: Mapping[str, str], *, is_spaces: bool) -> dict[str, Any]:
    region = access.region or place.region
    endpoint = place.endpoint
    if not is_spaces:
        region = region or variable("AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region")
        endpoint = endpoint or variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoint = endpoint or profile.get("endpoint_url")
    region = region or FIRST_REGION
    if endpoint is None:
        endpoint = "https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    return {"endpoint": endpoint.rstrip("/"), "region": region}


def _secrets(keys: Mapping[str, str]) -> Hidden:
    if not keys.get("access_key_id") or not keys.get("secret_access_key"):
        raise ConfigurationError("credentials= for S3 need access_key_id and secret_access_key, both")
    return Hidden(keys, "credentials")


def _from_environment(where: Mapping[str, Any], *, is_spaces: bool) -> Login | None:
    if is_spaces:
        # The keys of Amazon mean nothing there: signed with them, public data would be refused.
        names = ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY")
        found = pair(*names)
        token = None
    else:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        found, token = pair(*names), variable("AWS_SESSION_TOKEN")
    if found is not None:
        keys = {"access_key_id": found[0], "secret_access_key": found[1]} | (
            {"token": token} if token else {}
        )
        return Login(f"the key in {names[0]}", secrets=_secrets(keys), **where)
    if not is_spaces and variable("AWS_WEB_IDENTITY_TOKEN_FILE") and variable("AWS_ROLE_ARN"):
        return Login("the role in AWS_ROLE_ARN", **where)
    return None


def _from_machine(where: Mapping[str, Any]) -> Login | None:
    if variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return Login("the role of this container", **where)
    if (variable("AWS_EC2_METADATA_DISABLED") or "").lower() == "true":
        return None
    if may_ask_machine("s3"):
        return Login("the role of this machine", machine=True, **where)
    return None


def _files() -> tuple[Path, Path]:
    return (
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser(),
    )


def _profile(access: Access, *, is_spaces: bool) -> tuple[str, Mapping[str, str]]:
    """Return the name of the profile that is meant and what it says; nothing if there is none."""
    if is_spaces and access.profile is None:
        return "", {}
    asked = access.profile or variable("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    files = _files()
    profiles = _read_profiles(*((path, _stamp(path)) for path in files))
    name = asked or "default"
    if name in profiles:
        return name, profiles[name]
    if asked:
        known = ", ".join(sorted(profiles)) or "none"
        raise ConfigurationError(
            f"there is no profile {asked!r} in {files[0]} or {files[1]} (known: {known}). Name another with profile= or "
            "AWS_PROFILE, or give anon=True for public data"
        )
    return name, {}


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@functools.lru_cache(maxsize=8)
def _read_profiles(*files: tuple[Path, int | None]) -> dict[str, dict[str, str]]:
    """Return what the two files say of each profile; the file of credentials wins."""
    profiles: dict[str, dict[str, str]] = {}
    for (path, stamp), is_config in zip(reversed(files), (True, False), strict=True):
        if stamp is None:
            continue
        parser = configparser.RawConfigParser(default_section="\0", strict=False)
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            # The parser's own text quotes lines of the file.
            raise ConfigurationError(
                f"{path} can't be read as a file of profiles ({type(error).__name__}); repair it, or give anon=True for "
                "public data",
                position=str(path),
            ) from None
        for section in parser.sections():
            first, _, rest = section.partition(" ")
            name = rest.strip() if is_config and first == "profile" else section
            if not is_config or first == "profile" or section == "default":
                profiles.setdefault(name, {}).update(parser.items(section))
    return profiles


def _from_profile(name: str, profile: Mapping[str, str], where: Mapping[str, Any]) -> Login | None:
    source = f"the profile {name!r}"
    keys = {
        "access_key_id": profile.get("aws_access_key_id", ""),
        "secret_access_key": profile.get("aws_secret_access_key", ""),
    }
    token = profile.get("aws_session_token")
    # A role comes before keys that may stand beside it: they are those with which it is taken.
    if any(indirect in profile for indirect in _INDIRECT):
        return Login(source, refresh=_exchange(name), **where)
    if all(keys.values()):
        return Login(source, secrets=_secrets(keys | ({"token": token} if token else {})), **where)
    if any(keys.values()):
        raise ConfigurationError(f"{source} of {_files()[0]} holds one half of a key; give it both, or none")
    return None


@functools.lru_cache(maxsize=8)
def _exchange(name: str) -> Callable[[], Mapping[str, Any]]:
    """Return what gets keys for a profile with a role or single sign-on, by boto3."""
    boto3 = require("boto3", extra="aws")
    from obstore.auth.boto3 import Boto3CredentialProvider

    @functools.cache
    def provider() -> Boto3CredentialProvider:
        return Boto3CredentialProvider(boto3.Session(profile_name=name))

    def exchange() -> Mapping[str, Any]:
        return provider()()

    return exchange
