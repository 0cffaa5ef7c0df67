"""FITS files in object stores: only the bytes that are needed.

>>> fits = nuncius.open_fits("s3://bucket/image.fits")  # doctest: +SKIP
>>> fits["SCI"].cutout(SkyCoord(10.68, 41.27, unit="deg"), 30 * u.arcsec)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuncius.cloudfits._async import AsyncRemoteFits, AsyncRemoteHdu
    from nuncius.cloudfits._sync import RemoteFits, RemoteHdu
    from nuncius.cloudfits.hdu import FileDescription, HduDescription
    from nuncius.cloudfits.index import HeaderIndex
    from nuncius.cloudfits.many import read_headers
    from nuncius.cloudfits.opening import open_fits
    from nuncius.cloudfits.ranges import Stats
    from nuncius.cloudfits.scan import scan_headers
    from nuncius.cloudfits.side_by_side import FailedFile

_HOMES = {
    "AsyncRemoteFits": "_async",
    "AsyncRemoteHdu": "_async",
    "FailedFile": "side_by_side",
    "FileDescription": "hdu",
    "HduDescription": "hdu",
    "HeaderIndex": "index",
    "RemoteFits": "_sync",
    "RemoteHdu": "_sync",
    "Stats": "ranges",
    "open_fits": "opening",
    "read_headers": "many",
    "scan_headers": "scan",
}

__all__ = [
    "AsyncRemoteFits",
    "AsyncRemoteHdu",
    "FailedFile",
    "FileDescription",
    "HduDescription",
    "HeaderIndex",
    "RemoteFits",
    "RemoteHdu",
    "Stats",
    "open_fits",
    "read_headers",
    "scan_headers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nuncius.cloudfits' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nuncius.cloudfits.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
