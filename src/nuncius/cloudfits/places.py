"""Where a file is: what a URL, a link or a path means."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from nuncius.errors import ConfigurationError

Kind: TypeAlias = Literal["s3", "gs", "az", "http", "file", "other"]

# Amazon's hosts: [bucket.]s3[-fips][.dualstack][.region].amazonaws.com[.cn], with "-region" in old links.
_AWS = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9._-]+)\.)?"
    r"s3(?P<fips>-fips)?(?P<dual>\.dualstack)?(?:[.-](?P<region>(?:[a-z]{2,5}-)+[a-z]+-\d))?"
    r"\.amazonaws\.com(?P<china>\.cn)?"
)
_SPACES = re.compile(r"(?:(?P<bucket>[a-z0-9][a-z0-9-]+)\.)?(?P<region>[a-z]{3}\d)\.digitaloceanspaces\.com")
_GOOGLE = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9._-]+)\.)?(?:storage|commondatastorage)\.googleapis\.com|storage\.cloud\.google\.com"
)
_AZURE = re.compile(
    r"(?P<account>[a-z0-9]{3,24})\.(?:blob|dfs)\."
    r"(?P<cloud>core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net)"
)
_SIGNED = re.compile(
    r"(?:^|[&;])(?:[^=&;]*(?:signature|token|secret|password|credential|api_?key)|sig|key)=", re.IGNORECASE
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
# Secrets often hold slashes: what follows a colon there and is no port is a password up to the last "@".
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s@:\[]*:(?!:|\d*(?:[/?#]|$))\S*@)")
_LINKS_SIGNATURE = re.compile(r"[?&](?:X-(?:Amz|Goog)-Signature=|sv=.*&sig=|sig=.*&sv=)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one object is.

    Parameters
    ----------
    kind : str
        ``"s3"`` (Spaces and every store with its interface too), ``"gs"``, ``"az"``, ``"http"``, ``"file"``, or
        ``"other"`` for what fsspec reads.
    url : str
        As it may be shown: without a query string or a user name.
    address : str
        As it was given.
    service : str
        Its name, for people.
    bucket, key : str
        The bucket or container and the name in it, not encoded; of a file, `key` is its path.
    endpoint : str, optional
        Where the store answers, ``{region}`` standing for the region; None is the service's own address.
    region, account : str, optional
        Where they stand in the address.
    """

    kind: Kind
    url: str
    address: str = field(repr=False)
    service: str
    bucket: str = ""
    key: str = field(default="", repr=False)
    endpoint: str | None = None
    region: str | None = None
    account: str | None = None

    @property
    def is_secret(self) -> bool:
        """Whether the address lets in whoever holds it: a presigned link, a password."""
        return self.kind in {"http", "other"} and (
            bool(_USER.search(self.address)) or bool(_SIGNED.search(self.address.partition("?")[2]))
        )


def find_place(url: str | os.PathLike[str], endpoint: str | None = None) -> Place:
    """Say where a file is.

    Parameters
    ----------
    url : str or path
        ``s3://bucket/key``, ``gs://bucket/key``, ``az://container/key``, ``abfs://container@account…/key``,
        ``do://space.region/key``, a link, ``file://…``, a path, or what fsspec reads. Keys are taken as they are, with
        spaces, ``%``, ``#`` and ``?``; links and ``file://`` are percent-encoded.
    endpoint : str, optional
        The address of the store, instead of the one that the URL means. A link below it is an object of that store.

    Raises
    ------
    ConfigurationError
        If it is no address of an object.

    Examples
    --------
    >>> place = find_place("https://stpubdata.s3.us-east-1.amazonaws.com/tess/public/a%20cube.fits")
    >>> place.kind, place.bucket, place.key, place.region
    ('s3', 'stpubdata', 'tess/public/a cube.fits', 'us-east-1')
    """
    if isinstance(url, os.PathLike):
        return _file(os.fspath(url))
    if not isinstance(url, str) or not url.strip():
        raise ConfigurationError("a URL or a path is a text that is not empty")
    if "\0" in url:
        raise ConfigurationError("a URL or a path holds no zero byte")
    found = _SCHEME.match(url)
    if found is None or (found[2] == "::" and not re.search(r"::[A-Za-z][A-Za-z0-9+.-]*://", url)):
        return _file(os.path.expanduser(url))  # noqa: PTH111 - a text that begins with ~ alone
    scheme = found[1].lower() if found[2] == "://" else ""
    if "::" in url[: url.find("://") + 3] or re.search(r"::[A-Za-z][A-Za-z0-9+.-]*://", url):
        scheme = ""  # a chain of fsspec
    match scheme:
        case "s3" | "s3a":
            return _bucket("s3", url, "S3", endpoint)
        case "gs" | "gcs":
            return _bucket("gs", url, "Google Cloud Storage", endpoint)
        case "az" | "abfs" | "abfss" | "adl" | "azure" | "wasb" | "wasbs":
            return _azure(url, endpoint)
        case "do":
            return _space(url, endpoint)
        case "http" | "https":
            return _link(url, endpoint)
        case "file":
            return _file_url(url)
        case _:
            shown = re.sub(r"\?[^:]*", "", _USER.sub("", url))
            return Place("other", shown, url, service=found[1].lower(), key=url)


def _bucket(kind: Kind, url: str, service: str, endpoint: str | None) -> Place:
    bucket, _, key = url.partition("://")[2].partition("/")
    _check_key(url, bucket, key, f"{kind}://bucket/key")
    return Place(kind, url, url, service=service, bucket=bucket, key=key, endpoint=endpoint)


def _space(url: str, endpoint: str | None) -> Place:
    host, _, key = url.partition("://")[2].partition("/")
    bucket, _, region = host.rpartition(".")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        bucket = ""
    _check_key(url, bucket, key, "do://space.region/key, such as do://survey.nyc3/night/image.fits")
    endpoint = endpoint or f"https://{region}.digitaloceanspaces.com"
    return Place("s3", url, url, service="Spaces", bucket=bucket, key=key, endpoint=endpoint, region=region)


def _azure(url: str, endpoint: str | None) -> Place:
    host, _, key = url.partition("://")[2].partition("/")
    container, at, account_host = host.partition("@")
    account = None
    if at:
        known = _AZURE.fullmatch(account_host.lower())
        account = known["account"] if known else account_host.partition(".")[0]
        if known and known["cloud"] != "core.windows.net":
            endpoint = endpoint or f"https://{account}.blob.{known['cloud']}"
    _check_key(url, container, key, "az://container/key or abfs://container@account.dfs.core.windows.net/key")
    return Place(
        "az", url, url, service="Azure", bucket=container, key=key, endpoint=endpoint, account=account
    )


def _link(url: str, endpoint: str | None) -> Place:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port = "", None
    if not host:
        # A password with a slash would be taken for a port.
        shown = re.sub(r"(?<=://).*@", "", shown_url(url))
        raise ConfigurationError(f"{shown!r} is no address: a link is https://host/path")
    # What has a query asks for something of its own (a presigned link, a service), and goes as it is.
    if not parts.query and not parts.fragment and not parts.username:
        place = None
        with contextlib.suppress(UnicodeDecodeError):  # no store has keys that are not UTF-8
            if endpoint is not None and url.startswith(endpoint + "/"):
                place = _of_endpoint(url, endpoint)
            elif port in {None, 80, 443}:
                place = _known_host(url, host, unquote(parts.path, errors="strict"), endpoint)
        if place is not None:
            return place
    address = url.partition("#")[0]
    return Place("http", shown_url(url), address, service=parts.netloc.rpartition("@")[2])


def _of_endpoint(url: str, endpoint: str) -> Place:
    bucket, _, key = unquote(url.removeprefix(endpoint + "/"), errors="strict").partition("/")
    _check_key(url, bucket, key, f"{endpoint}/bucket/key")
    return Place("s3", url, url, service="S3", bucket=bucket, key=key, endpoint=endpoint)


def _known_host(url: str, host: str, path: str, endpoint: str | None) -> Place | None:
    """Return the object of a store that a link means; None if it is a link like any other."""
    first, _, rest = path.removeprefix("/").partition("/")
    if match := _AWS.fullmatch(host):
        bucket, key = (match["bucket"], path.removeprefix("/")) if match["bucket"] else (first, rest)
        dual, china, fips = match["dual"] or "", match["china"] or "", match["fips"] or ""
        endpoint = endpoint or f"https://s3{fips}{dual}.{{region}}.amazonaws.com{china}"
        return _if_object("s3", url, "S3", bucket, key, endpoint, match["region"])
    if match := _SPACES.fullmatch(host):
        bucket, key = (match["bucket"], path.removeprefix("/")) if match["bucket"] else (first, rest)
        endpoint = endpoint or f"https://{match['region']}.digitaloceanspaces.com"
        return _if_object("s3", url, "Spaces", bucket, key, endpoint, match["region"])
    if match := _GOOGLE.fullmatch(host):
        bucket, key = (match["bucket"], path.removeprefix("/")) if match["bucket"] else (first, rest)
        if not match["bucket"] and re.match(r"/(?:(?:download|upload|batch)/)?storage/v1/", path):
            return None  # the other interface, which speaks JSON
        return _if_object("gs", url, "Google Cloud Storage", bucket, key, endpoint)
    if (match := _AZURE.fullmatch(host)) and first and rest:
        cloud = match["cloud"]
        if cloud != "core.windows.net":
            endpoint = endpoint or f"https://{match['account']}.blob.{cloud}"
        return _if_object("az", url, "Azure", first, rest, endpoint, account=match["account"])
    return None


def _if_object(
    kind: Kind,
    url: str,
    service: str,
    bucket: str,
    key: str,
    endpoint: str | None,
    region: str | None = None,
    account: str | None = None,
) -> Place | None:
    if not bucket or not key or _odd(key):
        return None
    return Place(
        kind,
        url,
        url,
        service=service,
        bucket=bucket,
        key=key,
        endpoint=endpoint,
        region=region,
        account=account,
    )


def _odd(key: str) -> bool:
    """Whether a key has parts that the object stores' client would drop or refuse."""
    return any(part in {"", ".", ".."} for part in key.split("/"))


def _check_key(url: str, bucket: str, key: str, form: str) -> None:
    # '*' and '?' may stand in keys; a place whose key is a pattern or a folder is made all the same, for listings.
    if not bucket or "@" in bucket or ":" in bucket:
        raise ConfigurationError(f"{shown_url(url)!r} names no object: it is written {form}")
    if _LINKS_SIGNATURE.search(key):
        raise ConfigurationError(
            f"{shown_url(url)!r} is followed by a signature, which belongs to a link: give the https:// link as it is, or the "
            "signature with credentials= (Azure: {'sas_key': …})"
        )
    if key and _odd(key.removesuffix("/")):
        raise ConfigurationError(
            f"{shown_url(url)!r}: a key with an empty part, '.' or '..' between its slashes can't be asked for in this way; "
            "use its https:// link or a presigned one"
        )


def _file_url(url: str) -> Place:
    host, slash, path = url.partition("://")[2].partition("/")
    if host not in {"", "localhost"} or not slash:
        raise ConfigurationError(
            f"{url!r}: a file on this machine is written file:///path, with three slashes"
        )
    return _file(unquote("/" + path))


def _file(path: str | bytes) -> Place:
    # Absolute, so that it means the same in another process.
    full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - keeps what is not UTF-8
    return Place("file", full, full, service="file", key=full)


def shown_url(url: str) -> str:
    """Return a URL without query, fragment and user name."""
    return re.split(r"[?#]", _USER.sub("", url), maxsplit=1)[0]
