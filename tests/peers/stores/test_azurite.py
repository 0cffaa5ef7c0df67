"""What nuncius reads from Azurite, which has the interface of Azure's blob storage."""

import io

import numpy as np
import pytest
from astropy.io import fits
from stores_support import ODD, encoded

from nuncius.cloudfits import open_fits, scan_headers
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.stores import open_source
from nuncius.cloudfits.stores.listing import list_objects
from nuncius.errors import FileChangedError, FitsError, ForbiddenError, NotFoundError

pytestmark = pytest.mark.xdist_group("stores")
NIGHT = [f"az://sky/night/{number}/image.fits" for number in range(7)]


@pytest.fixture
def ways(azurite, store):
    """Return who may read: the account, a grant of it, anybody."""
    name = {"account_name": store.azure_account}
    return {
        "account": {"endpoint": azurite, "credentials": name | {"account_key": store.azure_key}},
        "grant": {"endpoint": azurite, "credentials": name | {"sas_key": store.azure_sas()}},
        "anybody": {"endpoint": azurite, "anon": True},
    }


@pytest.fixture(autouse=True)
def account(store, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", store.azure_account)


@pytest.mark.parametrize("key", ["x.fits", ODD, "mosaic.fits"])
@pytest.mark.parametrize("way", ["account", "grant", "anybody"])
def test_headers(ways, objects, way, key):
    with (
        fits.open(io.BytesIO(objects[key][0])) as expected,
        open_fits(f"az://sky/{key}", **ways[way]) as remote,
    ):
        assert [ours.header.tostring() for ours in remote] == [
            theirs.header.tostring() for theirs in expected
        ]
        assert remote.size == len(objects[key][0])
        assert np.array_equal(remote[-1].section[-4:], expected[-1].data[-4:])


def test_the_environment(azurite, store, monkeypatch, objects):
    """As an account key, as a grant, and as the connection string that Azure's portal shows."""
    url = "az://shut/private.fits"
    size = len(objects["private.fits"][0])
    with pytest.raises(ForbiddenError, match=r"Try with credentials"):  # Azure itself: 404
        open_fits(url, endpoint=azurite)
    for name, value in (
        ("AZURE_STORAGE_ACCOUNT_KEY", store.azure_key),
        ("AZURE_STORAGE_SAS_TOKEN", store.azure_sas()),
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            f"DefaultEndpointsProtocol=http;AccountName={store.azure_account};AccountKey={store.azure_key};BlobEndpoint={azurite};",
        ),
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            f"BlobEndpoint={azurite};SharedAccessSignature={store.azure_sas()};AccountName={store.azure_account}",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with open_fits(url, endpoint=azurite) as remote:
                assert remote.size == size
            with open_fits(
                f"abfs://shut@{store.azure_account}.dfs.core.windows.net/private.fits", endpoint=azurite
            ) as remote:
                assert remote.size == size


def test_a_connection_string_names_the_endpoint(azurite, store, monkeypatch, objects):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={store.azure_account};AccountKey={store.azure_key};BlobEndpoint={azurite};",
    )
    with open_fits("az://shut/private.fits") as remote:
        assert remote.size == len(objects["private.fits"][0])


def test_what_is_refused(azurite, store, ways):
    wrong = {"account_name": store.azure_account, "account_key": "d3Jvbmc="}
    with pytest.raises(ForbiddenError, match="AuthorizationFailure") as caught:  # Azure: AuthenticationFailed
        open_fits("az://shut/private.fits", endpoint=azurite, credentials=wrong)
    assert "d3Jvbmc" not in str(caught.value)
    over = {"account_name": store.azure_account, "sas_key": store.azure_sas(expires_s=-60)}
    with pytest.raises(ForbiddenError) as caught:
        open_fits("az://shut/private.fits", endpoint=azurite, credentials=over)
    assert "sig=" not in str(caught.value)
    for url, said in (("az://sky/nothing.fits", "no such object"), ("az://nobody/x", "no bucket 'nobody'")):
        with pytest.raises(NotFoundError, match=said):
            open_fits(url, **ways["account"])


@pytest.mark.parametrize("way", ["account", "grant", "anybody"])
@pytest.mark.parametrize("key", ["x.fits", ODD])
async def test_pieces(ways, objects, way, key):
    data = objects[key][0]
    source = open_source(f"az://sky/{key}", Access(**ways[way]))
    first = await source.read(0, 2880)
    assert (first.data, first.size) == (data[:2880], len(data))
    assert first.etag.startswith('"')
    assert first.modified is not None
    assert (await source.read(len(data) - 7, len(data) + 99, etag=first.etag)).data == data[-7:]
    # What begins right at the end is answered by Azurite as if there were such bytes, -1 of them.
    for start in (len(data) + 1, 10**12):
        nothing = await source.read(start, start + 10, etag=first.etag)
        assert (nothing.data, nothing.size) == (b"", len(data))
    assert (await source.read_all(len(data))).data == data
    with pytest.raises(FileChangedError):
        await source.read(0, 10, etag='"0x0"')


async def test_links(azurite, store, objects):
    link = f"{azurite}/shut/private.fits?{store.azure_sas()}"
    piece = await open_source(link).read(80, 2880)
    assert piece.data == objects["private.fits"][0][80:2880]
    with open_fits(f"{azurite}/sky/{encoded(ODD)}") as remote:
        assert remote.size == len(objects[ODD][0])


async def test_an_empty_blob(ways):
    for way in ways.values():
        piece = await open_source("az://sky/empty.fits", Access(**way)).read(0, 2880)
        assert (piece.data, piece.size) == (b"", 0)
    with pytest.raises(FitsError):
        open_fits("az://sky/empty.fits", **way)


async def test_listings(ways, objects):
    for way in ways.values():
        everything = {item.url: item async for item in list_objects("az://sky/", Access(**way))}
        assert {url: item.size for url, item in everything.items()} == {
            f"az://sky/{key}": len(data) for key, (data, public) in objects.items() if public
        }
        found = [item.url async for item in list_objects("az://sky/night/*/im*.fits", Access(**way))]
        assert sorted(found) == NIGHT
    etag = (await open_source(f"az://sky/{ODD}", Access(**way)).read(0, 1)).etag
    assert everything[f"az://sky/{ODD}"].etag == etag


def test_a_folder_is_scanned(ways, tmp_path):
    index = scan_headers(
        "az://sky/night/", out=tmp_path / "night.parquet", partition=3, progress=False, **ways["account"]
    )
    for url in NIGHT:
        with open_fits(url, index=index, **ways["account"]) as remote:
            assert remote.stats.requests == 0
            assert len(remote["B"].section[:5]) == 5
