"""Sources against servers on loopback: every store, every failure."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
import multiprocessing
import os
import pickle
import sys
import zipfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.stores import clients, listing, logins, open_source, sessions
from nuncius.cloudfits.stores.listing import list_objects
from nuncius.cloudfits.stores.other import OtherSource
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FileChangedError,
    ForbiddenError,
    ForkError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.sandbox.store import SandboxStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from nuncius._core.operations import Piece, Source

DATA = bytes(range(256)) * 400
ODD = "nights/a b+c%20d#e?f~ü'(1).fits"
MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxStore]:
    with SandboxStore() as store:
        yield store


@pytest.fixture
def store(sandbox: SandboxStore) -> SandboxStore:
    sandbox.reset()
    sandbox.put("x.fits", DATA)
    sandbox.put(ODD, DATA)
    sandbox.put("private.fits", DATA, public=False)
    sandbox.put("pay.fits", DATA, public=False, requester_pays=True)
    sandbox.put("empty.fits", b"")
    return sandbox


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "AZURE_", "SPACES_", "IDENTITY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(logins, "machine_cloud", lambda: None)
    monkeypatch.setattr(logins, "_without_identity", set())
    monkeypatch.setattr(sessions, "_regions", {})


def s3(store: SandboxStore, key: str = "x.fits", *, signed: bool = False, **options: Any) -> Source:
    if signed:
        options["credentials"] = (store.access_key, store.secret_key)
    return open_source(store.s3_url(key), Access(endpoint=store.s3_endpoint, **options))


def everywhere(store: SandboxStore, key: str) -> dict[str, Source]:
    """Return the sources of one object by each interface."""
    account = store.azure_account
    signed = {"account_name": account, "account_key": store.azure_key}
    return {
        "http": open_source(store.http_url(key)),
        "s3": s3(store, key),
        "s3 signed": s3(store, key, signed=True),
        "s3 link": open_source(
            store.http_url(key).replace(store.url, store.s3_endpoint), Access(endpoint=store.s3_endpoint)
        ),
        "presigned": open_source(store.presigned_url(key)),
        "gs": open_source(store.gcs_url(key), Access(endpoint=store.gcs_endpoint)),
        "az": open_source(
            f"abfs://sky@{account}.dfs.core.windows.net/{key}", Access(endpoint=store.azure_endpoint)
        ),
        "az signed": open_source(
            store.azure_url(key), Access(endpoint=store.azure_endpoint, credentials=signed)
        ),
    }


@pytest.mark.parametrize("key", ["x.fits", ODD])
async def test_pieces_from_everywhere(store: SandboxStore, key: str) -> None:
    for name, source in everywhere(store, key).items():
        piece = await source.read(1000, 3000)
        assert piece.data == DATA[1000:3000], name
        assert (piece.size, type(piece.data)) == (len(DATA), bytes), name
        assert piece.etag, name
        assert piece.modified is not None, name
        again = await source.read(0, 10, etag=piece.etag)
        assert (again.data, again.etag) == (DATA[:10], piece.etag), name
        assert (await source.read(len(DATA) - 5, len(DATA) + 100)).data == DATA[-5:], name
        for start, end in ((len(DATA), len(DATA) + 10), (10**12, 10**12 + 10), (7, 7)):
            nothing = await source.read(start, end, etag=piece.etag)
            assert (nothing.data, nothing.size, nothing.etag) == (b"", len(DATA), piece.etag), (name, start)
        whole = await source.read_all(len(DATA))
        assert (whole.data, whole.size) == (DATA, len(DATA)), name
        with pytest.raises(UnsupportedError, match="read whole"):
            await source.read_all(len(DATA) - 1)


async def test_one_request_for_a_piece(store: SandboxStore) -> None:
    for name, source in everywhere(store, "x.fits").items():
        before = store.stats.requests
        await source.read(0, 2880)
        assert store.stats.requests - before == 1, name


async def test_an_empty_object(store: SandboxStore) -> None:
    for name, source in everywhere(store, "empty.fits").items():
        piece = await source.read(0, 2880)
        assert (piece.data, piece.size) == (b"", 0), name
        assert (await source.read_all(10)).data == b"", name


async def test_an_object_that_was_replaced(store: SandboxStore) -> None:
    sources = everywhere(store, "x.fits")
    etags = {name: (await source.read(0, 10)).etag for name, source in sources.items()}
    store.put("x.fits", DATA[::-1])
    for name, source in sources.items():
        for start in (0, 10**9):
            with pytest.raises(FileChangedError):
                await source.read(start, start + 10, etag=etags[name])


async def test_nothing_there(store: SandboxStore) -> None:
    for name, source in everywhere(store, "nothing.fits").items():
        with pytest.raises(NotFoundError) as caught:
            await source.read(0, 10)
        assert (caught.value.status, caught.value.url) == (404, source.url), name
        with pytest.raises(NotFoundError):
            await source.read_all(10)
    with pytest.raises(NotFoundError, match="no bucket 'nobody'"):
        await open_source("s3://nobody/x", Access(endpoint=store.s3_endpoint)).read(0, 1)


# Who reads ----------------------------------------------------------------------------------------------------------


async def test_private_objects(store: SandboxStore) -> None:
    with pytest.raises(ForbiddenError, match=r"without credentials.*credentials=") as caught:
        await s3(store, "private.fits").read(0, 10)
    assert caught.value.status == 403
    assert (await s3(store, "private.fits", signed=True).read(0, 4)).data == DATA[:4]
    assert (await open_source(store.presigned_url("private.fits")).read(0, 4)).data == DATA[:4]
    token = {
        "access_key_id": store.temporary_key.access_key,
        "secret_access_key": store.temporary_key.secret_key,
    }
    with pytest.raises((LoginError, ForbiddenError)):
        await s3(store, "private.fits", credentials=token).read(0, 4)
    token["token"] = str(store.temporary_key.session_token)
    assert (await s3(store, "private.fits", credentials=token).read(0, 4)).data == DATA[:4]
    bearer = {"bearer_token": store.bearer_token}
    google = Access(endpoint=store.gcs_endpoint, credentials=bearer)
    assert (await open_source("gs://sky/private.fits", google).read(0, 4)).data == DATA[:4]
    grant = Access(
        endpoint=store.azure_endpoint,
        credentials={"account_name": store.azure_account, "sas_key": store.azure_sas()},
    )
    assert (await open_source("az://sky/private.fits", grant).read(0, 4)).data == DATA[:4]
    link = Access(headers={"Authorization": f"Bearer {store.bearer_token}"})
    assert (await open_source(store.http_url("private.fits"), link).read(0, 4)).data == DATA[:4]
    assert (await open_source(store.http_url("private.fits"), link).read_all(10**6)).data == DATA


async def test_keys_of_the_environment(store: SandboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.s3_endpoint)
    source = open_source("s3://sky/private.fits")
    assert (await source.read(0, 4)).data == DATA[:4]
    # Another process finds them by the same search.
    again = pickle.loads(pickle.dumps(source))
    assert (await again.read(0, 4)).data == DATA[:4]
    assert store.secret_key.encode() not in pickle.dumps(source)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    # The argument wins, also against the variable that the client itself prefers.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert (await s3(store, "private.fits").read(0, 4)).data == DATA[:4]
    with pytest.raises(ForbiddenError):
        await s3(store, "private.fits", anon=True).read(0, 4)
    with pytest.raises(LoginError):
        await s3(store, "private.fits", credentials=("AKIANOBODY", "x")).read(0, 4)


async def test_keys_that_are_wrong(store: SandboxStore) -> None:
    wrong = "wJalrXUtnFEMI-very-secret"
    for key in (store.access_key, "AKIANOBODY"):
        with pytest.raises(LoginError, match="does not accept credentials=") as caught:
            await s3(store, credentials=(key, wrong)).read(0, 4)
        shown = "".join(
            map(str, (caught.value, caught.value.__cause__, caught.value.__context__, vars(caught.value)))
        )
        assert wrong not in shown
        assert "CanonicalRequest" not in shown


async def test_those_who_read_pay(store: SandboxStore) -> None:
    with pytest.raises(ForbiddenError, match="requester_pays=True"):
        await s3(store, "pay.fits", signed=True).read(0, 4)
    assert (await s3(store, "pay.fits", signed=True, requester_pays=True).read(0, 4)).data == DATA[:4]
    credentials = {"bearer_token": store.bearer_token}
    source = open_source("gs://sky/pay.fits", Access(endpoint=store.gcs_endpoint, credentials=credentials))
    with pytest.raises(NunciusError):
        await source.read(0, 4)
    paid = Access(
        endpoint=store.gcs_endpoint, credentials={**credentials, "project": "survey"}, requester_pays=True
    )
    assert (await open_source("gs://sky/pay.fits", paid).read(0, 4)).data == DATA[:4]


async def test_a_machine_without_a_role_reads_without(
    store: SandboxStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logins, "machine_cloud", lambda: "s3")
    monkeypatch.setattr(logins, "_announced", set())
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.INFO, logger="nuncius.cloudfits"):
        assert (await s3(store, retries=0).read(0, 4)).data == DATA[:4]
    assert "reading without" in caplog.text
    logins._without_identity.clear()
    with pytest.raises(ConfigurationError, match="anon=False"):
        await s3(store, retries=0, anon=False).read(0, 4)


async def test_a_role_that_cannot_be_taken(store: SandboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/role")
    with pytest.raises(NunciusError) as caught:
        await s3(store, retries=0).read(0, 4)
    assert isinstance(caught.value, (LoginError, UnreachableError))


async def test_a_region_that_the_store_names(store: SandboxStore) -> None:
    store.put("x.fits", DATA, bucket="far", public=False)
    store.set_region("far", "eu-west-1")
    access = Access(endpoint=store.s3_endpoint, credentials=(store.access_key, store.secret_key))
    assert (await open_source("s3://far/x.fits", access).read(0, 4)).data == DATA[:4]
    before = store.stats.requests
    # Once learned, it is known.
    assert (await open_source("s3://far/x.fits", access).read(4, 8)).data == DATA[4:8]
    assert store.stats.requests - before == 1


# What goes wrong ----------------------------------------------------------------------------------------------------


async def test_failures_of_the_server(store: SandboxStore) -> None:
    for name in everywhere(store, "x.fits"):
        store.reset()
        store.failure_rate, store.failure_status, store.seed = 0.3, 503, 7
        source = everywhere(store, "x.fits")[name]
        pieces = await asyncio.gather(*(source.read(at, at + 100) for at in range(0, 2000, 100)))
        assert b"".join(piece.data for piece in pieces) == DATA[:2000], name
        assert any(line.status == 503 for line in store.log), name
    store.failure_rate = 1.0
    with pytest.raises(ServerError, match="503") as caught:
        await s3(store, retries=1).read(0, 10)
    assert (caught.value.status, caught.value.attempts) == (503, 2)
    with pytest.raises(ServerError, match="503"):
        await open_source(store.http_url("x.fits"), Access(retries=1)).read_all(10**6)


@pytest.mark.parametrize("send_etag", [True, False])
async def test_answers_that_are_cut(store: SandboxStore, send_etag: bool) -> None:
    store.cut_rate, store.seed, store.send_etag = 0.5, 3, send_etag
    for url, access in (
        (store.http_url("x.fits"), Access()),
        ("s3://sky/x.fits", Access(endpoint=store.s3_endpoint)),
    ):
        source = open_source(url, access)
        pieces = await asyncio.gather(*(source.read(at, at + 5000) for at in range(0, 60000, 5000)))
        assert b"".join(piece.data for piece in pieces) == DATA[:60000]
        assert (await source.read_all(10**6)).data == DATA
    store.cut_rate = 1.0
    with pytest.raises(UnreachableError, match="broke") as caught:
        await open_source(store.http_url("x.fits"), Access(retries=1)).read(0, 5000)
    assert caught.value.attempts == 2


async def test_connections_that_are_reset(store: SandboxStore) -> None:
    store.reset_rate, store.seed = 0.4, 5
    source = open_source(store.http_url("x.fits"))
    pieces = await asyncio.gather(*(source.read(at, at + 100) for at in range(0, 2000, 100)))
    assert b"".join(piece.data for piece in pieces) == DATA[:2000]


async def test_a_store_that_is_too_slow(store: SandboxStore) -> None:
    store.latency_s = 3.0
    for source in (
        open_source(store.http_url("x.fits"), Access(timeout_s=0.2, retries=0)),
        s3(store, timeout_s=0.2, retries=0),
    ):
        with pytest.raises(DeadlineError, match=r"0\.2 s.*timeout_s="):
            await source.read(0, 10)
        with pytest.raises(DeadlineError, match="timeout_s="):
            await source.read_all(10**6)


async def test_nobody_answers() -> None:
    for url, access in (
        ("http://127.0.0.1:9/x.fits", Access(retries=0)),
        ("s3://sky/x.fits", Access(endpoint="http://127.0.0.1:9", retries=0, anon=True)),
    ):
        with pytest.raises(UnreachableError, match=r"nobody answers at .*127\.0\.0\.1:9"):
            await open_source(url, access).read(0, 10)
        with pytest.raises(UnreachableError):
            await open_source(url, access).read_all(10)


async def test_a_server_that_ignores_ranges_is_refused(store: SandboxStore) -> None:
    store.put("large.fits", bytes(50_000_000))
    store.ranges = "ignored"
    source = open_source(store.http_url("large.fits"))
    with pytest.raises(UnsupportedError, match="whole_file=True"):
        await source.read(0, 2880)
    assert store.stats.bytes < 20_000_000
    assert (await source.read_all(10**8)).size == 50_000_000
    empty = await open_source(store.http_url("empty.fits")).read(0, 10)
    assert (empty.data, empty.size) == (b"", 0)


@pytest.mark.parametrize("head", [True, False])
async def test_a_server_that_does_not_tell_the_size(store: SandboxStore, head: bool) -> None:
    store.put("untold/x.fits", DATA, headers={})
    store.ranges, store.head = "no total", head
    source = open_source(store.http_url("untold/x.fits"))
    piece = await source.read(10, 20)
    assert (piece.data, piece.size) == (DATA[10:20], len(DATA))
    before = store.stats.requests
    assert (await source.read(20, 30, etag=piece.etag)).data == DATA[20:30]
    assert store.stats.requests - before == 1  # neither the client nor the size is asked again
    store.put("untold/x.fits", DATA[::-1])
    with pytest.raises(FileChangedError):
        await source.read(20, 30, etag=piece.etag)


async def test_redirects(store: SandboxStore) -> None:
    store.redirect("moved.fits", store.presigned_url("private.fits"))
    source = open_source(store.http_url("moved.fits"))
    assert (await source.read(100, 200)).data == DATA[100:200]
    assert (await source.read_all(10**6)).data == DATA


# A server of our own, for answers that a store does not give ---------------------------------------------------------

Answer = "tuple[int, dict[str, str], bytes]"


@asynccontextmanager
async def serving(answer: Callable[[str, str, dict[str, str]], Any], **options: Any) -> AsyncIterator[str]:
    connections: dict[Any, asyncio.StreamWriter] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {
                    key.lower(): value
                    for key, _, value in (line.partition(": ") for line in lines[1:] if line)
                }
                status, sent, body = answer(method, target, headers)
                sent = {"content-length": str(len(body)), **sent}
                head = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + (b"" if method == "HEAD" else body)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in connections.values():
            writer.transport.abort()
        await asyncio.gather(*connections)


def part(headers: dict[str, str], data: bytes = DATA) -> tuple[int, dict[str, str], bytes]:
    first, _, last = headers["range"].removeprefix("bytes=").partition("-")
    begin, end = int(first), min(int(last) + 1, len(data))
    return 206, {"content-range": f"bytes {begin}-{end - 1}/{len(data)}"}, data[begin:end]


async def test_weak_etags_are_compared_here() -> None:
    """No server lets a weak ETag match in If-Match (RFC 9110, 13.1.1)."""
    tag = 'W/"one"'

    def answer(_method: str, _target: str, headers: dict[str, str]) -> Any:
        if "if-match" in headers:
            return 412, {}, b""
        status, sent, body = part(headers)
        return status, sent | {"etag": tag}, body

    async with serving(answer) as host:
        source = open_source(f"http://{host}/x.fits")
        piece = await source.read(0, 10)
        assert piece.etag == 'W/"one"'
        assert (await source.read(10, 20, etag=piece.etag)).data == DATA[10:20]
        tag = 'W/"two"'
        with pytest.raises(FileChangedError):
            await source.read(10, 20, etag=piece.etag)


async def test_an_etag_that_the_server_does_not_look_at() -> None:
    tag = '"one"'

    def answer(_method: str, _target: str, headers: dict[str, str]) -> Any:
        status, sent, body = part(headers)
        return status, sent | {"etag": tag}, body

    async with serving(answer) as host:
        source = open_source(f"http://{host}/x.fits")
        piece = await source.read(0, 10)
        tag = '"two"'
        with pytest.raises(FileChangedError):
            await source.read(10, 20, etag=piece.etag)


async def test_without_an_etag_the_time_and_the_size_tell() -> None:
    modified = MODIFIED

    def answer(_method: str, _target: str, headers: dict[str, str]) -> Any:
        assert "if-match" not in headers
        status, sent, body = part(headers)
        return status, sent | {"last-modified": modified}, body

    async with serving(answer) as host:
        source = open_source(f"http://{host}/x.fits")
        piece = await source.read(0, 10)
        assert piece.etag is not None
        assert (await source.read(10, 20, etag=piece.etag)).data == DATA[10:20]
        modified = "Thu, 22 Oct 2015 07:28:00 GMT"
        with pytest.raises(FileChangedError):
            await source.read(10, 20, etag=piece.etag)


async def test_without_both_nothing_is_known() -> None:
    async with serving(lambda _m, _t, headers: part(headers)) as host:
        piece = await open_source(f"http://{host}/x.fits").read(0, 10)
        assert (piece.etag, piece.modified) == (None, None)


async def test_packed_answers() -> None:
    packed = gzip.compress(DATA)

    def answer(_method: str, _target: str, headers: dict[str, str]) -> Any:
        assert headers["accept-encoding"] == "identity"
        if "range" in headers:
            status, sent, body = part(headers, packed)
            return status, sent | {"content-encoding": "gzip"}, body
        return 200, {"content-encoding": "gzip"}, packed

    async with serving(answer) as host:
        source = open_source(f"http://{host}/x.fits")
        with pytest.raises(UnsupportedError, match=r"gzip.*whole_file=True"):
            await source.read(0, 10)
        whole = await source.read_all(len(DATA))
        assert (whole.data, whole.size) == (DATA, len(DATA))
        with pytest.raises(UnsupportedError):  # a bomb
            await source.read_all(len(packed) + 1)


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8b no gzip", gzip.compress(DATA, mtime=0)[:-20], b"plain"],
    ids=["no gzip", "cut", "plain"],
)
async def test_packed_answers_that_are_damaged(body: bytes) -> None:
    async with serving(lambda _m, _t, _h: (200, {"content-encoding": "gzip"}, body)) as host:
        with pytest.raises(UnsupportedError, match="gzip"):
            await open_source(f"http://{host}/x.fits").read_all(10**6)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        ({"content-range": f"bytes 1-10/{len(DATA)}"}, DATA[:10]),
        ({"content-range": "bytes 0-9/*"}, DATA[:5]),
        ({"content-range": "bytes 0-99/*"}, DATA[:100]),
        ({"content-range": "nonsense"}, DATA[:10]),
        ({}, DATA[:10]),
        ({"content-range": "bytes 0-9/5"}, DATA[:10]),
        ({"content-range": "bytes 0-9/99999999999999999999999999"}, DATA[:10]),
        ({"content-range": f"bytes 0-9/{len(DATA)}"}, DATA[:20]),
        ({"content-range": f"bytes 0-4/{len(DATA)}"}, DATA[:5]),
    ],
)
async def test_answers_that_are_not_what_was_asked(sent: dict[str, str], body: bytes) -> None:
    """What the server says and what it sends disagree: an error, never other bytes."""

    def answer(method: str, _target: str, _headers: dict[str, str]) -> Any:
        return (206, sent, body) if method == "GET" else (200, {"content-length": str(len(DATA))}, b"")

    async with serving(answer) as host:
        with pytest.raises((ServerError, UnsupportedError, UnreachableError)):
            await open_source(f"http://{host}/x.fits", Access(retries=0)).read(0, 10)


async def test_queries_arrive_as_they_are_and_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []
    query = "uri=mast:TESS/a+b%20c.fits&X-Amz-Signature=very%2Fsecret&x="

    def answer(method: str, target: str, headers: dict[str, str]) -> Any:
        asked.append(target)
        if "missing" in target:
            return 403, {}, b"<Error><Code>AccessDenied</Code><Message>very%2Fsecret</Message></Error>"
        if "untold" in target and method == "GET" and "range" in headers:
            status, sent, body = part(headers)
            return status, sent | {"content-range": sent["content-range"].rpartition("/")[0] + "/*"}, body
        return part(headers) if "range" in headers else (200, {}, DATA)

    async with serving(answer) as host:
        with caplog.at_level(logging.DEBUG):
            for path in ("/a%2Fb//c", "/untold/x"):
                source = open_source(f"http://{host}{path}?{query}")
                assert (await source.read(0, 10)).data == DATA[:10]
                assert (await source.read_all(10**6)).data == DATA
            with pytest.raises(ForbiddenError, match="get a new one") as caught:
                await open_source(f"http://{host}/missing?{query}", Access(retries=0)).read(0, 10)
    assert {target.partition("?")[2] for target in asked} == {query}
    assert {target.partition("?")[0] for target in asked} == {"/a%2Fb//c", "/untold/x", "/missing"}
    assert "secret" not in str(caught.value) + caplog.text + source.url
    assert caught.value.__cause__ is None


async def test_a_password_in_the_address() -> None:
    def answer(_method: str, _target: str, headers: dict[str, str]) -> Any:
        if headers.get("authorization") != "Basic amFuZTphIHNlY3JldA==":
            return 401, {}, b""
        return part(headers) if "range" in headers else (200, {}, DATA)

    async with serving(answer) as host:
        source = open_source(f"http://jane:a%20secret@{host}/x.fits")
        assert (await source.read(0, 10)).data == DATA[:10]
        assert (await source.read_all(10**6)).data == DATA
        assert source.url == f"http://{host}/x.fits"
        with pytest.raises(LoginError, match="wants a login"):
            await open_source(f"http://{host}/x.fits").read(0, 10)


async def test_tokens_do_not_follow_redirects_to_other_hosts() -> None:
    seen: list[str | None] = []

    def other(_method: str, _target: str, headers: dict[str, str]) -> Any:
        seen.append(headers.get("authorization"))
        return part(headers) if "range" in headers else (200, {}, DATA)

    async with (
        serving(other) as target,
        serving(lambda *_: (302, {"location": f"http://{target}/x"}, b"")) as host,
    ):
        source = open_source(f"http://{host}/x.fits", Access(headers={"Authorization": "Bearer secret"}))
        assert (await source.read(0, 10)).data == DATA[:10]
        assert (await source.read_all(10**6)).data == DATA
    assert seen == [None, None]


async def test_redirects_without_an_end() -> None:
    async with serving(lambda _m, target, _h: (302, {"location": target}, b"")) as host:
        source = open_source(f"http://{host}/x.fits", Access(retries=0))
        with pytest.raises(NunciusError):
            await source.read(0, 10)
        with pytest.raises(ServerError, match="sends on"):
            await source.read_all(10)


async def test_the_region_is_part_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials only the host tells the region: the bucket is asked for again where it is."""
    asked: list[str] = []

    def answer(method: str, target: str, headers: dict[str, str]) -> Any:
        asked.append(f"{method} {target}")
        if target.startswith("/eu-west-1/"):
            return part(headers)
        return 301, {"x-amz-bucket-region": "eu-west-1"}, b""

    async with serving(answer) as host:
        access = Access(endpoint=f"http://{host}/{{region}}", anon=True)
        assert (await open_source("s3://sky/x.fits", access).read(0, 10)).data == DATA[:10]
        assert asked == ["GET /us-east-1/sky/x.fits", "HEAD /us-east-1/sky", "GET /eu-west-1/sky/x.fits"]


@pytest.mark.parametrize("region", ["", "us-east-1", "../evil", "a.b"])
async def test_a_region_that_leads_nowhere(region: str) -> None:
    async with serving(lambda *_: (301, {"x-amz-bucket-region": region}, b"")) as host:
        access = Access(endpoint=f"http://{host}/{{region}}", anon=True)
        with pytest.raises(ConfigurationError, match="region="):
            await open_source("s3://sky/x.fits", access).read(0, 10)


async def test_certificates_of_their_own(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    place = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(place)
    async with serving(lambda _m, _t, h: part(h) if "range" in h else (200, {}, DATA), ssl=context) as host:
        trusting = open_source(f"https://{host}/x.fits", Access(ssl_ca_location=str(place)))
        assert (await trusting.read(0, 10)).data == DATA[:10]
        assert (await trusting.read_all(10**6)).data == DATA
        source = open_source(f"https://{host}/x.fits", Access(retries=0))
        with pytest.raises(TlsError, match="ssl_ca_location="):
            await source.read(0, 10)
        with pytest.raises(TlsError, match="ssl_ca_location="):
            await source.read_all(10**6)
    (tmp_path / "none.pem").write_text("no certificate")
    for name in ("none.pem", "missing.pem"):
        with pytest.raises(ConfigurationError, match="certificates"):
            await open_source("https://127.0.0.1:9/x", Access(ssl_ca_location=str(tmp_path / name))).read(
                0, 1
            )


# Files and fsspec ---------------------------------------------------------------------------------------------------


async def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a b%20c#d?.fits"
    path.write_bytes(DATA)
    for url in (path, str(path), path.as_uri()):
        source = pickle.loads(pickle.dumps(open_source(url)))
        piece = await source.read(1000, 3000)
        assert (piece.data, piece.size) == (DATA[1000:3000], len(DATA))
        assert (await source.read(len(DATA) - 5, 10**12)).data == DATA[-5:]
        assert (await source.read(10**12, 10**13, etag=piece.etag)).data == b""
        assert (await source.read_all(len(DATA))).data == DATA
        with pytest.raises(UnsupportedError):
            await source.read_all(10)
    os.utime(path, ns=(1, 1))
    with pytest.raises(FileChangedError):
        await source.read(0, 10, etag=piece.etag)
    with pytest.raises(NotFoundError, match="its folder is there"):
        await open_source(tmp_path / "nothing").read(0, 10)
    with pytest.raises(NotFoundError, match=r"the folder .* is missing"):
        await open_source(tmp_path / "no" / "nothing").read(0, 10)
    with pytest.raises(NotFoundError, match="is a folder"):
        await open_source(tmp_path).read(0, 10)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsupportedError, match="pipe"):
        await open_source(tmp_path / "pipe").read(0, 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(DATA)
    path.chmod(0)
    with pytest.raises(ForbiddenError):
        await open_source(path).read(0, 10)


async def test_what_fsspec_reads(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/night/x.fits", DATA)
    source = pickle.loads(pickle.dumps(open_source("memory://night/x.fits")))
    assert isinstance(source, OtherSource)
    piece = await source.read(10, 20)
    assert (piece.data, piece.size) == (DATA[10:20], len(DATA))
    assert (await source.read(len(DATA), len(DATA) + 5, etag=piece.etag)).data == b""
    assert (await source.read_all(10**6)).data == DATA
    with pytest.raises(UnsupportedError):
        await source.read_all(10)
    memory.pipe("/night/x.fits", DATA[::-1])
    with pytest.raises(FileChangedError):
        await source.read(10, 20, etag=piece.etag)
    with pytest.raises(NotFoundError):
        await open_source("memory://night/nothing.fits").read(0, 10)
    with pytest.raises(UnsupportedError, match="folder"):
        await open_source("memory://night").read(0, 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.fits", DATA)
    inside = open_source(f"zip://x.fits::file://{tmp_path}/a.zip")
    assert (await inside.read(10, 20)).data == DATA[10:20]


async def test_storage_options_of_fsspec() -> None:
    fsspec = pytest.importorskip("fsspec")

    class Guarded(fsspec.get_filesystem_class("memory")):
        protocol = "guarded"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("guarded://").strip("/")

        def __init__(self, *, password: str) -> None:
            super().__init__()
            if password != "very secret":
                raise PermissionError(password)

    fsspec.register_implementation("guarded", Guarded, clobber=True)
    fsspec.filesystem("memory").pipe("/night/x.fits", DATA)
    right = Access(credentials={"password": "very secret"})
    assert (await open_source("guarded://night/x.fits", right).read(0, 4)).data == DATA[:4]
    with pytest.raises(ForbiddenError, match="credentials=") as caught:
        await open_source("guarded://night/x.fits", Access(credentials={"password": "wrong secret"})).read(
            0, 4
        )
    assert "secret" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    with pytest.raises(ConfigurationError, match="storage options"):
        await open_source("guarded://night/x.fits", Access(credentials={"nonsense": "x"})).read(0, 1)


# Processes, loops, listings -----------------------------------------------------------------------------------------


def test_loops_one_after_the_other_share_connections(store: SandboxStore) -> None:
    source = s3(store)
    for _ in range(3):
        assert asyncio.run(source.read(0, 10)).data == DATA[:10]
        assert asyncio.run(open_source(store.http_url("x.fits")).read(0, 10)).data == DATA[:10]


async def test_many_files_of_a_host_share_their_connections(store: SandboxStore) -> None:
    for number in range(20):
        store.put(f"many/{number}.fits", DATA)
    for make in (
        lambda key: open_source(store.http_url(key)),
        lambda key: open_source(store.s3_url(key), Access(endpoint=store.s3_endpoint)),
    ):
        store.reset()
        for number in range(20):
            await make(f"many/{number}.fits").read(0, 10)
        assert store.stats.connections <= 1


def _read_in_child(source: Source, answers: Any) -> None:
    try:
        answers.put(asyncio.run(source.read(0, 4)).data)
    except NunciusError as error:
        answers.put(error)


@pytest.mark.skipif(sys.platform != "linux", reason="a fork after threads is safe to try on Linux only")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(store: SandboxStore, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    source = s3(store, "private.fits")
    assert asyncio.run(source.read(0, 4)).data == DATA[:4]
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_read_in_child, args=(source, answers))
    child.start()
    answer = answers.get(timeout=60)
    child.join()
    if method == "spawn":
        assert answer == DATA[:4]
    else:
        assert isinstance(answer, ForkError)
        assert "spawn" in str(answer)


def test_clients_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch, store: SandboxStore) -> None:
    monkeypatch.setattr(clients, "_MOST_STORES", 3)
    for number in range(6):
        url = store.http_url("x.fits", query=f"number={number}")
        assert asyncio.run(open_source(url).read(0, 4)).data == DATA[:4]
    assert len(clients._stores) <= 3


@pytest.fixture
def nights(store: SandboxStore) -> SandboxStore:
    for key in ("n/", "n/2024-01/", "n/empty.fits"):
        store.delete(key, bucket="nights")
    for key in ("n/2024-01/a.fits", "n/2024-01/b.txt", "n/2024-02/c d.fits", "n/2025-01/e.fits", "n/f.fits"):
        store.put(key, DATA[:99], bucket="nights")
    store.page_size = 2
    return store


async def listed(url: Any, access: Access | None = None) -> list[str]:
    return [found.url async for found in list_objects(url, access)]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
async def test_listings(nights: SandboxStore, scheme: str) -> None:
    access = {
        "s3": Access(endpoint=nights.s3_endpoint),
        "gs": Access(endpoint=nights.gcs_endpoint),
        "az": Access(
            endpoint=nights.azure_endpoint,
            credentials={"account_name": nights.azure_account, "account_key": nights.azure_key},
        ),
    }[scheme]
    root = f"{scheme}://nights"
    everything = [
        f"{root}/n/{name}"
        for name in ("2024-01/a.fits", "2024-01/b.txt", "2024-02/c d.fits", "2025-01/e.fits", "f.fits")
    ]
    assert sorted(await listed(root, access)) == everything
    assert sorted(await listed(f"{root}/n/", access)) == everything
    assert sorted(await listed(f"{root}/n", access)) == everything
    assert await listed(f"{root}/n/2024-*/*.fits", access) == [everything[0], everything[2]]
    assert sorted(await listed(f"{root}/**/*.fits", access)) == [everything[at] for at in (0, 2, 3, 4)]
    assert sorted(await listed(f"{root}/n/2024-0?/**", access)) == everything[:3]
    assert await listed(f"{root}/n/f.fits", access) == [everything[4]]
    assert await listed(f"{root}/[mn]/f*", access) == [everything[4]]
    for nothing in (f"{root}/m/", f"{root}/n/z*", f"{root}/n/g.fits"):
        with pytest.raises(NotFoundError):
            await listed(nothing, access)
    async for found in list_objects(f"{root}/n/2024-*/c*", access):
        piece = await open_source(found.url, access).read(0, 10)
        assert (found.size, found.etag) == (99, piece.etag)


async def test_folders_that_a_console_has_made_are_no_files(nights: SandboxStore) -> None:
    for folder in ("n/", "n/2024-01/"):
        nights.put(folder, b"", bucket="nights")
    nights.put("n/empty.fits", b"", bucket="nights")
    access = Access(endpoint=nights.s3_endpoint)
    found = await listed("s3://nights/n/", access)
    assert len(found) == 6
    assert "s3://nights/n/empty.fits" in found
    assert await listed("s3://nights/n/*", access) == ["s3://nights/n/empty.fits", "s3://nights/n/f.fits"]


async def test_listings_in_spite_of_failures(nights: SandboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_CHUNK", 2)  # as many as a page has, as it is in real stores
    names = [f"many/{number:03}.fits" for number in range(40)]
    for name in names:
        nights.put(name, b"x", bucket="nights")
    nights.page_size, nights.seed = 2, 11
    nights.failure_rate, nights.cut_rate = 0.2, 0.2
    found = await listed("s3://nights/many/", Access(endpoint=nights.s3_endpoint))
    assert found == [f"s3://nights/{name}" for name in names]
    assert any(line.status == 503 for line in nights.log)


async def test_listings_that_cannot_be(nights: SandboxStore) -> None:
    with pytest.raises(UnsupportedError, match="can't be listed"):
        await listed(nights.http_url("n/", bucket="nights"))
    with pytest.raises(NotFoundError, match="no bucket"):
        await listed("s3://nobody/", Access(endpoint=nights.s3_endpoint))


async def test_listings_of_folders(tmp_path: Path) -> None:
    for name in ("a/x.fits", "a/b/y z.fits", "a/b/t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(DATA[:5])
    everything = [str(tmp_path / name) for name in ("a/b/t.txt", "a/b/y z.fits", "a/x.fits")]
    assert await listed(tmp_path) == everything
    assert await listed(f"{tmp_path}/**/*.fits") == everything[1:]
    assert await listed(tmp_path.as_uri() + "/a/b/*.fits") == [(tmp_path / "a/b/y z.fits").as_uri()]
    with pytest.raises(NotFoundError):
        await listed(f"{tmp_path}/*.txt")
    async for found in list_objects(tmp_path / "a" / "b"):
        piece: Piece = await open_source(found.url).read(0, 10)
        assert (found.size, found.etag) == (5, piece.etag)


def test_a_pipe_of_bytes_is_no_place() -> None:
    with pytest.raises(ConfigurationError):
        open_source(io.BytesIO(b""))  # type: ignore[arg-type]
