"""The sandbox's store and real doubles of S3 and Azure: the same question, the same answer.

Where they differ the table says why: moto and Azurite then do what the services' documentation or RFC 9110 doesn't have.
"""

from dataclasses import dataclass, field

import pytest
from stores_support import ODD, Answer, encoded, send, send_signed, under

pytestmark = pytest.mark.xdist_group("stores")
PAST, FUTURE = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2037 07:28:00 GMT"
THE_TAG = "the ETag of x.fits"


@dataclass(frozen=True)
class Ask:
    """A request, the status that it gets, and, where the double answers otherwise, its status and why that is wrong."""

    path: str
    status: int
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "signed"
    double: int | None = None
    why: str = ""


def ranged(header, status=206, **options):
    return Ask("/sky/x.fits", status, headers={"Range": header}, **options)


def given(status, **options):
    headers = {name.replace("_", "-"): options.pop(name) for name in list(options) if name[0] == "I"}
    return Ask("/sky/x.fits", status, headers=headers, **options)


RFC = "RFC 9110"
S3 = {
    "whole": Ask("/sky/x.fits", 200),
    "whole, anybody": Ask("/sky/x.fits", 200, how="anybody"),
    "whole, by a link": Ask("/sky/x.fits", 200, how="link"),
    "head": Ask("/sky/x.fits", 200, "HEAD"),
    "head, anybody": Ask("/sky/x.fits", 200, "HEAD", how="anybody"),
    "an odd key": Ask(f"/sky/{encoded(ODD)}", 200),
    "an odd key, by a link": Ask(f"/sky/{encoded(ODD)}", 200, how="link"),
    "an empty object": Ask("/sky/empty.fits", 200),
    "range": ranged("bytes=0-9"),
    "range, anybody": ranged("bytes=0-9", how="anybody"),
    "range, by a link": ranged("bytes=80-2879", how="link"),
    "range, open": ranged("bytes=25000-"),
    "range, suffix": ranged("bytes=-7"),
    "range, suffix of more": ranged("bytes=-99999"),
    "range, suffix of nothing": ranged("bytes=-0", 416),
    "range over the end": ranged("bytes=25000-99999"),
    "range at the end": ranged("bytes=25920-25930", 416),
    "range after the end": ranged("bytes=99999-", 416),
    "range, backwards": ranged("bytes=9-3", 200),
    "range, no numbers": ranged("bytes=a-b", 200),
    "two ranges": ranged("bytes=0-1,4-5", 200),
    "range in other units": ranged(
        "lines=0-9", 200, double=206, why=f"{RFC}, 14.2: unknown units are ignored"
    ),
    "range of an empty object": Ask("/sky/empty.fits", 416, headers={"Range": "bytes=0-9"}),
    "head of a range": ranged("bytes=0-9", method="HEAD"),
    "head after the end": ranged("bytes=99999-", 416, method="HEAD"),
    "match": given(200, If_Match=THE_TAG),
    "match, other": given(412, If_Match='"other"'),
    "match, other, head": given(412, method="HEAD", If_Match='"other"'),
    "match, any": given(200, If_Match="*", double=412, why=f"{RFC}, 13.1.1: * is whatever is there"),
    "match and range": Ask("/sky/x.fits", 206, headers={"If-Match": THE_TAG, "Range": "bytes=5-8"}),
    "match, other, and range": Ask("/sky/x.fits", 412, headers={"If-Match": '"other"', "Range": "bytes=5-8"}),
    "match and range after the end": Ask(
        "/sky/x.fits", 416, headers={"If-Match": THE_TAG, "Range": "bytes=99999-"}
    ),
    "none match": given(304, If_None_Match=THE_TAG),
    "none match, head": given(304, method="HEAD", If_None_Match=THE_TAG),
    "none match, other": given(200, If_None_Match='"other"'),
    "modified since the past": given(200, If_Modified_Since=PAST),
    "modified since the future": given(304, If_Modified_Since=FUTURE),
    "unmodified since the past": given(412, If_Unmodified_Since=PAST),
    "unmodified since the future": given(200, If_Unmodified_Since=FUTURE),
    "match counts for more": given(
        200,
        If_Match=THE_TAG,
        If_Unmodified_Since=PAST,
        double=412,
        why="GetObject: both given, If-Match holds: 200",
    ),
    "none match counts for more": given(
        200, If_None_Match='"other"', If_Modified_Since=FUTURE, double=304, why=f"{RFC}, 13.1.3"
    ),
    "no key": Ask("/sky/nothing", 404),
    "no key, anybody": Ask("/sky/nothing", 404, how="anybody"),
    "no key, head": Ask("/sky/nothing", 404, "HEAD"),
    "no bucket": Ask("/nobody/x", 404),
    "no bucket, anybody": Ask("/nobody/x", 404, how="anybody"),
    "private": Ask("/sky/private.fits", 200),
    "private, anybody": Ask("/sky/private.fits", 403, how="anybody"),
    "private, by a link": Ask("/sky/private.fits", 200, how="link"),
    "no key where nobody may list": Ask(
        "/shut/nothing",
        403,
        how="anybody",
        double=404,
        why="GetObject: without ListBucket a missing key is 403",
    ),
    "a bucket that is shut": Ask(
        "/shut?list-type=2",
        403,
        how="anybody",
        double=200,
        why="ListObjectsV2 needs the permission ListBucket",
    ),
    "head of a bucket": Ask("/sky", 200, "HEAD"),
    "head of no bucket": Ask("/nobody", 404, "HEAD"),
    "where a bucket is": Ask("/sky?location", 200),
    "list": Ask("/sky?list-type=2", 200),
    "list, anybody": Ask("/sky?list-type=2", 200, how="anybody"),
    "list a folder": Ask("/sky?delimiter=%2F&list-type=2&prefix=night%2F", 200),
    "list above": Ask("/sky?delimiter=%2F&list-type=2", 200),
    "list odd keys": Ask("/sky?list-type=2&prefix=odd%2F", 200),
    "list odd keys, encoded": Ask("/sky?encoding-type=url&list-type=2&prefix=odd%2F", 200),
    "list, a page": Ask("/sky?list-type=2&max-keys=3&prefix=night%2F", 200),
    "list, a page of folders": Ask("/sky?delimiter=%2F&list-type=2&max-keys=3&prefix=night%2F", 200),
    "list behind a key": Ask("/sky?list-type=2&prefix=night%2F&start-after=night%2F4", 200),
    "list nothing": Ask("/sky?list-type=2&prefix=day%2F", 200),
    "list none": Ask("/sky?list-type=2&max-keys=0", 200),
    "list of no bucket": Ask("/nobody?list-type=2", 404),
    "old list": Ask("/sky?marker=night%2F4&prefix=night%2F", 200),
    "old list, a page": Ask(
        "/sky?max-keys=3&prefix=night%2F",
        200,
        double=200,
        why="ListObjects: NextMarker only where there is a delimiter",
    ),
    "old list, a page of folders": Ask(
        "/sky?delimiter=%2F&max-keys=3&prefix=night%2F",
        200,
        double=200,
        why="ListObjects: folders count, too",
    ),
    "list, no number": Ask(
        "/sky?list-type=2&max-keys=x", 400, double=500, why="an argument that is none: 400"
    ),
    "list, no token": Ask("/sky?continuation-token=zzz&list-type=2", 400, double=500, why="as before"),
}


# Comparing --------------------------------------------------------------------------------------------------------------


def described(answer: Answer, *, is_list):
    """Return what of an answer clients rely on."""
    headers = answer.headers
    if answer.status >= 300:
        return {"code": answer.code}
    if is_list:
        return listing(answer)
    kept = ("content-length", "content-range", "accept-ranges", "content-type")
    return {name: headers.get(name) for name in kept} | {
        "tag": headers.get("etag"),
        "modified": "last-modified" in headers,
        "body": answer.body,
    }


def listing(answer):
    """Return what a list says, without times, owners, and the tokens that only their maker understands."""
    tree = ("", [answer.xml])
    root = answer.xml[0]
    facts = {
        tag: content
        for tag, content in answer.xml[1]
        if isinstance(content, str) and tag not in {"NextContinuationToken", "Marker"} and content
    }
    entries = []
    for entry in under(tree, root, "Contents"):
        fields = dict(entry)
        entries.append([fields["Key"], fields["ETag"], fields["Size"]])
    folders = [dict(each)["Prefix"] for each in under(tree, root, "CommonPrefixes")]
    goes_on = bool(under(tree, root, "NextContinuationToken"))
    return {"root": root, "facts": facts, "entries": entries, "folders": folders, "goes on": goes_on}


def ask_s3(ask, base, keys):
    tag = send(f"{base}/sky/x.fits", method="HEAD").headers["etag"]
    headers = {name: tag if value is THE_TAG else value for name, value in ask.headers.items()}
    if ask.how == "anybody":
        return send(base + ask.path, method=ask.method, headers=headers)
    return send_signed(base + ask.path, keys, method=ask.method, headers=headers, in_link=ask.how == "link")


@pytest.mark.parametrize("name", S3)
def test_s3(moto, store, name):
    ask = S3[name]
    ours = ask_s3(ask, store.s3_endpoint, (store.access_key, store.secret_key))
    theirs = ask_s3(ask, moto.url, moto.keys)
    assert (ours.status, theirs.status) == (ask.status, ask.double or ask.status)
    assert ours.headers["date"]
    assert ours.headers["x-amz-request-id"]
    is_list = "?" in ask.path and ask.method == "GET"
    mine, other = described(ours, is_list=is_list), described(theirs, is_list=is_list)
    if ask.double is not None:
        assert (ours.status, mine) != (theirs.status, other)  # else the row has no reason to be
    elif ask.status == 403:
        assert (mine, other) == ({"code": "AccessDenied"}, {"code": ""})  # moto has nothing to say here
    elif ask.path == "/sky":
        assert ours.headers["x-amz-bucket-region"] == theirs.headers["x-amz-bucket-region"]
    else:
        assert mine == other


def test_old_lists_as_they_are_documented(store):
    """NextMarker stands only where there is a delimiter; folders count among the keys."""
    for query, more in (
        ("max-keys=3&prefix=night%2F", []),
        ("delimiter=%2F&max-keys=3&prefix=night%2F", ["night/2/"]),
    ):
        answer = send(f"{store.s3_endpoint}/sky?{query}")
        tree = ("", [answer.xml])
        assert under(tree, "ListBucketResult", "IsTruncated") == ["true"]
        assert under(tree, "ListBucketResult", "NextMarker") == more


@pytest.mark.parametrize("query", ["acl", "attributes", "tagging", "partNumber=1", "versionId=abc"])
def test_what_the_sandbox_does_not_have_is_no_object(store, query):
    """Better no answer than the bytes of the object where something else was asked for."""
    keys = (store.access_key, store.secret_key)
    answer = send_signed(f"{store.s3_endpoint}/sky/x.fits?{query}", keys)
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_the_list_of_buckets(moto, store):
    names = [
        sorted(
            under(
                ("", [send_signed(f"{base}/", keys).xml]),
                "ListAllMyBucketsResult",
                "Buckets",
                "Bucket",
                "Name",
            )
        )
        for base, keys in ((store.s3_endpoint, (store.access_key, store.secret_key)), (moto.url, moto.keys))
    ]
    assert names == [["shut", "sky"]] * 2
    assert send(f"{store.s3_endpoint}/").code == "AccessDenied"


def test_a_range_after_the_end_tells_the_size(store):
    """As RFC 9110, 15.5.17 has it; moto does not."""
    answer = send(f"{store.s3_endpoint}/sky/x.fits", headers={"Range": "bytes=99999-"})
    assert answer.headers["content-range"] == "bytes */25920"


@pytest.mark.parametrize("in_link", [False, True])
def test_wrong_signatures(moto, store, in_link):
    for keys, code in (
        ((store.access_key, "wrong"), "SignatureDoesNotMatch"),
        (("AKIANOBODYKNOWSTHIS0", "wrong"), "InvalidAccessKeyId"),
    ):
        ours = send_signed(f"{store.s3_endpoint}/sky/x.fits", keys, in_link=in_link)
        assert (ours.status, ours.code) == (403, code)
    if not in_link:  # moto checks only the header
        with moto.checking():
            theirs = send_signed(f"{moto.url}/sky/x.fits", (moto.keys[0], "wrong"))
        assert (theirs.status, theirs.code) == (403, "SignatureDoesNotMatch")


def test_pages_lead_through_the_whole_list(moto, store, objects):
    """Each by its own tokens."""
    for base, keys in ((store.s3_endpoint, (store.access_key, store.secret_key)), (moto.url, moto.keys)):
        found, token = [], None
        while token != "":
            query = "list-type=2&max-keys=3" + (f"&continuation-token={encoded(token)}" if token else "")
            page = send_signed(f"{base}/sky?{'&'.join(sorted(query.split('&')))}", keys)
            tree = ("", [page.xml])
            found += under(tree, "ListBucketResult", "Contents", "Key")
            token = next(iter(under(tree, "ListBucketResult", "NextContinuationToken")), "")
        assert [key for key in found if key in objects] == sorted(objects)


# Azure ------------------------------------------------------------------------------------------------------------------

HIDDEN = "Azure hides what is private from anybody: 404"
AZURE = {
    "whole": Ask("/sky/x.fits", 200),
    "whole, anybody": Ask("/sky/x.fits", 200, how="anybody"),
    "head": Ask("/sky/x.fits", 200, "HEAD"),
    "an odd name": Ask(f"/sky/{encoded(ODD)}", 200),
    "an empty blob": Ask("/sky/empty.fits", 200),
    "range": ranged("bytes=0-9"),
    "range, anybody": ranged("bytes=0-9", how="anybody"),
    "range, its own header": Ask(
        "/sky/x.fits", 206, headers={"x-ms-range": "bytes=0-9", "Range": "bytes=5-6"}
    ),
    "range, open": ranged("bytes=25000-"),
    "range over the end": ranged("bytes=25000-99999"),
    "range at the end": ranged("bytes=25920-25930", 416, double=206, why="Get Blob: InvalidRange"),
    "range after the end": ranged("bytes=99999-99999", 416),
    "range, backwards": ranged("bytes=9-3", 200),
    "range of an empty blob": Ask("/sky/empty.fits", 416, headers={"Range": "bytes=0-9"}),
    "head of a range": ranged("bytes=0-9", 200, method="HEAD"),
    "match": given(200, If_Match=THE_TAG),
    "match, any": given(200, If_Match="*"),
    "match, other": given(412, If_Match='"other"'),
    "match, other, head": given(412, method="HEAD", If_Match='"other"'),
    "none match": given(304, If_None_Match=THE_TAG),
    "modified since the future": given(304, If_Modified_Since=FUTURE),
    "unmodified since the past": given(412, If_Unmodified_Since=PAST),
    "no blob": Ask("/sky/nothing", 404),
    "no blob, anybody": Ask("/sky/nothing", 404, how="anybody"),
    "no blob, head": Ask("/sky/nothing", 404, "HEAD"),
    "no container": Ask("/nobody/x", 404),
    "private": Ask("/shut/private.fits", 200),
    "private, anybody": Ask("/shut/private.fits", 404, how="anybody", double=403, why=HIDDEN),
    "a container that is shut": Ask(
        "/shut?restype=container&comp=list", 404, how="anybody", double=403, why=HIDDEN
    ),
    "a grant that is over": Ask("/shut/private.fits", 403, how="over"),
    "a grant that is wrong": Ask("/shut/private.fits", 403, how="wrong"),
    "list": Ask("/sky?restype=container&comp=list", 200),
    "list, anybody": Ask("/sky?restype=container&comp=list", 200, how="anybody"),
    "list a folder": Ask("/sky?restype=container&comp=list&prefix=night/&delimiter=/", 200),
    "list, a page": Ask("/sky?restype=container&comp=list&prefix=night/&maxresults=3", 200),
    "list odd names": Ask("/sky?restype=container&comp=list&prefix=odd/", 200),
    "list none": Ask("/sky?restype=container&comp=list&maxresults=0", 400),
    "list of no container": Ask("/nobody?restype=container&comp=list", 404),
}


def ask_azure(ask, base, store):
    tag = send(f"{base}/sky/x.fits", method="HEAD").headers["etag"]
    headers = {name: tag if value is THE_TAG else value for name, value in ask.headers.items()}
    good = store.azure_sas()
    grant = {
        "signed": good,
        "anybody": "",
        "over": store.azure_sas(expires_s=-60),
        "wrong": good.partition("&sig=")[0] + "&sig=d3Jvbmc%3D",
    }[ask.how]
    url = f"{base}{ask.path}{'&' if '?' in ask.path else '?'}{grant}".rstrip("?&")
    return send(url, method=ask.method, headers={"x-ms-version": "2021-12-02"} | headers)


def blobs(answer):
    """Return what a list of blobs says, without times, tags, and the tokens that only their maker understands."""
    tree = ("", [answer.xml])
    where = ("EnumerationResults", "Blobs")
    entries = []
    for entry in under(tree, *where, "Blob"):
        fields = dict(entry)
        properties = dict(fields["Properties"])
        kept = ("Content-Length", "Content-Type", "BlobType")
        assert '"' not in properties["Etag"]
        entries.append([fields["Name"], *(properties[name] for name in kept)])
    return {
        "entries": entries,
        "folders": under(tree, *where, "BlobPrefix", "Name"),
        "prefix": under(tree, "EnumerationResults", "Prefix"),
        "goes on": [bool(marker) for marker in under(tree, "EnumerationResults", "NextMarker")],
    }


@pytest.mark.parametrize("name", AZURE)
def test_azure(azurite, store, name):
    ask = AZURE[name]
    ours, theirs = (ask_azure(ask, base, store) for base in (store.azure_endpoint, azurite))
    assert (ours.status, theirs.status) == (ask.status, ask.double or ask.status)
    assert ours.headers["date"]
    assert ours.headers["x-ms-request-id"]
    assert ours.headers["x-ms-version"]
    if ask.double is not None:
        return
    if ask.status >= 300:
        if ask.status == 403:
            assert (ours.code, theirs.code) == ("AuthenticationFailed", "AuthorizationFailure")
        elif ask.status != 400:  # to which Azurite has nothing to say
            assert ours.code == theirs.code
        assert ours.headers.get("content-range") == theirs.headers.get("content-range")
    elif "comp=list" in ask.path:
        mine, other = blobs(ours), blobs(theirs)
        if "shut" not in ask.path:
            mine["entries"] = [entry for entry in mine["entries"] if entry[0] != "private.fits"]
        assert mine == other
    else:
        kept = ("content-length", "content-range", "accept-ranges", "content-type", "x-ms-blob-type")
        assert {name: ours.headers.get(name) for name in kept} == {
            name: theirs.headers.get(name) for name in kept
        }
        assert ours.headers["etag"][0] == theirs.headers["etag"][0] == '"'
        assert "last-modified" in ours.headers
        assert ours.body == theirs.body
