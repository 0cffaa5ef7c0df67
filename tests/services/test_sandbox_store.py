"""The sandbox's object store, as clients of other makes see it: obstore, botocore, requests, and bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import botocore.session
import obstore
import pytest
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.sandbox.fits_files import SparseFile
from nuncius.sandbox.store import SandboxStore
from nuncius.sandbox.store.listing import list_bucket
from nuncius.sandbox.store.messages import RefusedError, parse_request, requested_range
from nuncius.sandbox.store.objects import Bucket, HeldBytes, StoredObject

pytestmark = pytest.mark.xdist_group("sandbox-store")

DATA = bytes(range(256)) * 100
HTTP = {"allow_http": True}
NO_RETRY = {"max_retries": 0}
ODD_KEYS = [
    "a b.fits",
    "a+b.fits",
    "100%.fits",
    "a%20b.fits",
    "~tilde~.fits",
    "größe/μ Cep☆.fits",
    "q?x=1&y#z.fits",
    "a//b/../c.fits",
    "(1)'!*;,@:$=.fits",
    "%2F.fits",
]
HUGE = 44_000_000_000
LISTED = StoredObject(data=HeldBytes(b""), etag="e", modified=datetime(2020, 1, 1, tzinfo=UTC))


class Pattern:
    """Very many bytes, each known by its position, and none in memory."""

    size = HUGE
    etag = "huge"

    def __init__(self):
        self.largest = 0

    def read(self, start, end):
        self.largest = max(self.largest, end - start)
        return (
            bytes((position * 7 + 3) % 251 for position in range(start, end))
            if end - start < 9999
            else bytes(end - start)
        )


@pytest.fixture(scope="module")
def running():
    with SandboxStore() as store:
        yield store


@pytest.fixture
def store(running):
    running.reset()
    running.put("a.fits", DATA)
    return running


def s3(store, bucket="sky", **options):
    given = {"access_key_id": store.access_key, "secret_access_key": store.secret_key, "region": store.region}
    if options.get("skip_signature"):
        given = {"region": store.region}
    return S3Store(
        bucket, endpoint=store.s3_endpoint, client_options=HTTP, retry_config=NO_RETRY, **(given | options)
    )


def gcs(store, bucket="sky", headers=None):
    options = HTTP | ({"default_headers": headers} if headers else {})
    return GCSStore(
        bucket,
        base_url=store.gcs_endpoint,
        skip_signature=True,
        client_options=options,
        retry_config=NO_RETRY,
    )


def plain(url, **options):
    return HTTPStore(url, **({"client_options": HTTP, "retry_config": NO_RETRY} | options))


def read(bucket, key="a.fits"):
    return bytes(obstore.get(bucket, key).bytes())


def get(url, *, method="GET", headers=None):
    """Ask for a URL to the letter: requests and httpx change what they think is not well encoded."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request(method, url.removeprefix(f"http://{parts.netloc}"), headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def talk(url, sent):
    """Send bytes and return all that comes until the connection ends."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def error_of(body):
    root = ET.fromstring(body)
    assert root.tag == "Error"
    return {child.tag: child.text for child in root}


def signer(store, *, token=None, region=None, kind=S3SigV4Auth, secret=None, key=None, **options):
    credentials = Credentials(key or store.access_key, secret or store.secret_key, token)
    return kind(credentials, "s3", region or store.region, **options)


def signed(store, url, *, method="GET", headers=None, **options):
    request = AWSRequest(method, url, headers=headers or {})
    signer(store, **options).add_auth(request)
    return get(url, method=method, headers=dict(request.headers))


def s3_link(store, key, bucket="sky"):
    return f"{store.s3_endpoint}/{bucket}/{quote(key)}"


# Plain HTTP -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=25590-", 25590, 25600),
        ("bytes=-10", 25590, 25600),
        ("bytes=25000-99999", 25000, 25600),
        ("bytes=-99999", 0, 25600),
    ],
)
def test_a_range_is_answered_with_just_these_bytes(store, asked, start, end):
    status, headers, body = get(store.http_url("a.fits"), headers={"Range": asked})
    assert (status, body) == (206, DATA[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert headers["content-length"] == str(end - start)
    assert headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=25600-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_after_the_end_is_416_and_tells_the_size(store, asked):
    for url in (store.http_url("a.fits"), s3_link(store, "a.fits"), f"{store.gcs_endpoint}/sky/a.fits"):
        status, headers, _ = get(url, headers={"Range": asked})
        assert (status, headers["content-range"]) == (416, f"bytes */{len(DATA)}")


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=9-3",
        "bytes=0-1,5-6",
        "items=0-1",
        "bytes=-",
        "bytes=x-y",
        "bytes=0x1-5",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_range_that_makes_no_sense_is_ignored(store, asked):
    assert get(store.http_url("a.fits"), headers={"Range": asked})[::2] == (200, DATA)


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 50)), st.one_of(st.none(), st.integers(0, 50)))
def test_ranges_are_those_of_python_slices(size, first, last):
    data = bytes(range(size))
    span = requested_range(f"bytes={'' if first is None else first}-{'' if last is None else last}", size)
    if first is None and last is None:
        assert span is None
    elif first is None:
        assert data[slice(*span)] == (data[-last:] if last else b"")
    elif last is not None and last < first:
        assert span is None
    else:
        assert data[slice(*span)] == data[first : None if last is None else last + 1]


def test_an_empty_object_has_no_ranges(store):
    store.put("empty.fits", b"")
    assert get(store.http_url("empty.fits"))[::2] == (200, b"")
    status, headers, _ = get(store.http_url("empty.fits"), headers={"Range": "bytes=0-99"})
    assert (status, headers["content-range"]) == (416, "bytes */0")


def test_head_tells_what_get_would(store):
    for url in (store.http_url("a.fits"), s3_link(store, "a.fits"), f"{store.gcs_endpoint}/sky/a.fits"):
        status, headers, body = get(url, method="HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", str(len(DATA)))
        assert headers["etag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
        assert headers["last-modified"].endswith("GMT")
    assert [noted.bytes for noted in store.log] == [0, 0, 0]


def test_conditions(store):
    url, etag = store.http_url("a.fits"), hashlib.md5(DATA).hexdigest()
    assert get(url, headers={"If-Match": f'"{etag}"', "Range": "bytes=0-9"})[0] == 206
    assert get(url, headers={"If-Match": f'"x", "{etag}"'})[0] == 200
    assert get(url, headers={"If-Match": '"x"', "Range": "bytes=0-9"})[0] == 412
    assert get(url, headers={"If-None-Match": f'"{etag}"'})[::2] == (304, b"")
    assert get(url, headers={"If-None-Match": '"x"'})[0] == 200
    assert get(url, headers={"If-Range": '"x"', "Range": "bytes=0-9"})[0] == 200
    assert get(url, headers={"If-Range": f'"{etag}"', "Range": "bytes=0-9"})[0] == 206
    long_ago, later = "Mon, 01 Jan 1990 00:00:00 GMT", "Wed, 01 Jan 2200 00:00:00 GMT"
    assert get(url, headers={"If-Modified-Since": later})[0] == 304
    assert get(url, headers={"If-Modified-Since": long_ago})[0] == 200
    assert get(url, headers={"If-Unmodified-Since": long_ago})[0] == 412
    assert get(url, headers={"If-Unmodified-Since": later})[0] == 200
    assert get(url, headers={"If-Modified-Since": "yesterday"})[0] == 200


def test_a_replaced_object_is_noticed(store):
    bucket = plain(store.http_url("a.fits"))
    etag = obstore.get(bucket, "", options={"range": (0, 10)}).meta["e_tag"]
    store.put("a.fits", DATA[::-1])
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(bucket, "", options={"range": (10, 20), "if_match": etag})


def test_what_is_told_can_be_chosen(store):
    modified = datetime(2020, 2, 29, 12, tzinfo=UTC)
    store.put(
        "b.fits",
        DATA,
        etag="abc",
        modified=modified,
        headers={"Content-Encoding": "x-odd", "Content-Type": "text/html"},
    )
    headers = get(store.http_url("b.fits"))[1]
    assert headers["etag"] == '"abc"'
    assert headers["last-modified"] == "Sat, 29 Feb 2020 12:00:00 GMT"
    assert (headers["content-encoding"], headers["content-type"]) == ("x-odd", "text/html")
    store.send_etag = store.send_modified = False
    assert not {"etag", "last-modified"} & set(get(store.http_url("b.fits"))[1])


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_found_everywhere(store, key):
    store.put(key, key.encode(), public=False)
    token = {"Authorization": f"Bearer {store.bearer_token}"}
    assert get(store.http_url(key), headers=token)[2] == key.encode()
    assert get(f"{store.gcs_endpoint}/sky/{quote(key)}", headers=token)[2] == key.encode()
    assert get(store.presigned_url(key))[2] == key.encode()
    assert signed(store, s3_link(store, key))[2] == key.encode()


def test_private_objects_want_the_token(store):
    store.put("mine.fits", DATA, public=False)
    url = store.http_url("mine.fits")
    assert get(url)[0] == 401
    assert get(url, headers={"Authorization": "Bearer other"})[0] == 401
    assert get(url, headers={"Authorization": "Basic dTpw"})[0] == 401
    token = {"default_headers": {"authorization": f"Bearer {store.bearer_token}"}}
    assert read(plain(url, client_options=HTTP | token), "") == DATA


@pytest.mark.parametrize(
    "query",
    [
        "uri=mast:TESS/product/a%20b.fits",
        "sig=a%2Bb%2Fc%3D&se=2030-01-01T00%3A00%3A00Z",
        "X-Goog-Signature=0a&b&&c=%zz",
    ],
)
def test_a_query_string_must_arrive_as_it_was_given(store, query):
    store.put("download", DATA, query=query)
    assert get(store.http_url("download", query=query))[::2] == (200, DATA)
    assert store.log[-1].query == query
    assert get(store.http_url("download", query=query.lower() + "&"))[0] == 403
    assert get(store.http_url("download"))[0] == 403
    if "%zz" not in query:
        assert read(plain(store.http_url("download", query=query)), "") == DATA


def test_redirects_are_followed_with_the_range(store):
    store.redirect("moved.fits", store.http_url("a.fits"), status=302)
    answer = obstore.get(plain(store.http_url("moved.fits")), "", options={"range": (10, 20)})
    assert bytes(answer.bytes()) == DATA[10:20]
    assert [(noted.status, noted.range) for noted in store.log] == [
        (302, "bytes=10-19"),
        (206, "bytes=10-19"),
    ]
    assert requests.get(store.http_url("moved.fits"), timeout=10).content == DATA
    assert get(s3_link(store, "moved.fits"))[1]["location"] == store.http_url("a.fits")


def test_what_is_not_there_is_404(store):
    assert get(store.http_url("nothing.fits"))[0] == 404
    assert get(store.http_url("a.fits", bucket="nowhere"))[0] == 404
    with pytest.raises(FileNotFoundError):
        read(plain(store.http_url("nothing.fits")), "")
    assert store.delete("a.fits")
    assert not store.delete("a.fits")
    assert get(store.http_url("a.fits"))[0] == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431),
        (b"PUT /sky/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 501),
        (b"PUT /sky/a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"PUT /sky/a HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 405),
        (b"GET /sky/a.fits HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_what_is_no_request_is_refused(store, sent, status):
    for url in (store.url, store.s3_endpoint, store.gcs_endpoint):
        assert talk(url, sent).startswith(f"HTTP/1.1 {status} ".encode())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_head_breaks_the_parser(head):
    for text in (
        head,
        b"GET /sky/a HTTP/1.1\r\n" + head + b"\r\n\r\n",
        b"GET " + head + b" HTTP/1.1\r\n\r\n",
    ):
        request, status = None, None
        try:
            request = parse_request(text)
        except RefusedError as refused:
            status = refused.status
        assert status == 400 if request is None else request.path.startswith("/")


def test_requests_of_one_connection_are_answered_in_their_order(store):
    one = b"GET /sky/a.fits HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-%d\r\n\r\n"
    last = b"GET /sky/a.fits HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=0-0\r\n\r\n"
    received = talk(store.url, b"".join(one % (i, i) for i in range(50)) + last)
    bodies = [part[:1] for part in received.split(b"\r\n\r\n")[1:]]
    assert bodies == [bytes([i]) for i in range(50)] + [b"\0"]
    assert store.stats.connections == 1
    assert store.stats.requests == 51


# Large objects --------------------------------------------------------------------------------------------------------


def test_huge_objects_are_read_piece_by_piece(store):
    huge = Pattern()
    store.put("cube.fits", huge)
    bucket = plain(store.http_url("cube.fits"))
    assert obstore.head(bucket, "")["size"] == HUGE
    at = HUGE - 5000
    assert bytes(obstore.get_range(bucket, "", start=at, end=HUGE)) == huge.read(at, HUGE)
    parts = urlsplit(store.http_url("cube.fits"))
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = 0
        while received < 20_000_000:
            received += len(connection.recv(1 << 20))
    assert huge.largest <= 1 << 18
    wait_for(lambda: store.stats.bytes >= 20_000_000)
    assert store.stats.bytes < 60_000_000  # who goes away is sent nothing more


def wait_for(condition, timeout_s=10.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_files_on_disk_are_read_where_they_lie(store, tmp_path):
    path = tmp_path / "b.fits"
    path.write_bytes(DATA)
    store.put("b.fits", path)
    assert read(plain(store.http_url("b.fits")), "") == DATA
    assert get(store.http_url("b.fits"), headers={"Range": "bytes=5-9"})[2] == DATA[5:10]
    path.write_bytes(DATA[:100])
    with pytest.raises(http.client.IncompleteRead):
        get(store.http_url("b.fits"))
    with pytest.raises(ConfigurationError, match="No such file"):
        store.put("c.fits", tmp_path / "none")
    with pytest.raises(ConfigurationError, match="give bytes, a Path"):
        store.put("c.fits", 5)
    with pytest.raises(ConfigurationError, match="not empty"):
        store.put("", b"")


# S3: signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("way", ["header", "query", "token in header", "token in query", "temporary"])
def test_what_botocore_signs_is_good(store, key, way):
    store.put(key, DATA, public=False)
    url = s3_link(store, key)
    credentials = {"token": store.session_token if "token" in way else None}
    if way == "temporary":
        temporary = store.temporary_key
        credentials = {
            "key": temporary.access_key,
            "secret": temporary.secret_key,
            "token": temporary.session_token,
        }
    if "query" in way:
        request = AWSRequest("GET", url)
        signer(store, kind=S3SigV4QueryAuth, expires=60, **credentials).add_auth(request)
        status, _, body = get(request.url, headers={"Range": "bytes=3-7"})
    else:
        status, _, body = signed(store, url, headers={"Range": "bytes=3-7"}, **credentials)
    assert (status, body) == (206, DATA[3:8])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.dictionaries(
        st.text("abcXYZ-é +/&=~%", min_size=1, max_size=6), st.text("aZ0 +/&=~%é", max_size=8), max_size=3
    ),
)
def test_any_key_and_any_query_string_is_signed_alike(running, key, query):
    running.reset()
    running.put(key, DATA, bucket="any", public=False)
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    url = s3_link(running, key, "any") + (f"?{pairs}" if pairs else "")
    status, _, body = signed(running, url)
    assert (status, body) == (200, DATA), body


def test_a_client_of_botocore_reads_and_lists(store):
    for key in ODD_KEYS:
        store.put(key, key.encode(), bucket="private", public=False)
    client = make_client(store)
    for key in ODD_KEYS:
        assert client.get_object(Bucket="private", Key=key)["Body"].read() == key.encode()
        url = client.generate_presigned_url(
            "get_object", Params={"Bucket": "private", "Key": key}, ExpiresIn=60
        )
        assert get(url)[2] == key.encode()
    store.page_size = 3
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket="private"))
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == sorted(ODD_KEYS)
    assert [page["KeyCount"] for page in pages] == [3, 3, 3, 1]
    assert (
        client.head_bucket(Bucket="private")["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"]
        == store.region
    )


def make_client(store, region=None, **config):
    return botocore.session.Session().create_client(
        "s3",
        region_name=region or store.region,
        endpoint_url=config.pop("endpoint_url", store.s3_endpoint),
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4", **config),
    )


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.us-east-1.amazonaws.com",
        "http://s3.amazonaws.com",
        "http://s3.dualstack.us-east-1.amazonaws.com",
    ],
)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_names_of_amazon_are_understood(store, monkeypatch, endpoint, style):
    """The store is asked as a proxy is, so that the client uses the real host."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    store.put("night/a b.fits", DATA, bucket="my.bucket-1", public=False)
    client = make_client(
        store, endpoint_url=endpoint, proxies={"http": store.s3_endpoint}, s3={"addressing_style": style}
    )
    assert client.get_object(Bucket="my.bucket-1", Key="night/a b.fits")["Body"].read() == DATA
    assert store.log[-1].headers["host"].startswith("my.bucket-1.") == (style == "virtual")


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("sky.s3.amazonaws.com", "/a.fits"),
        ("sky.s3.us-east-1.amazonaws.com:443", "/a.fits"),
        ("sky.s3-us-east-1.amazonaws.com", "/a.fits"),
        ("S3.amazonaws.com", "/sky/a.fits"),
        ("sky.s3.localhost:9000", "/a.fits"),
        ("s3.localhost", "/sky/a.fits"),
        ("minio.example.org:9000", "/sky/a.fits"),
        ("[::1]:9000", "/sky/a.fits"),
    ],
)
def test_virtual_hosts(store, host, path):
    assert get(f"{store.s3_endpoint}{path}", headers={"Host": host})[::2] == (200, DATA)


def test_what_was_signed_wrongly_is_refused(store):
    store.put("mine.fits", DATA, public=False)
    url = s3_link(store, "mine.fits")
    cases = {
        "SignatureDoesNotMatch": signed(store, url, secret="other"),
        "InvalidAccessKeyId": signed(store, url, key="AKIAOTHER"),
        "InvalidToken": signed(store, url, token="other"),
        "AccessDenied": get(url),
        "InvalidArgument": get(url, headers={"Authorization": f"Bearer {store.bearer_token}"}),
        "InvalidRequest": get(
            url,
            headers={
                "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/r/s3/aws4_request,SignedHeaders=host,Signature=a"
            },
        ),
        "AuthorizationHeaderMalformed": get(
            url, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x", "x-amz-content-sha256": "x"}
        ),
        "AuthorizationQueryParametersError": get(f"{url}?X-Amz-Signature=1"),
    }
    for code, (status, headers, body) in cases.items():
        assert error_of(body)["Code"] == code
        assert status == (
            403 if code in {"SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied"} else 400
        )
        assert headers["content-type"] == "application/xml"
    assert store.secret_key not in str(cases)
    temporary = store.temporary_key
    _, _, body = signed(store, url, key=temporary.access_key, secret=temporary.secret_key)
    assert error_of(body)["Code"] == "InvalidAccessKeyId"


def test_a_public_object_too_wants_a_good_signature_or_none(store):
    assert get(s3_link(store, "a.fits"))[0] == 200
    assert signed(store, s3_link(store, "a.fits"), secret="other")[0] == 403


def test_what_was_changed_after_signing_is_refused(store):
    store.put("mine.fits", DATA, public=False)
    url = store.presigned_url("mine.fits")
    assert get(url)[0] == 200
    assert error_of(get(url.replace("mine.fits", "a.fits"))[2])["Code"] == "SignatureDoesNotMatch"
    assert error_of(get(f"{url}&more=1")[2])["Code"] == "SignatureDoesNotMatch"
    assert error_of(get(url.replace("Expires=3600", "Expires=3601"))[2])["Code"] == "SignatureDoesNotMatch"
    assert get(url, method="HEAD")[0] == 403
    assert get(store.presigned_url("mine.fits", method="HEAD"), method="HEAD")[0] == 200
    facts = error_of(get(url, headers={"x-amz-request-payer": "requester"})[2])
    assert (facts["Code"], facts["HeadersNotSigned"]) == ("AccessDenied", "x-amz-request-payer")
    # A plus sign in a path is a space to S3: who means a plus sign must encode it.
    store.put("a b", b"space")
    store.put("a+b", b"plus")
    assert get(f"{store.s3_endpoint}/sky/a+b")[2] == b"space"
    assert get(f"{store.s3_endpoint}/sky/a%2Bb")[2] == b"plus"
    assert get(f"{store.url}/sky/a+b")[2] == b"plus"


def test_presigned_urls_expire(store):
    store.put("mine.fits", DATA, public=False)
    now = datetime.now(UTC)
    old = store.presigned_url("mine.fits", expires_s=60, signed_at=now - timedelta(seconds=70))
    status, _, body = get(old)
    assert (status, error_of(body)["Message"]) == (403, "Request has expired")
    assert (
        get(store.presigned_url("mine.fits", expires_s=100, signed_at=now - timedelta(seconds=70)))[0] == 200
    )
    early = get(store.presigned_url("mine.fits", signed_at=now + timedelta(hours=1)))
    assert error_of(early[2])["Message"] == "Request is not valid yet"
    long = get(store.presigned_url("mine.fits", expires_s=8 * 86400))
    assert (long[0], error_of(long[2])["Code"]) == (400, "AuthorizationQueryParametersError")
    assert get(store.presigned_url("mine.fits", signer=store.temporary_key))[::2] == (200, DATA)


def test_an_old_signature_in_the_header_is_skewed(store):
    request = AWSRequest("GET", s3_link(store, "a.fits"))
    signer(store).add_auth(request)
    headers = dict(request.headers)
    headers["X-Amz-Date"] = "20200101T000000Z"
    assert error_of(get(request.url, headers=headers)[2])["Code"] == "AuthorizationHeaderMalformed"
    headers["Authorization"] = headers["Authorization"].replace(f"{datetime.now(UTC):%Y%m%d}", "20200101")
    assert error_of(get(request.url, headers=headers)[2])["Code"] == "RequestTimeTooSkewed"


# S3: payers, regions, lists -------------------------------------------------------------------------------------------


def test_who_does_not_pay_gets_nothing(store):
    store.put("paid.fits", DATA, requester_pays=True)
    url = s3_link(store, "paid.fits")
    payer = {"x-amz-request-payer": "requester"}
    for refused in (
        get(url),
        get(url, headers=payer),
        signed(store, url),
        get(store.presigned_url("paid.fits")),
    ):
        assert (refused[0], error_of(refused[2])["Code"]) == (403, "AccessDenied")
    for answer in (
        signed(store, url, headers=payer),
        get(store.presigned_url("paid.fits", requester_pays=True)),
    ):
        assert (answer[0], answer[2]) == (200, DATA)
        assert answer[1]["x-amz-request-charged"] == "requester"
    assert read(s3(store, request_payer=True), "paid.fits") == DATA
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        read(s3(store), "paid.fits")
    assert get(store.http_url("paid.fits"))[0] == 403


def test_who_asks_in_the_wrong_region_is_told_the_right_one(store):
    store.put("a.fits", DATA, bucket="europe", public=False)
    store.set_region("europe", "eu-central-1")
    url = s3_link(store, "a.fits", "europe")
    for status, headers, body in (signed(store, url), get(url)):
        assert (status, headers["x-amz-bucket-region"]) == (301, "eu-central-1")
        assert error_of(body)["Code"] == "PermanentRedirect"
        assert "location" not in headers
    status, _, body = signed(store, url, region="ap-south-1")
    assert (status, error_of(body)["Region"]) == (400, "eu-central-1")
    assert error_of(body)["Code"] == "AuthorizationHeaderMalformed"
    assert signed(store, url, region="eu-central-1")[::2] == (200, DATA)
    assert (
        get(f"{store.s3_endpoint}/a.fits", headers={"Host": "europe.s3.eu-central-1.amazonaws.com"})[0] == 403
    )
    with pytest.raises(obstore.exceptions.GenericError, match="region"):
        read(s3(store, "europe"))
    # botocore goes there by itself.
    assert make_client(store).get_object(Bucket="europe", Key="a.fits")["Body"].read() == DATA
    store.put("b.fits", DATA, bucket="space")
    store.set_region("space", "ams3")
    assert get(f"{store.s3_endpoint}/b.fits", headers={"Host": "space.ams3.digitaloceanspaces.com"})[0] == 200


def test_what_is_missing_is_told_to_who_may_list(store):
    store.put("mine.fits", DATA, bucket="closed", public=False)
    status, _, body = get(s3_link(store, "none.fits"))
    assert (status, error_of(body)["Code"], error_of(body)["Key"]) == (404, "NoSuchKey", "none.fits")
    assert error_of(get(s3_link(store, "a", "nowhere"))[2])["Code"] == "NoSuchBucket"
    assert get(s3_link(store, "none.fits", "closed"))[0] == 403
    assert signed(store, s3_link(store, "none.fits", "closed"))[0] == 404
    assert get(f"{store.s3_endpoint}/closed")[0] == 403
    status, _, body = get(s3_link(store, "none.fits"), method="HEAD")
    assert (status, body) == (404, b"")
    with pytest.raises(FileNotFoundError):
        read(s3(store), "none.fits")


def test_buckets_are_listed(store):
    keys = ["a.fits", "b.fits", "night/1.fits", "night/2.fits", "night/deep/3.fits", "z & <y>.fits"]
    for key in keys:
        store.put(key, DATA, bucket="list")
    store.page_size = 2
    others = (s3(store, "list", skip_signature=True), gcs(store, "list"), azure(store, bucket="list"))
    for bucket in (s3(store, "list"), *others):
        assert sorted(entry["path"] for batch in obstore.list(bucket) for entry in batch) == sorted(keys)
        top = obstore.list_with_delimiter(bucket)
        assert [entry["path"] for entry in top["objects"]] == ["a.fits", "b.fits", "z & <y>.fits"]
        assert top["common_prefixes"] == ["night"]
        night = obstore.list_with_delimiter(bucket, "night")
        assert [entry["path"] for entry in night["objects"]] == ["night/1.fits", "night/2.fits"]
        assert {entry["size"] for entry in night["objects"]} == {len(DATA)}
        found = [entry["path"] for batch in obstore.list(bucket, offset="night/1.fits") for entry in batch]
        assert sorted(found) == keys[3:]


def test_keys_that_no_xml_can_hold_are_listed(store):
    keys = ["a\x01b", "b\ufffe", "c&d"]
    for key in keys:
        store.put(key, DATA, bucket="odd", public=False)
    found = make_client(store).list_objects_v2(Bucket="odd")["Contents"]  # asks for encoding-type=url
    assert [entry["Key"] for entry in found] == keys
    blobs = get(f"{store.azure_endpoint}/odd?restype=container&comp=list&{store.azure_sas()}")[2]
    names = [(name.text, name.get("Encoded")) for name in ET.fromstring(blobs).iter("Name")]
    assert names == [("a%01b", "true"), ("b%EF%BF%BE", "true"), ("c&d", None)]


@given(
    st.sets(st.text("ab/", min_size=1, max_size=5), max_size=12),
    st.integers(1, 4),
    st.sampled_from(["", "a", "a/"]),
    st.sampled_from(["", "/"]),
)
def test_pages_of_a_list_hold_everything_once(keys, size, prefix, delimiter):
    bucket = Bucket("us-east-1", dict.fromkeys(keys, LISTED))
    found, query = [], {"list-type": "2", "prefix": prefix, "delimiter": delimiter}
    while True:
        page = ET.fromstring(list_bucket("sky", bucket, query, size).replace("xmlns=", "was="))
        entries = [each.findtext("Key") for each in page.findall("Contents")]
        entries += [each.findtext("Prefix") for each in page.findall("CommonPrefixes")]
        assert len(entries) <= size
        found += entries
        if page.findtext("IsTruncated") == "false":
            break
        query["continuation-token"] = page.findtext("NextContinuationToken")
    expected = {
        prefix + key[len(prefix) :].partition("/")[0] + "/"
        if delimiter and "/" in key[len(prefix) :]
        else key
        for key in keys
        if key.startswith(prefix)
    }
    assert sorted(found) == sorted(expected)


def test_a_list_that_makes_no_sense_is_refused(store):
    for query in (
        "list-type=2&max-keys=x",
        "list-type=2&continuation-token=%ff",
        "list-type=2&continuation-token=abc",
    ):
        status, _, body = get(f"{store.s3_endpoint}/sky?{query}")
        assert (status, error_of(body)["Code"]) == (400, "InvalidArgument")


# Google Cloud Storage -------------------------------------------------------------------------------------------------


def test_google_storage(store):
    store.put("mine.fits", DATA, public=False)
    store.put("paid.fits", DATA, requester_pays=True)
    token = {"authorization": f"Bearer {store.bearer_token}"}
    project = {"x-goog-user-project": "my-project"}
    answer = obstore.get(gcs(store), "a.fits", options={"range": (5, 10)})
    assert (bytes(answer.bytes()), answer.meta["size"]) == (DATA[5:10], len(DATA))
    assert read(gcs(store, headers=token), "mine.fits") == DATA
    assert read(gcs(store, headers=token | project), "paid.fits") == DATA
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        read(gcs(store), "mine.fits")
    with pytest.raises(obstore.exceptions.UnauthenticatedError):
        read(gcs(store, headers={"authorization": "Bearer other"}), "mine.fits")
    url = f"{store.gcs_endpoint}/sky/paid.fits"
    status, _, body = get(url, headers=token)
    assert (status, error_of(body)["Code"]) == (400, "UserProjectMissing")
    assert get(url, headers=project)[0] == 403
    assert get(f"{url}?userProject=p", headers=token)[::2] == (200, DATA)
    with pytest.raises(FileNotFoundError):
        read(gcs(store), "none.fits")
    assert get(f"{store.gcs_endpoint}/a.fits", headers={"Host": "sky.storage.googleapis.com"})[2] == DATA


# Azure ----------------------------------------------------------------------------------------------------------------


def azure(store, bucket="sky", **options):
    given = options or {"account_key": store.azure_key}
    return AzureStore(
        bucket,
        account_name=store.azure_account,
        endpoint=store.azure_endpoint,
        retry_config=NO_RETRY,
        **({"client_options": HTTP} | given),
    )


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if "//" not in key])
def test_azure_with_the_key_of_the_account(store, key):
    store.put(key, DATA, public=False)
    answer = obstore.get(azure(store), key, options={"range": (5, 10)})
    assert (bytes(answer.bytes()), answer.meta["size"]) == (DATA[5:10], len(DATA))
    etag = answer.meta["e_tag"]
    assert bytes(obstore.get(azure(store), key, options={"if_match": etag}).bytes()) == DATA
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(azure(store), key, options={"if_match": '"x"'})


def test_azure_in_other_ways(store):
    store.put("mine.fits", DATA, public=False)
    token = HTTP | {"default_headers": {"authorization": f"Bearer {store.bearer_token}"}}
    assert read(azure(store, skip_signature=True)) == DATA
    assert read(azure(store, sas_key=store.azure_sas()), "mine.fits") == DATA
    assert read(azure(store, skip_signature=True, client_options=token), "mine.fits") == DATA
    assert get(f"{store.azure_endpoint}/sky/mine.fits?{store.azure_sas(expires_s=-1)}")[0] == 403
    assert get(f"{store.azure_endpoint}/sky/mine.fits?{store.azure_sas().replace('sp=rl', 'sp=w')}")[0] == 403
    with pytest.raises(FileNotFoundError):
        read(azure(store, skip_signature=True), "mine.fits")
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        read(azure(store, account_key="b3RoZXI="), "mine.fits")
    status, headers, body = get(f"{store.azure_endpoint}/sky/none.fits")
    assert (status, headers["x-ms-error-code"]) == (404, error_of(body)["Code"]) == (404, "BlobNotFound")
    assert get(f"{store.azure_endpoint}/sky/a.fits", headers={"x-ms-range": "bytes=0-9"})[2] == DATA[:10]
    assert error_of(get(f"{store.azure_endpoint}/none/a.fits")[2])["Code"] == "ContainerNotFound"


@pytest.mark.parametrize("key", ["mine.fits", "a b+c%/~é.fits"])
def test_azure_as_its_own_client_sees_it(store, key):
    blob = pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
    store.put(key, DATA, public=False)
    account, secret = store.azure_account, store.azure_key
    until = datetime.now(UTC) + timedelta(hours=1)
    grants = [
        blob.generate_blob_sas(account, "sky", key, account_key=secret, permission="r", expiry=until),
        blob.generate_container_sas(account, "sky", account_key=secret, permission="rl", expiry=until),
        blob.generate_account_sas(
            account, secret, resource_types=blob.ResourceTypes(object=True), permission="r", expiry=until
        ),
    ]
    url = f"{store.azure_endpoint}/sky/{quote(key)}"
    assert [get(f"{url}?{grant}")[0] for grant in grants] == [200, 200, 200]
    assert get(f"{store.azure_endpoint}/sky/other.fits?{grants[0]}")[0] == 403
    named_key = {"account_name": account, "account_key": secret}
    with blob.BlobServiceClient(store.azure_endpoint, credential=named_key, retry_total=0) as client:
        assert client.get_blob_client("sky", key).download_blob(5, 10).readall() == DATA[5:15]
        assert key in list(client.get_container_client("sky").list_blob_names())


# Faults ---------------------------------------------------------------------------------------------------------------


def test_ordered_failures_come_in_their_order(store):
    store.fail(503, 2, retry_after=7)
    store.fail(429, path="/sky/b")
    url = s3_link(store, "a.fits")
    status, headers, body = get(url)
    assert (status, headers["retry-after"], error_of(body)["Code"]) == (503, "7", "SlowDown")
    assert get(f"{store.gcs_endpoint}/sky/b")[0] == 503
    assert [get(url)[0], get(s3_link(store, "b"))[0], get(s3_link(store, "b"))[0]] == [200, 429, 404]
    assert [noted.fault for noted in store.log] == ["failed", "failed", None, "failed", None]
    store.fail(500)
    store.reset()
    assert get(url)[0] == 200


def test_a_part_of_the_requests_fails(store):
    store.failure_rate, store.failure_status, store.seed = 0.3, 500, 5
    url = store.http_url("a.fits")
    first = [get(url)[0] for _ in range(100)]
    assert set(first) == {200, 500}
    assert 15 <= first.count(500) <= 45
    store.seed = 5
    assert [get(url)[0] for _ in range(100)] == first
    store.reset()
    store.failure_rate = 0.3
    bucket = plain(
        url, retry_config={"max_retries": 10, "backoff": {"init_backoff": timedelta(milliseconds=1)}}
    )
    assert all(read(bucket, "") == DATA for _ in range(30))
    assert {noted.fault for noted in store.log} == {None, "failed"}


def test_cut_bodies_end_early_and_are_accounted_for(store):
    store.cut_rate, store.cut_at = 1.0, 0.25
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(store.http_url("a.fits"))
    assert caught.value.partial == DATA[:6400]
    with pytest.raises(http.client.IncompleteRead):
        get(store.http_url("a.fits"), headers={"Range": "bytes=0-0"})
    assert [(noted.status, noted.bytes, noted.fault) for noted in store.log] == [
        (200, 6400, "cut"),
        (206, 0, "cut"),
    ]
    assert store.stats.bytes == 6400
    assert get(store.http_url("a.fits"), method="HEAD")[0] == 200
    store.cut_rate = 0.5
    bucket = plain(
        store.http_url("a.fits"),
        retry_config={"max_retries": 10, "backoff": {"init_backoff": timedelta(milliseconds=1)}},
    )
    assert all(read(bucket, "") == DATA for _ in range(20))


def test_resets(store):
    store.reset_rate = 1.0
    outcomes = set()
    for _ in range(30):
        try:
            get(store.http_url("a.fits"))
        except ConnectionResetError:
            outcomes.add("reset")
        except http.client.IncompleteRead:
            outcomes.add("within")
        else:
            pytest.fail("no reset")
    assert "reset" in outcomes
    log = store.log
    assert {noted.fault for noted in log} == {"reset"}
    assert {noted.status for noted in log} == {None, 200}
    assert all(noted.bytes == 0 for noted in log if noted.status is None)
    assert store.stats.bytes == sum(noted.bytes for noted in log) < 30 * len(DATA)
    store.reset_rate = 0.3
    bucket = plain(
        store.http_url("a.fits"),
        retry_config={"max_retries": 10, "backoff": {"init_backoff": timedelta(milliseconds=1)}},
    )
    assert all(read(bucket, "") == DATA for _ in range(20))


def test_servers_without_ranges(store):
    store.ranges = "ignored"
    status, headers, body = get(store.http_url("a.fits"), headers={"Range": "bytes=0-9"})
    assert (status, len(body)) == (200, len(DATA))
    assert not {"content-range", "accept-ranges"} & set(headers)
    with pytest.raises(obstore.exceptions.NotSupportedError):
        obstore.get_range(plain(store.http_url("a.fits")), "", start=0, end=10)
    store.ranges = "no total"
    status, headers, body = get(store.http_url("a.fits"), headers={"Range": "bytes=0-9"})
    assert (status, headers["content-range"], body) == (206, "bytes 0-9/*", DATA[:10])
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.get_range(plain(store.http_url("a.fits")), "", start=0, end=10)


def test_servers_without_head(store):
    store.head = False
    status, headers, _ = get(store.http_url("a.fits"), method="HEAD")
    assert (status, headers["allow"]) == (405, "GET")
    assert get(store.http_url("a.fits"))[0] == 200


def test_slow_servers(store):
    store.latency_s = 0.05
    assert seconds(lambda: get(store.http_url("a.fits"))) >= 0.05
    store.connection_latency_s = 0.1
    assert seconds(lambda: get(store.http_url("a.fits"))) >= 0.15
    store.reset()
    store.bandwidth = 100_000
    assert 0.2 <= seconds(lambda: get(store.http_url("a.fits"))) < 2
    with requests.Session() as session:
        slow = seconds(
            lambda: [
                session.get(store.http_url("a.fits"), headers={"Range": "bytes=0-99"}, timeout=10)
                for _ in range(50)
            ]
        )
    assert slow >= 0.04  # 5,000 bytes: what is too short to wait for adds up


def seconds(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_rate", 1.5),
        ("cut_rate", -0.1),
        ("cut_at", 2),
        ("reset_rate", float("nan")),
        ("latency_s", -1),
        ("connection_latency_s", float("nan")),
        ("bandwidth", 0),
        ("ranges", "sometimes"),
        ("failure_status", 200),
        ("page_size", 0),
    ],
)
def test_a_knob_that_cannot_be_turned_so_far(store, name, value):
    before = getattr(store, name)
    with pytest.raises(ConfigurationError, match=name):
        setattr(store, name, value)
    assert getattr(store, name) == before


def test_a_misspelt_knob_is_an_error(store):
    with pytest.raises(AttributeError):
        store.latency = 1.0


# Accounts -------------------------------------------------------------------------------------------------------------


def test_everything_is_accounted_for(store):
    store.latency_s = 0.1
    bucket = plain(store.http_url("a.fits"))

    async def many():
        return await asyncio.gather(
            *[obstore.get_range_async(bucket, "", start=i, end=i + 100) for i in range(64)]
        )

    pieces = asyncio.run(many())
    assert [bytes(piece) for piece in pieces] == [DATA[i : i + 100] for i in range(64)]
    stats = store.stats
    assert (stats.requests, stats.bytes, stats.max_in_flight) == (64, 6400, 64)
    assert stats.connections <= 64
    log = store.log
    assert {noted.range for noted in log} == {f"bytes={i}-{i + 99}" for i in range(64)}
    assert {(noted.interface, noted.method, noted.path, noted.status, noted.bytes) for noted in log} == {
        ("http", "GET", "/sky/a.fits", 206, 100)
    }
    assert len({noted.connection for noted in log}) == stats.connections
    assert abs(log[0].time - time.time()) < 60
    store.reset()
    assert (store.latency_s, store.log) == (0.0, [])
    assert (store.stats.requests, store.stats.bytes, store.stats.connections) == (0, 0, 0)


def test_a_record_shows_no_secret(store):
    url = store.presigned_url("a.fits")
    get(url, headers={"X-Token": "hidden"})
    noted = store.log[-1]
    assert (noted.query, noted.headers["x-token"]) == (urlsplit(url).query, "hidden")
    assert "hidden" not in repr(noted)
    assert "Signature" not in repr(noted)
    assert store.secret_key not in repr(store) + repr(store.temporary_key)
    assert store.temporary_key.secret_key not in repr(store.temporary_key)


# In a process of its own ----------------------------------------------------------------------------------------------


def test_a_store_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(DATA)
    with SandboxStore(process=True, region="eu-west-1") as store:
        store.put("a.fits", DATA, public=False)
        store.put("b.fits", path)
        store.put("cube.fits", SparseFile(HUGE, {HUGE - 4: b"star"}), bucket="large")
        assert read(s3(store)) == DATA
        assert read(plain(store.http_url("b.fits")), "") == DATA
        assert get(store.presigned_url("a.fits"))[0] == 200
        end = get(store.http_url("cube.fits", bucket="large"), headers={"Range": "bytes=-6"})
        assert (end[1]["content-range"], end[2]) == (f"bytes {HUGE - 6}-{HUGE - 1}/{HUGE}", b"\0\0star")
        store.fail(503)
        assert get(store.http_url("b.fits"))[0] == 503
        store.latency_s = 0.02
        assert (store.latency_s, store.stats.requests, len(store.log)) == (0.02, 5, 5)
        assert store.delete("b.fits")
        assert get(store.http_url("b.fits"))[0] == 404
        with pytest.raises(ConfigurationError, match="pickles"):
            store.put("c.fits", Unpicklable())
        store.reset()
        assert (store.stats.requests, store.latency_s) == (0, 0.0)
        process = store._server._process
    assert process.wait(5) == 0
    with pytest.raises(UnreachableError):
        store.put("d.fits", DATA)


class Unpicklable:
    size = 5
    etag = "x"

    def read(self, start, end):
        return b""

    def __reduce__(self):
        raise TypeError("cannot pickle this")


def test_a_class_that_the_process_cannot_import():
    program = """
from nuncius.errors import ConfigurationError
from nuncius.sandbox.store import SandboxStore
class Mine:
    size, etag = 5, "x"
    def read(self, start, end): return bytes(end - start)
with SandboxStore(process=True) as store:
    try:
        store.put("a", Mine())
    except ConfigurationError as error:
        print(error)
    store.put("a", b"still there")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "define classes in a module" in done.stdout


def test_a_process_ends_with_the_program_that_started_it():
    program = "import os; from nuncius.sandbox.store import SandboxStore; s = SandboxStore(process=True); print(s._server._process.pid, s.url, flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    url = urlsplit(done.stdout.split()[1])

    def gone():
        with socket.socket() as probe:
            return probe.connect_ex((url.hostname, url.port)) != 0

    wait_for(gone)


def test_tls():
    with SandboxStore(tls=True) as store:
        store.put("a.fits", DATA, public=False)
        assert store.url.startswith("https://")
        link = store.presigned_url("a.fits")
        assert requests.get(link, verify=str(store.ssl_ca_location), timeout=10).content == DATA
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(link, timeout=10)
        store.cut_rate = 1.0
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(link, verify=str(store.ssl_ca_location), timeout=10)
        store.cut_rate, store.reset_rate = 0.0, 1.0
        with pytest.raises(requests.exceptions.RequestException):
            requests.get(link, verify=str(store.ssl_ca_location), timeout=10)
    assert not store.ssl_ca_location.exists()


def test_the_end_breaks_connections():
    store = SandboxStore()
    store.put("a.fits", DATA)
    store.latency_s = 30.0
    url = urlsplit(store.http_url("a.fits"))
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(b"GET /sky/a.fits HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: store.stats.requests == 1)
        assert seconds(store.close) < 3
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    store.close()
    with pytest.raises(UnreachableError):
        store.put("b.fits", DATA)
