"""The pictures of the results, each for the user whose results they are. They are read anew, and kept in no cache."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core import signing
from django.http import Http404, HttpResponse
from django.urls import reverse
from tom_dataservices.dataservices import get_data_service_classes

from nuncius.errors import NunciusError
from nuncius.tom.pictures import cutouts_png, sparkline
from nuncius.tom.visitors import ANONYMOUS, visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("nuncius.tom")

_SALT = "nuncius.tom.pictures"
_LIFE_S = 86_400


def picture_url(kind: str, row: Mapping[str, Any], owner: str | None) -> str:
    """Return where a picture of a row is: ``cutouts`` or ``light-curve``. Nobody but the owner gets it there."""
    token = signing.dumps([row["service"], row["catalog"], row["name"], owner], salt=_SALT, compress=True)
    return str(reverse(f"nuncius_tom:{kind}", kwargs={"token": token}))


def cutouts(request: Any, token: str) -> HttpResponse:
    """Give the three images of an object's newest alert."""
    return _picture(
        request, token, "image/png", lambda service, *names: cutouts_png(service.cutouts(*names)[1])
    )


def light_curve(request: Any, token: str) -> HttpResponse:
    """Give the small light curve of an object."""
    return _picture(
        request,
        token,
        "image/svg+xml",
        lambda service, *names: sparkline(service.light_curve(*names)).encode(),
    )


def _picture(request: Any, token: str, kind: str, draw: Callable[..., bytes]) -> HttpResponse:
    try:
        name, catalog, object_id, owner = signing.loads(token, salt=_SALT, max_age=_LIFE_S)
    except signing.BadSignature:
        raise Http404 from None
    who = visitor(request=request)
    known = get_data_service_classes()
    if who == ANONYMOUS or who != owner or name not in known:
        raise Http404
    try:
        drawn = draw(known[name](), object_id, catalog)
    except NunciusError as error:
        log.warning("no picture of %s: %s", object_id, error)
        drawn = b""
    if not drawn:
        raise Http404
    answer = HttpResponse(drawn, content_type=kind)
    answer["Cache-Control"] = "private, max-age=600"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer
