"""What nuncius reads from fake-gcs-server, which has the interfaces of Google's store; here it is the one in XML.

Its build takes minutes, so that a session of its own does it; NUNCIUS_FAKE_GCS names the program.
"""

import io
import os
import socket

import pytest
from astropy.io import fits
from stores_support import ODD, encoded, running, send

from nuncius.cloudfits import open_fits, scan_headers
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.stores.listing import list_objects
from nuncius.errors import FileChangedError, FitsError, NotFoundError

pytestmark = pytest.mark.xdist_group("stores")
NIGHT = [f"gs://sky/night/{number}/image.fits" for number in range(7)]
WAYS = {"anybody": {"anon": True}, "token": {"credentials": {"bearer_token": "any"}}}


@pytest.fixture(scope="module")
def google(objects, tmp_path_factory):
    program = os.environ.get("NUNCIUS_FAKE_GCS")
    if not program:
        pytest.skip(
            "NUNCIUS_FAKE_GCS names no fake-gcs-server: the job `nox -s stores_google` builds one (Go)"
        )
    data = tmp_path_factory.mktemp("google")
    for key, (content, _) in objects.items():
        path = data / "sky" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with socket.create_server(("127.0.0.1", 0)) as probe:  # it takes no port 0
        port = str(probe.getsockname()[1])
    here = ["-scheme", "http", "-host", "127.0.0.1", "-port", port, "-public-host", f"127.0.0.1:{port}"]
    command = [program, "-backend", "memory", "-data", str(data), *here]
    with running(command, ready=r"http://127\.0\.0\.1:\d+", cwd=data) as url:
        yield url


@pytest.mark.parametrize("key", ["x.fits", ODD, "mosaic.fits"])
@pytest.mark.parametrize("way", WAYS)
def test_headers(google, objects, way, key):
    with (
        fits.open(io.BytesIO(objects[key][0])) as expected,
        open_fits(f"gs://sky/{key}", endpoint=google, **WAYS[way]) as remote,
    ):
        assert [ours.header.tostring() for ours in remote] == [
            theirs.header.tostring() for theirs in expected
        ]
        assert remote.size == len(objects[key][0])
        assert remote[-1].section[-4:].tolist() == expected[-1].data[-4:].tolist()


@pytest.mark.parametrize("key", ["x.fits", ODD])
async def test_pieces(google, objects, key):
    data = objects[key][0]
    source = open_source(f"gs://sky/{key}", Access(endpoint=google, anon=True))
    first = await source.read(0, 2880)
    assert (first.data, first.size) == (data[:2880], len(data))
    assert first.etag.startswith('"')
    assert first.modified is not None
    assert (await source.read(len(data) - 7, len(data) + 99, etag=first.etag)).data == data[-7:]
    for start in (len(data), 10**12):
        nothing = await source.read(start, start + 10, etag=first.etag)
        assert (nothing.data, nothing.size) == (b"", len(data))
    assert (await source.read_all(len(data))).data == data
    with pytest.raises(FileChangedError):
        await source.read(0, 10, etag='"other"')


async def test_nothing_there(google):
    for url in ("gs://sky/nothing.fits", "gs://nobody/x.fits"):
        with pytest.raises(NotFoundError):
            open_fits(url, endpoint=google, anon=True)
    source = open_source("gs://sky/empty.fits", Access(endpoint=google, anon=True))
    assert (await source.read(0, 2880))[:2] == (b"", 0)
    with pytest.raises(FitsError):
        open_fits("gs://sky/empty.fits", endpoint=google, anon=True)


async def test_listings(google, objects):
    access = Access(endpoint=google, anon=True)
    everything = {item.url: item.size async for item in list_objects("gs://sky/", access)}
    assert everything == {f"gs://sky/{key}": len(data) for key, (data, _) in objects.items()}
    assert (
        sorted([item.url async for item in list_objects("gs://sky/night/[1-3]/*.fits", access)]) == NIGHT[1:4]
    )


def test_a_folder_is_scanned(google, tmp_path):
    where = {"endpoint": google, "anon": True}
    index = scan_headers(
        "gs://sky/night/", out=tmp_path / "night.parquet", partition=3, progress=False, **where
    )
    with open_fits(NIGHT[4], index=index, **where) as remote:
        assert remote.stats.requests == 0
        assert len(remote["B"].section[:5]) == 5


@pytest.mark.parametrize(
    ("key", "header", "status"),
    [
        ("x.fits", None, 200),
        (ODD, None, 200),
        ("x.fits", "bytes=0-9", 206),
        ("x.fits", "bytes=25000-", 206),
        ("x.fits", "bytes=25000-99999", 206),
        ("x.fits", "bytes=-7", 206),
        ("x.fits", "bytes=25920-25930", 416),
        ("empty.fits", "bytes=0-9", 416),
        ("nothing.fits", None, 404),
    ],
)
def test_the_sandbox_answers_alike(google, store, key, header, status):
    headers = {} if header is None else {"Range": header}
    ours, theirs = (
        send(f"{base}/sky/{encoded(key)}", headers=headers) for base in (store.gcs_endpoint, google)
    )
    assert ours.status == theirs.status == status
    if status < 300:
        kept = ("content-length", "content-range", "accept-ranges")
        assert {name: ours.headers.get(name) for name in kept} == {
            name: theirs.headers.get(name) for name in kept
        }
        assert ours.headers["etag"][0] == theirs.headers["etag"][0] == '"'
        assert ours.body == theirs.body
        assert {"last-modified", "date"} <= ours.headers.keys() & theirs.headers.keys()
    elif status == 416:
        assert ours.headers["content-range"] == theirs.headers["content-range"]
