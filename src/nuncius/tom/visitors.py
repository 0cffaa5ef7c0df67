"""Who asks: the user of the web request at work.

Later releases of the Toolkit tell a data service the user; older ones, and the broker interface, don't. There the session of
the request says it, as Django's own middleware reads it.
"""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from typing import Any

_cookies: ContextVar[str | None] = ContextVar("cookies of the request at work", default=None)

ANONYMOUS = "anonymous"


def began(environ: Any = None, scope: Any = None, **_: Any) -> None:
    """Note that a request is at work here; connected to Django's signal."""
    if environ is not None:
        _cookies.set(environ.get("HTTP_COOKIE", ""))
    elif scope is not None:
        pairs = (value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"cookie")
        _cookies.set("; ".join(pairs))


def ended(**_: Any) -> None:
    """Note that it is over."""
    _cookies.set(None)


def visitor(user: Any = None, request: Any = None) -> str | None:
    """Return who asks.

    Parameters
    ----------
    user : optional
        Whom the Toolkit has named.
    request : optional
        The web request, where the Toolkit has passed it on.

    Returns
    -------
    str or None
        The user's key, ``"anonymous"``, or None where no web request is at work: a command, by who may run commands.
    """
    found = user if request is None else request.user
    if found is None:
        cookies = _cookies.get()
        if cookies is None:
            return None
        found = _user_of(cookies)
    return str(found.pk) if found.is_authenticated else ANONYMOUS


def _user_of(cookies: str) -> Any:
    from django.conf import settings
    from django.contrib.auth import get_user
    from django.http import HttpRequest, parse_cookie

    request = HttpRequest()
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    return get_user(request)
