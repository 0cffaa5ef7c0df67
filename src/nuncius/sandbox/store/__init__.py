"""An object store on loopback: plain HTTP, Amazon S3, Google and Azure, with faults on demand and exact accounts.

>>> with SandboxStore() as store:  # doctest: +SKIP
...     store.put("cube.fits", cube)
...     store.latency_s = 0.05
...     with nuncius.open_fits(store.http_url("cube.fits")) as file:
...         file.info()
...     print(store.stats)
StoreStats(requests=2, bytes=65536, connections=1, max_in_flight=1)
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from nuncius.errors import ConfigurationError
from nuncius.sandbox.front.certificates import make_certificates
from nuncius.sandbox.store.azure import make_grant
from nuncius.sandbox.store.interfaces import World
from nuncius.sandbox.store.knobs import Knob, Knobs, Ranges, StoreRequest, StoreStats
from nuncius.sandbox.store.messages import Request
from nuncius.sandbox.store.objects import HeldBytes, Readable, StoredObject, etag_of, now, readable
from nuncius.sandbox.store.process import StoreProcess
from nuncius.sandbox.store.server import StoreServer
from nuncius.sandbox.store.signature import S3Key, presign

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

__all__ = ["Readable", "S3Key", "SandboxStore", "StoreRequest", "StoreStats"]


class SandboxStore:
    """An object store on 127.0.0.1; it is ready when it is made.

    Parameters
    ----------
    process : bool
        Whether it runs in a process of its own instead of a thread, as benchmarks want it.
    region : str
        The region of its S3 interface.
    tls : bool
        Whether it speaks HTTPS, with a certificate of an authority that clients find in `ssl_ca_location`.

    Attributes
    ----------
    latency_s : float
        How long each request waits, in seconds.
    connection_latency_s : float
        How long the first request of each connection waits besides, as for a handshake.
    bandwidth : float or None
        How many bytes per second a connection carries; None is as many as can be.
    failure_rate : float
        Which part of the requests fails, from 0 to 1.
    failure_status : int
        With which status.
    cut_rate : float
        Which part of the bodies ends too early.
    cut_at : float
        How much of such a body is sent, from 0 to 1.
    reset_rate : float
        Which part of the requests ends with a reset of the connection, before the answer or within it.
    ranges : str
        ``ok``; ``ignored``: the answer is always the whole object; ``no total``: the size of the object stays unsaid
        (``Content-Range: bytes 0-9/*``).
    head : bool
        Whether HEAD is answered; if not, the status is 405.
    send_etag, send_modified : bool
        Whether answers tell the ETag and the time of the last change.
    page_size : int
        How many keys a page of a list holds at most.
    seed : int
        What the random faults depend on.
    access_key, secret_key, session_token : str
        A key of the S3 interface; it is good with its session token and without.
    temporary_key : S3Key
        Another one, which is good only with its session token.
    bearer_token : str
        What opens private objects by plain HTTP, on Google Cloud Storage and on Azure, as ``Authorization: Bearer ...``.
    azure_account, azure_key : str
        The account on Azure, and its key.
    region : str
        The region of the S3 interface.

    ssl_ca_location : Path or None
        The file with the certificate of the authority to trust, removed at the end; None without TLS.

    Raises
    ------
    MissingExtraError
        If trustme is not installed and `tls` is wanted.
    UnreachableError
        If it does not start.

    Examples
    --------
    >>> store = SandboxStore()  # doctest: +SKIP
    >>> store.put("night/image.fits", data, public=False)  # doctest: +SKIP
    >>> obstore.store.S3Store(  # doctest: +SKIP
    ...     "sky", endpoint=store.s3_endpoint, region=store.region, access_key_id=store.access_key,
    ...     secret_access_key=store.secret_key, client_options={"allow_http": True},
    ... )
    """

    # A misspelt knob is an error.
    __slots__ = (
        "_closing",
        "_knobs",
        "_server",
        "access_key",
        "azure_account",
        "azure_key",
        "bearer_token",
        "region",
        "secret_key",
        "session_token",
        "ssl_ca_location",
        "temporary_key",
    )

    latency_s = Knob[float]("latency_s")
    connection_latency_s = Knob[float]("connection_latency_s")
    bandwidth = Knob["float | None"]("bandwidth")
    failure_rate = Knob[float]("failure_rate")
    failure_status = Knob[int]("failure_status")
    cut_rate = Knob[float]("cut_rate")
    cut_at = Knob[float]("cut_at")
    reset_rate = Knob[float]("reset_rate")
    ranges = Knob[Ranges]("ranges")
    head = Knob[bool]("head")
    send_etag = Knob[bool]("send_etag")
    send_modified = Knob[bool]("send_modified")
    page_size = Knob[int]("page_size")
    seed = Knob[int]("seed")

    def __init__(self, *, process: bool = False, region: str = "us-east-1", tls: bool = False) -> None:
        key = S3Key(f"AKIA{_name()}", _secret(30), _secret(90))
        self.access_key, self.secret_key = key.access_key, key.secret_key
        self.session_token = str(key.session_token)
        self.temporary_key = S3Key(f"ASIA{_name()}", _secret(30), _secret(90), needs_token=True)
        self.bearer_token = secrets.token_urlsafe(30)
        self.region = region
        self.azure_account, self.azure_key = "skyarchive", _secret(64)
        self._knobs = Knobs()
        keys = {each.access_key: each for each in (key, self.temporary_key)}
        world = World(region, keys, self.bearer_token, self.azure_account, self.azure_key)
        self._closing = contextlib.ExitStack()
        self.ssl_ca_location: Path | None = None
        try:
            if tls:
                folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="nuncius-store-"))
                self.ssl_ca_location, world.certificate = make_certificates(Path(folder))
            self._server: StoreServer | StoreProcess = StoreProcess(world) if process else StoreServer(world)
            self._closing.callback(self._server.close)
        except BaseException:
            self._closing.close()
            raise

    def _order(self, name: str, *arguments: Any) -> Any:
        return self._server.order((name, *arguments))

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The plain web server."""
        return self._address("http")

    @property
    def s3_endpoint(self) -> str:
        """The S3 interface."""
        return self._address("s3")

    @property
    def gcs_endpoint(self) -> str:
        """The interface of Google Cloud Storage."""
        return self._address("gcs")

    @property
    def azure_endpoint(self) -> str:
        """The Blob service of Azure, as the custom domain of the account `azure_account`."""
        return self._address("azure")

    def _address(self, interface: str) -> str:
        scheme = "http" if self.ssl_ca_location is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.ports[interface]}"

    def http_url(self, key: str, *, bucket: str = "sky", query: str | None = None) -> str:
        """Return where an object is by plain HTTP."""
        return f"{self.url}/{_path(bucket, key)}" + (f"?{query}" if query else "")

    def s3_url(self, key: str, *, bucket: str = "sky") -> str:
        """Return where an object is in S3, as ``s3://bucket/key``."""
        return f"s3://{bucket}/{key}"

    def gcs_url(self, key: str, *, bucket: str = "sky") -> str:
        """Return where an object is in Google Cloud Storage, as ``gs://bucket/key``."""
        return f"gs://{bucket}/{key}"

    def azure_url(self, key: str, *, bucket: str = "sky") -> str:
        """Return where an object is on Azure, as ``az://container/blob``."""
        return f"az://{bucket}/{key}"

    def presigned_url(
        self,
        key: str,
        *,
        bucket: str = "sky",
        method: str = "GET",
        expires_s: int = 3600,
        signed_at: datetime | None = None,
        signer: S3Key | None = None,
        requester_pays: bool = False,
    ) -> str:
        """Return a URL of the S3 interface that opens an object for a while.

        Parameters
        ----------
        key, bucket : str
            The object.
        method : str
            For which method.
        expires_s : int
            For how many seconds.
        signed_at : datetime, optional
            From when on; now by default.
        signer : S3Key, optional
            With which key, such as `temporary_key`.
        requester_pays : bool
            Whether who signs pays.
        """
        path = f"/{_path(bucket, key)}"
        host = self.s3_endpoint.partition("://")[2]
        query = presign(
            Request(method, path, "", {"host": host}, keeps_alive=True),
            signer or S3Key(self.access_key, self.secret_key),
            region=self.region,
            signed_at=signed_at or now(),
            expires_s=expires_s,
            payer=requester_pays,
        )
        return f"{self.s3_endpoint}{path}?{query}"

    def azure_sas(self, *, expires_s: float = 3600.0) -> str:
        """Return a shared access signature (a query string) that reads and lists everything on Azure for a while."""
        return make_grant(self.azure_account, self.azure_key, now() + timedelta(seconds=expires_s))

    # What it keeps ----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: bytes | Path | Readable,
        *,
        bucket: str = "sky",
        public: bool = True,
        requester_pays: bool = False,
        etag: str | None = None,
        modified: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        query: str | None = None,
    ) -> None:
        """Keep an object, instead of what was there under this key.

        Parameters
        ----------
        key : str
            What it is called.
        data : bytes, Path or Readable
            Its bytes; what is no bytes is read piece by piece when it is asked for.
        bucket : str
            Where; buckets are made on demand.
        public : bool
            Whether one may read it without a name.
        requester_pays : bool
            Whether who reads it must say who he is and that he pays. In the real services this is a setting of a bucket,
            here of an object, so that one bucket will do.
        etag : str, optional
            Which content it is; by default the MD5 of bytes, or the `etag` of `data`.
        modified : datetime, optional
            When it was changed; now by default.
        headers : mapping, optional
            More header lines of the answer.
        query : str, optional
            The query string, encoded, without which plain HTTP doesn't give it.

        Raises
        ------
        ConfigurationError
            If there can be no such object.
        """
        content = readable(data)
        stored = StoredObject(
            data=content,
            etag=etag.strip('"') if etag is not None else etag_of(content),
            modified=(modified or now()).replace(microsecond=0),
            public=public,
            requester_pays=requester_pays,
            query=query,
            headers=dict(headers or {}),
        )
        self._put(bucket, key, stored)

    def redirect(self, key: str, url: str, *, bucket: str = "sky", status: int = 307) -> None:
        """Send who asks for an object somewhere else."""
        empty = HeldBytes(b"")
        self._put(bucket, key, StoredObject(data=empty, etag="", modified=now(), redirect=(url, status)))

    def delete(self, key: str, *, bucket: str = "sky") -> bool:
        """Forget an object; tell whether it was there."""
        return bool(self._order("delete", bucket, key))

    def set_region(self, bucket: str, region: str) -> None:
        """Move a bucket to another region than that of the store; S3 then sends there who asks here."""
        self._order("set_region", bucket, region)

    def _put(self, bucket: str, key: str, stored: StoredObject) -> None:
        if not bucket or "/" in bucket or not key:
            raise ConfigurationError(
                f"no object can be called {key!r} in {bucket!r}: a key is not empty, and a bucket has no slash"
            )
        self._order("put", bucket, key, stored)

    # Faults and accounts ----------------------------------------------------------------------------------------------

    def fail(
        self,
        status: int = 503,
        times: int = 1,
        *,
        retry_after: float | str | None = None,
        path: str = "/",
    ) -> None:
        """Answer the next requests with an error.

        Parameters
        ----------
        status : int
            The HTTP status.
        times : int
            How many requests.
        retry_after : float or str, optional
            What the header Retry-After says.
        path : str
            Which requests: those whose path, encoded as it is sent, begins so.
        """
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self._order("fail", status, times, headers, path)

    @property
    def log(self) -> list[StoreRequest]:
        """The requests since the last reset, in the order in which they arrived."""
        return list(self._order("log"))

    @property
    def stats(self) -> StoreStats:
        """What the requests since the last reset add up to."""
        stats: StoreStats = self._order("stats")
        return stats

    def reset(self) -> None:
        """Begin the accounts anew, and let nothing go wrong; the objects stay."""
        self._knobs = Knobs()
        self._order("reset")

    # The end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Break all connections and stop."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxStore at {self.url}>"


def _path(bucket: str, key: str) -> str:
    return f"{quote(bucket, safe='')}/{quote(key, errors='surrogateescape')}"


def _name() -> str:
    return secrets.token_hex(8).upper()


def _secret(size: int) -> str:
    # With the characters +, / and = that real ones have, and that want to be encoded.
    return base64.b64encode(secrets.token_bytes(size)).decode()
