"""Every store behind one call: from a URL to a source of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.places import find_place
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    import os

    from nuncius._core.operations import Source

__all__ = ["open_source"]


def open_source(url: str | os.PathLike[str], access: Access | None = None) -> Source:
    """Return the source of an object; nothing is asked for yet.

    Parameters
    ----------
    url : str or path
        See `find_place`.
    access : Access, optional
        How it is reached.

    Raises
    ------
    ConfigurationError
        If the URL is no address of an object, or options contradict each other or what was found.
    MissingExtraError
        If an optional part is needed: fsspec, boto3.

    Examples
    --------
    >>> open_source("s3://stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits", Access(anon=True))
    ObjectSource('s3://stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits')
    """
    access = access or Access()
    place = find_place(url, access.endpoint)
    if place.kind == "file":
        from nuncius.cloudfits.stores.files import FileSource

        return FileSource(place)
    if place.kind == "other":
        from nuncius.cloudfits.stores.other import OtherSource

        return OtherSource(place, access)
    if place.kind != "http" and (not place.key or place.key.endswith("/")):
        raise ConfigurationError(
            f"{place.url} names a folder; name the file in it, or list it",
            service=place.service,
            url=place.url,
        )
    from nuncius.cloudfits.stores.clients import find_login
    from nuncius.cloudfits.stores.objects import ObjectSource

    return ObjectSource(place, access, find_login(place, access))
