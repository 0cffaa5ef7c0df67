"""What the ways into the store share: what they know, and how each one is built."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from xml.sax.saxutils import escape

from nuncius.sandbox.store.knobs import Knobs
from nuncius.sandbox.store.messages import RefusedError, decode, object_answer, page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.sandbox.store.messages import Answer, Request
    from nuncius.sandbox.store.objects import Bucket, StoredObject
    from nuncius.sandbox.store.signature import S3Key

NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that can't stand in XML 1.0, not even escaped."""


@dataclass(slots=True)
class World:
    """What there is: objects, and who may read them.

    Parameters
    ----------
    region : str
        Where the store is.
    keys : mapping
        The keys of the S3 interface, by access key.
    bearer_token : str
        The token that opens private objects by HTTP, on Google Cloud Storage and on Azure.
    azure_account, azure_key : str
        The account on Azure and its key.
    certificate : Path or None
        The certificate and the key of its TLS; None is plain HTTP.
    buckets : dict
        The buckets by name.
    knobs : Knobs
        How it behaves.
    """

    region: str
    keys: Mapping[str, S3Key]
    bearer_token: str
    azure_account: str
    azure_key: str
    certificate: Path | None = None
    buckets: dict[str, Bucket] = field(default_factory=dict)
    knobs: Knobs = field(default_factory=Knobs)


class Interface(ABC):
    """A way into the store, on a port of its own."""

    name: ClassVar[str]
    id_line: ClassVar[str] = ""  # in which header line the service says what it calls a request

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Answer a request; an error is an answer too."""
        try:
            self._check_method(request)
            answer = self._find(request)
        except RefusedError as refused:
            return self.error(refused, request)
        if self.id_line:
            answer.headers[self.id_line] = _new_id()
        return answer

    def error(self, refused: RefusedError, request: Request | None = None) -> Answer:
        """Return the answer that tells an error, as this service tells it."""
        answer = self._error_page(refused)
        answer.sends_body = request is None or request.method != "HEAD"
        return answer

    @abstractmethod
    def _find(self, request: Request) -> Answer:
        """Return the answer, or raise `RefusedError`."""

    @abstractmethod
    def failure_code(self, status: int) -> str:
        """Return what the service calls a failure with this status."""

    def _error_page(self, refused: RefusedError) -> Answer:
        request_id = _new_id()
        answer = xml_error(refused, request_id)
        if self.id_line:
            answer.headers[self.id_line] = request_id
        return answer

    def _check_method(self, request: Request) -> None:
        allowed = ("GET", "HEAD") if self._world.knobs.head else ("GET",)
        if request.method not in allowed:
            raise RefusedError(
                405,
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
                headers={"allow": ", ".join(allowed)},
            )

    def _serve(self, request: Request, stored: StoredObject) -> Answer:
        """Return the answer to a request that may read this object."""
        if stored.redirect is not None:
            url, status = stored.redirect
            answer = page(status, "text/plain", f"It is at {url}\n", {"location": url})
            answer.sends_body = request.method != "HEAD"
            return answer
        return object_answer(request, stored, self._world.knobs)


# What S3's kind of services have in common ----------------------------------------------------------------------------


def xml_error(refused: RefusedError, request_id: str) -> Answer:
    """Return an error as S3 tells it."""
    facts = {"Code": refused.code, "Message": refused.message, **refused.details}
    facts["RequestId"] = request_id
    body = "".join(f"<{name}>{_text(value)}</{name}>" for name, value in facts.items())
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'
    return page(refused.status, "application/xml", xml, refused.headers)


def _new_id() -> str:
    return secrets.token_hex(8).upper()


def _text(value: str) -> str:
    return escape(NOT_IN_XML.sub("?", value))


def locate(request: Request, hosts: re.Pattern[str], *, plus_is_space: bool = False) -> tuple[str, str]:
    """Return the bucket and the key that a request names, by its path or by its host.

    Parameters
    ----------
    request : Request
        The request.
    hosts : pattern
        What the service's hosts look like; its group ``bucket`` is what stands before them, if anything.
    plus_is_space : bool
        Whether a plus sign in a path means a space.
    """
    match = hosts.fullmatch(request.host)
    path = decode(request.path[1:], plus_is_space=plus_is_space)
    if match is not None and match["bucket"]:
        return match["bucket"], path
    bucket, _, key = path.partition("/")
    return bucket, key
