"""A token endpoint as OpenID Connect has it: client credentials in, an access token out."""

from __future__ import annotations

import asyncio
import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote_plus

if TYPE_CHECKING:
    from collections import Counter

    from nuncius.sandbox.front.login import Tokens


class _Behaviour(Protocol):
    users: dict[str, str]
    token_status: int
    token_delay_s: float


class TokenEndpoint:
    """Answers token requests; source: RFC 6749, sections 2.3.1, 4.4 and 5.

    Parameters
    ----------
    behaviour : Behaviour
        Who may have a token, and what goes wrong.
    tokens : Tokens
        Where they come from.
    counts : Counter
        What happened: `token_requests`, `tokens`.
    """

    def __init__(self, behaviour: _Behaviour, tokens: Tokens, counts: Counter[str]) -> None:
        self._behaviour = behaviour
        self._tokens = tokens
        self._counts = counts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(_field(line) for line in head.split("\r\n")[1:] if ":" in line)
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            self._counts["token_requests"] += 1
            await asyncio.sleep(self._behaviour.token_delay_s)
            status, answer = self._answer(fields.get("authorization", ""), body.decode())
            writer.write(_response(status, answer))
            await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()  # the client left, or speaks something else
        finally:
            writer.close()

    def _answer(self, authorization: str, body: str) -> tuple[int, dict[str, Any]]:
        if self._behaviour.token_status != HTTPStatus.OK:
            return self._behaviour.token_status, {"error": "temporarily_unavailable"}
        form = {name: values[0] for name, values in parse_qs(body).items()}
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization.startswith("Basic "):
            name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        known = self._behaviour.users.get(unquote_plus(name))
        if known is None or known not in {secret, unquote_plus(secret)}:
            return 401, {"error": "invalid_client"}
        self._counts["tokens"] += 1
        token = self._tokens.issue(unquote_plus(name))
        return 200, {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._tokens.lifetime_s),
        }


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _response(status: int, answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
