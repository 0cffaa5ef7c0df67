"""`open_fits` as people use it at night: what is misspelt, forgotten or secret, what is carried to other processes, hints."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import pickle
import re
import traceback
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

import nuncius
from nuncius import aio
from nuncius.cloudfits import scan_headers
from nuncius.errors import (
    ConfigurationError,
    FileChangedError,
    FitsError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    StorageError,
    UnsupportedError,
)
from nuncius.sandbox import fits_files
from nuncius.sandbox.fits_files import SparseFile
from nuncius.sandbox.store import SandboxStore

pytestmark = pytest.mark.xdist_group("fits-open")

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>...</body></html>\n"


@pytest.fixture(scope="module")
def running():
    with SandboxStore() as store:
        store.put("mosaic.fits", fits_files.good_file())
        store.put("table.fits", fits_files.large_table(100))
        store.put("sky.fits", dict(fits_files.kinds())["image with a WCS"]())
        store.put("tiles.fits", fits_files.decam_fz(2))
        store.put("page.fits", PAGE)
        yield store


@pytest.fixture
def store(running):
    running.reset()
    return running


@pytest.fixture
def opened(store):
    return lambda name, **options: nuncius.open_fits(store.http_url(f"{name}.fits"), **options)


# What is misspelt or misunderstood ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("SCI", KeyError, r"no HDU 'SCI' .* it has PRIMARY, A, B"),
        (("A", 2), KeyError, r"\('A', 2\)"),
        (("A", "1"), KeyError, "PRIMARY, A, B"),
        (3, IndexError, "no HDU 3 in .*: it has 3"),
        (-4, IndexError, "no HDU -4"),
        (10**30, IndexError, "it has 3"),
        (1.5, TypeError, "its number, its name, or"),
        (None, TypeError, "its name"),
        (("A", 1, 2), TypeError, r"\(name, version\)"),
        (slice(0, 2), TypeError, "its number"),
        (b"A", TypeError, "its name"),
    ],
)
def test_hdus_that_are_not_there(opened, key, error, message):
    file = opened("mosaic")
    with pytest.raises(error, match=message):
        file[key]
    assert key not in file


def test_hdus_are_found_as_astropy_finds_them(opened):
    file = opened("mosaic")
    for key in (1, -2, "A", "a", " a ", ("a", 1), np.int64(1), np.uint8(1)):
        assert file[key].index == 1
        assert key in file
    assert file["primary"].index == 0
    assert file.names == ["PRIMARY", "A", "B"]
    assert [hdu.index for hdu in file] == [0, 1, 2]


def test_headers_that_were_not_asked_for(opened):
    """Who has read a part of the headers is told that there may be more."""
    with pytest.raises(KeyError, match="open it without hdus="):
        opened("mosaic", hdus=1)["B"]
    assert opened("mosaic", hdus="a")["A"].index == 1
    with pytest.raises(LookupError, match=r"it has PRIMARY, A, B\W*$"):
        opened("mosaic", hdus="NOPE")["NOPE"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hdus": 0}, "how many HDUs are read, from 1"),
        ({"hdus": True}, "hdus=True"),
        ({"hdus": 1.5}, "hdus=1.5"),
        ({"like": "other.fits"}, "not str: like=open_fits"),
        ({"like": 3}, "not int"),
        ({"index": 3}, "a path of a Parquet file"),
        ({"timeout_s": 0}, "above 0"),
        ({"timeout_s": "3"}, "seconds"),
        ({"retries": -1}, "0 or more"),
        ({"max_concurrency": 0}, "1 or more"),
        ({"overread_bytes": 2.5}, "whole number"),
        ({"credentials": "key:secret"}, r"takes \(key id, secret\)"),
        ({"credentials": ("key", "secret"), "anon": True}, "leave one out"),
        ({"anon": True, "requester_pays": True}, "account that pays"),
        ({"endpoint": "minio"}, "https://minio.example.org"),
        ({"headers": {"Range": "bytes=0-"}}, "set by each request itself"),
    ],
)
def test_options_that_cannot_be(store, options, message):
    store.reset()
    with pytest.raises(ConfigurationError, match=message):
        nuncius.open_fits(store.http_url("mosaic.fits"), **options)
    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(opened_async(store.http_url("mosaic.fits"), **options))
    assert store.stats.requests == 0


async def opened_async(url, **options):
    return await aio.open_fits(url, **options)


@pytest.mark.parametrize("function", [nuncius.open_fits, aio.open_fits])
def test_a_misspelt_option_is_an_error(function):
    with pytest.raises(TypeError, match="overead_bytes"):
        function("x.fits", overead_bytes=3)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("", ConfigurationError, "not empty"),
        (None, ConfigurationError, "a text"),
        (["a.fits", "b.fits"], ConfigurationError, "a text"),
        ("htps://sky/x.fits", ConfigurationError, "htps:// is not known .* known are s3, gs"),
        ("http://", ConfigurationError, "https://host/path"),
        ("s3://sky/", ConfigurationError, "names a folder"),
        ("s3://sky", ConfigurationError, "names a folder"),
        ("/nothing/here.fits", NotFoundError, "the folder /nothing is missing"),
        ("file:///nothing/here.fits", NotFoundError, "the folder /nothing is missing"),
    ],
)
def test_addresses_that_are_none(url, error, message):
    with pytest.raises(error, match=message):
        nuncius.open_fits(url)


def test_a_folder_instead_of_a_file(tmp_path, store):
    with pytest.raises(NotFoundError, match="is a folder, not a file"):
        nuncius.open_fits(tmp_path)
    with pytest.raises(NotFoundError, match="404"):
        nuncius.open_fits(f"{store.url}/sky/")
    (tmp_path / "mosaic.fits").write_bytes(fits_files.good_file())
    assert len(nuncius.open_fits(tmp_path / "mosaic.fits")) == 3


def test_a_page_instead_of_a_file(opened, store):
    with pytest.raises(FitsError, match="a page of HTML: perhaps a login") as caught:
        opened("page")
    assert caught.value.position == "byte 0"
    assert caught.value.url == store.http_url("page.fits")


@pytest.mark.parametrize(
    ("name", "read", "error", "message"),
    [
        ("mosaic", lambda hdu: hdu.rows(0, 1), UnsupportedError, "HDU 0 .* is no table but: image"),
        ("mosaic", lambda hdu: hdu.columns(["RA"]), UnsupportedError, "no table"),
        ("mosaic", lambda hdu: hdu.section[60], IndexError, "index 60 is out of bounds for axis 0 of 60"),
        ("mosaic", lambda hdu: hdu.section[0, -71], IndexError, "axis 1 of 70"),
        ("mosaic", lambda hdu: hdu.section[0, 0, 0], IndexError, "3 indices for an image of 2 axes"),
        ("mosaic", lambda hdu: hdu.section[1.5], IndexError, "a number, a slice, or a list"),
        ("mosaic", lambda hdu: hdu.section["A"], IndexError, "axis 0"),
        ("mosaic", lambda hdu: hdu.section[None], IndexError, "axis 0"),
        ("mosaic", lambda hdu: hdu.section[[1, 2], [3, 4]], IndexError, "at most one axis"),
        ("mosaic", lambda hdu: hdu.section[[61]], IndexError, "out of bounds"),
        ("mosaic", lambda hdu: hdu.section[:, [True] * 3], IndexError, "3 truth values for axis 1 of 70"),
        ("mosaic", lambda hdu: hdu.section[::0], ValueError, "step"),
        (
            "mosaic",
            lambda hdu: hdu.cutout((1000, 9), 5),
            NotFoundError,
            "pixel .* is not on HDU 0 .* 70 x 60",
        ),
        ("mosaic", lambda hdu: hdu.cutout((float("nan"), 9), 5), NotFoundError, "not on HDU 0"),
        ("mosaic", lambda hdu: hdu.cutout("10 10", 5), ConfigurationError, "a SkyCoord, or"),
        ("mosaic", lambda hdu: hdu.cutout(10, 5), ConfigurationError, "a SkyCoord, or"),
        ("mosaic", lambda hdu: hdu.cutout((10, 10), 0), ConfigurationError, "above 0"),
        ("mosaic", lambda hdu: hdu.cutout((10, 10), (5, -5)), ConfigurationError, "above 0"),
        ("mosaic", lambda hdu: hdu.cutout((10, 10), "5"), ConfigurationError, "5"),
        ("mosaic", lambda hdu: hdu.cutout((10, 10), (1, 2, 3)), ConfigurationError, "two elements"),
        (
            "mosaic",
            lambda hdu: hdu.cutout((10, 10), 5, mode="cut"),
            ConfigurationError,
            "'trim', and 'strict'",
        ),
        ("mosaic", lambda hdu: hdu.cutout((0, 0), 5, mode="partial"), ConfigurationError, "fill_value"),
        ("mosaic", lambda hdu: hdu.cutout(SKY, 5), UnsupportedError, "no WCS of the sky"),
        ("mosaic", lambda hdu: hdu.cutout((10, 10), 5 * u.arcsec), UnsupportedError, "no WCS of the sky"),
        (
            "sky",
            lambda hdu: hdu.cutout(SkyCoord(10, 2, unit="deg"), 5),
            NotFoundError,
            "10 2 is not on HDU 0",
        ),
        ("sky", lambda hdu: hdu.cutout(SkyCoord(330, -2, unit="deg"), 5), NotFoundError, "is not on HDU 0"),
        ("sky", lambda hdu: hdu.cutout(SKY[None], 5), ConfigurationError, "one position"),
        ("sky", lambda hdu: hdu.cutout(SKY, 5, wcs="TAN"), ConfigurationError, "'str' object"),
        ("table", lambda hdu: hdu.section[0], UnsupportedError, r"no image but is: table.*\.rows\(\)"),
        ("table", lambda hdu: hdu.cutout((1, 1), 3), UnsupportedError, "no image of two axes"),
        ("table", lambda hdu: hdu.columns(["NOPE"]), NotFoundError, "no column 'NOPE' .* it has ID, RA"),
        ("table", lambda hdu: hdu.columns(["MAG_9"]), NotFoundError, "did you mean MAG_"),
        ("table", lambda hdu: hdu.columns([]), ConfigurationError, "no column"),
        ("table", lambda hdu: hdu.columns([3]), ConfigurationError, "by their names"),
        ("table", lambda hdu: hdu.columns(["RA"], rows=[100]), IndexError, "no row 100: the table has 100"),
        ("table", lambda hdu: hdu.columns(["RA"], rows=1.5), IndexError, "rows= takes"),
        ("table", lambda hdu: hdu.rows("a"), TypeError, "integers"),
        ("tiles", lambda hdu: hdu.rows(0, 1), UnsupportedError, "no table but: compressed image"),
        ("tiles", lambda hdu: hdu.section[48], IndexError, "axis 0 of 48"),
    ],
)
def test_what_is_asked_of_the_wrong_hdu_or_cannot_be(opened, store, name, read, error, message):
    number = {"table": 1, "tiles": 1}.get(name, 0)
    file = opened(name)
    store.reset()
    with pytest.raises(error, match=message) as sync_error:
        read(file[number])

    async def scenario():
        async with aio.open_fits(store.http_url(f"{name}.fits")) as twin:
            store.reset()
            await read(twin[number])

    with pytest.raises(error) as async_error:
        asyncio.run(scenario())
    assert str(async_error.value) == str(sync_error.value)
    if isinstance(sync_error.value, NunciusError):
        assert getattr(sync_error.value, "url", None) in {None, file.url}
    assert store.stats.requests == 0


SKY = SkyCoord(150.1, 2.2, unit="deg")


@pytest.mark.filterwarnings("error")
def test_a_forgotten_await(store):
    url = store.http_url("mosaic.fits")
    for use in (
        lambda file: file[0],
        len,
        list,
        lambda file: file.info(),
        lambda file: file.size,
        lambda file: "A" in file,
        lambda file: file.description,
    ):
        with pytest.raises(ConfigurationError, match=r"not open yet: write `fits = await open_fits\(…\)`"):
            use(aio.open_fits(url))
    assert "not open yet" in repr(aio.open_fits(url))
    assert "not open yet" in aio.open_fits(url)._repr_html_()
    file = asyncio.run(opened_async(url))
    waiting = file[0].section[0]
    assert inspect.iscoroutine(waiting)
    waiting.close()
    with pytest.raises(TypeError, match=r"context manager|__enter__"), aio.open_fits(url):
        pass
    assert store.stats.requests == 1


def test_a_file_that_is_closed(opened):
    with opened("mosaic") as file:
        hdu = file["A"]
    for use in (lambda: file[0], lambda: list(file)):
        with pytest.raises(UnsupportedError, match="is closed; open it again"):
            use()
    assert "mosaic.fits" in repr(file)
    assert len(file) == 3
    with fits.open(io.BytesIO(fits_files.good_file())) as hdus:
        assert np.array_equal(hdu.data, hdus["A"].data)


def test_how_a_file_shows_itself(opened, store, capsys):
    file = opened("table")
    file.info()
    shown = capsys.readouterr().out
    assert re.search(r"1 +CATALOG +table +100 rows x 13 columns", shown)
    assert f"{store.http_url('table.fits')}: 2 HDUs" in shown
    assert re.fullmatch(r"<RemoteHdu 1 CATALOG: table 100 rows x 13 columns, [\d,]+ bytes>", repr(file[1]))
    assert "<td>CATALOG</td>" in file._repr_html_()
    assert re.match(r"1 requests? in 1 round trips?, [\d,]+ bytes", str(file.stats))
    assert repr(opened("mosaic")[0].section).startswith("<Section of shape (60, 70) of HDU 0 of http://")


# Secrets --------------------------------------------------------------------------------------------------------------

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
WRONG_KEY, WRONG_SECRET = "AKIA0000000000000000", "/very+secret="


@pytest.fixture
def private(store):
    """Put a file into the store that is not for everybody; give the ways to it, and all that nobody may see."""
    store.put("private.fits", fits_files.good_file(), public=False)
    store.put("asked.fits", fits_files.good_file(), query="token=very%2Fsecret")
    s3 = {"endpoint": store.s3_endpoint}
    both = {"access_key_id": store.access_key, "secret_access_key": store.secret_key}
    link = store.http_url("mosaic.fits").replace("//", "//astronomer:pass%2Fword@")
    ways = {
        "keys": (store.s3_url("private.fits"), s3 | {"credentials": (store.access_key, store.secret_key)}),
        "session token": (
            store.s3_url("private.fits"),
            s3 | {"credentials": both | {"token": store.session_token}},
        ),
        "bearer token": (
            store.http_url("private.fits"),
            {"headers": {"Authorization": f"Bearer {store.bearer_token}"}},
        ),
        "presigned link": (store.presigned_url("private.fits"), {}),
        "a query": (store.http_url("asked.fits", query="token=very%2Fsecret"), {}),
    }
    failing = {
        "user and password": (link, {}),
        "wrong keys": (store.s3_url("private.fits"), s3 | {"credentials": (WRONG_KEY, WRONG_SECRET)}),
        "link that is over": (store.presigned_url("private.fits", expires_s=1, signed_at=LONG_AGO), {}),
        "wrong bearer token": (
            store.http_url("private.fits"),
            {"headers": {"Authorization": "Bearer verysecret"}},
        ),
        "nothing there": (store.presigned_url("missing.fits"), {}),
        "page": (store.http_url("page.fits", query="token=very%2Fsecret"), {}),
        "wrong query": (store.http_url("asked.fits", query="token=very%2Fsecret2"), {}),
    }
    signatures = [
        part
        for url, _ in (ways | failing).values()
        for part in re.findall(r"X-Amz-(?:Signature|Credential)=([^&]+)", url)
    ]
    secrets = [
        *(store.access_key, store.secret_key, store.session_token, store.bearer_token),
        *(WRONG_SECRET, "very%2Fsecret", "very/secret", "verysecret", "pass%2Fword", "pass/word"),
        *signatures,
    ]
    return ways, failing, secrets


def seen_of(file):
    """Return all that a file shows of itself."""
    hdu = file["A"]
    parts = [file, hdu, hdu.section, file.stats, file.description, file.url, hdu.url, file._repr_html_()]
    parts += [vars(hdu.reader) if hasattr(hdu.reader, "__dict__") else "", hdu.reader.source, file._source]
    return "\n".join(f"{part!r} {part}" for part in parts)


WAYS = ["keys", "session token", "bearer token", "presigned link", "a query"]
FAILING = {
    "wrong keys": (LoginError, ForbiddenError),
    "link that is over": (ForbiddenError, LoginError),
    "wrong bearer token": (ForbiddenError, LoginError),
    "nothing there": (NotFoundError, ForbiddenError),
    "page": (FitsError,),
    "user and password": (LoginError,),
    "wrong query": (NunciusError,),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_shown(private, store, caplog, capsys, way):
    ways, _, secrets = private
    url, options = ways[way]
    with caplog.at_level(logging.DEBUG):
        file = nuncius.open_fits(url, overread_bytes=2880, **options)
        assert file["A"].section[0] == 713
        file.info()
        store.put("private.fits", fits_files.good_file(), public=False, etag="other")
        store.failure_rate = 1.0
        with pytest.raises(NunciusError) as caught:
            nuncius.open_fits(url, **options | {"retries": 0})
    text = seen_of(file) + caplog.text + capsys.readouterr().out + told(caught.value)
    assert [secret for secret in secrets if secret in text] == []
    assert "private.fits" in text or "asked.fits" in text


@pytest.mark.parametrize("way", FAILING)
def test_no_secret_is_in_an_error(private, store, caplog, way):
    _, failing, secrets = private
    url, options = failing[way]
    with caplog.at_level(logging.DEBUG), pytest.raises(FAILING[way]) as caught:
        nuncius.open_fits(url, **options | {"retries": 0})
    text = told(caught.value) + caplog.text
    assert [secret for secret in secrets if secret in text] == []
    assert ".fits" in str(caught.value)


def told(error):
    """Return an error, its facts, and all errors that it follows from, as a traceback and a pickle show them."""
    lines = "".join(traceback.format_exception(error))
    frames = [line for line in lines.splitlines() if not line.lstrip().startswith("File ")]
    return "\n".join(frames) + repr(error) + repr(vars(error)) + repr(pickle.dumps(error))


# Other processes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_holds_a_secret_is_not_pickled_and_what_it_has_read_is(private, way):
    ways, _, secrets = private
    url, options = ways[way]
    file = nuncius.open_fits(url, **options)
    for what in (file, file["A"], file._source):
        with pytest.raises(ConfigurationError, match="not carried to other processes") as caught:
            pickle.dumps(what)
        assert not any(secret in str(caught.value) for secret in secrets)
    for what in (file.description, file.stats, file.description.hdus[1]):
        carried = pickle.dumps(what)
        assert not any(secret.encode() in carried for secret in secrets)
        assert repr(pickle.loads(carried)) == repr(what)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_open_files_and_hdus_pickle(opened, store, protocol):
    file = opened("mosaic")
    expected = file["A"].data
    again = pickle.loads(pickle.dumps(file, protocol))
    hdu = pickle.loads(pickle.dumps(file["A"], protocol))
    assert [each.raw for each in again] == [each.raw for each in file]
    assert (again.url, again.size, again.etag) == (file.url, file.size, file.etag)
    np.testing.assert_array_equal(again["A"].data, expected)
    np.testing.assert_array_equal(hdu.data, expected)
    assert again["A"].header == file["A"].header
    store.put("pickled.fits", fits_files.good_file())
    file = pickle.dumps(opened("pickled", overread_bytes=2880))
    store.put("pickled.fits", fits_files.good_file(), etag="other")
    with pytest.raises(FileChangedError):
        _ = pickle.loads(file)["B"].data


# Hints that may be wrong ----------------------------------------------------------------------------------------------


def layouts():
    """Give siblings that are like the file, almost like it, and not at all."""
    yield "another night of the same layout", fits_files.night_file(2)
    yield "the same length, other places", fits_files.night_file(1, swapped=True)
    yield "fewer HDUs", fits_files.many_hdus(count=1)
    yield "more HDUs", fits_files.many_hdus("random", count=40, nextend=False)
    yield (
        "no extension",
        SparseFile(
            2880,
            {
                0: fits_files.good_file()[:2880].replace(
                    b"NAXIS   =                    2", b"NAXIS   =                    0"
                )
            },
        ),
    )


@pytest.mark.parametrize("name", dict(layouts()))
def test_a_sibling_never_changes_a_result(store, name):
    store.put("mine.fits", fits_files.night_file(1))
    store.put("sibling.fits", dict(layouts())[name])
    sibling, plain = (nuncius.open_fits(store.http_url(f"{each}.fits")) for each in ("sibling", "mine"))
    for like in (sibling, sibling.description, pickle.loads(pickle.dumps(sibling.description))):
        file = nuncius.open_fits(store.http_url("mine.fits"), like=like)
        assert [hdu.raw for hdu in file] == [hdu.raw for hdu in plain]
        assert [hdu.header_offset for hdu in file] == [hdu.header_offset for hdu in plain]
        assert file.description.trailing_bytes == plain.trailing_bytes
        np.testing.assert_array_equal(file["CCD2"].section[5], plain["CCD2"].section[5])


def test_a_sibling_saves_round_trips(store):
    for number in (1, 2):
        store.put(f"{number}.fits", fits_files.night_file(number))
    first = nuncius.open_fits(store.http_url("1.fits"))
    second = nuncius.open_fits(store.http_url("2.fits"), like=first)
    assert second.stats.round_trips == 1 < first.stats.round_trips


@pytest.fixture
def index(store):
    return scan_headers(
        [store.http_url(f"{name}.fits") for name in ("mosaic", "table", "tiles")], progress=False
    )


def test_an_index_needs_no_header_request(store, index):
    plain = nuncius.open_fits(store.http_url("mosaic.fits"))
    store.reset()
    file = nuncius.open_fits(store.http_url("mosaic.fits"), index=index)
    assert store.stats.requests == 0
    assert [hdu.raw for hdu in file] == [hdu.raw for hdu in plain]
    np.testing.assert_array_equal(file["B"].data, plain["B"].data)
    assert store.stats.requests == 1
    tiles = nuncius.open_fits(store.http_url("tiles.fits"), index=index)
    np.testing.assert_array_equal(tiles[1].data, nuncius.open_fits(store.http_url("tiles.fits"))[1].data)
    table = nuncius.open_fits(store.http_url("table.fits"), index=index)
    assert (
        table[1].rows(50, 53)["ID"].tolist()
        == nuncius.open_fits(store.http_url("table.fits"))[1].rows(50, 53)["ID"].tolist()
    )


def test_a_file_that_has_changed_since_it_was_indexed(store, index):
    """Nothing is said until data is read, and nothing wrong is ever read."""
    for name, read in (
        ("mosaic", lambda file: file["B"].data),
        ("table", lambda file: file[1].rows(0, 2)),
        ("tiles", lambda file: file[1].section[0]),
        ("mosaic", lambda file: file[0].cutout((9, 9), 3)),
        ("mosaic", lambda file: file.hdulist()["A"].data),
    ):
        url = store.http_url(f"{name}.fits")
        content = {
            "mosaic": fits_files.good_file(),
            "table": fits_files.large_table(100),
            "tiles": fits_files.decam_fz(2),
        }
        store.put(f"{name}.fits", content[name], etag="other")
        with pytest.raises(FileChangedError, match=r"replaced|open it again"):
            read(nuncius.open_fits(url, index=index))
        store.put(f"{name}.fits", content[name])


def test_a_file_that_is_gone_or_not_in_the_index(store, index):
    with pytest.raises(NotFoundError, match=r"sky\.fits"):
        nuncius.open_fits(store.http_url("sky.fits"), index=index)
    store.put("short.fits", fits_files.good_file())
    index = scan_headers([store.http_url("short.fits")], progress=False)
    store.delete("short.fits")
    file = nuncius.open_fits(store.http_url("short.fits"), index=index)
    with pytest.raises(NotFoundError, match="404"):
        _ = file["B"].data


def test_an_index_whose_rows_were_changed(store, index):
    """Offsets follow from the headers and are not believed."""
    import pyarrow as pa

    url = store.http_url("mosaic.fits")
    for name, change in (
        ("header_offset", lambda value: value + 2880 if value else value),
        (
            "header",
            lambda value: value.replace(b"NAXIS1  =                 1200", b"NAXIS1  =                 9200"),
        ),
        ("size", lambda value: value + 100_000),
    ):
        values = [change(value) for value in index[name].to_pylist()]
        column = index.schema.get_field_index(name)
        changed = index.set_column(column, name, pa.array(values, index.schema.field(name).type))
        with pytest.raises(StorageError, match=r"[Ss]can the file again"):
            nuncius.open_fits(url, index=changed)
