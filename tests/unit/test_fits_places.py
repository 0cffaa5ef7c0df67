"""What URLs, links and paths mean."""

from __future__ import annotations

import os
import string
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.places import find_place
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.stores.clients import _base
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

STANDARD = "https://s3.{region}.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "bucket", "key", "region", "endpoint"),
    [
        ("s3://tess/a/b.fits", "tess", "a/b.fits", None, None),
        ("s3a://tess/b.fits", "tess", "b.fits", None, None),
        ("S3://tess/b.fits", "tess", "b.fits", None, None),
        ("s3://tess/a b+c%20d#e?f~ü.fits", "tess", "a b+c%20d#e?f~ü.fits", None, None),
        ("https://s3.amazonaws.com/tess/a/b.fits", "tess", "a/b.fits", None, STANDARD),
        ("http://s3.amazonaws.com/tess/b.fits", "tess", "b.fits", None, STANDARD),
        ("https://s3.us-east-1.amazonaws.com/tess/b.fits", "tess", "b.fits", "us-east-1", STANDARD),
        ("https://s3-us-west-2.amazonaws.com/tess/b.fits", "tess", "b.fits", "us-west-2", STANDARD),
        ("https://tess.s3.amazonaws.com/a/b.fits", "tess", "a/b.fits", None, STANDARD),
        ("https://my.dotted.bucket.s3.amazonaws.com/b.fits", "my.dotted.bucket", "b.fits", None, STANDARD),
        ("https://tess.s3.eu-west-1.amazonaws.com/b.fits", "tess", "b.fits", "eu-west-1", STANDARD),
        ("https://tess.s3-eu-west-1.amazonaws.com/b.fits", "tess", "b.fits", "eu-west-1", STANDARD),
        (
            "https://s3.us-gov-west-1.amazonaws.com/tess/b%20c%2Bd.fits",
            "tess",
            "b c+d.fits",
            "us-gov-west-1",
            STANDARD,
        ),
        (
            "https://s3.dualstack.us-west-2.amazonaws.com/tess/b.fits",
            "tess",
            "b.fits",
            "us-west-2",
            "https://s3.dualstack.{region}.amazonaws.com",
        ),
        (
            "https://tess.s3.dualstack.us-west-2.amazonaws.com/b.fits",
            "tess",
            "b.fits",
            "us-west-2",
            "https://s3.dualstack.{region}.amazonaws.com",
        ),
        (
            "https://s3.cn-north-1.amazonaws.com.cn/tess/b.fits",
            "tess",
            "b.fits",
            "cn-north-1",
            "https://s3.{region}.amazonaws.com.cn",
        ),
        ("do://survey.nyc3/n/b.fits", "survey", "n/b.fits", "nyc3", "https://nyc3.digitaloceanspaces.com"),
        (
            "https://survey.nyc3.digitaloceanspaces.com/n/b.fits",
            "survey",
            "n/b.fits",
            "nyc3",
            "https://nyc3.digitaloceanspaces.com",
        ),
        (
            "https://nyc3.digitaloceanspaces.com/survey/b.fits",
            "survey",
            "b.fits",
            "nyc3",
            "https://nyc3.digitaloceanspaces.com",
        ),
    ],
)
def test_s3(url: str, bucket: str, key: str, region: str | None, endpoint: str | None) -> None:
    place = find_place(url)
    assert (place.kind, place.bucket, place.key) == ("s3", bucket, key)
    assert (place.region, place.endpoint) == (region, endpoint)
    assert place.url == url
    assert place.service == ("Spaces" if "digitalocean" in url or url.startswith("do:") else "S3")


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("gs://ztf/n/b.fits", "ztf", "n/b.fits"),
        ("gcs://ztf/b c.fits", "ztf", "b c.fits"),
        ("https://storage.googleapis.com/ztf/n/b%23.fits", "ztf", "n/b#.fits"),
        ("https://ztf.storage.googleapis.com/n/b.fits", "ztf", "n/b.fits"),
        ("https://storage.cloud.google.com/ztf/b.fits", "ztf", "b.fits"),
    ],
)
def test_google(url: str, bucket: str, key: str) -> None:
    place = find_place(url)
    assert (place.kind, place.bucket, place.key, place.endpoint) == ("gs", bucket, key, None)


@pytest.mark.parametrize(
    ("url", "account", "endpoint"),
    [
        ("az://sky/n/b.fits", None, None),
        ("abfs://sky@archive.dfs.core.windows.net/n/b.fits", "archive", None),
        ("abfss://sky@archive.blob.core.windows.net/n/b.fits", "archive", None),
        ("https://archive.blob.core.windows.net/sky/n/b.fits", "archive", None),
        ("https://archive.dfs.core.windows.net/sky/n/b.fits", "archive", None),
        (
            "https://archive.blob.core.chinacloudapi.cn/sky/n/b.fits",
            "archive",
            "https://archive.blob.core.chinacloudapi.cn",
        ),
    ],
)
def test_azure(url: str, account: str | None, endpoint: str | None) -> None:
    place = find_place(url)
    assert (place.kind, place.bucket, place.key) == ("az", "sky", "n/b.fits")
    assert (place.account, place.endpoint) == (account, endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "https://archive.example.org/n/b.fits",
        "https://tess.s3.amazonaws.com/b.fits?X-Amz-Algorithm=x&X-Amz-Signature=abc%2Fd",
        "https://tess.s3.amazonaws.com/b.fits?versionId=1",
        "https://storage.googleapis.com/ztf/b.fits?X-Goog-Signature=abc",
        "https://storage.googleapis.com/storage/v1/b/ztf/o/b.fits",
        "https://archive.blob.core.windows.net/sky/b.fits?sv=2020&sig=abc%3D",
        "https://mast.stsci.edu/api/v0.1/Download/file?uri=mast:TESS/product/a+b%20c.fits",
        "https://tess.s3-website-us-east-1.amazonaws.com/b.fits",
        "https://s3.us-east-1.amazonaws.com.example.org/tess/b.fits",
        "https://evil-s3.amazonaws.com.example.org/tess/b.fits",
        "https://s3.us-east-1.amazonaws.com:8443/tess/b.fits",
        "https://s3.amazonaws.com/tess//odd.fits",
        "https://s3.amazonaws.com/tess/no-utf-8-%C3.fits",
        "http://127.0.0.1:8000/sky/b.fits",
        "https://user:secret@archive.example.org/b.fits",
    ],
)
def test_plain_links_go_as_they_are(url: str) -> None:
    place = find_place(url)
    assert (place.kind, place.address) == ("http", url)
    assert "?" not in place.url
    assert "secret" not in place.url
    assert "abc" not in repr(place)


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        ("https://h/b.fits?X-Amz-Credential=a&X-Amz-Signature=b", True),
        ("https://h/b.fits?AWSAccessKeyId=a&Signature=b", True),
        ("https://h/b.fits?sv=1&sig=b", True),
        ("https://h/b.fits?access_token=b", True),
        ("https://h/b.fits?api_key=b", True),
        ("https://user:pw@h/b.fits", True),
        ("https://h/file?uri=mast:TESS/b.fits", False),
        ("https://h/b.fits?night=sig", False),
        ("s3://bucket/a?sig=no-query-here", False),
    ],
)
def test_which_addresses_let_in_whoever_holds_them(url: str, is_secret: bool) -> None:
    assert find_place(url).is_secret is is_secret


def test_an_endpoint_says_where_a_bucket_is() -> None:
    place = find_place("s3://sky/a/b.fits", "https://minio.example.org")
    assert (place.endpoint, place.bucket, place.key) == ("https://minio.example.org", "sky", "a/b.fits")
    place = find_place("https://minio.example.org/sky/a/b%20c.fits", "https://minio.example.org")
    assert (place.kind, place.bucket, place.key) == ("s3", "sky", "a/b c.fits")
    # A link elsewhere is no object of that store, and a presigned one is not signed twice.
    assert (
        find_place("https://minio.example.org.evil.org/sky/b.fits", "https://minio.example.org").kind
        == "http"
    )
    assert (
        find_place("https://minio.example.org/sky/b?X-Amz-Signature=x", "https://minio.example.org").kind
        == "http"
    )


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a b%20c#d?e.fits"
    assert find_place(odd).key == str(odd)
    assert find_place(str(odd)).key == str(odd)
    assert find_place(odd.as_uri()).key == str(odd)
    assert find_place("file://localhost/x%20y.fits").key == "/x y.fits"
    assert find_place("c::d.fits").kind == "file"
    monkeypatch.setenv("HOME", "/home/galileo")
    assert find_place("~/x.fits").key == "/home/galileo/x.fits"
    monkeypatch.chdir(tmp_path)
    assert find_place("x.fits").key == str(tmp_path / "x.fits")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://user:secret@host/x.fits", "sftp://host/x.fits"),
        ("zip://x.fits::s3://bucket/a.zip", "zip://x.fits::s3://bucket/a.zip"),
        ("zip://x.fits::https://user:secret@h/a.zip", "zip://x.fits::https://h/a.zip"),
        ("filecache::https://h/x.fits?sig=secret", "filecache::https://h/x.fits"),
        ("memory://x.fits", "memory://x.fits"),
    ],
)
def test_what_fsspec_reads(url: str, shown: str) -> None:
    place = find_place(url)
    assert (place.kind, place.address, place.url) == ("other", url, shown)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "s3://",
        "s3:///key",
        "do://survey/key",
        "https://",
        "https://[half/x",
        "file://host/x",
        "a\0b",
        "az://@a/k",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigurationError):
        find_place(url)


@pytest.mark.parametrize("key", ["a//b", "/a", "./a", "a/../b", ".."])
def test_keys_that_would_be_changed_on_the_way_are_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="presigned"):
        find_place(f"s3://bucket/{key}")


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "gs://bucket/folder/", "az://c@a.blob.core.windows.net/f/"]
)
def test_a_folder_is_not_opened(url: str) -> None:
    with pytest.raises(ConfigurationError, match="folder"):
        open_source(url, Access(anon=True))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=string.printable.strip() + " üπ天", min_size=1, max_size=30))
def test_links_to_objects_round_trip(key: str) -> None:
    if any(part in {"", ".", ".."} for part in key.split("/")):
        return
    place = find_place(f"https://s3.us-east-1.amazonaws.com/bucket/{quote(key)}")
    assert (place.kind, place.key) == ("s3", key)
    assert find_place(f"s3://bucket/{key}").key == key


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_place_or_a_typed_error(text: str) -> None:
    for url in (text, f"https://{text}", f"s3://{text}", f"az://{text}", f"do://{text}", f"file://{text}"):
        try:
            place = find_place(url)
        except ConfigurationError:
            continue
        assert place.kind != "file" or os.path.isabs(place.key)


@pytest.mark.parametrize(
    ("path", "is_shared"),
    [
        ("/a/b.fits", True),
        ("/a/b%20c%23%3F%25.fits", True),
        ("/a/b%2Bc.fits", False),  # the client would write '+'
        ("/a/%c3%bc", False),
        ("/a/%C3%BC", True),
        ("/a/%C3", False),  # no UTF-8
        ("/a//b", False),
        ("/a/../b", False),
        ("/a/", False),
        ("/a?uri=x", False),
    ],
)
def test_links_share_a_client_where_their_path_stays_what_it_is(path: str, is_shared: bool) -> None:
    base, key = _base(find_place(f"https://archive.example.org{path}"))
    assert (base == "https://archive.example.org") is is_shared
    assert (key != "") is is_shared
