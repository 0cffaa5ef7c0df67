"""Google's login on loopback: where a person agrees, where tokens come from, and key files of service accounts.

It knows the authorization code grant with PKCE (RFC 6749, RFC 7636), refresh tokens, and assertions signed with the key of
a service account (RFC 7523). The page where a person would agree sends the browser back at once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from nuncius._core.lazy import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LONGEST_FORM = 65_536  # bytes
_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class SandboxGoogleLogin:
    """Google's login on loopback; it is ready when it is made.

    Parameters
    ----------
    tokens : set of str
        Where the tokens go that it gives.
    project : str
        The project of the service account.

    Attributes
    ----------
    client_id, client_secret : str
        Of the application that a person agrees to.
    lifetime_s : int
        How long the next tokens are said to be good.
    refuses : str
        With which error everybody is refused from now on, such as ``access_denied`` or ``invalid_grant``; empty: nobody is.
    grants : list of str
        What tokens were given for: ``authorization_code``, ``refresh_token`` ...
    """

    def __init__(self, tokens: set[str], project: str) -> None:
        self.client_id = "sandbox.apps.googleusercontent.com"
        self.client_secret = secrets.token_urlsafe(16)
        self.lifetime_s = 3600
        self.refuses = ""
        self.grants: list[str] = []
        self._tokens = tokens
        self._project = project
        self._account = f"reader@{project}.iam.gserviceaccount.com"
        self._key: Any = None
        self._codes: dict[str, str] = {}
        self._refresh_tokens: set[str] = set()
        handler = type("Handler", (_Handler,), {"login": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-google-login", daemon=True
        ).start()

    @property
    def authorise_url(self) -> str:
        """Where a person agrees."""
        return f"http://127.0.0.1:{self._server.server_port}/auth"

    @property
    def token_url(self) -> str:
        """Where tokens come from."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def write_key_file(self, path: Path) -> Path:
        """Write the key file of a service account, as GOOGLE_APPLICATION_CREDENTIALS names one.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        Path
            The same.

        Raises
        ------
        MissingExtraError
            If cryptography is not installed.
        """
        serialization = require("cryptography.hazmat.primitives.serialization", extra="sandbox")
        private = self._private_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(mode=0o600)
        content = {
            "type": "service_account",
            "project_id": self._project,
            "private_key_id": "sandbox",
            "private_key": private.decode(),
            "client_email": self._account,
            "client_id": "1",
            "token_uri": self.token_url,
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def is_signed(self, token: str) -> bool:
        """Tell whether a token is a claim that the service account's key has signed, and that is good now."""
        if self._key is None:
            return False
        jwt = require("google.auth.jwt", extra="sandbox")
        serialization = require("cryptography.hazmat.primitives.serialization", extra="sandbox")
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        faults = require("google.auth.exceptions", extra="sandbox")
        try:
            claims = jwt.decode(token, certs=public)
        except (ValueError, faults.GoogleAuthError):
            return False
        return bool(claims.get("iss") == self._account)

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def _private_key(self) -> Any:
        if self._key is None:
            rsa = require("cryptography.hazmat.primitives.asymmetric.rsa", extra="sandbox")
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key

    # What is asked ----------------------------------------------------------------------------------------------------

    def agree(self, asked: dict[str, str]) -> str | None:
        """Return where the browser goes after a person agreed; None if the request is wrong."""
        wanted = urlsplit(asked.get("redirect_uri", ""))
        if wanted.hostname not in {"127.0.0.1", "localhost"} or asked.get("client_id") != self.client_id:
            return None
        answer = {"state": asked.get("state", "")}
        if self.refuses:
            answer["error"] = self.refuses
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self._codes[answer["code"]] = asked.get("code_challenge", "")
        return wanted._replace(query=urlencode(answer)).geturl()

    def grant(self, asked: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and answer of the token endpoint."""
        kind = asked.get("grant_type", "")
        checks: dict[str, Callable[[dict[str, str]], bool]] = {
            "authorization_code": self._is_code,
            "refresh_token": self._is_refresh,
            _ASSERTION: lambda form: self.is_signed(form.get("assertion", "")),
        }
        if kind not in checks:
            return 400, {"error": "unsupported_grant_type"}
        if kind != _ASSERTION and not self._is_client(asked):
            return 401, {"error": "invalid_client"}
        if self.refuses or not checks[kind](asked):
            return 400, {"error": self.refuses or "invalid_grant", "error_description": "Bad Request"}
        self.grants.append(kind.rpartition(":")[2])
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens.add(token)
        answer = {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer"}
        if kind != _ASSERTION:
            answer["scope"] = "https://www.googleapis.com/auth/pubsub"
        if kind == "authorization_code":
            answer["refresh_token"] = f"1//{secrets.token_urlsafe(24)}"
            self._refresh_tokens.add(str(answer["refresh_token"]))
        return 200, answer

    def _is_client(self, asked: dict[str, str]) -> bool:
        return (asked.get("client_id"), asked.get("client_secret")) == (self.client_id, self.client_secret)

    def _is_code(self, asked: dict[str, str]) -> bool:
        challenge = self._codes.pop(asked.get("code", ""), None)
        if not challenge:
            return challenge is not None
        verifier = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        return base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() == challenge

    def _is_refresh(self, asked: dict[str, str]) -> bool:
        return asked.get("refresh_token") in self._refresh_tokens


class _Handler(BaseHTTPRequestHandler):
    login: ClassVar[SandboxGoogleLogin]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        there = urlsplit(self.path)
        location = self.login.agree(_form(there.query)) if there.path == "/auth" else None
        if location is None:
            self._answer(400, {"error": "invalid_request"})
        else:
            self._answer(302, {}, location)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/token" or not length.isdecimal() or int(length) > _LONGEST_FORM:
            self.close_connection = True
            self._answer(400, {"error": "invalid_request"})
            return
        asked = _form(self.rfile.read(int(length)).decode("utf-8", "replace"))
        self._answer(*self.login.grant(asked | _client(self.headers.get("Authorization", ""))))

    def _answer(self, status: int, content: dict[str, Any], location: str = "") -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing: the line would hold the code."""


def _form(text: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(text, max_num_fields=50).items()}
    except ValueError:
        return {}


def _client(authorization: str) -> dict[str, str]:
    """Return who asks, where the head of the request says it (RFC 6749, section 2.3.1)."""
    kind, _, coded = authorization.partition(" ")
    if kind.lower() != "basic":
        return {}
    try:
        name, _, secret = base64.b64decode(coded, validate=True).decode().partition(":")
    except ValueError:
        return {}
    return {"client_id": unquote_plus(name), "client_secret": unquote_plus(secret)}
