"""Schemas from a schema registry over HTTP, kept on disk: a schema never changes under its number.

Source: the REST interface of Confluent's Schema Registry (`GET /schemas/ids/{id}`), and Rubin's use of it (subject
``alert-packet``, whose version number is the schema's number).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.files import write_whole
from nuncius.alerts.packets.schemas import prepare_schema_text
from nuncius.errors import LoginError, SchemaError, ServerError, UnreachableError

if TYPE_CHECKING:
    from nuncius.alerts.packets.schemas import WriterSchema

_TIMEOUT_S = 10.0
_RUBIN_SUBJECT = "alert-packet"


@dataclass(slots=True, repr=False)
class RegistrySchemas:
    """A schema registry.

    Parameters
    ----------
    url : str
        Its address, such as ``https://registry.example.org/schema-registry``.
    cache_dir : Path, optional
        Where schemas are kept between runs; by default in the user's cache folder.

    Notes
    -----
    A registry that can't be reached raises `UnreachableError` and not `SchemaError`: the packet is fine, so it must
    not be quarantined.
    """

    url: str
    cache_dir: Path | None = None
    _prepared: dict[int, WriterSchema] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"RegistrySchemas({_without_login(self.url)!r}, cache_dir={self.cache_dir!r})"

    def find(self, schema_id: int) -> WriterSchema:
        """Return the schema of that number: from memory, from disk, else from the registry.

        Raises
        ------
        SchemaError
            If the registry does not know the number, or its answer is no schema.
        UnreachableError
            If the registry does not answer within 10 s.
        LoginError
            If the registry asks for a login.
        ServerError
            If the registry answers with a failure of its own.
        """
        known = self._prepared.get(schema_id)
        if known is None:
            path = self._cache_path(schema_id)
            known = _kept(path)
            if known is None:
                text = self._fetch(schema_id)
                known = prepare_schema_text(text)
                # A folder that can't be written costs a request in the next run, and no packet in this one.
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, text)
            self._prepared[schema_id] = known
        return known

    def _cache_path(self, schema_id: int) -> Path:
        folder = self.cache_dir
        if folder is None:
            import platformdirs

            folder = Path(platformdirs.user_cache_dir("nuncius")) / "schemas"
        place = hashlib.sha256(_without_login(self.url).encode()).hexdigest()[:16]
        return folder / place / f"{schema_id}.avsc"

    def _fetch(self, schema_id: int) -> bytes:
        import httpx2

        base, place = _without_login(self.url), self.url.rstrip("/")
        addresses = (
            f"{place}/schemas/ids/{schema_id}",
            f"{place}/subjects/{_RUBIN_SUBJECT}/versions/{schema_id}",
        )
        try:
            with httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
                for address in addresses:
                    answer = client.get(address)
                    if answer.status_code != httpx2.codes.NOT_FOUND:
                        return self._schema_of(answer, schema_id)
        except httpx2.HTTPError as error:
            raise UnreachableError(
                f"the schema registry {base} does not answer ({type(error).__name__}: {error}); the packets wait for "
                "it. Check the address, or give a directory of schemas with schema=",
                service="schema registry",
                url=base,
            ) from error
        raise SchemaError(
            f"the schema registry {base} does not know schema {schema_id}",
            service="schema registry",
            url=base,
        )

    def _schema_of(self, answer: Any, schema_id: int) -> bytes:
        base = _without_login(self.url)
        if answer.status_code in {401, 403}:
            raise LoginError(
                f"the schema registry {base} asks for a login (HTTP {answer.status_code})",
                service="schema registry",
                url=base,
            )
        if answer.status_code != 200:
            raise ServerError(
                f"the schema registry {base} answered HTTP {answer.status_code} for schema {schema_id}",
                service="schema registry",
                url=base,
            )
        try:
            text = answer.json()["schema"]
            json.loads(text)
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(
                f"the schema registry {base} answered something that is not a schema for number {schema_id}",
                service="schema registry",
                url=base,
            ) from error
        return str(text).encode()


def _kept(path: Path) -> WriterSchema | None:
    """Return the schema kept on disk; a file that can't be used counts as none and is written anew."""
    try:
        return prepare_schema_text(path.read_bytes())
    except (OSError, SchemaError):
        return None


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.rstrip("/"))
