"""Options, and who reads: the argument, the environment, profiles, the machine, or nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.places import find_place
from nuncius.cloudfits.stores import logins, open_source
from nuncius.cloudfits.stores.clients import find_login
from nuncius.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from nuncius.cloudfits.stores.logins import Login

SECRET = "wJalrXUtnFEMI/K7MDENG+very+secret"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials anywhere, on a machine of nobody's cloud."""
    for name in list(__import__("os").environ):
        if name.startswith(("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "AZURE_", "SPACES_", "IDENTITY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(logins, "machine_cloud", lambda: None)
    monkeypatch.setattr(logins, "_announced", set())
    monkeypatch.setattr(logins, "_without_identity", set())


def login(url: str = "s3://sky/x.fits", **options: Any) -> Login:
    access = Access(**options)
    return find_login(find_place(url, access.endpoint), access)


def keys(found: Login) -> dict[str, Any]:
    provider = found.provider()
    assert provider is not None
    return asyncio.run(provider())


# Options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"credentials": "AKIA"},
        {"credentials": ("AKIA",)},
        {"credentials": ("AKIA", 3)},
        {"credentials": {}},
        {"credentials": ("AKIA", SECRET), "profile": "x"},
        {"credentials": ("AKIA", SECRET), "anon": True},
        {"anon": True, "requester_pays": True},
        {"anon": True, "profile": "x"},
        {"endpoint": "minio.example.org"},
        {"endpoint": "https://user:secret@minio.example.org"},
        {"endpoint": "https://minio.example.org/?x=1"},
        {"region": "us east"},
        {"headers": {"Authorization": "a\nb"}},
        {"headers": {"Range": "bytes=0-"}},
        {"headers": {"X Y": "z"}},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"retries": -1},
        {"retries": True},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Access(**options)
    assert SECRET not in str(caught.value)


def test_secrets_are_shown_to_nobody() -> None:
    access = Access(credentials=("AKIA", SECRET), headers={"Authorization": f"Bearer {SECRET}"})
    assert SECRET not in repr(access) + str(access) + f"{access!r:s}"
    assert "access_key_id" in repr(access)
    assert SECRET not in repr(find_login(find_place("s3://sky/x"), Access(credentials=("AKIA", SECRET))))


def test_options_are_compared_by_what_they_say() -> None:
    one, other = (Access(credentials=("AKIA", SECRET), headers={"X-A": "b"}) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Access(credentials=("AKIA", "other"), headers={"X-A": "b"})


def test_what_holds_no_secret_pickles() -> None:
    access = Access(
        endpoint="https://minio.example.org/", region="eu-west-1", headers={"User-Agent": "me"}, timeout_s=3
    )
    assert pickle.loads(pickle.dumps(access)) == access
    for url in ("s3://sky/a b.fits", "https://h/x.fits?uri=mast:b", "x.fits", "gs://sky/x"):
        source = open_source(url, access if "://" in url else None)
        again = pickle.loads(pickle.dumps(source))
        assert (again.url, type(again)) == (source.url, type(source))


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://sky/x", {"credentials": ("AKIA", SECRET)}),
        ("https://h/x", {"headers": {"Authorization": SECRET}}),
        ("https://h/x", {"headers": {"X-Archive-Token": SECRET}}),
        (f"https://h/x?X-Amz-Signature={SECRET}", {}),
        ("https://jane:very+secret@h/x", {}),
    ],
)
def test_secrets_are_not_pickled(url: str, options: dict[str, Any]) -> None:
    source = open_source(url, Access(**options))
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID") as caught:
        pickle.dumps(source)
    assert "very+secret" not in str(caught.value) + repr(source) + source.url


def test_a_password_that_is_not_encoded_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="is no address") as caught:
        open_source(f"https://jane:{SECRET}@h/x")
    assert "secret" not in str(caught.value)


# S3 -----------------------------------------------------------------------------------------------------------------


def test_the_argument_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the environment")
    found = login(credentials=("AKIA", SECRET))
    # No token of somebody else's is mixed in.
    assert keys(found) == {"access_key_id": "AKIA", "secret_access_key": SECRET, "expires_at": None}
    token = login(
        credentials={"aws_access_key_id": "A", "aws_secret_access_key": "B", "aws_session_token": "C"}
    )
    assert keys(token)["token"] == "C"
    with pytest.raises(ConfigurationError, match="acces_key"):
        login(credentials={"acces_key": "A", "secret_access_key": "B"})
    with pytest.raises(ConfigurationError, match="both"):
        login(credentials={"access_key_id": "A"})


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY is not set"):
        login()
    assert login(anon=True).anonymous
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    found = login()
    assert keys(found) == {
        "access_key_id": "AKIAENV",
        "secret_access_key": SECRET,
        "token": "token",
        "expires_at": None,
    }
    assert "AWS_ACCESS_KEY_ID" in found.source
    assert login(anon=True).anonymous


def test_regions_and_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert login().address == "https://s3.us-east-1.amazonaws.com"
    assert login(region="cn-north-1").address == "https://s3.cn-north-1.amazonaws.com.cn"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert login().address == "https://s3.eu-central-1.amazonaws.com"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert login().address == "https://s3.eu-west-1.amazonaws.com"
    assert login("https://sky.s3.us-west-2.amazonaws.com/x").address == "https://s3.us-west-2.amazonaws.com"
    assert login("https://s3.dualstack.us-west-2.amazonaws.com/sky/x").address == (
        "https://s3.dualstack.us-west-2.amazonaws.com"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example.org/")
    assert login().address == "https://minio.example.org"
    # A link names its host itself, and so does the argument.
    assert login("https://sky.s3.us-west-2.amazonaws.com/x").address == "https://s3.us-west-2.amazonaws.com"
    assert login(endpoint="https://ceph.example.org").address == "https://ceph.example.org"


def test_roles_that_the_client_takes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")
    found = login()
    assert (found.anonymous, found.provider(), found.source) == (False, None, "the role of this container")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/reader")
    assert "AWS_ROLE_ARN" in login().source


def test_a_machine_is_asked_only_where_it_evidently_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert login().anonymous
    monkeypatch.setattr(logins, "machine_cloud", lambda: "s3")
    assert login().machine
    assert login("gs://sky/x").anonymous
    assert login(anon=True).anonymous
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert login().anonymous
    monkeypatch.setattr(logins, "machine_cloud", lambda: "gs")
    assert login("gs://sky/x").machine


@pytest.mark.parametrize(
    ("facts", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2"}, "s3"),
        ({"product_name": "Google Compute Engine"}, "gs"),
        (
            {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
            "az",
        ),
        ({"sys_vendor": "LENOVO"}, None),
        ({}, None),
    ],
)
def test_whose_machine_this_is(
    facts: dict[str, str], cloud: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(logins, "_text", lambda path: facts.get(path.rpartition("/")[2], ""))
    assert logins.machine_cloud.__wrapped__() == cloud


CREDENTIALS = f"""
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = {SECRET}

[survey]
aws_access_key_id = AKIASURVEY
aws_secret_access_key = {SECRET}%half
aws_session_token = token

[half]
aws_access_key_id = AKIAHALF
"""
CONFIG = """
[default]
region = eu-west-3

[profile survey]
region = us-west-2
endpoint_url = https://store.example.org

[profile role]
role_arn = arn:aws:iam::1:role/reader
source_profile = default

[profile sso]
sso_session = me
sso_account_id = 1

[sso-session me]
sso_start_url = https://example.org
"""


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(CREDENTIALS)
    (folder / "config").write_text(CONFIG)
    return folder


@pytest.mark.usefixtures("profiles")
def test_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    found = login()
    assert keys(found)["access_key_id"] == "AKIADEFAULT"
    assert found.region == "eu-west-3"
    found = login(profile="survey")
    assert keys(found)["secret_access_key"] == f"{SECRET}%half"
    assert keys(found)["token"] == "token"
    assert (found.region, found.address) == ("us-west-2", "https://store.example.org")
    monkeypatch.setenv("AWS_PROFILE", "survey")
    assert keys(login())["access_key_id"] == "AKIASURVEY"
    # The environment's keys come before its profile, and after the one of the argument.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    assert keys(login())["access_key_id"] == "AKIAENV"
    assert keys(login(profile="survey"))["access_key_id"] == "AKIASURVEY"
    assert login(anon=True).anonymous


@pytest.mark.usefixtures("profiles")
def test_profiles_that_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError, match=r"no profile 'nobody'.*default, half, role, sso, survey"):
        login(profile="nobody")
    with pytest.raises(ConfigurationError, match="half"):
        login(profile="half")


def test_a_file_of_profiles_that_is_none(profiles: Path) -> None:
    (profiles / "credentials").write_text(f"aws_secret_access_key = {SECRET}\n")
    with pytest.raises(ConfigurationError, match="can't be read as a file of profiles") as caught:
        login()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert login(anon=True).anonymous


@pytest.mark.usefixtures("profiles")
def test_roles_and_single_sign_on_need_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    for name in ("role", "sso"):
        with pytest.raises(MissingExtraError, match=r"nuncius\[aws\]"):
            login(profile=name)


@pytest.mark.usefixtures("profiles")
def test_roles_are_taken_by_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session:
        region_name = None

        def __init__(self, profile_name: str) -> None:
            asked.append(profile_name)

        def get_credentials(self) -> Any:
            frozen = SimpleNamespace(access_key="ASIA", secret_key=SECRET, token="t")
            return SimpleNamespace(get_frozen_credentials=lambda: frozen)

    boto3 = pytest.importorskip("boto3")
    monkeypatch.setattr(boto3, "Session", Session)
    monkeypatch.setattr(boto3.session, "Session", Session)
    from nuncius.cloudfits.stores import aws

    aws._exchange.cache_clear()
    found = login(profile="role")
    assert asked == []  # nothing is asked for before it is needed
    assert keys(found)["access_key_id"] == "ASIA"
    assert keys(found)["expires_at"] is not None
    assert asked == ["role"]
    aws._exchange.cache_clear()


def test_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example.org")
    found = login("do://survey.nyc3/x.fits")
    assert (found.anonymous, found.address) == (True, "https://nyc3.digitaloceanspaces.com")
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", "DO00")
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", SECRET)
    assert keys(login("do://survey.nyc3/x.fits"))["access_key_id"] == "DO00"


# Nobody -------------------------------------------------------------------------------------------------------------


def test_reading_without_credentials_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nuncius.cloudfits"):
        for url in ("s3://sky/x", "s3://other/x", "gs://sky/x", "https://h/x"):
            login(url)
        login("s3://sky/x", anon=True)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "S3" in lines[0]
    assert "Google" in lines[1]
    assert all("anon=False" in line for line in lines)


@pytest.mark.parametrize(
    "url", ["s3://sky/x", "gs://sky/x", "az://sky@archive.blob.core.windows.net/x", "do://s.nyc3/x"]
)
def test_anon_false_never_goes_on_without(url: str) -> None:
    with pytest.raises(ConfigurationError, match="anon=False forbids"):
        login(url, anon=False)


def test_nobody_cannot_pay() -> None:
    with pytest.raises(ConfigurationError, match="account that pays"):
        login(requester_pays=True)
    with pytest.raises(ConfigurationError, match="account that pays"):
        login("gs://sky/x", requester_pays=True)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://h/x", {"requester_pays": True}),
        ("https://h/x", {"credentials": ("a", "b")}),
        ("https://h/x", {"profile": "p"}),
        (
            "az://c@archive.blob.core.windows.net/x",
            {"requester_pays": True, "credentials": {"account_key": "a"}},
        ),
    ],
)
def test_options_that_a_place_does_not_know_are_not_ignored(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        login(url, **options)


# Google and Azure ---------------------------------------------------------------------------------------------------


def test_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "gs://sky/x.fits"
    assert login(url).anonymous
    assert keys(login(url, credentials={"bearer_token": "t"})) == {"token": "t", "expires_at": None}
    with pytest.raises(ConfigurationError, match="no file"):
        login(url, credentials={"service_account": str(tmp_path / "none.json")})
    own = tmp_path / ".config" / "gcloud"
    own.mkdir(parents=True)
    (own / "application_default_credentials.json").write_text(json.dumps({"type": "authorized_user"}))
    assert "application_default_credentials.json" in login(url).source
    account = tmp_path / "account.json"
    account.write_text(json.dumps({"type": "service_account", "project_id": "survey"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    assert login(url).options == (("application_credentials", str(account)),)
    assert login(url, requester_pays=True).headers == (("x-goog-user-project", "survey"),)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    assert login(url, requester_pays=True).headers == (("x-goog-user-project", "mine"),)
    account.write_text("{")
    with pytest.raises(ConfigurationError, match=r"account\.json"):
        login(url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="no such file"):
        login(url)


def test_other_accounts_of_google_need_its_own_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account = tmp_path / "account.json"
    account.write_text(json.dumps({"type": "external_account"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(MissingExtraError, match=r"nuncius\[gcs\]"):
        login("gs://sky/x")
    assert login("gs://sky/x", anon=True).anonymous


def test_google_wants_to_know_the_project_that_pays() -> None:
    token = {"bearer_token": "t"}
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        login("gs://sky/x", credentials=token, requester_pays=True)
    found = login("gs://sky/x", credentials={**token, "project": "mine"}, requester_pays=True)
    assert found.headers == (("x-goog-user-project", "mine"),)


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "abfs://sky@archive.dfs.core.windows.net/x.fits"
    assert dict(login(url).options) == {"account_name": "archive"}
    with pytest.raises(ConfigurationError, match="names no account"):
        login("az://sky/x")
    assert keys(login(url, credentials={"account_key": "k"}))["access_key"] == "k"
    assert keys(login(url, credentials={"sas_key": "sv=1"}))["sas_token"] == "sv=1"
    named = login("az://sky/x", credentials={"account_name": "other", "account_key": "k"})
    assert dict(named.options) == {"account_name": "other"}
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "archive")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "env")
    assert keys(login("az://sky/x"))["access_key"] == "env"
    assert keys(login(url))["access_key"] == "env"
    # The key of one account opens no other, and public data would be refused with it.
    assert login("abfs://sky@other.dfs.core.windows.net/x").anonymous


def test_azure_by_a_connection_string(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=archive;AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    found = login("az://sky/x")
    assert keys(found)["access_key"] == "a2V5PT0="
    assert dict(found.options) == {"account_name": "archive"}


def test_an_unknown_scheme_says_what_is_known() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigurationError, match="known are s3, gs"):
        open_source("galileo://sky/x.fits")
    with pytest.raises(MissingExtraError, match="sftp"):
        open_source("sftp://host/x.fits")


def test_fsspec_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"nuncius\[fsspec\]"):
        open_source("memory://x.fits")
