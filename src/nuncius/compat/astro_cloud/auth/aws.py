"""Requests to S3 that are signed, for the requests library.

>>> import requests
>>> url = "https://s3.amazonaws.com/bucket/image.fits"
>>> requests.get(url, auth=AWSAuth(request_payer=True), headers={"Range": "bytes=0-2879"})  # doctest: +SKIP

Credentials are looked for as every AWS program does it: in the environment (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``), then in the profile (``AWS_PROFILE``) of ``~/.aws/credentials`` and
``~/.aws/config``, with roles and single sign-on. Where there are none, requests go unsigned: public files need no more.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from nuncius._core.lazy import require
from nuncius.cloudfits.stores.logins import machine_cloud
from nuncius.compat.astro_cloud.auth import signing
from nuncius.compat.astro_cloud.errors import AstroCloudLoginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import PreparedRequest, Response

__all__ = ["AWSAuth", "AWSAuthContext", "load_aws_auth_context"]

_log = logging.getLogger(__name__)
_DEFAULT_REGION = "us-east-1"


class AWSAuthContext(NamedTuple):
    """The credentials that were found; None where there are none. Its repr hides the secret, and it isn't pickled."""

    access_key: str | None
    secret_key: str | None
    region: str | None
    service: str

    def __repr__(self) -> str:
        secret = None if self.secret_key is None else "***"
        return (
            f"AWSAuthContext(access_key={self.access_key!r}, secret_key={secret}, region={self.region!r}, "
            f"service={self.service!r})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; they are looked for again where they are needed")


def load_aws_auth_context() -> AWSAuthContext:
    """Look for credentials, as `AWSAuth` does.

    Returns
    -------
    AWSAuthContext
        ``(access_key, secret_key, region, service)``. A session token isn't among them: `AWSAuth` sends it.

    Raises
    ------
    AstroCloudLoginError
        If there are some that can't be used: half of a pair, a profile that doesn't exist, a login that is over.
    MissingExtraError
        If botocore is not installed.
    """
    search = _Search()
    keys = search.keys()
    if keys is None:
        return AWSAuthContext(None, None, search.region, "s3")
    return AWSAuthContext(keys.access_key, keys.secret_key, search.region, "s3")


class AWSAuth(require("requests.auth", extra="aws").AuthBase):  # type: ignore[misc]
    """Signs requests to S3, or to anything that speaks its protocol.

    Parameters
    ----------
    request_payer : bool
        Whether you pay for the transfer, as some buckets demand.

    Notes
    -----
    A request is signed for the region in its host name, else for that of the environment (``AWS_REGION``,
    ``AWS_DEFAULT_REGION``) or profile, else for us-east-1; if S3 says that the bucket lies elsewhere, the request is sent
    once more, there. When a request is redirected, its signature and session token stay behind; it is signed anew if it
    goes to the same server or to another one of S3. A presigned URL is left as it is. One `AWSAuth` may serve many
    requests and threads; it pickles without any secret.
    """

    def __init__(self, request_payer: bool = False) -> None:
        self.request_payer = request_payer
        self._lock = threading.Lock()
        self._search: _Search | None = None

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request, signed.

        Raises
        ------
        AstroCloudLoginError
            If there are credentials that can't be used.
        MissingExtraError
            If botocore is not installed.
        """
        url = str(request.url)
        if not signing.is_presigned(url):
            self._sign(request)
            request.register_hook("response", partial(self._answered, first_url=url))
        return request

    def __repr__(self) -> str:
        return f"AWSAuth(request_payer={self.request_payer})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request_payer,)

    def _found(self) -> _Search:
        with self._lock:
            if self._search is None:
                self._search = _Search()
            return self._search

    def _sign(self, request: PreparedRequest, region: str | None = None) -> None:
        search = self._found()
        region = region or signing.region_of(urlsplit(str(request.url)).hostname or "")
        signing.sign(
            request,
            search.keys(),
            region=region or search.region or _DEFAULT_REGION,
            request_payer=self.request_payer,
        )

    def _answered(self, response: Response, *, first_url: str, **options: Any) -> Response:
        """Send a request again where its signature was for another region, or a redirect took it."""
        request = response.request
        if response.is_redirect:
            # requests copies the headers for the next server; it would drop only one of those that are secret.
            signing.unsign(request)
            return response
        url, signed_for = str(request.url), signing.signed_region(request)
        if not _may_see(first_url, url):
            return response
        region = response.headers.get("x-amz-bucket-region")
        if region and response.status_code in (301, 400, 403):
            there = signing.in_region(url, region)
            if there != url or signed_for not in (None, region):
                return self._send_again(response, there, region, options)
        if signed_for is None and response.status_code in (401, 403):
            return self._send_again(response, url, None, options)
        return response

    def _send_again(
        self, response: Response, url: str, region: str | None, options: dict[str, Any]
    ) -> Response:
        old = response.request
        request = old.copy()
        request.url = url
        self._sign(request, region)
        if hasattr(old.body, "read") or (request.url == old.url and "Authorization" not in request.headers):
            return response  # what was to be sent is gone, or nothing would be different
        _ = response.content  # frees the connection
        response.close()
        answer: Response = response.connection.send(request, **options)
        answer.history.append(response)
        answer.request = request
        if answer.is_redirect:
            signing.unsign(old)  # requests makes the next one from it
        return answer


class _Search:
    """Credentials that were looked for once, and renew themselves (roles, single sign-on)."""

    def __init__(self) -> None:
        with _understood():
            session = require("botocore.session", extra="aws").Session()
            # Elsewhere nobody answers at the address where such a machine asks, and each program would wait for it.
            if machine_cloud() != "s3":
                session.get_component("credential_provider").remove("iam-role")
            self._found = session.get_credentials()
            self.region: str | None = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if self._found is None:
            _log.info("no AWS credentials found: requests to S3 go unsigned")

    def keys(self) -> signing.Keys | None:
        """Return what is valid now; None if there are no credentials."""
        if self._found is None:
            return None
        with _understood():
            frozen = self._found.get_frozen_credentials()
        return signing.Keys(frozen.access_key, frozen.secret_key, frozen.token)


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except require("botocore.exceptions", extra="aws").BotoCoreError as error:
        raise AstroCloudLoginError(
            f"the AWS credentials can't be used: {error}. See AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE "
            "in the environment, and the files in ~/.aws",
            service="s3",
        ) from error


def _may_see(first_url: str, url: str) -> bool:
    """Tell whether the server to which a request was redirected may be given a signature."""
    first, now = urlsplit(first_url), urlsplit(url)
    if (first.scheme, first.netloc) == (now.scheme, now.netloc):
        return True
    both = signing.is_aws(first.hostname or "") and signing.is_aws(now.hostname or "")
    return both and now.scheme == "https"
