"""As whom we speak to Google: key files, what gcloud has set up, and the login of a person in the browser.

The order: ``credentials=``, ``GOOGLE_APPLICATION_CREDENTIALS``, what ``nuncius login pittgoogle`` has kept, then the
application default credentials, which may ask the metadata server of a cloud machine.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from nuncius._core.lazy import require
from nuncius._core.tomlfile import set_keys
from nuncius.credentials import stored_table
from nuncius.errors import ConfigurationError, LoginError, UnreachableError
from nuncius.settings import config_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.auth.credentials import Credentials as GoogleCredentials

GoogleLike: TypeAlias = "str | Path | GoogleCredentials | None"
"""What is accepted as `credentials=` for Google Pub/Sub: the path of a key file, or credentials of google-auth."""

SCOPE = "https://www.googleapis.com/auth/pubsub"
_AUTHORISE = "https://accounts.google.com/o/oauth2/auth"
_TOKENS = "https://oauth2.googleapis.com/token"
_TOKEN_S = 10.0  # for an answer of whoever gives tokens
_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_KEPT = ("client_id", "client_secret", "refresh_token", "token_uri")
_SERVICES = ("pubsub", "pittgoogle")


@dataclass(frozen=True, slots=True)
class GoogleLogin:
    """Credentials of google-auth, and where they came from.

    Parameters
    ----------
    credentials : google.auth.credentials.Credentials
        They renew their tokens by themselves.
    source : str
        Where they came from.
    project : str, optional
        The project that they belong to.
    """

    credentials: Any = field(repr=False)
    source: str
    project: str | None = None

    @property
    def who(self) -> str:
        """As whom, for messages; never a secret."""
        name = getattr(self.credentials, "service_account_email", None)
        return f"{name if isinstance(name, str) and name != 'default' else 'login'} from {self.source}"

    def transport(self, timeout_s: float = _TOKEN_S) -> Any:
        """Return what asks for tokens; a single answer may take so long."""
        return partial(
            require("google.auth.transport.requests", extra="pubsub").Request(), timeout=max(0.1, timeout_s)
        )

    def check(self, timeout_s: float = _TOKEN_S) -> None:
        """Get a token now, if there is none that is still good.

        Raises
        ------
        LoginError, UnreachableError
            As `renew`.
        """
        if hasattr(self.credentials, "refresh") and not self.credentials.valid:
            self.renew(timeout_s)

    def renew(self, timeout_s: float = _TOKEN_S) -> None:
        """Get another token, also if the one that we have seems to be good.

        Raises
        ------
        LoginError
            If the login is refused.
        UnreachableError
            If whoever gives tokens does not answer.
        """
        faults = require("google.auth.exceptions", extra="pubsub")
        try:
            self.credentials.refresh(self.transport(timeout_s))
        except faults.TransportError as error:
            raise UnreachableError(
                f"no token for Pub/Sub ({self.who}): the token endpoint does not answer: {_said(error)}",
                service="pubsub",
            ) from None
        except faults.GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise UnreachableError(
                    f"no token for Pub/Sub now ({self.who}): {_said(error)}", service="pubsub"
                ) from None
            raise LoginError(
                f"no token for Pub/Sub ({self.who}): {_said(error)}. Log in anew (`nuncius login pittgoogle`), or give "
                "a key file with credentials=",
                service="pubsub",
            ) from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("logins are not pickled; name them again where they are needed")


def find_google_login(given: Any = None) -> GoogleLogin:
    """Find a login for Google's Pub/Sub.

    Parameters
    ----------
    given : path or google.auth.credentials.Credentials, optional
        The argument: the key file of a service account (or another file of google-auth), or an object.

    Raises
    ------
    LoginError
        If there is none.
    ConfigurationError
        If the argument, or a file that is named, is none.
    MissingExtraError
        If google-auth is not installed.
    """
    if given is not None:
        if isinstance(given, (str, Path)):
            return _from_file(Path(given).expanduser(), f"the key file {given}")
        if hasattr(given, "before_request"):
            return GoogleLogin(given, "credentials=", getattr(given, "project_id", None))
        raise ConfigurationError(
            "credentials= for Pub/Sub takes the path of a key file (JSON) or credentials of google-auth; Google has no "
            "user name and password here"
        )
    if path := os.environ.get(_VARIABLE):
        return _from_file(Path(path).expanduser(), f"{_VARIABLE} ({path})")
    return _kept() or _default()


def is_login_kept() -> bool:
    """Tell whether the environment or a file on this machine has a login; nothing is sent and nothing loaded."""
    gcloud = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    return bool(
        os.environ.get(_VARIABLE)
        or any(stored_table(service)[0].get("refresh_token") for service in _SERVICES)
        or (gcloud / "application_default_credentials.json").is_file()
    )


def log_in(
    client_id: str,
    client_secret: str,
    *,
    show: Callable[[str], None],
    open_browser: bool = True,
    timeout_s: float = 300.0,
    authorise_url: str = _AUTHORISE,
    token_url: str = _TOKENS,
) -> Any:
    """Let a person log in with the browser, and return credentials that renew themselves.

    Google sends the browser back to a port of this machine (RFC 8252, section 7.3).

    Parameters
    ----------
    client_id, client_secret : str
        Of the application, from the page "Credentials" of a Google Cloud project.
    show : callable
        Gets the address to be opened.
    open_browser : bool
        Whether a browser is opened too.
    timeout_s : float
        How long the person may take.
    authorise_url, token_url : str
        Where one logs in, and where tokens come from.

    Raises
    ------
    LoginError
        If nobody logged in, or Google refused.
    """
    flow_module = require("google_auth_oauthlib.flow", extra="pubsub")
    config = {
        "client_id": client_id,
        "client_secret": client_secret,
        "auth_uri": authorise_url,
        "token_uri": token_url,
        "redirect_uris": ["http://localhost"],
    }
    import oauthlib.oauth2

    class Flow(flow_module.InstalledAppFlow):  # type: ignore[misc, name-defined]
        """Shows the address in our way; the library prints it."""

        def authorization_url(self, **options: Any) -> tuple[str, str]:
            found: tuple[str, str] = super().authorization_url(**options)
            show(found[0])
            return found

    flow = Flow.from_client_config({"installed": config}, scopes=[SCOPE])

    try:
        return flow.run_local_server(
            host="127.0.0.1",
            port=0,
            open_browser=open_browser,
            authorization_prompt_message=None,
            success_message="You are logged in. This window may be closed.",
            timeout_seconds=timeout_s,
            access_type="offline",  # or there is no token to renew with
            prompt="consent",
        )
    except flow_module.WSGITimeoutError:
        raise LoginError(
            f"nobody logged in within {timeout_s:g} s; nothing was kept", service="pittgoogle"
        ) from None
    except (oauthlib.oauth2.OAuth2Error, OSError, ValueError, TypeError, Warning) as error:
        # A Warning: not all was granted that was asked for. A TypeError: the answer is JSON, and no object.
        raise LoginError(f"the login did not work: {_said(error)}", service="pittgoogle") from None


def keep_login(credentials: Any) -> Path:
    """Keep what `log_in` returned in ``credentials.toml``, which nobody else may read; return the file.

    Raises
    ------
    LoginError
        If Google gave no token to renew with.
    StorageError
        If the file can't be written.
    """
    if not credentials.refresh_token:
        raise LoginError(
            "Google gave no token to renew the login with, so it can't be kept", service="pittgoogle"
        )
    path = config_dir() / "credentials.toml"
    set_keys(path, "pittgoogle", {name: getattr(credentials, name) for name in _KEPT}, private=True)
    return path


def forget_login() -> Path | None:
    """Take out of ``credentials.toml`` what `keep_login` put there; return the file, or None if there was nothing."""
    path = config_dir() / "credentials.toml"
    return path if set_keys(path, "pittgoogle", dict.fromkeys(_KEPT), private=True) else None


def oauth_client() -> tuple[str, str] | None:
    """Return the client id and secret that the environment names for `log_in`; None if it doesn't."""
    for prefix in ("PITTGOOGLE_OAUTH", "OAUTH"):
        found = os.environ.get(f"{prefix}_CLIENT_ID"), os.environ.get(f"{prefix}_CLIENT_SECRET")
        if found[0] and found[1]:
            return found[0], found[1]
    return None


# Of a key file; never what the error says, which can quote it.
_WRONG: dict[type[Exception], str] = {
    json.JSONDecodeError: "it is not JSON",
    UnicodeDecodeError: "it is not JSON",
    KeyError: "something in it is missing",
    TypeError: "it is JSON of another kind",
}


def _from_file(path: Path, source: str) -> GoogleLogin:
    faults = require("google.auth.exceptions", extra="pubsub")
    try:
        credentials, project = _loaded(json.loads(path.read_bytes()))
        return GoogleLogin(credentials, source, project)
    except (OSError, ValueError, KeyError, TypeError, faults.GoogleAuthError) as error:
        reason = getattr(error, "strerror", None) or _WRONG.get(
            type(error), "it is no key file that Google knows"
        )
    # Not within the handler: the error that was met can hold the whole file, and in it a private key.
    raise ConfigurationError(
        f"{source} can't be used: {reason}. A key file is JSON with type, client_email and private_key, from the page of "
        "a service account in the Google Cloud console",
        position=str(path),
    )


def _loaded(content: Any) -> tuple[Any, str | None]:
    """Make credentials of the content of a key file."""
    if not isinstance(content, dict):
        raise TypeError("no mapping")
    kind = content.get("type")
    if kind == "service_account":
        module = require("google.oauth2.service_account", extra="pubsub")
        return module.Credentials.from_service_account_info(content, scopes=[SCOPE]), content.get(
            "project_id"
        )
    if kind == "authorized_user":
        module = require("google.oauth2.credentials", extra="pubsub")
        found = module.Credentials.from_authorized_user_info(content, scopes=[SCOPE])
        return found, content.get("quota_project_id")
    # Workload identity and the like: google-auth warns of such files, since one from a stranger may lead tokens astray.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made: tuple[Any, str | None] = require("google.auth", extra="pubsub").load_credentials_from_dict(
            content, scopes=[SCOPE]
        )
    return made


def _kept() -> GoogleLogin | None:
    for service in reversed(_SERVICES):
        table, source = stored_table(service)
        if all(isinstance(table.get(name), str) for name in _KEPT):
            module = require("google.oauth2.credentials", extra="pubsub")
            values = {name: table[name] for name in _KEPT}
            return GoogleLogin(module.Credentials(None, scopes=[SCOPE], **values), source)
    return None


def _default() -> GoogleLogin:
    auth = require("google.auth", extra="pubsub")
    faults = require("google.auth.exceptions", extra="pubsub")
    # That there is no metadata server is what a machine outside of Google's cloud is like, and no cause for a warning.
    chatter = logging.getLogger("google.auth")  # its children inherit the level
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        credentials, project = auth.default(scopes=[SCOPE])
    except faults.GoogleAuthError:
        raise LoginError(
            "there is no login for Google's Pub/Sub. Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service "
            "account, or run `gcloud auth application-default login`, or `nuncius login pittgoogle`; an emulator is named "
            "by PUBSUB_EMULATOR_HOST or in the URL (pubsub://127.0.0.1:8085/PROJECT/SUBSCRIPTION)",
            service="pubsub",
        ) from None
    finally:
        chatter.setLevel(level)
    return GoogleLogin(credentials, "application default credentials", project)


def _said(error: Exception) -> str:
    """Return what an error says in one line, without what it may quote."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text[:300] or type(error).__name__
