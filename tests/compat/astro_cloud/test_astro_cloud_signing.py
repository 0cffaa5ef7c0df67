"""How a request is spelt and for which region it is signed; a signature that can be checked by hand."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest
import requests

from nuncius.compat.astro_cloud.auth import signing
from nuncius.compat.astro_cloud.auth.signing import Keys

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.amazonaws.com", "us-east-1"),
        ("stpubdata.s3.amazonaws.com", "us-east-1"),
        ("s3.us-east-1.amazonaws.com", "us-east-1"),
        ("S3.EU-West-1.amazonaws.com", "eu-west-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("stpubdata.s3.us-west-2.amazonaws.com", "us-west-2"),
        ("datum-storage.org.s3.us-west-2.amazonaws.com", "us-west-2"),
        ("s3.dualstack.ap-southeast-2.amazonaws.com", "ap-southeast-2"),
        ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bucket.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("my.s3.eu-west-1.names.s3.us-west-2.amazonaws.com", "us-west-2"),
        ("s3.eu-central-1.wasabisys.com", "eu-central-1"),
        ("nyc3.digitaloceanspaces.com", None),
        ("minio.example.org", None),
        ("127.0.0.1", None),
        ("", None),
    ],
)
def test_the_region_in_a_host(host, region):
    assert signing.region_of(host) == region


@pytest.mark.parametrize(
    ("host", "aws"),
    [
        ("s3.amazonaws.com", True),
        ("b.s3-us-west-2.amazonaws.com", True),
        ("b.s3.cn-north-1.amazonaws.com.cn", True),
        ("s3.eu-central-1.wasabisys.com", False),
        ("s3.amazonaws.com.evil.org", False),
        ("s3.evil.org/.amazonaws.com", False),
        ("ec2-1-2-3-4.compute-1.amazonaws.com", False),
        ("evil-s3.amazonaws.com", False),
    ],
)
def test_what_is_a_server_of_s3_itself(host, aws):
    assert signing.is_aws(host) is aws


@pytest.mark.parametrize(
    ("url", "region", "moved"),
    [
        ("https://s3.amazonaws.com/b/k", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/b/k"),
        ("https://b.s3.amazonaws.com/k", "eu-west-1", "https://b.s3.eu-west-1.amazonaws.com/k"),
        ("https://b.s3-us-west-2.amazonaws.com/k", "eu-west-1", "https://b.s3.eu-west-1.amazonaws.com/k"),
        (
            "https://us-east-1.s3.us-east-1.amazonaws.com/us-east-1/s3.amazonaws.com",
            "eu-west-1",
            "https://us-east-1.s3.eu-west-1.amazonaws.com/us-east-1/s3.amazonaws.com",
        ),
        ("http://127.0.0.1:9000/b/k", "eu-west-1", "http://127.0.0.1:9000/b/k"),
        ("https://s3.amazonaws.com/b/k", "evil.org/", "https://s3.amazonaws.com/b/k"),
    ],
)
def test_the_servers_of_another_region(url, region, moved):
    assert signing.in_region(url, region) == moved


@pytest.mark.parametrize(
    ("path", "spelt"),
    [
        ("/b/plain-name_1.2~3.fits", "/b/plain-name_1.2~3.fits"),
        ("/b/a%20b", "/b/a%20b"),
        ("/b/a+b", "/b/a%2Bb"),
        ("/b/a%2bb", "/b/a%2Bb"),
        ("/b/50%25", "/b/50%25"),
        ("/b/%2520", "/b/%2520"),
        ("/b/%7Euser", "/b/~user"),
        ("/b/a=b,c(1)!$&'*;:@", "/b/a%3Db%2Cc%281%29%21%24%26%27%2A%3B%3A%40"),
        ("/b/%C3%A9toile", "/b/%C3%A9toile"),
        ("/b/étoile", "/b/%C3%A9toile"),
        ("/b/%FF", "/b/%FF"),
        ("", "/"),
        ("/b/k?versionId=a/b", "/b/k?versionId=a%2Fb"),
        ("/b?list-type=2&prefix=a+b/&acl", "/b?list-type=2&prefix=a%20b%2F&acl"),
        ("/b?x=a%2Bb&&x=%C3%A9", "/b?x=a%2Bb&x=%C3%A9"),
    ],
)
def test_one_spelling(path, spelt):
    assert signing.respell(f"https://example.org{path}") == f"https://example.org{spelt}"
    assert signing.respell(f"https://example.org{spelt}") == f"https://example.org{spelt}"


@pytest.mark.parametrize(
    ("query", "presigned"),
    [
        ("X-Amz-Signature=abc&X-Amz-Date=1", True),
        ("AWSAccessKeyId=a&Signature=b&Expires=1", True),
        ("versionId=X-Amz-Signature", False),
        ("", False),
    ],
)
def test_a_url_that_carries_its_signature(query, presigned):
    assert signing.is_presigned(f"https://example.org/b/k?{query}") is presigned


def by_hand(request, keys, region, host):
    """Compute a signature as the documentation of Signature Version 4 describes it."""
    stamp = request.headers["X-Amz-Date"]
    names = re.search(r"SignedHeaders=([^,]+)", request.headers["Authorization"])[1]
    values = {name.lower(): value for name, value in request.headers.items()} | {"host": host}
    path, _, query = request.path_url.partition("?")
    canonical = "\n".join(
        [
            request.method,
            path,
            "&".join(sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair)),
            *(f"{name}:{values[name]}" for name in names.split(";")),
            "",
            names,
            values["x-amz-content-sha256"],
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    )


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("request_payer", [False, True])
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://s3.us-west-2.amazonaws.com/b/tess/a cube+1.fits", "s3.us-west-2.amazonaws.com"),
        ("http://127.0.0.1:9000/b/étoile%2520.fits?versionId=3/4&acl", "127.0.0.1:9000"),
        ("https://minio.example.org:443/b?prefix=a+b&list-type=2", "minio.example.org"),
    ],
)
def test_the_signature_is_the_one_of_the_documentation(url, host, token, request_payer):
    keys = KEYS._replace(token=token)
    request = requests.Request("GET", url, headers={"Range": "bytes=0-2879"}).prepare()
    signing.sign(request, keys, region="us-west-2", request_payer=request_payer)
    assert request.headers["Authorization"] == by_hand(request, keys, "us-west-2", host)
    assert signing.signed_region(request) == "us-west-2"
    signed = re.search(r"SignedHeaders=([^,]+)", request.headers["Authorization"])[1].split(";")
    wanted = {"host", "x-amz-date", "x-amz-content-sha256"}
    wanted |= {"x-amz-security-token"} if token else set()
    wanted |= {"x-amz-request-payer"} if request_payer else set()
    assert set(signed) == wanted
    assert request.headers["Range"] == "bytes=0-2879"


def test_signing_again_leaves_nothing_of_the_first_time():
    request = requests.Request("GET", "https://s3.amazonaws.com/b/k").prepare()
    before = dict(request.headers)
    signing.sign(request, KEYS._replace(token="first"), region="us-east-1", request_payer=True)
    signing.sign(request, KEYS, region="eu-west-1", request_payer=False)
    assert "X-Amz-Security-Token" not in request.headers
    assert "x-amz-request-payer" not in request.headers
    assert signing.signed_region(request) == "eu-west-1"
    signing.unsign(request)
    assert dict(request.headers) == before


def test_keys_show_no_secret():
    shown = f"{KEYS} {KEYS!r} {[KEYS]}"
    assert KEYS.secret_key not in shown
