"""Tokens: JSON Web Tokens signed with RS256, as `flask user token` and the token generator make them."""

from __future__ import annotations

import re
import time
import uuid

from nuncius._core.lazy import require
from nuncius.sandbox.dserver.answers import RefusedError

_EXPECTED = "Expected 'Authorization: Bearer <JWT>'"


class Tokens:
    """A pair of keys, the tokens signed with it, and who they say one is.

    Raises
    ------
    MissingExtraError
        If PyJWT or cryptography is not installed.
    """

    def __init__(self) -> None:
        self._jwt = require("jwt", extra="sandbox")
        require("cryptography", extra="sandbox")
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = self._private.public_key()
        self.public_key = self._public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
        self._made: set[str] = set()
        self._ended: set[str] = set()

    def make(self, username: str, lifetime_s: float | None) -> str:
        """Return a token; a life of None is for ever, a negative one is over."""
        now, name = time.time(), str(uuid.uuid4())
        self._made.add(name)
        claims = {
            "fresh": False,
            "iat": int(now),
            "jti": name,
            "type": "access",
            "sub": username,
            "nbf": int(now),
        }
        if lifetime_s is not None:
            claims["exp"] = int(now + lifetime_s)
        return str(self._jwt.encode(claims, self._private, algorithm="RS256"))

    def expire(self) -> None:
        """Let all tokens that were made so far be over."""
        self._ended |= self._made

    def username(self, header: str) -> str:
        """Return who a header ``Authorization`` says one is.

        Raises
        ------
        RefusedError
            401 or 422, as the real one has them.
        """
        given = header.strip().strip(",")
        if not given:
            raise RefusedError(401, token="Missing Authorization Header")  # noqa: S106 - a message
        bearers = [part for part in re.split(r",\s*", given) if part.split()[:1] == ["Bearer"]]
        if len(bearers) != 1:
            raise RefusedError(401, token=f"Missing 'Bearer' type in 'Authorization' header. {_EXPECTED}")
        parts = bearers[0].split()
        if len(parts) != 2:
            raise RefusedError(422, token=f"Bad Authorization header. {_EXPECTED}")
        return self._subject(parts[1])

    def _subject(self, token: str) -> str:
        try:
            claims = self._jwt.decode(token, self._public, algorithms=["RS256"])
        except self._jwt.ExpiredSignatureError:
            raise RefusedError(401, token="Token has expired") from None  # noqa: S106 - a message
        except self._jwt.InvalidTokenError as error:
            raise RefusedError(422, token=str(error)) from None
        if "sub" not in claims:
            raise RefusedError(422, token="Missing claim: sub")  # noqa: S106 - a message
        if claims.get("jti") in self._ended:
            raise RefusedError(401, token="Token has expired")  # noqa: S106 - a message
        return str(claims["sub"])
