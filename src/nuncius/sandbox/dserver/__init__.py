"""A dserver on loopback: dservercore 0.22.0 with its plugins, as its clients see it, with a token generator beside it.

>>> with SandboxDServer() as box:  # doctest: +SKIP
...     box.add("SN-spectrum", base_uri="s3://spectra", readme={"object": "SN"}, items={"spectrum.fits": data})
...     with nuncius.open_dserver(box.url, token=box.token) as dserver:
...         dserver.search("SN")
"""

from __future__ import annotations

import secrets
import time
import uuid as uuids
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError
from nuncius.sandbox.dserver.answers import RefusedError
from nuncius.sandbox.dserver.app import create_app
from nuncius.sandbox.dserver.asking import DEFAULT_USER, Switches
from nuncius.sandbox.dserver.items import DTOOLCORE, manifest_of, put_items
from nuncius.sandbox.dserver.tokens import Tokens
from nuncius.sandbox.dserver.world import World
from nuncius.sandbox.http import HttpService

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nuncius.sandbox.store import Readable, SandboxStore

__all__ = ["SandboxDServer"]

ADMIN, READER, NOBODY, UNKNOWN = "admin", "reader", "nobody", "unknown"
_TOKEN_LIFE_S = 900.0
_DAY_S = 86400.0
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SandboxDServer(Switches, HttpService):
    """A dserver on loopback; it is ready when it is made.

    Parameters
    ----------
    store : SandboxStore, optional
        Where the bytes of the items of its own data sets are put.
    contents : bool
        Whether it has data sets of its own: spectra, cutouts and light curves of objects of the synthetic sky, and some
        that are odd on purpose (`contents.py` lists them).
    delay_s : float
        How much slower than possible each answer is.

    Attributes
    ----------
    username, password : str
        Its default user, who is no admin and may search and register at all base URIs but that under embargo.
    token_life_s : float
        How long the tokens of the token generator are good, in seconds.
    requests : list of SandboxRequest
        What arrived, in that order, and through which port of the client.

    Raises
    ------
    MissingExtraError
        If starlette, uvicorn, PyJWT or cryptography is not installed.

    Notes
    -----
    The description of the interface, ``/doc/openapi.json``, names the routes and no more. Words of a free text are
    stemmed more simply than by MongoDB, and a pipeline can't look into other collections.
    """

    def __init__(
        self, *, store: SandboxStore | None = None, contents: bool = True, delay_s: float = 0.0
    ) -> None:
        self.username, self.password = DEFAULT_USER, secrets.token_urlsafe(12)
        self._store, self._contents = store, contents
        self._tokens = Tokens()
        self._world = World()
        self._begin()
        app = create_app(self._world, self._tokens, self, self._log_in)
        HttpService.__init__(self, app, name="dserver", delay_s=delay_s)

    def _begin(self) -> None:
        Switches.__init__(self)
        self.token_life_s = _TOKEN_LIFE_S
        with self._world.lock:
            self._world.clear()
            self._world.users |= {DEFAULT_USER: False, ADMIN: True, READER: False, NOBODY: False}
        if self._contents:
            from nuncius.sandbox.dserver.contents import fill

            fill(self, self._store)

    def reset(self) -> None:
        """Put it back to how it was when it started: data sets, users and switches; let nothing go wrong."""
        self.clear_faults()
        self.requests.clear()
        self._begin()

    @staticmethod
    def error_body(reason: str) -> dict[str, Any]:
        """See `HttpService.error_body`."""
        code = next((status.value for status in HTTPStatus if status.phrase == reason), None)
        return {"code": code, "status": reason}

    # Where it is, and who comes in ------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What `open_dserver` takes."""
        return self.http_url

    @property
    def token_url(self) -> str:
        """The token generator."""
        return f"{self.http_url}/token"

    @property
    def public_key(self) -> str:
        """The key, in PEM, with which one sees that a token is genuine."""
        return self._tokens.public_key

    @property
    def token(self) -> str:
        """A token of the default user; a fresh one each time."""
        return self.make_token(self.username, _DAY_S)

    @property
    def admin_token(self) -> str:
        """A token of the admin; a fresh one each time."""
        return self.make_token(ADMIN, _DAY_S)

    @property
    def tokens(self) -> dict[str, str]:
        """One token of each kind.

        ``admin``; ``reader``, who may search one base URI; ``nobody``, who is registered and may nothing; ``unknown``,
        who is not registered; ``expired``.
        """
        named = {name: self.make_token(name, _DAY_S) for name in (ADMIN, READER, NOBODY, UNKNOWN)}
        return named | {"expired": self.make_token(self.username, -60)}

    def make_token(self, username: str, lifetime_s: float | None = _TOKEN_LIFE_S) -> str:
        """Return a token of anybody, registered or not; None is for ever, a negative life is over."""
        return self._tokens.make(username, lifetime_s)

    def expire_tokens(self) -> None:
        """Let all tokens that were made so far be expired."""
        self._tokens.expire()

    def _log_in(self, username: str, password: str) -> str | None:
        if username != self.username or not secrets.compare_digest(password.encode(), self.password.encode()):
            return None
        return self.make_token(username, self.token_life_s)

    # What is in it ----------------------------------------------------------------------------------------------------

    @property
    def uris(self) -> list[str]:
        """The URIs of all its data sets."""
        with self._world.lock:
            return list(self._world.rows)

    def add_user(self, name: str, *, is_admin: bool = False) -> None:
        """Register a user, or change whether it is an admin."""
        with self._world.lock:
            self._world.users[name] = is_admin

    def add_base_uri(self, base_uri: str, search: Iterable[str] = (), register: Iterable[str] = ()) -> None:
        """Register a base URI, or replace who may search and register there; unknown users are left out."""
        with self._world.lock:
            self._world.set_permissions(base_uri, search, register)

    def add(
        self,
        name: str,
        *,
        base_uri: str,
        readme: str | Mapping[str, Any] = "",
        items: Mapping[str, bytes | Path | Readable] = _NOTHING,
        tags: Iterable[str] = (),
        annotations: Mapping[str, Any] = _NOTHING,
        creator_username: str = DEFAULT_USER,
        uuid: str | None = None,
        frozen_at: float | datetime | None = None,
        created_at: float | datetime | None = None,
        by_put: bool = False,
        derived_from: Iterable[str] = (),
        store: SandboxStore | None = None,
    ) -> str:
        """Add a data set, or replace the one with its URI.

        Parameters
        ----------
        name : str
            What it is called.
        base_uri : str
            Where it is. An unknown one is registered, and the default user and the admin may do everything there.
        readme : str or mapping
            Its readme; a mapping is written as YAML.
        items : mapping
            Bytes, files or a `SparseFile` by the paths of the items.
        tags : iterable of str
            Its tags.
        annotations : mapping
            Its annotations.
        creator_username : str
            Who made it.
        uuid : str, optional
            Its UUID; a random one by default.
        frozen_at, created_at : float or datetime, optional
            When, in seconds since 1970; now, and the time of freezing.
        by_put : bool
            Whether it is registered by PUT instead of indexed from storage, which is seen in some answers.
        derived_from : iterable of str
            UUIDs or URIs of what it is derived from; they are written into the readme, or where that is a text into the
            annotation ``source_dataset_uuid``.
        store : SandboxStore, optional
            Where to put the bytes of the items, as dtool lays them out on S3.

        Returns
        -------
        str
            Its URI.

        Raises
        ------
        ConfigurationError
            If an item can't be read or put there, or the data set can't be kept.
        """
        name_of = str(uuid or uuids.uuid4())
        base_uri = base_uri.rstrip("/")
        uri = f"{base_uri}/{name if base_uri.startswith('file:') else name_of}"
        frozen = _seconds(frozen_at if frozen_at is not None else time.time())
        created = _seconds(created_at) if created_at is not None else frozen
        readme, annotations = _with_sources(
            readme, annotations, [self._uuid_of(each) for each in derived_from]
        )
        manifest = manifest_of(items, created)
        info = {
            "uuid": uuids.UUID(name_of) if by_put else name_of,
            "base_uri": base_uri,
            "uri": uri,
            "name": name,
            "type": "dataset",
            "readme": readme,
            "manifest": manifest,
            "creator_username": creator_username,
            "frozen_at": frozen,
            "created_at": created,
            "annotations": annotations,
            "tags": list(tags),
            "number_of_items": len(items),
            "size_in_bytes": sum(entry["size_in_bytes"] for entry in manifest["items"].values()),
        } | ({} if by_put else {"dtoolcore_version": DTOOLCORE})
        if store is not None:
            put_items(store, base_uri, name_of, items)
        self._register(info, stored=not by_put)
        return uri

    def _register(self, info: Mapping[str, Any], *, stored: bool) -> None:
        with self._world.lock:
            try:
                self._world.register(info, stored=stored)
            except RefusedError:
                raise ConfigurationError(
                    f"{info['name']}: the data set holds what MongoDB can't keep; give texts, numbers, lists, mappings "
                    "with texts as keys, and times that are numbers"
                ) from None
            if info["base_uri"] not in self._world.base_uris:
                everybody = (self.username, ADMIN)
                self._world.set_permissions(info["base_uri"], everybody, everybody)

    def _uuid_of(self, source: str) -> str:
        with self._world.lock:
            row = self._world.rows.get(source)
        return source if row is None else str(row["uuid"])


def _seconds(when: float | datetime) -> float:
    return when.timestamp() if isinstance(when, datetime) else float(when)


def _with_sources(
    readme: str | Mapping[str, Any], annotations: Mapping[str, Any], sources: list[str]
) -> tuple[str, dict[str, Any]]:
    """Return the text of the readme and the annotations, with what the data set is derived from in one of them."""
    import yaml

    annotations = dict(annotations)
    if isinstance(readme, Mapping):
        if sources:
            readme = {**readme, "derived_from": [{"uuid": source} for source in sources]}
        return str(yaml.safe_dump(dict(readme), sort_keys=False, allow_unicode=True)), annotations
    if sources:
        annotations["source_dataset_uuid"] = sources[0] if len(sources) == 1 else sources
    return readme, annotations
