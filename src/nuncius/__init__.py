"""nuncius: listen to astronomical alerts, keep them, ask for them again, find data sets, and read FITS files.

The names below load when they are first used, so that ``import nuncius`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuncius.alerts.alert import Alert, read_packets
    from nuncius.alerts.lightcurve import LightCurve
    from nuncius.alerts.notice import Notice
    from nuncius.archives import open_archive
    from nuncius.brokers import open_publisher, open_stream
    from nuncius.cloudfits import open_fits, read_headers, scan_headers
    from nuncius.datasets import open_dserver
    from nuncius.errors import NunciusError
    from nuncius.sandbox import Sandbox

__version__ = "0.1.0"

_HOMES = {
    "Alert": "nuncius.alerts.alert",
    "LightCurve": "nuncius.alerts.lightcurve",
    "Notice": "nuncius.alerts.notice",
    "NunciusError": "nuncius.errors",
    "Sandbox": "nuncius.sandbox",
    "open_archive": "nuncius.archives",
    "open_dserver": "nuncius.datasets",
    "open_fits": "nuncius.cloudfits",
    "open_publisher": "nuncius.brokers",
    "open_stream": "nuncius.brokers",
    "read_headers": "nuncius.cloudfits",
    "read_packets": "nuncius.alerts.alert",
    "scan_headers": "nuncius.cloudfits",
}

__all__ = [
    "Alert",
    "LightCurve",
    "Notice",
    "NunciusError",
    "Sandbox",
    "__version__",
    "open_archive",
    "open_dserver",
    "open_fits",
    "open_publisher",
    "open_stream",
    "read_headers",
    "read_packets",
    "scan_headers",
]


_PACKAGES = frozenset(
    {
        "aio",
        "alerts",
        "archives",
        "brokers",
        "cloudfits",
        "datasets",
        "errors",
        "plots",
        "sandbox",
        "sky",
        "streams",
    }
)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        from importlib import import_module

        return import_module(f"nuncius.{name}")
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'nuncius' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
