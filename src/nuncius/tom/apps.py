"""The app's entry in a project: ``INSTALLED_APPS += ["nuncius.tom"]``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig


class NunciusTomConfig(AppConfig):  # type: ignore[misc]
    """What the Toolkit asks the app for."""

    name = "nuncius.tom"
    label = "nuncius_tom"
    verbose_name = "nuncius"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the settings checked, and notice whose request is at work."""
        from django.core import checks, signals

        from nuncius.tom import visitors
        from nuncius.tom.checks import check_project

        checks.register(check_project)
        signals.request_started.connect(visitors.began, dispatch_uid="nuncius_tom")
        signals.request_finished.connect(visitors.ended, dispatch_uid="nuncius_tom")

    def data_services(self) -> list[dict[str, str]]:
        """Name the data services; those whose optional package is not installed are left out."""
        names = ["ArchiveDataService", "KowalskiDataService", "BoomDataService", "AntaresDataService"]
        if _is_installed("google.cloud.pubsub_v1"):
            names.append("PittGoogleDataService")
        names.append("StreamDataService")
        return [{"class": f"nuncius.tom.services.{name}"} for name in names]

    def include_url_paths(self) -> list[Any]:
        """Serve the pictures of the results."""
        from django.urls import include, path

        return [path("nuncius/", include("nuncius.tom.urls", namespace="nuncius_tom"))]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
