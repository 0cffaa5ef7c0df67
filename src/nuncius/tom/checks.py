"""System checks: what in a project's settings would lose targets, answer 500, or do nothing, with the cure."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEGACY = {
    "tom_pittgoogle.broker_stream_python.BrokerStreamPython": (
        "nuncius.compat.tom_pittgoogle.broker_stream_python.BrokerStreamPython"
    ),
    "tom_antares.antares.ANTARESBroker": "nuncius.tom.legacy.AntaresBroker",
}


def check_project(**_: Any) -> list[Any]:
    """Check the settings; run by ``manage.py check`` and at each start of the development server."""
    from django.conf import settings

    return [
        *_of_installed_apps(),
        *_of_caches(getattr(settings, "CACHES", {})),
        *_of_services(getattr(settings, "DATA_SERVICES", None) or {}),
        *_of_legacy(settings),
    ]


def _of_installed_apps() -> Iterator[Any]:
    from django.apps import apps
    from django.core.checks import Error
    from django.urls import NoReverseMatch, reverse

    if not apps.is_installed("tom_dataservices"):
        yield Error(
            "the Toolkit's data services are not installed, so that none of nuncius can be seen",
            hint="Add 'tom_dataservices' to INSTALLED_APPS.",
            id="nuncius_tom.E001",
        )
    if apps.is_installed("tom_alerts"):
        try:
            reverse("tom_alerts:list")
        except NoReverseMatch:
            yield Error(
                "'tom_alerts' is installed without its URLs: every page with its menu answers 500, the login too",
                hint="Add path('alerts/', include('tom_alerts.urls', namespace='alerts')) to the project's urls.py.",
                id="nuncius_tom.E002",
            )


def _of_caches(caches: Mapping[str, Any]) -> Iterator[Any]:
    from django.core.checks import Warning  # noqa: A004 - Django's own name

    default = caches.get("default", {})
    backend, location = str(default.get("BACKEND", "")), str(default.get("LOCATION", ""))
    if (
        backend.endswith("FileBasedCache")
        and Path(location).resolve() == Path(tempfile.gettempdir()).resolve()
    ):
        yield Warning(
            f"the cache is in {location}, which all projects of this machine share: they see and clear each other's results",
            hint="Set CACHES['default']['LOCATION'] to a folder of this project alone.",
            id="nuncius_tom.W001",
        )
    if backend.endswith("DummyCache"):
        yield Warning(
            "the cache keeps nothing, so that no target can be made of a result",
            hint="Set CACHES['default']['BACKEND'] to a cache that all processes of the server share.",
            id="nuncius_tom.W002",
        )
    if backend.endswith("LocMemCache"):
        yield Warning(
            "each process has a cache of its own: with several of them, results are lost before a target is made of them",
            hint="Set CACHES['default']['BACKEND'] to a cache that all processes of the server share.",
            id="nuncius_tom.W003",
        )


def _of_services(said: Any) -> Iterator[Any]:
    from django.core.checks import Error, Warning  # noqa: A004

    from nuncius.tom.configuration import unknown_options
    from nuncius.tom.services import SERVICES

    if not isinstance(said, Mapping):
        yield Error("DATA_SERVICES is not a mapping of services", id="nuncius_tom.E003")
        return
    names = [service.name for service in SERVICES]
    for name, options in said.items():
        if name in names:
            for problem in unknown_options(name, options):
                yield Error(problem, id="nuncius_tom.E004")
        elif str(name).lower().startswith("nuncius"):
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.3)
            yield Warning(
                f"settings.DATA_SERVICES has {name!r}, which is no service of nuncius and does nothing",
                hint=f"Did you mean {close[0]!r}?" if close else f"They are {', '.join(names)}.",
                id="nuncius_tom.W004",
            )


def _of_legacy(settings: Any) -> Iterator[Any]:
    from django.core.checks import Warning  # noqa: A004

    for name in getattr(settings, "TOM_ALERT_CLASSES", ()):
        if name in _LEGACY:
            yield Warning(
                f"TOM_ALERT_CLASSES names {name}, which is no longer maintained",
                hint=f"{_LEGACY[name]} takes its place.",
                id="nuncius_tom.W005",
            )
