"""From a data set to the pixels: the items of the sandbox's dserver, whose bytes are in the sandbox's store."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest

import nuncius
from nuncius import aio
from nuncius.errors import NotFoundError, UnsupportedError
from nuncius.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("datasets-pixels")

SPECTRA = "s3://sandbox-spectra"


@pytest.fixture(scope="module")
def box():
    with Sandbox() as running:
        assert running.dserver.uris
        yield running


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for name in list(os.environ):
        if name.startswith(("DSERVER_", "DTOOL_", "NUNCIUS_DSERVER")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def told(box, tmp_path):
    """Write into a file of dtool's kind where the server and the store are."""
    store, path = box.store, tmp_path / "dtool.json"
    values = {"DSERVER_URL": box.dserver.url, "DSERVER_TOKEN": box.dserver.token}
    for bucket in ("sandbox-spectra", "sandbox-imaging"):
        values |= {
            f"DTOOL_S3_ENDPOINT_{bucket}": store.s3_endpoint,
            f"DTOOL_S3_ACCESS_KEY_ID_{bucket}": store.access_key,
            f"DTOOL_S3_SECRET_ACCESS_KEY_{bucket}": store.secret_key,
        }
    path.write_text(json.dumps(values))
    return path


def test_from_a_name_to_the_pixels(box, told):
    with nuncius.open_dserver(config_file=told, interactive=False) as dserver:
        items = dserver.find_items("spectrum.fits", base_uris=SPECTRA)
        (item,) = items
        assert item.identifier == hashlib.sha1(item.relpath.encode()).hexdigest()
        assert item.url == f"{item.data_set_uri}/data/{item.identifier}"
        with item.open() as fits:
            header = fits[0].header
            middle = round(656.28 - header["CRVAL1"])  # a pixel a nanometre
            flux = fits[0].section[middle - 30 : middle + 31]
            assert flux.shape == (61,)
            assert 0.35 < 1 - flux[30] / np.mean(flux[[0, -1]]) < 0.45  # H-alpha, in absorption
            assert header["OBJECT"] in dserver.data_set(item.data_set_uri).name
        # The token of the dserver has not gone to the store.
        assert "Bearer" not in repr(item.access())


async def test_the_same_awaited(box, told):
    async with aio.open_dserver(config_file=told, interactive=False) as dserver:
        (item,) = await dserver.find_items("spectrum.fits", base_uris=SPECTRA)
        async with aio.open_fits(item.url, **item.access()) as fits:
            assert (await fits[0].section[:5]).shape == (5,)
    assert box.store.secret_key not in repr(item.access()) + repr(item)


def test_every_item_in_the_store_is_where_its_url_says(box, told):
    with nuncius.open_dserver(config_file=told, interactive=False) as dserver:
        items = dserver.find_items("*.fits*", base_uris=["s3://sandbox-spectra", "s3://sandbox-imaging"])
        assert len(items) >= 7
        for item in items:
            with item.open(whole_file=item.name.endswith(".gz")) as fits:
                assert len(fits) >= 1


def test_an_item_that_is_not_in_the_store(box, told):
    uri = box.dserver.add("gone", base_uri=SPECTRA, items={"gone.fits": b"SIMPLE"}, tags=["gone"])
    with nuncius.open_dserver(config_file=told, interactive=False) as dserver:
        (item,) = dserver.items(uri)
        with pytest.raises(NotFoundError):
            item.open()


def test_items_that_can_not_be_reached_say_why(box, told):
    with nuncius.open_dserver(config_file=told, interactive=False) as dserver:
        far = [item for item in dserver.find_items("*") if not item.data_set_uri.startswith("s3:")]
        assert {item.data_set_uri.partition(":")[0] for item in far} == {"smb", "file"}
        for item in far:
            with pytest.raises(UnsupportedError, match="can't be read from here"):
                item.open()
