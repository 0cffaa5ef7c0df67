"""Project, keys and login: from Django's settings where Django is configured, else from the environment."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError, LoginError
from nuncius.streams.pubsub.login import find_google_login, keep_login, log_in, oauth_client

if TYPE_CHECKING:
    from nuncius.streams.pubsub.login import GoogleLogin

log = logging.getLogger("nuncius.pittgoogle")

PROJECT = "GOOGLE_CLOUD_PROJECT"
_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_CLIENT = ("PITTGOOGLE_OAUTH_CLIENT_ID", "PITTGOOGLE_OAUTH_CLIENT_SECRET")


def setting(name: str) -> str | None:
    """Return what Django's settings or the environment say; None if neither does. Django is never loaded for it."""
    django = sys.modules.get("django.conf")
    if django is not None and (django.settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        value = getattr(django.settings, name, None)
        if value:
            return str(value)
    return os.environ.get(name) or None


def login_of(user_project: str | None) -> GoogleLogin:
    """Find a login: the key file that the settings name, what was kept of an earlier login, what gcloud has set up.

    Raises
    ------
    LoginError
        If there is none.
    ConfigurationError
        If a key file is named that can't be used.
    """
    login = find_google_login(setting(_KEY_FILE))
    if user_project and login.project and login.project != user_project:
        log.warning(
            "the subscription is in the project %s, and the %s belongs to %s: it needs a role in the former",
            user_project,
            login.who,
            login.project,
        )
    return login


def ask_person() -> Any:
    """Let a person log in with the browser; return the credentials, which are kept and renew themselves.

    Raises
    ------
    LoginError
        If no OAuth client is set up, nobody logs in, or Google refuses.
    """
    client = setting(_CLIENT[0]), setting(_CLIENT[1])
    client_id, client_secret = client if all(client) else oauth_client() or (None, None)
    if not client_id or not client_secret:
        raise LoginError(
            f"an OAuth login needs {_CLIENT[0]} and {_CLIENT[1]}, in Django's settings or in the environment: the client "
            "id and secret of an application, from the page Credentials of a Google Cloud project",
            service="pittgoogle",
        )
    credentials = log_in(client_id, client_secret, show=_show)
    log.info("the login is kept in %s", keep_login(credentials))
    return credentials


def can_ask() -> bool:
    """Whether somebody sits at a terminal who could log in, and there is a client to do so with."""
    has_client = all(map(setting, _CLIENT)) or oauth_client() is not None
    return has_client and sys.stdin is not None and sys.stdin.isatty()


def check_name(name: Any) -> str:
    """Return the name of a subscription.

    Raises
    ------
    ConfigurationError
        If it is no text.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(
            f"subscription_name={name!r}: give the name of a subscription, such as 'ztf-loop'",
            position="subscription_name",
        )
    return name.strip()


def _show(address: str) -> None:
    """Show a person where to log in."""
    sys.stdout.write(f"Log in to Google here, and let nuncius use Pub/Sub for you:\n\n  {address}\n\n")
    sys.stdout.flush()
