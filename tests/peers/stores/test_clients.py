"""Real clients on the sandbox's store: what works with it works with a store."""

import hashlib
import io

import obstore
import pytest
from astropy.io import fits
from obstore.store import AzureStore, GCSStore, S3Store
from stores_support import ODD, REGION, encoded

from nuncius.cloudfits import open_fits

pytestmark = pytest.mark.xdist_group("stores")
KEYS = ["x.fits", ODD, "mosaic.fits"]
NIGHT = [f"night/{number}/image.fits" for number in range(7)]
FOLDERS = [f"night/{number}/" for number in range(7)]
LOCAL = {"allow_http": True}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def digests(objects, keys=KEYS):
    return {key: [digest(objects[key][0]), digest(objects[key][0][80:2880])] for key in keys}


def signed(store):
    return [store.access_key, store.secret_key]


@pytest.mark.parametrize("who", ["keys", "anybody"])
def test_boto3(store, objects, client, who):
    keys = signed(store) if who == "keys" else None
    order = {"endpoint": store.s3_endpoint, "region": REGION, "bucket": "sky", "object_keys": KEYS}
    got = client("read_s3", keys=keys, **order)
    assert got["found"] == {
        key: [*both, f"bytes 80-2879/{len(objects[key][0])}"] for key, both in digests(objects).items()
    }
    assert got["errors"] == {
        "no key": "NoSuchKey",
        "no bucket": "NoSuchBucket",
        "range": "InvalidRange",
        "changed": "PreconditionFailed",
        "same": "304",
    }
    assert (got["listed"], got["folders"]) == (NIGHT, FOLDERS)


@pytest.mark.parametrize("who", ["keys", "anybody"])
def test_s3fs(store, objects, client, who):
    keys = signed(store) if who == "keys" else None
    got = client("read_s3fs", keys=keys, endpoint=store.s3_endpoint, bucket="sky", object_keys=KEYS)
    assert got["found"] == digests(objects)
    assert got["errors"] == {"nothing.fits": "FileNotFoundError"} | (
        {} if keys else {"private.fits": "PermissionError"}
    )
    assert got["listed"] == [f"sky/{key}" for key in NIGHT]


def test_azure_storage_blob(store, objects, client):
    got = client(
        "read_azure",
        url=store.azure_endpoint,
        account=store.azure_account,
        key=store.azure_key,
        object_keys=KEYS,
    )
    assert got["found"] == digests(objects)
    assert got["shut"] == digest(objects["private.fits"][0])
    assert got["errors"] == {
        "no blob": "BlobNotFound",
        "no container": "ContainerNotFound",
        "private": "ResourceNotFound",
    }
    assert (got["listed"], got["folders"]) == (NIGHT, FOLDERS)


def test_adlfs(store, objects, client):
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={store.azure_account};AccountKey={store.azure_key};"
        f"BlobEndpoint={store.azure_endpoint};"
    )
    got = client("read_adlfs", connection=connection, object_keys=KEYS)
    assert got["found"] == digests(objects) | digests(objects, ["private.fits"])
    assert got["missing"] == "FileNotFoundError"
    assert got["listed"] == [f"sky/{key}" for key in NIGHT]


def test_astropy(store, objects, client):
    """From a link by fsspec, from S3 by s3fs: the headers and the pixels that nuncius reads."""
    key, secret = signed(store)
    by_keys = {"key": key, "secret": secret, "endpoint_url": store.s3_endpoint}
    files = [
        (store.http_url("x.fits"), {"block_size": 8000}),
        (store.presigned_url("x.fits"), {"block_size": 8000}),
        (f"{store.s3_endpoint}/sky/x.fits", {"cache_type": "readahead", "block_size": 5000}),
        ("s3://sky/x.fits", by_keys | {"default_block_size": 8000}),
        ("s3://sky/x.fits", {"anon": True, "endpoint_url": store.s3_endpoint}),
    ]
    answers = client("read_astropy", files=files, hdu="A", section=[[100, 130]])
    with open_fits(store.http_url("x.fits")) as ours:
        headers = "".join(hdu.header.tostring() for hdu in ours)
        section = ours["A"].section[100:130].astype("f8").tolist()
    assert answers == [[digest(headers.encode()), section]] * len(files)


def test_obstore(store, objects):
    """Without nuncius between: every store's client, in ranges, with conditions, in lists."""
    key, secret = signed(store)
    bucket = {"endpoint": store.s3_endpoint, "region": REGION, "client_options": LOCAL}
    account = {"account_name": store.azure_account, "endpoint": store.azure_endpoint, "client_options": LOCAL}
    clients = [
        S3Store("sky", access_key_id=key, secret_access_key=secret, **bucket),
        S3Store("sky", skip_signature=True, **bucket),
        GCSStore(
            "sky", config={"base_url": store.gcs_endpoint, "skip_signature": True}, client_options=LOCAL
        ),
        AzureStore("sky", account_key=store.azure_key, **account),
        AzureStore("sky", config={"skip_signature": True}, **account),
    ]
    for each in clients:
        for name in KEYS:
            data = objects[name][0]
            got = obstore.get(each, name, options={"range": (80, 2880)})
            assert (bytes(got.bytes()), got.meta["size"]) == (data[80:2880], len(data))
            described = obstore.head(each, name)
            assert (described["size"], described["e_tag"]) == (len(data), got.meta["e_tag"])
            assert bytes(obstore.get(each, name, options={"if_match": got.meta["e_tag"]}).bytes()) == data
            pieces = obstore.get_ranges(each, name, starts=[0, 9000], ends=[10, 9010])
            assert [bytes(piece) for piece in pieces] == [data[:10], data[9000:9010]]
            with pytest.raises(obstore.exceptions.PreconditionError):
                obstore.get(each, name, options={"if_match": '"other"'})
            with pytest.raises(obstore.exceptions.NotModifiedError):
                obstore.get(each, name, options={"if_none_match": got.meta["e_tag"]})
        listed = [meta["path"] for chunk in obstore.list(each, "night", chunk_size=2) for meta in chunk]
        assert sorted(listed) == NIGHT
        assert obstore.list_with_delimiter(each, "night")["common_prefixes"] == [
            folder.removesuffix("/") for folder in FOLDERS
        ]
        with pytest.raises(FileNotFoundError):
            obstore.get(each, "nothing")


def test_they_get_what_nuncius_gets(store, objects):
    for key in KEYS:
        with (
            open_fits(f"{store.s3_endpoint}/sky/{encoded(key)}") as remote,
            fits.open(io.BytesIO(objects[key][0])) as local,
        ):
            assert [hdu.raw for hdu in remote] == [hdu.header.tostring().encode() for hdu in local]
