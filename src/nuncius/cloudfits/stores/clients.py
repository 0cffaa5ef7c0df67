"""The object stores' client: one for each store and way of access, shared by all files of a process."""

from __future__ import annotations

import atexit
import base64
import functools
import os
import re
import threading
import time
from collections import OrderedDict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from nuncius.cloudfits.stores import aws, azure, google
from nuncius.cloudfits.stores.logins import Login
from nuncius.errors import ConfigurationError, ForkError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place

    Store = S3Store | GCSStore | AzureStore | HTTPStore

CONNECT_TIMEOUT_S = 5.0
_MOST_STORES = 256  # each link with a query is a store of its own
_LONGEST_RETRYING_S = 180.0
# A path that the client writes as it stands here: no empty part, and of the encoded letters only those that it encodes.
_PLAIN_PATH = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9_.~+,=@:!$&'()*;-]|%(?:20|22|23|25|3C|3E|3F|60|7B|7D)|%[89A-F][0-9A-F]"
    r"|[^\x00-\x7f])+)+"
)

_stores: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()
_process: int | None = None
_LETTING_GO_S = 0.05  # until the client's threads have let go of an answer, which nothing tells
_last_answer = 0.0


def find_login(place: Place, access: Access) -> Login:
    """Say who reads from a place.

    Raises
    ------
    ConfigurationError, MissingExtraError
        If what is found can't be used, or nobody may read.
    """
    match place.kind:
        case "s3":
            return aws.find_login(place, access)
        case "gs":
            return google.find_login(place, access)
        case "az":
            if access.requester_pays:
                raise ConfigurationError("requester_pays= is for S3 and Google; Azure has no such thing")
            return azure.find_login(place, access)
        case _:
            _check_link(place, access)
            return Login("no credentials" if not access.headers else "headers=", anonymous=not access.headers)


def client_of(place: Place, access: Access, login: Login, *, whole: bool = False) -> tuple[Store, str]:
    """Return the client for an object and the object's name there.

    Parameters
    ----------
    place, access, login : Place, Access, Login
        The object, how it is reached, and who reads.
    whole : bool
        Whether it is for one long answer: then the time limit is for each piece of it.

    Raises
    ------
    ConfigurationError
        If it refuses its settings.
    """
    base, key = _base(place)
    where: Hashable = (place.kind, base, access, login, whole, *user_line(place).values())
    with _lock:
        store = _stores.get(where)
        if store is not None:
            _stores.move_to_end(where)
            return store, key
    store = _make(place, base, access, login, whole=whole)
    with _lock:
        store = _stores.setdefault(where, store)
        while len(_stores) > _MOST_STORES:
            _stores.popitem(last=False)
    return store, key


def check_process() -> None:
    """Raise in a process forked from one that used the client: its threads stayed behind, and it would wait for ever.

    Raises
    ------
    ForkError
        In such a process.
    """
    global _process
    if _process is None:
        _process = os.getpid()
        atexit.register(_let_go)
    elif _process != os.getpid():
        raise ForkError(
            "this process was forked from one that had already read from object stores, whose connections it can't "
            'use; start worker processes with the method "spawn": multiprocessing.get_context("spawn")'
        )


def note_answer() -> None:
    """Note that the client has answered just now."""
    global _last_answer
    _last_answer = time.monotonic()


def _let_go() -> None:
    """Wait at the end of the program: a thread that comes back to an interpreter which has ended aborts it (SIGABRT)."""
    time.sleep(max(0.0, _last_answer + _LETTING_GO_S - time.monotonic()))


def _base(place: Place) -> tuple[str, str]:
    """Return what of an address a client is made for, and the object's name below it."""
    if place.kind != "http":
        return place.bucket, place.key
    parts = urlsplit(place.address)
    host = parts.netloc.rpartition("@")[2]
    if not parts.query and _PLAIN_PATH.fullmatch(parts.path):
        try:
            return f"{parts.scheme}://{host}", unquote(parts.path, errors="strict").removeprefix("/")
        except UnicodeDecodeError:
            pass
    return urlunsplit(parts._replace(netloc=host)), ""


def user_line(place: Place) -> dict[str, str]:
    """Return the header line for a user name and a password that stand in an address; nothing if there are none."""
    if place.kind != "http":
        return {}
    parts = urlsplit(place.address)
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}


def _make(place: Place, base: str, access: Access, login: Login, *, whole: bool) -> Store:
    from obstore import store as stores
    from obstore.exceptions import BaseError

    config: Any = dict(login.options)
    provider = login.provider()
    address = login.address if place.kind != "http" else base
    options = _client_options(access, plain=(address or "").lower().startswith("http://"), whole=whole)
    options["default_headers"] |= dict(login.headers)
    common: dict[str, Any] = {"client_options": options, "retry_config": _retry_config(access)}
    if provider is not None:
        common["credential_provider"] = provider
    try:
        match place.kind:
            case "s3":
                config |= {"endpoint": address, "region": login.region, "virtual_hosted_style_request": False}
                config |= {"skip_signature": login.anonymous, "request_payer": access.requester_pays}
                # The client takes this variable before what it is told.
                if "AWS_ENDPOINT_URL_S3" in os.environ:
                    config["aws_endpoint_url_s3"] = address
                return stores.S3Store(base, config=config, **common)
            case "gs":
                config |= {"skip_signature": login.anonymous} | ({"base_url": address} if address else {})
                return stores.GCSStore(base, config=config, **common)
            case "az":
                config |= {"skip_signature": login.anonymous} | ({"endpoint": address} if address else {})
                return stores.AzureStore(base, config=config, **common)
            case _:
                # What a proxy packs can't be read in pieces. Stores don't pack, and some change what is signed.
                options["default_headers"] |= {"accept-encoding": "identity"} | user_line(place)
                return stores.HTTPStore(base, **common)
    except (BaseError, ValueError, TypeError):
        # The text quotes settings.
        problem = ConfigurationError(
            f"the client for {place.service} refuses its settings for {place.url}: look at endpoint=, region=, "
            f"ssl_ca_location= and {login.source}",
            service=place.service,
            url=place.url,
        )
    raise problem


def _client_options(access: Access, *, plain: bool, whole: bool) -> dict[str, Any]:
    limit = timedelta(seconds=access.timeout_s)
    options: dict[str, Any] = {
        "allow_http": plain,
        "connect_timeout": min(timedelta(seconds=CONNECT_TIMEOUT_S), limit),
        "user_agent": f"nuncius/{version('nuncius')}",
        "default_headers": dict(access.headers or {}),
    }
    if whole:
        options |= {"timeout": timedelta(days=1), "read_timeout": limit}
    else:
        options["timeout"] = limit
    if certificates := certificates_of(access):
        options["root_certificate"] = read_certificates(certificates)
    return options


def certificates_of(access: Access) -> str | None:
    """Return the file of certificates that somebody named, if any."""
    named = access.ssl_ca_location or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or None


@functools.lru_cache(maxsize=4)
def read_certificates(place: str) -> bytes:
    """Return the text of a file of certificates.

    Raises
    ------
    ConfigurationError
        If there are none.
    """
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"ssl_ca_location={place!r}: no certificates can be read there ({error.strerror}); name a file with "
            "certificates in PEM form"
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigurationError(
            f"ssl_ca_location={place!r} holds no certificates in PEM form (-----BEGIN CERTIFICATE-----)"
        )
    return text


def _retry_config(access: Access) -> dict[str, Any]:
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2}
    return {
        "max_retries": access.retries,
        "retry_timeout": timedelta(seconds=max(_LONGEST_RETRYING_S, 2 * access.timeout_s)),
        "backoff": backoff,
    }


def _check_link(place: Place, access: Access) -> None:
    for option in ("requester_pays", "profile", "credentials"):
        if getattr(access, option):
            raise ConfigurationError(
                f"{option}= is for object stores, and {place.url} is a link like any other. Name its store with endpoint=, "
                "write it as s3://bucket/key, or send a token with headers={'Authorization': …}",
                service=place.service,
                url=place.url,
            )
