"""What was wrong with astro-cloud 0.0.2, each in the order of the list in docs/howto/astro-cloud.md."""

from __future__ import annotations

import importlib
import io
import pickle
import re
import warnings
from importlib.metadata import requires

import numpy as np
import pytest
from astropy.io import fits
from requests.auth import HTTPBasicAuth

from nuncius import cloudfits, errors
from nuncius.compat import astro_cloud
from nuncius.compat.astro_cloud.auth.aws import AWSAuth
from nuncius.compat.astro_cloud.auth.gcp import GCPAuth
from nuncius.compat.astro_cloud.errors import (
    AstroCloudArgumentError,
    AstroCloudError,
    AstroCloudForbiddenError,
    AstroCloudLoginError,
    AstroCloudNotFoundError,
    AstroCloudServerError,
    AstroCloudUnsupportedError,
)
from nuncius.compat.astro_cloud.fits import CloudService, FITSHeader, PaymentSolution, load_headers
from nuncius.compat.astro_cloud.fits.constants import BLOCK_SIZE, ENCODING, END_CARD
from nuncius.compat.astro_cloud.fits.index import aws, azure, base, digital_ocean, gcp
from nuncius.compat.astro_cloud.fits.utils import as_np_dtype, find_next_header_offset
from nuncius.sandbox.fits_files import headers as header_files
from nuncius.sandbox.fits_files import images, many, odd, tables
from nuncius.sandbox.fits_files.cubes import PixelRamp, tess_cube

PAYER = PaymentSolution.AWSRequestPayer
SMALL_CUBE = PixelRamp((50, 40, 30, 2))


def truth(data):
    """Return (offset, length, cards) of each header, as astropy finds them in a local file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as opened:
            infos = [hdu.fileinfo() for hdu in opened]
    return [
        (
            info["hdrLoc"],
            info["datLoc"] - info["hdrLoc"],
            data[info["hdrLoc"] : info["datLoc"]].decode("ascii", "replace").replace("\ufffd", "?"),
        )
        for info in infos
    ]


def found(headers):
    return [(header.offset, header.length, header.fits.tostring()) for header in headers]


def s3(store, key, bucket="sky"):
    return store.http_url(key, bucket=bucket).replace(store.url, store.s3_endpoint)


# The interface --------------------------------------------------------------------------------------------------------


def test_every_documented_name_is_there():
    assert [(service.name, service.value) for service in CloudService] == [
        ("S3", "amazon-web-services-static-storage-service"),
        ("ObjectStorage", "google-cloud-platform-object-storage"),
        ("BlobStorage", "azure-blob-storage"),
        ("Spaces", "digital-ocean-spaces"),
    ]
    assert CloudService.AWS is CloudService.S3
    assert [(one.name, one.value) for one in PaymentSolution] == [("AWSRequestPayer", "aws-request-payer")]
    assert FITSHeader._fields == ("offset", "length", "fits")
    assert (BLOCK_SIZE, END_CARD, ENCODING) == (2880, "END" + " " * 77, "utf-8")
    for module in ("auth.aws", "auth.azure", "auth.gcp", "auth.digital_ocean", "fits.datatypes"):
        importlib.import_module(f"{astro_cloud.__name__}.{module}")


# 1: it could not be installed -----------------------------------------------------------------------------------------


def test_no_version_is_pinned():
    assert [line for line in requires("nuncius") if "==" in line.partition(";")[0]] == []


# 2, 3, 4: a request for each block, wrong places, a walk through the data ---------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_cube_takes_two_requests(store, blocks):
    cube = tess_cube(primary_blocks=blocks)
    store.put("cube.fits", cube)
    headers = load_headers(store.http_url("cube.fits"), CloudService.S3)
    places = [(header.offset, header.length) for header in headers]
    image = blocks * 2880 + 2880
    assert places[:2] == [(0, blocks * 2880), (blocks * 2880, 2880)]
    assert places[2][0] > image + 2078 * 2136 * 1282 * 2 * 4 - 1
    assert cube.read(places[2][0], places[2][0] + 9) == b"XTENSION="
    assert [header.fits.get("XTENSION") for header in headers] == [None, "IMAGE", "BINTABLE"]
    assert store.stats.requests == 2
    assert store.stats.connections <= 2
    assert store.stats.bytes <= 2 * 32_768


def test_a_hundred_extensions_are_read_side_by_side(store):
    file = many.many_hdus()
    store.put("mosaic.fits", file)
    store.latency_s = 0.02
    headers = load_headers(store.http_url("mosaic.fits"), CloudService.S3)
    assert len(headers) == 101
    assert all(header.length == 3 * 2880 for header in headers)
    assert store.stats.requests <= 101
    assert store.stats.max_in_flight > 20


# 5, 6: data of which the size was wrong, END in a text, bytes that are no UTF-8 ----------------------------------------

KINDS = dict((*images.image_kinds(), *tables.table_kinds(), *header_files.header_kinds()))
KINDS["a small cube"] = lambda: tess_cube(pixels=SMALL_CUBE).read(0, tess_cube(pixels=SMALL_CUBE).size)
KINDS["compressed images"] = many.decam_fz


# A gzip'd file has no places of its own to be read at, and astropy refuses values that don't begin in their column.
OTHERS = {"header in free format", *(kind for kind in KINDS if "gzip" in kind)}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OTHERS])
def test_places_and_cards_are_those_that_astropy_finds(store, kind):
    data = KINDS[kind]()
    store.put("x.fits", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        headers = load_headers(store.http_url("x.fits"), CloudService.S3)
        expected = truth(data)
        assert [(header.offset, header.length) for header in headers] == [place[:2] for place in expected]
        assert [header.fits for header in headers] == [fits.Header.fromstring(text) for *_, text in expected]
        ends = [find_next_header_offset(header) for header in headers]
    assert ends == [*(header.offset for header in headers[1:]), len(data)]


def test_numbers_may_stand_anywhere_in_their_cards(store):
    data = header_files.free_format()
    store.put("x.fits", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        headers = load_headers(store.http_url("x.fits"), CloudService.S3)
        assert [header.offset for header in headers] == [0, data.index(b"XTENSION=")]
        assert [find_next_header_offset(header) for header in headers] == [headers[1].offset, len(data)]


@pytest.mark.parametrize(
    ("bitpix", "name"),
    [(8, "uint8"), (16, "int16"), (32, "int32"), (64, "int64"), (-32, "float32"), (-64, "float64")],
)
def test_the_type_of_pixels(bitpix, name):
    assert as_np_dtype(bitpix) == np.dtype(name)


@pytest.mark.parametrize("bitpix", [0, 7, -16, None, "8"])
def test_there_is_no_such_bitpix(bitpix):
    with pytest.raises(AstroCloudUnsupportedError, match="BITPIX") as caught:
        as_np_dtype(bitpix)
    assert isinstance(caught.value, NotImplementedError)


def test_bytes_that_are_no_text(store):
    data = images.stored_image(16)
    broken = data.replace(b"conforms", b"conf\xe9\xffms", 1)
    assert broken != data
    store.put("x.fits", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (header,) = load_headers(store.http_url("x.fits"), CloudService.S3)
    assert header.fits["BITPIX"] == 16


def test_a_file_whose_data_are_cut_short(store):
    data = odd.truncated("data")
    store.put("x.fits", data)
    headers = load_headers(store.http_url("x.fits"), CloudService.S3)
    assert [header.fits.get("EXTNAME") for header in headers] == [None, "A", "B"]
    assert find_next_header_offset(headers[-1]) > len(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html><html>Not what you wanted</html>" * 80, errors.FitsError),
        (b"", errors.FitsError),
        (odd.truncated("long header"), errors.TruncatedFitsError),
        (odd.with_card(odd.good_file(), "NAXIS1", -7), errors.FitsError),
    ],
    ids=["html", "empty", "cut in a header", "a negative axis"],
)
def test_what_is_no_fits_says_so(store, data, kind):
    store.put("x.fits", data)
    with pytest.raises(kind, match=r"x\.fits"):
        load_headers(store.http_url("x.fits"), CloudService.S3)


# 7: servers without ranges, refusals, failures ------------------------------------------------------------------------


def test_a_server_that_ignores_ranges_is_not_downloaded(store):
    store.put("cube.fits", tess_cube())
    store.ranges = "ignored"
    with pytest.raises(AstroCloudUnsupportedError) as caught:
        load_headers(store.http_url("cube.fits"), CloudService.S3)
    assert isinstance(caught.value, (NotImplementedError, errors.UnsupportedError))
    assert (
        store.stats.bytes < 50_000_000
    )  # what the system's buffers took before the connection was broken off


def test_failures_that_pass_are_tried_again(store):
    store.put("x.fits", odd.good_file())
    store.fail(503, 3)
    assert len(load_headers(store.http_url("x.fits"), CloudService.S3)) == 3
    store.cut_rate = 0.3
    store.failure_rate = 0.2
    for _ in range(5):
        assert len(load_headers(store.http_url("x.fits"), CloudService.S3)) == 3


@pytest.mark.parametrize(
    ("key", "kind", "parent"),
    [
        ("missing.fits", AstroCloudNotFoundError, errors.NotFoundError),
        ("paid.fits", AstroCloudForbiddenError, errors.ForbiddenError),
        ("private.fits", AstroCloudForbiddenError, errors.ForbiddenError),
    ],
)
def test_refusals_are_typed_and_what_they_were_before(store, key, kind, parent):
    store.put("there.fits", b"x")
    store.put("paid.fits", odd.good_file(), requester_pays=True)
    store.put("private.fits", odd.good_file(), public=False)
    with pytest.raises(kind) as caught:
        load_headers(s3(store, key), CloudService.S3, PAYER)
    error = caught.value
    assert isinstance(error, parent)
    assert isinstance(error, NotImplementedError)
    assert error.status in {403, 404}
    assert key in str(error)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.status) == (kind, str(error), error.status)


def test_a_wrong_secret(login, monkeypatch):
    login.put("x.fits", odd.good_file(), public=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong/secret+")
    with pytest.raises(AstroCloudLoginError) as caught:
        load_headers(s3(login, "x.fits"), CloudService.S3)
    assert "wrong/secret+" not in str(caught.value)


def test_every_kind_of_failure_is_the_one_of_before():
    kinds = AstroCloudError.__subclasses__()
    assert {kind.__name__ for kind in kinds} == set(
        re.findall(r"── (\w+)", importlib.import_module(AstroCloudError.__module__).__doc__)
    )
    for kind in kinds:
        error = kind("it failed", service="s3", url="s3://b/k", status=500)
        assert isinstance(error, (NotImplementedError, errors.NunciusError))
        assert str(pickle.loads(pickle.dumps(error))) == "it failed"
    assert issubclass(AstroCloudServerError, errors.ServerError)


# 8: credentials and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [CloudService.S3, CloudService.AWS])
@pytest.mark.parametrize("payment", [None, PAYER])
def test_without_credentials_public_files_are_read(store, service, payment):
    store.put("public.fits", odd.good_file())
    for url in (store.http_url("public.fits"), s3(store, "public.fits")):
        assert len(load_headers(url, service, payment)) == 3
    assert [noted.headers.get("authorization") for noted in store.log] == [None] * len(store.log)


@pytest.mark.parametrize("name", ["plain", "a b+c", "50% é", "%20", "#1?"])
def test_names_and_who_pays(login, name):
    login.put(f"{name}.fits", odd.good_file(), public=False, requester_pays=True)
    url = s3(login, f"{name}.fits")
    assert len(load_headers(url, CloudService.S3, PAYER)) == 3
    with pytest.raises(AstroCloudForbiddenError, match="requester_pays"):
        load_headers(url, CloudService.S3)


@pytest.mark.parametrize("name", ["plain", "a b+c", "50% é"])
def test_names_in_public(store, name):
    store.put(f"{name}.fits", odd.good_file())
    for url in (
        store.http_url(f"{name}.fits"),
        s3(store, f"{name}.fits"),
        s3(store, f"{name}.fits").replace("%2B", "+"),
    ):
        assert len(load_headers(url, CloudService.S3)) == 3


def test_temporary_credentials_and_another_region(store, monkeypatch):
    key = store.temporary_key
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", key.session_token)
    store.put("x.fits", odd.good_file(), public=False, bucket="far-away")
    store.set_region("far-away", "eu-west-1")
    assert len(load_headers(s3(store, "x.fits", "far-away"), CloudService.S3)) == 3


def test_a_presigned_url(store):
    store.put("x y.fits", odd.good_file(), public=False)
    url = store.presigned_url("x y.fits")
    assert len(load_headers(url, CloudService.S3)) == 3
    with pytest.raises((AstroCloudForbiddenError, AstroCloudLoginError)) as caught:
        load_headers(url.replace("Signature=", "Signature=0"), CloudService.S3)
    assert "X-Amz" not in str(caught.value)


def test_a_server_is_not_given_what_it_does_not_ask_for(login):
    login.put("x.fits", odd.good_file())
    load_headers(login.http_url("x.fits"), CloudService.S3, PAYER)
    names = {name for noted in login.log for name in noted.headers}
    assert {name for name in names if name.startswith("x-amz") or name == "authorization"} == set()


@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize(
    ("url", "service", "pays"),
    [
        ("https://s3.us-east-1.amazonaws.com/stpubdata/tess/x.fits", CloudService.S3, True),
        ("https://stpubdata.s3.amazonaws.com/tess/x.fits", CloudService.AWS, True),
        ("s3://stpubdata/tess/x.fits", CloudService.S3, True),
        ("https://survey.nyc3.digitaloceanspaces.com/x.fits", CloudService.Spaces, False),
        ("https://storage.googleapis.com/survey/x.fits", CloudService.ObjectStorage, False),
        ("https://account.blob.core.windows.net/survey/x.fits", CloudService.BlobStorage, False),
    ],
)
def test_links_that_tell_their_service(monkeypatch, url, service, pays, logged_in):
    if logged_in:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked = []

    def open_fits(url, **options):
        asked.append((url, options))
        raise errors.NotFoundError("there is none", status=404)

    monkeypatch.setattr(cloudfits, "open_fits", open_fits, raising=False)
    payment = PAYER if service in {CloudService.S3, CloudService.Spaces} else None
    with pytest.raises(AstroCloudNotFoundError):
        load_headers(url, service, payment)
    # Who has no account can't pay; the file may be public.
    assert asked == [(url, {"requester_pays": pays and logged_in, "headers": None})]


# 9: services and payments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["amazon-web-services-static-storage-service", None, "S3", PAYER, 3])
def test_an_unknown_service(service):
    with pytest.raises(AstroCloudArgumentError, match=r"Cloud Service\[.*CloudService\.S3") as caught:
        load_headers("https://example.org/x.fits", service)
    assert isinstance(caught.value, NotImplementedError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("load", [gcp.load_headers, azure.load_headers])
@pytest.mark.parametrize("payment", [PAYER, "aws-request-payer", 1])
def test_a_payment_that_the_service_does_not_know(load, payment):
    with pytest.raises(AstroCloudArgumentError, match="Payment Solution") as caught:
        load("https://example.org/x.fits", payment)
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize("load", [aws.load_headers, digital_ocean.load_headers])
def test_a_payment_that_nobody_knows(load):
    with pytest.raises(AstroCloudArgumentError, match=r"Payment Solution\[cash\]"):
        load("https://example.org/x.fits", "cash")


@pytest.mark.parametrize(
    ("service", "payment"),
    [(service, None) for service in CloudService] + [(CloudService.S3, PAYER), (CloudService.Spaces, PAYER)],
)
def test_every_service_reads_any_link(store, service, payment):
    store.put("x.fits", odd.good_file())
    expected = [place[:2] for place in truth(odd.good_file())]
    headers = load_headers(store.http_url("x.fits"), service, payment)
    assert [(header.offset, header.length) for header in headers] == expected
    assert all(type(header) is FITSHeader for header in headers)
    assert type(headers) is list


def test_private_spaces(store, monkeypatch):
    store.put("night/x.fits", odd.good_file(), public=False)
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", store.secret_key)
    for payment in (None, PAYER):
        assert len(load_headers(s3(store, "night/x.fits"), CloudService.Spaces, payment)) == 3


def test_what_lies_in_another_store_says_who_refuses(store):
    store.put("x.fits", odd.good_file(), public=False)
    url = store.http_url("x.fits").replace(store.url, store.gcs_endpoint)
    with pytest.raises((AstroCloudForbiddenError, AstroCloudLoginError), match=r"x\.fits"):
        load_headers(url, CloudService.ObjectStorage)


@pytest.mark.parametrize("url", ["", "not a url", "https://", 3, None])
def test_what_is_no_address(url):
    with pytest.raises((AstroCloudArgumentError, errors.NotFoundError)):
        load_headers(url, CloudService.S3)


# 10: nothing but S3, and no pieces of it ------------------------------------------------------------------------------


def test_any_auth_of_requests(store, login):
    login.put("x.fits", odd.good_file(), public=False)
    login.put("paid.fits", odd.good_file(), requester_pays=True)

    class Bearer:
        def __call__(self, request):
            request.headers["Authorization"] = f"Bearer {store.bearer_token}"
            return request

    assert len(base.load_headers(store.http_url("x.fits"), Bearer())) == 3
    assert len(base.load_headers(s3(store, "x.fits"), AWSAuth())) == 3
    assert len(base.load_headers(s3(store, "paid.fits"), AWSAuth(request_payer=True))) == 3
    for auth in (None, GCPAuth(), HTTPBasicAuth("jane", "secret-word")):
        with pytest.raises((AstroCloudLoginError, AstroCloudForbiddenError)) as caught:
            base.load_headers(store.http_url("x.fits"), auth)
        assert "secret-word" not in str(caught.value)


def test_a_header_pickles(store):
    store.put("x.fits", many.decam_fz())
    headers = load_headers(store.http_url("x.fits"), CloudService.S3)
    assert found(pickle.loads(pickle.dumps(headers))) == found(headers)
    # As in the file: the header of the table that holds the image.
    assert headers[1].fits["XTENSION"] == "BINTABLE"
    assert headers[1].fits["ZIMAGE"] is True
