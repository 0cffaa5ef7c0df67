"""Where the bytes of an item are; and what strangers' manifests and URIs can't make us read."""

from __future__ import annotations

import hashlib
import json
import pickle
import socket

import pytest

from nuncius._core.operations import Call, Deadline, Request, Response
from nuncius.datasets import Item, operations
from nuncius.datasets.configuration import Settings
from nuncius.datasets.service import DServerService
from nuncius.errors import NotFoundError, NunciusError, ServerError, UnsupportedError

SHA = hashlib.sha1(b"a.fits").hexdigest()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    return tmp_path


def item(uri, relpath="a.fits", identifier=SHA, **more):
    values = {"size": 5, "hash": "h", "modified": None, **more}
    return Item(relpath=relpath, identifier=identifier, data_set_uri=uri, **values)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("s3://bucket/u-u", f"s3://bucket/u-u/data/{SHA}"),
        ("ecs://bucket/u-u", f"s3://bucket/u-u/data/{SHA}"),
        ("azure://account/u-u", f"https://account.blob.core.windows.net/u-u/{SHA}"),
        ("file:///data/set", "/data/set/data/a.fits"),
        ("file://localhost/data/set", "/data/set/data/a.fits"),
        (f"file://{socket.gethostname()}/data/a b/ü+%20/set", "/data/a b/ü+%20/set/data/a.fits"),
        (f"file://{socket.gethostname().upper()}/data", "/data/data/a.fits"),
        ("/data/set", "/data/set/data/a.fits"),
        ("file:///data/a\u00a0b", "/data/a\u00a0b/data/a.fits"),
    ],
)
def test_where_the_bytes_are(uri, url):
    assert item(uri).url == url


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file://elsewhere/data/set", "it is a file of the machine elsewhere"),
        ("smb://share/u", "mount the share"),
        ("http://host/u", r"ask the dserver for items\(uri\)"),
        ("https://host/u", r"ask the dserver for items\(uri\)"),
        ("irods://zone/u", "reads nothing from irods://"),
        ("symlink:///x", "reads nothing from symlink://"),
        ("javascript:alert(1)", "reads nothing from javascript://"),
        ("http://[bad/u", "that is no URI"),
        ("file:///data/run?3/set", "has a '\\?'"),
        ("file:///data/run#3/set", "a '#'"),
        ("s3://bucket/u#x", "a '#'"),
        ("file:///data/\x00/set", "control character"),
        ("file:///da\nta/set", "control character"),
    ],
)
def test_where_they_can_not_be_reached(uri, reason):
    with pytest.raises(UnsupportedError, match=reason) as caught:
        item(uri).url  # noqa: B018
    assert caught.value.url == uri
    with pytest.raises(NunciusError):
        item(uri).open()


@pytest.mark.parametrize(
    "relpath", ["../../etc/passwd", "a/../../b", "/etc/passwd", "..", "a\x00.fits", "//etc/passwd", "a/.."]
)
def test_paths_that_lead_out_of_a_data_set(relpath):
    with pytest.raises(UnsupportedError, match="leads out of the data set"):
        item("file:///data/set", relpath).url  # noqa: B018


@pytest.mark.parametrize("relpath", ["a..b.fits", "x/.hidden", "Größe + Farbe.fits", "a b/%2e%2e/c", "a//b"])
def test_paths_that_only_look_odd(relpath):
    assert item("file:///data/set", relpath).url.startswith("/data/set/data/")


@pytest.mark.parametrize(
    "identifier",
    ["../../other", "a/b", SHA.upper(), SHA + "0", SHA[:-1], "", "?x", SHA + "\n", f"{SHA}/..", "%2e%2e"],
)
@pytest.mark.parametrize("uri", ["s3://bucket/u", "ecs://bucket/u", "azure://account/u"])
def test_identifiers_that_are_none(uri, identifier):
    with pytest.raises(UnsupportedError, match="is no identifier of dtool"):
        item(uri, identifier=identifier).url  # noqa: B018


def test_a_prefix_that_dtool_was_told(own_home, monkeypatch):
    monkeypatch.setenv("DTOOL_S3_DATASET_PREFIX_bucket", "u/vera/")
    assert item("s3://bucket/u-u").url == f"s3://bucket/u/vera/u-u/data/{SHA}"
    assert item("s3://other/u-u").url == f"s3://other/u-u/data/{SHA}"


class Opened:
    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr("nuncius.cloudfits.open_fits", self)

    def __call__(self, url, **options):
        self.calls.append((url, {name: value for name, value in options.items() if value is not None}))
        return "opened"


def test_opening_takes_what_dtool_was_told_of_the_bucket(own_home, monkeypatch):
    opened = Opened(monkeypatch)
    folder = own_home / ".config" / "dtool"
    folder.mkdir(parents=True)
    told = {
        "DTOOL_S3_ENDPOINT_bucket": "http://store.example",
        "DTOOL_S3_ACCESS_KEY_ID_bucket": "key",
        "DTOOL_S3_SECRET_ACCESS_KEY_bucket": "of the file",
        "DTOOL_S3_ACCESS_KEY_ID_half": "key",
    }
    (folder / "dtool.json").write_text(json.dumps(told))
    assert item("s3://bucket/u").open() == "opened"
    monkeypatch.setenv("DTOOL_S3_SECRET_ACCESS_KEY_bucket", "of the environment")
    item("s3://bucket/u").open()
    item("s3://bucket/u").open(credentials=("my", "own"), endpoint="http://mine.example")
    item("s3://bucket/u").open(anon=True)
    item("s3://bucket/u").open(profile="mine")
    item("s3://half/u").open()
    item("s3://other/u").open()
    item("ecs://bucket/u").open()
    given = [(options.get("credentials"), options.get("endpoint")) for _, options in opened.calls]
    assert given == [
        (("key", "of the file"), "http://store.example"),
        (("key", "of the environment"), "http://store.example"),
        (("my", "own"), "http://mine.example"),
        (None, "http://store.example"),
        (None, "http://store.example"),
        (None, None),
        (None, None),
        (None, None),
    ]


def test_only_items_in_buckets_get_the_logins_of_buckets(monkeypatch):
    opened = Opened(monkeypatch)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT"):
        monkeypatch.setenv(f"DTOOL_S3_{name}_bucket", "secret")
    item("azure://bucket/u").open()
    item("http://bucket/u", link="https://bucket/x").open()
    assert not any("credentials" in options or "endpoint" in options for _, options in opened.calls)


def test_a_signed_address_is_not_shown():
    found = item("http://host/u", link="https://host/x?X-Amz-Signature=secret")
    assert "secret" not in repr(found)
    assert found.url == "https://host/x?X-Amz-Signature=secret"
    assert pickle.loads(pickle.dumps(found)) == found


# What is published on the web -------------------------------------------------------------------------------------------


def soon():
    return Deadline(60)


def items_of(uri, published, *, status=200, relpath="a.fits"):
    """Ask for the items of a data set whose list of addresses says that; give them, and what was asked."""
    service, asked = (
        DServerService(Settings("http://dserver.example", authenticate=False), interactive=False),
        [],
    )
    manifest = {"items": {SHA: {"relpath": relpath, "size_in_bytes": 5}}}
    operation = operations.items(service, uri, soon, None)
    try:
        need = next(operation)
        while True:
            if isinstance(need, Call):
                need = operation.send(need.function(*need.args))
                continue
            assert isinstance(need, Request)
            asked.append(need)
            at_home = need.url.startswith("http://dserver.example/")
            body = json.dumps(manifest).encode() if at_home else published
            need = operation.send(Response(200 if at_home else status, {}, body))
    except StopIteration as end:
        return end.value, asked


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_what_is_published_lists_its_addresses(scheme):
    link = "https://host/x?sig=1"
    (found,), asked = items_of(f"{scheme}://host/u/", json.dumps({"item_urls": {SHA: link}}).encode())
    assert found.url == link
    assert asked[1].url == f"{scheme}://host/u/http_manifest.json"
    assert not asked[1].headers


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://internal/secret",
        "ftp://host/x",
        5,
        None,
        ["https://host/x"],
        "",
    ],
)
def test_what_is_published_can_not_point_into_this_machine(link):
    (found,), _ = items_of("http://host/u", json.dumps({"item_urls": {SHA: link}}).encode())
    with pytest.raises(UnsupportedError):
        found.url  # noqa: B018


@pytest.mark.parametrize(
    "published", [b"", b"<html>", b"{}", b"[]", b"null", b'{"item_urls": []}', b'{"item_urls": 5}']
)
def test_lists_of_addresses_that_are_none(published):
    with pytest.raises(ServerError, match="has no item_urls"):
        items_of("http://host/u", published)


def test_without_a_list_of_addresses_the_items_are_known_all_the_same():
    (found,), _ = items_of("http://host/u", b"not here", status=404)
    assert found.relpath == "a.fits"
    with pytest.raises(UnsupportedError):
        found.url  # noqa: B018


@pytest.mark.parametrize("uri", ["http://[bad/u", "s3://[bad/u", "://", "nothing"])
def test_items_of_strange_uris_are_listed_or_refused(uri):
    try:
        found, _ = items_of(uri, b'{"item_urls": {}}')
    except NunciusError:
        return
    assert [one.relpath for one in found] == ["a.fits"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.fits", {"a.fits", "night/b.fits", "night/deep/c.fits"}),
        ("*", {"a.fits", "night/b.fits", "night/deep/c.fits", "night/D.FITS", "x[1].txt"}),
        ("night/*.fits", {"night/b.fits", "night/deep/c.fits"}),
        ("*/deep/*", {"night/deep/c.fits"}),
        ("b.fits", {"night/b.fits"}),
        ("?.FITS", {"night/D.FITS"}),
        ("[ab].fits", {"a.fits", "night/b.fits"}),
        ("x[[]1].txt", {"x[1].txt"}),
        ("", set()),
        ("/a.fits", set()),
    ],
)
def test_patterns(pattern, found):
    relpaths = ["a.fits", "night/b.fits", "night/deep/c.fits", "night/D.FITS", "x[1].txt"]
    assert {path for path in relpaths if operations.matches(item("s3://b/u", path), pattern)} == found


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError):
        item(f"file://{tmp_path}/nowhere").open()
