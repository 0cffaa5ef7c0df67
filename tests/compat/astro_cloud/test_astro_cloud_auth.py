"""Requests that are signed, against a store that verifies signatures and wants to be paid."""

from __future__ import annotations

import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from requests.adapters import BaseAdapter

from nuncius.compat.astro_cloud.auth.aws import AWSAuth, load_aws_auth_context
from nuncius.compat.astro_cloud.auth.azure import AzureAuth
from nuncius.compat.astro_cloud.auth.digital_ocean import DigitalOceanAuth
from nuncius.compat.astro_cloud.auth.gcp import GCPAuth
from nuncius.compat.astro_cloud.auth.signing import signed_region
from nuncius.compat.astro_cloud.errors import AstroCloudLoginError

DATA = bytes(range(256)) * 40


def address(store, key, bucket="sky"):
    return store.http_url(key, bucket=bucket).replace(store.url, store.s3_endpoint)


def secret_headers(noted):
    names = (
        "authorization",
        "x-amz-security-token",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-request-payer",
    )
    return [name for name in names if name in noted.headers]


def test_it_is_an_auth_of_requests():
    assert isinstance(AWSAuth(), requests.auth.AuthBase)
    assert isinstance(AWSAuth(request_payer=True), requests.auth.AuthBase)


KEYS = (
    *(
        "plain.fits",
        "a b.fits",
        "a+b.fits",
        "50%.fits",
        "%20.fits",
        "a%2Fb.fits",
        "étoile/Ω.fits",
        "~user/x.fits",
    ),
    *(
        "a=b&c,d;e:f@g$h!i'j(k)*.fits",
        "#1?.fits",
        '[x]{y}|^`".fits',
        "back\\slash.fits",
        "tess/public/mast/x.fits",
    ),
)


@pytest.mark.parametrize("key", KEYS)
def test_every_name_is_signed_as_it_is_sent(login, key):
    login.put(key, DATA, public=False)
    response = requests.get(address(login, key), auth=AWSAuth())
    assert (response.status_code, response.content) == (200, DATA)
    assert len(login.log) == 1


def test_a_name_typed_in_a_browser(login):
    login.put("a b+é.fits", DATA, public=False)
    response = requests.get(f"{login.s3_endpoint}/sky/a b+é.fits", auth=AWSAuth())
    assert (response.status_code, response.content) == (200, DATA)


def test_query_strings(login):
    for name in ("a b/1", "a b/2+3", "c/4"):
        login.put(name, b"x", public=False, bucket="lists")
    url = f"{login.s3_endpoint}/lists"
    response = requests.get(
        url, params={"list-type": "2", "prefix": "a b/", "delimiter": "+"}, auth=AWSAuth()
    )
    assert response.status_code == 200, response.text
    assert "a b/1" in response.text
    assert "c/4" not in response.text
    response = requests.get(f"{url}?prefix=a%20b/2%2B&list-type=2", auth=AWSAuth())
    assert response.status_code == 200, response.text
    assert "a b/1" not in response.text
    assert "a b/2+3" in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_ranges_and_streams(login, stream):
    login.put("x.fits", DATA, public=False, requester_pays=True)
    auth = AWSAuth(request_payer=True)
    with requests.get(
        address(login, "x.fits"), auth=auth, headers={"Range": "bytes=100-199"}, stream=stream
    ) as part:
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes 100-199/{len(DATA)}"
        assert b"".join(part.iter_content(7)) == DATA[100:200]
    with requests.get(address(login, "x.fits"), auth=auth, stream=stream) as whole:
        assert whole.status_code == 200
        assert b"".join(whole.iter_content(1000)) == DATA
    head = requests.head(address(login, "x.fits"), auth=auth)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(DATA)))


def test_who_pays_must_say_so(login):
    login.put("paid.fits", DATA, requester_pays=True)
    url = address(login, "paid.fits")
    assert requests.get(url).status_code == 403
    assert requests.get(url, auth=AWSAuth()).status_code == 403
    response = requests.get(url, auth=AWSAuth(request_payer=True))
    assert response.status_code == 200
    assert response.headers["x-amz-request-charged"] == "requester"


def test_without_credentials_requests_are_anonymous(store, caplog):
    store.put("public.fits", DATA)
    store.put("private.fits", DATA, public=False)
    with caplog.at_level("INFO", logger="nuncius"):
        assert requests.get(address(store, "public.fits"), auth=AWSAuth()).content == DATA
    assert "unsigned" in caplog.text
    assert requests.get(address(store, "private.fits"), auth=AWSAuth()).status_code == 403
    assert [noted.headers.get("authorization") for noted in store.log] == [None, None]
    context = load_aws_auth_context()
    assert context == (None, None, None, "s3")
    assert list(context._fields) == ["access_key", "secret_key", "region", "service"]


def test_temporary_credentials(store, monkeypatch):
    store.put("x.fits", DATA, public=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.temporary_key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.temporary_key.secret_key)
    assert requests.get(address(store, "x.fits"), auth=AWSAuth()).status_code == 403
    monkeypatch.setenv("AWS_SESSION_TOKEN", store.temporary_key.session_token)
    assert requests.get(address(store, "x.fits"), auth=AWSAuth()).status_code == 200


def write_profiles(tmp_path, store):
    folder = tmp_path / "aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\nregion = eu-north-1\n"
        f"[survey]\naws_access_key_id = {store.temporary_key.access_key}\n"
        f"aws_secret_access_key = {store.temporary_key.secret_key}\n"
        f"aws_session_token = {store.temporary_key.session_token}\n"
    )
    (folder / "config").write_text("[profile survey]\nregion = us-east-1\n")


def test_profiles(store, monkeypatch, tmp_path):
    write_profiles(tmp_path, store)
    store.put("x.fits", DATA, public=False)
    assert load_aws_auth_context() == ("AKIAOTHER", "other", "eu-north-1", "s3")
    assert requests.get(address(store, "x.fits"), auth=AWSAuth()).status_code == 403
    monkeypatch.setenv("AWS_PROFILE", "survey")
    key = store.temporary_key
    assert load_aws_auth_context() == (key.access_key, key.secret_key, "us-east-1", "s3")
    assert requests.get(address(store, "x.fits"), auth=AWSAuth()).status_code == 200
    # The environment comes before the files, as it is documented.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert load_aws_auth_context() == (store.access_key, store.secret_key, "us-west-2", "s3")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert load_aws_auth_context().region == "us-east-1"


def test_credentials_are_looked_for_once(login, monkeypatch):
    login.put("x.fits", DATA, public=False)
    session = requests.Session()
    session.auth = AWSAuth()
    assert session.get(address(login, "x.fits")).status_code == 200
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert session.get(address(login, "x.fits")).status_code == 200
    assert login.stats.connections == 1


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_pair_is_an_error_that_names_no_secret(login, monkeypatch, missing):
    monkeypatch.delenv(missing)
    if missing == "AWS_ACCESS_KEY_ID":
        assert load_aws_auth_context().access_key is None  # a secret without a name is none
        return
    with pytest.raises(AstroCloudLoginError, match="AWS_SECRET_ACCESS_KEY") as caught:
        requests.get(address(login, "x.fits"), auth=AWSAuth())
    assert login.access_key not in str(caught.value)


def test_a_profile_that_is_not_there(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody-knows")
    with pytest.raises(AstroCloudLoginError, match="nobody-knows"):
        AWSAuth()(requests.Request("GET", "https://s3.amazonaws.com/b/k").prepare())
    with pytest.raises(AstroCloudLoginError, match="nobody-knows"):
        load_aws_auth_context()


# Regions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1"])
def test_a_bucket_in_another_region(login, monkeypatch, region):
    login.put("x.fits", DATA, public=False, bucket="far")
    login.set_region("far", region)
    auth = AWSAuth()
    response = requests.get(address(login, "x.fits", "far"), auth=auth, headers={"Range": "bytes=0-9"})
    assert (response.status_code, response.content) == (206, DATA[:10])
    assert [each.status_code for each in response.history] in ([301], [400])
    assert len(login.log) == 2
    # Who names the region needs no second request.
    login.reset()
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert requests.get(address(login, "x.fits", "far"), auth=AWSAuth()).status_code == 200
    assert len(login.log) == 1


def test_a_region_that_nobody_names(login):
    login.put("x.fits", DATA, public=False, bucket="here")
    login.fail(400)
    assert requests.get(address(login, "x.fits", "here"), auth=AWSAuth()).status_code == 400
    assert len(login.log) == 1


# Redirects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_at_the_same_server_is_signed_anew(store, monkeypatch, status):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.temporary_key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.temporary_key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", store.temporary_key.session_token)
    store.put("new name+1.fits", DATA, public=False, requester_pays=True)
    store.redirect("old.fits", address(store, "new name+1.fits"), status=status)
    response = requests.get(
        address(store, "old.fits"),
        auth=AWSAuth(request_payer=True),
        headers={"Range": "bytes=0-99"},
        stream=True,
    )
    assert (response.status_code, response.content) == (206, DATA[:100])
    assert status in [each.status_code for each in response.history]
    assert response.url == address(store, "new name+1.fits").replace("+", "%2B")


def test_redirects_are_followed_only_if_they_shall_be(login):
    login.redirect("old.fits", address(login, "new.fits"))
    response = requests.get(address(login, "old.fits"), auth=AWSAuth(), allow_redirects=False)
    assert response.status_code == 307
    assert len(login.log) == 1


def test_another_server_sees_no_signature_and_no_token(store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.temporary_key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.temporary_key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", store.temporary_key.session_token)
    store.put("elsewhere.fits", DATA)
    store.put("locked.fits", DATA, public=False)
    for key, status in (("elsewhere.fits", 200), ("locked.fits", 401)):
        store.redirect(f"to-{key}", store.http_url(key))
        response = requests.get(address(store, f"to-{key}"), auth=AWSAuth(request_payer=True))
        assert response.status_code == status
    ours, others = ([noted for noted in store.log if noted.interface == name] for name in ("s3", "http"))
    assert [len(secret_headers(noted)) for noted in ours] == [5, 5]
    assert [secret_headers(noted) for noted in others] == [[], []]


def test_a_redirect_that_follows_another_region(login):
    login.put("new.fits", DATA, bucket="far", public=False)
    login.redirect("old.fits", login.http_url("public.fits"), bucket="far")
    login.put("public.fits", DATA)
    login.set_region("far", "eu-west-1")
    response = requests.get(address(login, "old.fits", "far"), auth=AWSAuth(request_payer=True))
    assert (response.status_code, response.content) == (200, DATA)
    assert [noted.interface for noted in login.log] == ["s3", "s3", "http"]
    assert secret_headers(login.log[-1]) == []


def test_redirects_in_a_circle_end(login):
    login.redirect("a.fits", address(login, "b.fits"))
    login.redirect("b.fits", address(login, "a.fits"))
    with pytest.raises(requests.TooManyRedirects):
        requests.get(address(login, "a.fits"), auth=AWSAuth())


class Amazon(BaseAdapter):
    """Answers for hosts that the tests don't reach, as S3 does; `seen` holds (url, region signed for, token)."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.seen = []

    def send(self, request, **options):
        token = request.headers.get("X-Amz-Security-Token")
        self.seen.append((request.url, signed_region(request), token))
        response = requests.Response()
        response.request, response.url, response.connection = request, request.url, self
        response.status_code, headers = self.answers(request)
        response.headers.update(headers)
        response.raw = io.BytesIO(b"x")
        return response

    def close(self):
        """Nothing is open."""


def ask(answers, url):
    """Ask once; return the answer and what was seen of the requests."""
    session = requests.Session()
    amazon = Amazon(answers)
    session.mount("https://", amazon)
    session.mount("http://", amazon)
    return session.get(url, auth=AWSAuth(request_payer=True)), amazon.seen


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    return "token"


def test_from_one_server_of_s3_to_another(token):
    there = "https://b.s3-us-west-2.amazonaws.com/k"

    def answers(request):
        if request.url != there:
            return 307, {"Location": there}
        return (200 if signed_region(request) == "us-west-2" else 403), {}

    response, seen = ask(answers, "https://b.s3.amazonaws.com/k")
    assert response.status_code == 200
    assert seen == [
        ("https://b.s3.amazonaws.com/k", "us-east-1", token),
        (there, None, None),
        (there, "us-west-2", token),
    ]


@pytest.mark.parametrize("logged_in", [True, False])
def test_the_servers_of_another_region(monkeypatch, logged_in):
    if logged_in:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def answers(request):
        there = "s3.eu-west-1" in request.url
        return (200, {}) if there else (301, {"x-amz-bucket-region": "eu-west-1"})

    response, seen = ask(answers, "https://s3.amazonaws.com/datum-storage.org/a+b.fits")
    assert response.status_code == 200
    signed = ["us-east-1", "eu-west-1"] if logged_in else [None, None]
    assert [each[:2] for each in seen] == [
        ("https://s3.amazonaws.com/datum-storage.org/a%2Bb.fits", signed[0]),
        ("https://s3.eu-west-1.amazonaws.com/datum-storage.org/a%2Bb.fits", signed[1]),
    ]


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://s3.amazonaws.com.evil.org/b/k",
        "http://b.s3.amazonaws.com/k",
        "https://b.s3.amazonaws.com:8443@evil.org/k",
        "https://ec2-1-2-3-4.compute-1.amazonaws.com/k",
    ],
)
@pytest.mark.parametrize("status", [200, 301, 400, 401, 403])
def test_nobody_else_is_given_a_signature(token, elsewhere, status):
    def answers(request):
        if request.url.endswith("/first"):
            return 307, {"Location": elsewhere}
        return status, {"x-amz-bucket-region": "eu-west-1"}

    response, seen = ask(answers, "https://b.s3.amazonaws.com/first")
    assert response.status_code == status
    assert [each[1:] for each in seen] == [("us-east-1", token), (None, None)]


@pytest.mark.parametrize("region", ["evil.org/", "eu-west-1.evil.org", "", "*"])
def test_a_region_that_is_none(token, region):
    response, seen = ask(lambda _: (301, {"x-amz-bucket-region": region}), "https://s3.amazonaws.com/b/k")
    assert response.status_code == 301
    assert {each[0] for each in seen} == {"https://s3.amazonaws.com/b/k"}
    assert len(seen) <= 2


# Presigned links, other bodies ----------------------------------------------------------------------------------------


def test_a_presigned_url_is_left_as_it_is(login):
    login.put("a b+c.fits", DATA, public=False)
    url = login.presigned_url("a b+c.fits")
    response = requests.get(url, auth=AWSAuth(request_payer=True))
    assert (response.status_code, response.content) == (200, DATA)
    assert response.url == url
    assert secret_headers(login.log[0]) == []


class _Answers(BaseHTTPRequestHandler):
    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((dict(self.headers), body))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.end_headers()

    def log_message(self, *_):
        """Be silent."""


@pytest.fixture
def upload():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_sent_is_signed_too(login, upload, tmp_path):
    url = f"http://127.0.0.1:{upload.server_port}/b/k"
    (tmp_path / "body").write_bytes(DATA)
    assert requests.put(url, data=DATA, auth=AWSAuth()).status_code == 403
    with (tmp_path / "body").open("rb") as body:
        assert requests.put(url, data=body, auth=AWSAuth()).status_code == 403
    # Bytes are sent again for the region that was named; a file that was read is not.
    digests = {headers["X-Amz-Content-SHA256"] for headers, _ in upload.seen}
    assert len(upload.seen) == 3
    assert {body for _, body in upload.seen} == {DATA}
    assert len(digests) == 1
    regions = [headers["Authorization"].split("/")[2] for headers, _ in upload.seen]
    assert regions == ["us-east-1", "eu-west-1", "us-east-1"]


# Values ---------------------------------------------------------------------------------------------------------------


def test_no_secret_is_shown_or_pickled(store, monkeypatch):
    key = store.temporary_key
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", key.session_token)
    store.put("x.fits", DATA, public=False)
    auth = AWSAuth(request_payer=True)
    response = requests.get(address(store, "x.fits"), auth=auth)
    context = load_aws_auth_context()
    assert context.secret_key == key.secret_key
    shown = f"{auth!r} {auth} {vars(auth)} {context!r} {context} {[context]}"
    assert key.secret_key not in shown
    assert key.session_token not in shown
    twin = pickle.dumps(auth)
    assert key.secret_key.encode() not in twin
    assert key.secret_key.encode() not in pickle.dumps(response)
    assert pickle.loads(twin).request_payer is True
    assert requests.get(address(store, "x.fits"), auth=pickle.loads(twin)).status_code == 200
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(context)


def test_one_auth_serves_many_threads(login):
    for number in range(40):
        login.put(f"{number}.fits", DATA[number:], public=False)
    auth = AWSAuth()

    def read(number):
        return requests.get(address(login, f"{number}.fits"), auth=auth).content

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(40))) == [DATA[number:] for number in range(40)]


@pytest.mark.parametrize("kind", [AzureAuth, GCPAuth, DigitalOceanAuth])
def test_the_others_leave_a_request_as_it_is(store, kind):
    store.put("x.fits", DATA)
    request = requests.Request("GET", store.http_url("x.fits")).prepare()
    before = dict(request.headers), request.url
    assert isinstance(kind(), requests.auth.AuthBase)
    assert kind()(request) is request
    assert (dict(request.headers), request.url) == before
    assert requests.get(store.http_url("x.fits"), auth=kind()).content == DATA
