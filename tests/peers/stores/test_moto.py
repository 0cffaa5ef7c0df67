"""What nuncius reads from moto's S3: by keys, as anybody, by links, by presigned links."""

import io
import logging
import re

import boto3
import numpy as np
import pytest
import requests
from astropy.io import fits
from botocore.config import Config
from stores_support import ODD, REGION, encoded

import nuncius.aio
from nuncius.cloudfits import open_fits, read_headers, scan_headers
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.stores.listing import list_objects
from nuncius.compat.astro_cloud.auth.aws import AWSAuth
from nuncius.compat.astro_cloud.fits import CloudService, PaymentSolution, load_headers
from nuncius.errors import FileChangedError, FitsError, ForbiddenError, LoginError, NotFoundError

pytestmark = pytest.mark.xdist_group("stores")
NIGHT = [f"s3://sky/night/{number}/image.fits" for number in range(7)]


def presigned(moto, key, version="s3v4"):
    """Return a link that boto3 has signed."""
    name, secret = moto.keys
    client = boto3.client(
        "s3",
        endpoint_url=moto.url,
        aws_access_key_id=name,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(signature_version=version),
    )
    return client.generate_presigned_url("get_object", Params={"Bucket": "sky", "Key": key}, ExpiresIn=600)


WAYS = {
    "anybody": lambda moto, key: open_fits(f"s3://sky/{key}", endpoint=moto.url, anon=True),
    "keys": lambda moto, key: open_fits(f"s3://sky/{key}", endpoint=moto.url, credentials=moto.keys),
    "link": lambda moto, key: open_fits(f"{moto.url}/sky/{encoded(key)}"),
    "link of the store": lambda moto, key: open_fits(
        f"{moto.url}/sky/{encoded(key)}", endpoint=moto.url, credentials=moto.keys
    ),
    "presigned": lambda moto, key: open_fits(presigned(moto, key)),
    "presigned as of old": lambda moto, key: open_fits(presigned(moto, key, "s3")),
}


@pytest.mark.parametrize("key", ["x.fits", ODD, "mosaic.fits"])
@pytest.mark.parametrize("way", WAYS)
def test_headers(moto, objects, way, key):
    with fits.open(io.BytesIO(objects[key][0])) as expected, WAYS[way](moto, key) as remote:
        assert len(remote) == len(expected)
        for ours, theirs in zip(remote, expected, strict=True):
            assert ours.header.tostring() == theirs.header.tostring()
            assert ours.data_offset == theirs.fileinfo()["datLoc"]
        assert (remote.size, remote.truncated) == (len(objects[key][0]), False)


def test_sections_tiles_and_rows(moto, objects):
    where = {"endpoint": moto.url, "credentials": moto.keys}
    with (
        fits.open(io.BytesIO(objects["x.fits"][0])) as expected,
        open_fits("s3://sky/x.fits", **where) as remote,
    ):
        assert np.array_equal(remote[0].section[3:50:2, 7], expected[0].data[3:50:2, 7])
        assert np.array_equal(remote["B"].section[100:200], expected["B"].data[100:200])
    with (
        fits.open(io.BytesIO(objects["tiles.fits"][0])) as expected,
        open_fits("s3://sky/tiles.fits", **where) as remote,
    ):
        assert np.array_equal(remote[1].section[2:9, 4:11], expected[1].data[2:9, 4:11])
    with (
        fits.open(io.BytesIO(objects["catalog.fits"][0])) as expected,
        open_fits("s3://sky/catalog.fits", **where) as remote,
    ):
        rows = remote["CATALOG"].rows(900, 1000)
        assert np.array_equal(rows["ID"], expected[1].data["ID"][900:1000])
        assert np.array_equal(rows["MAG_3"], expected[1].data["MAG_3"][900:1000])
        assert remote.stats.bytes < len(objects["catalog.fits"][0]) // 2


async def test_async(moto, objects):
    async with nuncius.aio.open_fits("s3://sky/x.fits", endpoint=moto.url, anon=True) as remote:
        with fits.open(io.BytesIO(objects["x.fits"][0])) as expected:
            assert np.array_equal(await remote["A"].section[10:20], expected["A"].data[10:20])


# Who reads --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x.fits", "private.fits", ODD])
def test_signatures_hold_where_they_are_checked(moto, objects, key):
    with moto.checking():
        with open_fits(f"s3://sky/{key}", endpoint=moto.url, credentials=moto.keys) as remote:
            assert remote.size == len(objects[key][0])
        for keys, code in (
            ((moto.keys[0], "wrong"), "SignatureDoesNotMatch"),
            (("AKIANOBODYKNOWSTHIS0", moto.keys[1]), "InvalidAccessKeyId"),
        ):
            with pytest.raises(LoginError, match=code) as caught:
                open_fits(f"s3://sky/{key}", endpoint=moto.url, credentials=keys)
            assert keys[1] not in str(caught.value)


def test_a_signature_is_for_its_region(moto, monkeypatch):
    """Which is the one that is given, or that of the environment; moto takes any."""
    with (
        moto.checking(),
        open_fits("s3://sky/x.fits", endpoint=moto.url, credentials=moto.keys, region="eu-west-1") as remote,
    ):
        assert len(remote) == 3
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.keys[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.url)
    monkeypatch.setenv("AWS_REGION", "ap-southeast-2")
    with moto.checking(), open_fits("s3://sky/private.fits") as remote:
        assert len(remote) == 3


def test_a_private_file_is_refused_to_anybody(moto, caplog):
    caplog.set_level(logging.INFO, "nuncius.cloudfits")
    for options in ({"anon": True}, {}):
        with pytest.raises(ForbiddenError, match="credentials=") as caught:
            open_fits("s3://sky/private.fits", endpoint=moto.url, **options)
        assert caught.value.status == 403
    with open_fits(presigned(moto, "private.fits")) as remote:
        assert len(remote) == 3
        assert "Signature" not in remote.url


def test_nothing_there(moto):
    for url, said in (
        ("s3://sky/nothing.fits", "no such object"),
        ("s3://nobody/x.fits", "no bucket 'nobody'"),
    ):
        with pytest.raises(NotFoundError, match=said):
            open_fits(url, endpoint=moto.url, anon=True)
    with pytest.raises(NotFoundError):
        open_fits(presigned(moto, "nothing.fits"))
    with pytest.raises(FitsError):
        open_fits("s3://sky/empty.fits", endpoint=moto.url, anon=True)


# Pieces -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x.fits", ODD])
async def test_pieces(moto, objects, key):
    data = objects[key][0]
    signed = Access(endpoint=moto.url, credentials=moto.keys)
    for source in (open_source(f"s3://sky/{key}", signed), open_source(presigned(moto, key))):
        first = await source.read(0, 2880)
        assert (first.data, first.size) == (data[:2880], len(data))
        assert re.fullmatch('"[0-9a-f]{32}"', first.etag)
        assert first.modified is not None
        beyond = await source.read(len(data) - 7, len(data) + 99, etag=first.etag)
        assert beyond.data == data[-7:]
        for start in (len(data), 10**12):
            nothing = await source.read(start, start + 10, etag=first.etag)
            assert (nothing.data, nothing.size) == (b"", len(data))
        assert (await source.read_all(len(data))).data == data
        with pytest.raises(FileChangedError):
            await source.read(0, 10, etag='"another"')


async def test_an_empty_object(moto):
    for options in ({"credentials": moto.keys}, {"anon": True}):
        source = open_source("s3://sky/empty.fits", Access(endpoint=moto.url, **options))
        piece = await source.read(0, 2880)
        assert (piece.data, piece.size) == (b"", 0)


def test_a_file_that_was_replaced(moto, objects):
    here, data = {"Bucket": "shut", "Key": "changing.fits"}, objects["x.fits"][0]
    moto.s3.put_object(**here, Body=data)
    url = "s3://shut/changing.fits"
    with open_fits(url, endpoint=moto.url, credentials=moto.keys, overread_bytes=2880) as remote:
        moto.s3.put_object(**here, Body=data[::-1])
        with pytest.raises(FileChangedError, match=r"changing\.fits"):
            _ = remote["B"].section[:]


# Many files -------------------------------------------------------------------------------------------------------------


async def listed(url, **options):
    return {item.url: item async for item in list_objects(url, Access(**options))}


async def test_listings(moto, objects):
    for options in ({"credentials": moto.keys}, {"anon": True}):
        everything = await listed("s3://sky/", endpoint=moto.url, **options)
        assert {url: item.size for url, item in everything.items()} == {
            f"s3://sky/{key}": len(data) for key, (data, _) in objects.items()
        }
        assert sorted(await listed("s3://sky/night/*/image.fits", endpoint=moto.url, **options)) == NIGHT
        with pytest.raises(NotFoundError):
            await listed("s3://sky/day/", endpoint=moto.url, **options)
    source = open_source(f"s3://sky/{ODD}", Access(endpoint=moto.url, anon=True))
    assert everything[f"s3://sky/{ODD}"].etag == (await source.read(0, 1)).etag


def test_a_folder_is_scanned(moto, tmp_path):
    where = {"endpoint": moto.url, "credentials": moto.keys, "progress": False}
    files = list(read_headers("s3://sky/night/", ordered=True, **where))
    assert [file.url for file in files] == NIGHT
    assert all([hdu.name for hdu in file] == ["PRIMARY", "A", "B"] for file in files)
    index = scan_headers("s3://sky/night/", out=tmp_path / "night.parquet", partition=3, **where)
    with open_fits(NIGHT[5], index=index, endpoint=moto.url, credentials=moto.keys) as remote:
        assert remote.stats.requests == 0
        assert [hdu.raw for hdu in remote] == [hdu.raw for hdu in files[5]]
        assert remote["B"].section[:].shape == files[5]["B"].shape


# As users of astro-cloud read -------------------------------------------------------------------------------------------


@pytest.fixture
def environment(moto, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.keys[1])


@pytest.mark.parametrize("key", ["x.fits", "private.fits", ODD])
@pytest.mark.parametrize("payer", [False, True])
def test_requests_signed_by_aws_auth(moto, objects, environment, key, payer):
    url, data = f"{moto.url}/sky/{encoded(key)}", objects[key][0]
    with moto.checking():
        piece = requests.get(
            url, auth=AWSAuth(request_payer=payer), headers={"Range": "bytes=0-2779"}, timeout=60
        )
        assert (piece.status_code, piece.content) == (206, data[:2780])
        assert piece.headers["Content-Range"] == f"bytes 0-2779/{len(data)}"
        with requests.get(url, auth=AWSAuth(request_payer=payer), stream=True, timeout=60) as whole:
            assert b"".join(whole.iter_content(5000)) == data
        assert requests.head(url, auth=AWSAuth(), timeout=60).headers["Content-Length"] == str(len(data))


def test_aws_auth_signs_query_strings(moto, environment):
    query = {"list-type": "2", "prefix": "odd/a b+c%20d", "delimiter": "/"}
    with moto.checking():
        answer = requests.get(f"{moto.url}/sky", params=query, auth=AWSAuth(), timeout=60)
    assert answer.status_code == 200
    assert "<KeyCount>1</KeyCount>" in answer.text


def test_aws_auth_with_a_wrong_secret(moto, environment, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with moto.checking():
        answer = requests.get(f"{moto.url}/sky/x.fits", auth=AWSAuth(), timeout=60)
    assert answer.status_code == 403
    assert "SignatureDoesNotMatch" in answer.text


def test_aws_auth_leaves_a_presigned_link_alone(moto, objects, environment):
    for version in ("s3v4", "s3"):
        answer = requests.get(presigned(moto, "private.fits", version), auth=AWSAuth(), timeout=60)
        assert (answer.status_code, answer.content) == (200, objects["private.fits"][0])
        assert "Authorization" not in answer.request.headers


@pytest.mark.parametrize("payment", [None, PaymentSolution.AWSRequestPayer])
@pytest.mark.parametrize("key", ["x.fits", "private.fits", "mosaic.fits"])
def test_load_headers(moto, objects, environment, key, payment):
    found = load_headers(f"{moto.url}/sky/{key}", CloudService.S3, payment)
    with fits.open(io.BytesIO(objects[key][0])) as expected:
        assert [header.fits.tostring() for header in found] == [hdu.header.tostring() for hdu in expected]
        places = [hdu.fileinfo() for hdu in expected]
    assert [(header.offset, header.length) for header in found] == [
        (place["hdrLoc"], place["datLoc"] - place["hdrLoc"]) for place in places
    ]
