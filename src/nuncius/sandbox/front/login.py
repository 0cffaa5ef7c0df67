"""The broker's side of logging in: PLAIN, SCRAM and OAUTHBEARER, and the tokens of the last.

Sources: RFC 4616 (PLAIN), RFC 5802 and RFC 7677 (SCRAM), RFC 7628 (OAUTHBEARER). Messages are worded as Apache Kafka
words them, for what users read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

_ITERATIONS = 4096
_WRONG = "Authentication failed during authentication due to invalid credentials with SASL mechanism "


class RefusedError(Exception):
    """The login failed; the text is for the client."""


class Login(Protocol):
    """One login in progress."""

    done: bool
    expires: float | None

    def step(self, token: bytes) -> bytes:
        """Take what the client sent and return what it gets; raise RefusedError where it may not in."""


class Plain:
    """PLAIN: the name and the password in one message.

    Parameters
    ----------
    users : mapping
        Passwords by name.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self.done = False
        self.expires: float | None = None

    def step(self, token: bytes) -> bytes:
        """Check the name and the password."""
        parts = token.decode(errors="replace").split("\0")
        if len(parts) != 3 or not _same(self._users.get(parts[1]), parts[2]):
            raise RefusedError("Authentication failed: Invalid username or password")
        self.done = True
        return b""


class Scram:
    """SCRAM: the password never crosses the wire, and the broker proves that it knows it too.

    Parameters
    ----------
    users : mapping
        Passwords by name.
    digest : str
        ``sha256`` or ``sha512``.
    """

    def __init__(self, users: Mapping[str, str], digest: str) -> None:
        self._users = users
        self._digest = digest
        self._refusal = f"{_WRONG}SCRAM-SHA-{digest.removeprefix('sha')}"
        self._header = ""
        self._said = ""
        self._nonce = ""
        self._salted = b""
        self.done = False
        self.expires: float | None = None

    def step(self, token: bytes) -> bytes:
        """Take the client's first or final message."""
        text = token.decode(errors="replace")
        return self._final(text) if self._said else self._first(text)

    def _first(self, text: str) -> bytes:
        binding, _, rest = text.partition(",")
        identity, _, bare = rest.partition(",")
        fields = _fields(bare)
        name = fields.get("n", "").replace("=2C", ",").replace("=3D", "=")
        if binding not in {"n", "y"} or not fields.get("r"):
            raise RefusedError(self._refusal)
        self._header = f"{binding},{identity},"
        salt = secrets.token_bytes(16)
        # Who is not known gets the same conversation, so that nobody can ask for names.
        password = self._users.get(name, secrets.token_hex(16))
        self._salted = hashlib.pbkdf2_hmac(self._digest, password.encode(), salt, _ITERATIONS)
        self._nonce = fields["r"] + secrets.token_hex(16)
        reply = f"r={self._nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
        self._said = f"{bare},{reply}"
        return reply.encode()

    def _final(self, text: str) -> bytes:
        unproved, _, proof = text.rpartition(",p=")
        signed = f"{self._said},{unproved}".encode()
        key = self._mac(self._salted, b"Client Key")
        signature = self._mac(hashlib.new(self._digest, key).digest(), signed)
        right = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        said = _fields(unproved)
        same = said.get("r") == self._nonce and _unbase64(said.get("c", "")) == self._header.encode()
        if not same or not hmac.compare_digest(right, _unbase64(proof)):
            raise RefusedError(self._refusal)
        self.done = True
        own = self._mac(self._mac(self._salted, b"Server Key"), signed)
        return b"v=" + base64.b64encode(own)

    def _mac(self, key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, self._digest)


class OAuthBearer:
    """OAUTHBEARER: a token that somebody else gave out.

    Parameters
    ----------
    tokens : Tokens
        Which tokens are good.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refused = False
        self.done = False
        self.expires: float | None = None

    def step(self, token: bytes) -> bytes:
        """Check the token; a client whose token was refused is told why, and answers before it is shown out."""
        if self._refused:
            raise RefusedError(f"{_WRONG}OAUTHBEARER")
        fields = [part for part in token.decode(errors="replace").split("\x01") if part.startswith("auth=")]
        kind, _, given = fields[0].removeprefix("auth=").partition(" ") if fields else ("", "", "")
        self.expires = self._tokens.expiry(given) if kind.lower() == "bearer" else None
        if self.expires is None:
            self._refused = True
            return b'{"status":"invalid_token"}'
        self.done = True
        return b""


class Tokens:
    """Gives out tokens (JWT, HS256) and knows them again.

    Parameters
    ----------
    lifetime_s : float
        How long a token is good.
    """

    def __init__(self, lifetime_s: float) -> None:
        self.lifetime_s = lifetime_s
        self._key = secrets.token_bytes(32)

    def revoke(self) -> None:
        """Forget all that were given out."""
        self._key = secrets.token_bytes(32)

    def issue(self, subject: str) -> str:
        """Return a new token."""
        now = time.time()
        header = _part({"alg": "HS256", "typ": "JWT"})
        claims = _part({"sub": subject, "iat": int(now), "exp": now + self.lifetime_s})
        return f"{header}.{claims}.{self._signature(f'{header}.{claims}')}"

    def expiry(self, token: str) -> float | None:
        """Return until when a token is good, as seconds since 1970; None if it is not."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return None
        expires = float(json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))["exp"])
        return expires if expires > time.time() else None

    def _signature(self, signed: str) -> str:
        raw = hmac.digest(self._key, signed.encode(), "sha256")
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def start_login(mechanism: str, users: Mapping[str, str], tokens: Tokens) -> Login:
    """Begin a login by one of the mechanisms."""
    if mechanism == "PLAIN":
        return Plain(users)
    if mechanism == "OAUTHBEARER":
        return OAuthBearer(tokens)
    return Scram(users, mechanism.removeprefix("SCRAM-").replace("-", "").lower())


def _fields(text: str) -> dict[str, str]:
    return {part[0]: part[2:] for part in text.split(",") if part[1:2] == "="}


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _part(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _same(known: str | None, given: str) -> bool:
    return known is not None and hmac.compare_digest(known.encode(), given.encode())
