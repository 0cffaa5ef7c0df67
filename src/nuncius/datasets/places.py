"""Where the bytes of an item are: how dtool's storage brokers lay a data set out.

Source: the layouts of dtoolcore 3.19 (files), dtool-s3 0.14, dtool-azure 0.7 and dtool-http 0.5.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nuncius._core.lazy import upward
from nuncius.datasets.configuration import store_setting
from nuncius.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IDENTIFIER = re.compile(r"[0-9a-f]{40}")  # SHA-1 of the path


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a data set.

    Parameters
    ----------
    relpath : str
        Its path in the data set.
    identifier : str
        The SHA-1 of that path, in hexadecimal.
    size : int
        In bytes.
    hash : str
        Of its content; the manifest's `hash_function` says which.
    modified : datetime, optional
        When it was last changed, UTC.
    data_set_uri : str
        The data set.
    """

    relpath: str
    identifier: str
    size: int
    hash: str
    modified: datetime | None
    data_set_uri: str
    link: str | None = field(default=None, repr=False)  # may be signed, which is a secret
    config_file: str | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.relpath).name

    @property
    def url(self) -> str:
        """Where its bytes are, as `nuncius.open_fits` takes it.

        Raises
        ------
        UnsupportedError
            If that can't be said, or not be reached: a file of another machine, a share, a hostile path.
        """
        if self.link is not None:
            return self.link
        return _url_of(self)

    def access(self) -> Access:
        """Return how the bucket or container is reached, as options of `nuncius.open_fits`; empty where nothing is said.

        From dtool's own settings in the environment or in ``dtool.json``: ``DTOOL_S3_ENDPOINT_<bucket>``,
        ``DTOOL_S3_ACCESS_KEY_ID_<bucket>``, ``DTOOL_S3_SECRET_ACCESS_KEY_<bucket>``, the same with ``ECS``, and
        ``DTOOL_AZURE_ACCOUNT_KEY_<account>``.

        Examples
        --------
        >>> async with nuncius.aio.open_fits(item.url, **item.access()) as fits:  # doctest: +SKIP
        ...     await fits[1].section[:100, :100]
        """
        scheme, _, rest = self.data_set_uri.partition("://")
        place = rest.partition("/")[0]
        found = Access()
        if scheme in {"s3", "ecs"}:
            kind = f"DTOOL_{scheme.upper()}"
            key = self._setting(f"{kind}_ACCESS_KEY_ID_{place}")
            secret = self._setting(f"{kind}_SECRET_ACCESS_KEY_{place}")
            endpoint = self._setting(f"{kind}_ENDPOINT_{place}")
            if endpoint:
                found["endpoint"] = endpoint
            if key and secret:
                found["credentials"] = (key, secret)
        elif scheme == "azure" and (key := self._setting(f"DTOOL_AZURE_ACCOUNT_KEY_{place}")):
            found["credentials"] = {"account_key": key}
        return found

    def open(
        self,
        *,
        credentials: Mapping[str, str] | tuple[str, str] | None = None,
        anon: bool | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        requester_pays: bool = False,
        whole_file: bool = False,
    ) -> Any:
        """Open it as a remote FITS file: its headers are read, and nothing else until it is asked for.

        Parameters
        ----------
        credentials, anon, endpoint, region, profile, requester_pays, whole_file
            As of `nuncius.open_fits`; what is not given is taken from `access`.

        Returns
        -------
        RemoteFits

        Raises
        ------
        UnsupportedError
            If its bytes can't be reached.
        NunciusError
            As of `nuncius.open_fits`.

        Examples
        --------
        >>> for item in dserver.find_items("*.fits", free_text="ZTF26aaaaaab"):  # doctest: +SKIP
        ...     with item.open() as fits:
        ...         fits.info()
        """
        found = self.access()
        if credentials is None and profile is None and not anon:  # the other two are logins too
            credentials = found.get("credentials")
        return upward("nuncius.cloudfits").open_fits(
            self.url,
            credentials=credentials,
            anon=anon,
            endpoint=endpoint or found.get("endpoint"),
            region=region,
            profile=profile,
            requester_pays=requester_pays,
            whole_file=whole_file,
        )

    def _setting(self, name: str) -> str | None:
        return store_setting(name, self.config_file)


class Access(dict[str, Any]):
    """Options for reading a file; it doesn't show the secrets in it."""

    def __repr__(self) -> str:
        shown = {name: "***" if name == "credentials" else value for name, value in self.items()}
        return f"{type(self).__name__}({shown})"


def _url_of(item: Item) -> str:
    try:
        parts = urlsplit(item.data_set_uri)
    except ValueError as error:
        raise _unreachable(item, "that is no URI") from error
    if parts.query or parts.fragment or _CONTROL.search(item.data_set_uri):
        raise _unreachable(item, "its URI has a '?', a '#' or a control character, as none of dtool has")
    match parts.scheme:
        case "file" | "":
            return _file_url(item, parts.netloc, parts.path)
        case "s3" | "ecs":
            # The data set's own prefix stands in its bucket; dtool lets a user set the one that he writes with.
            prefix = item._setting(f"DTOOL_{parts.scheme.upper()}_DATASET_PREFIX_{parts.netloc}") or ""
            return f"s3://{parts.netloc}/{prefix}{parts.path.strip('/')}/data/{_identifier(item)}"
        case "azure":
            container = quote(parts.path.strip("/"))
            return f"https://{parts.netloc}.blob.core.windows.net/{container}/{_identifier(item)}"
        case "http" | "https":
            raise _unreachable(
                item, "a published data set lists its addresses itself: ask the dserver for items(uri)"
            )
        case "smb":
            raise _unreachable(item, "it lies on a network share; mount the share and open the file there")
    raise _unreachable(item, f"nuncius reads nothing from {parts.scheme}://")


def _file_url(item: Item, host: str, path: str) -> str:
    if host.lower() not in {"", "localhost", "127.0.0.1", socket.gethostname().lower()}:
        raise _unreachable(item, f"it is a file of the machine {host}")
    relpath = PurePosixPath(item.relpath)
    if relpath.is_absolute() or ".." in relpath.parts or "\0" in item.relpath:
        raise _unreachable(item, "its path leads out of the data set, as no data set of dtool does")
    return str(PurePosixPath(path) / "data" / relpath)


def _identifier(item: Item) -> str:
    if not _IDENTIFIER.fullmatch(item.identifier):
        raise _unreachable(
            item, f"{item.identifier[:60]!r} is no identifier of dtool (40 hexadecimal digits)"
        )
    return item.identifier


def _unreachable(item: Item, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"the bytes of {item.relpath!r} in {item.data_set_uri} can't be read from here: {reason}",
        service="dserver",
        url=item.data_set_uri,
    )
