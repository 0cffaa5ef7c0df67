"""The images of alerts: `get_thumbnails` as antares-client 0.2 documents it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from nuncius._core.drivers import Driver
from nuncius._core.files import make_folder, write_durably
from nuncius._core.operations import Deadline, Gather
from nuncius.archives.antares.service import AntaresService
from nuncius.archives.paged.rest import part
from nuncius.compat.antares_client.exceptions import (
    AntaresConfigurationError,
    AntaresNotFoundError,
    AntaresStorageError,
    translating,
)
from nuncius.compat.antares_client.places import base_url, timeout_s_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Operation, Response

KINDS = ("template", "science", "difference")
_LONGEST_NAME = 200


def get_thumbnails(
    alert_id: int | str,
    output_dir: str | Path | None = None,
    *,
    base: str | None = None,
    timeout_s: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Fetch the images of an alert, side by side.

    Parameters
    ----------
    alert_id : int or str
        ANTARES' id of the alert.
    output_dir : str or Path, optional
        A folder to save them in; it is made if it doesn't exist. Each file is there whole or not at all.
    base : str, optional
        Where ANTARES' REST interface is; ``ANTARES_API_BASE_URL``, or the public one, by default.
    timeout_s : float, optional
        How long all of it may take; ``API_TIMEOUT``, or 60 s, by default.

    Returns
    -------
    dict
        For ``template``, ``science`` and ``difference``, as far as there are any, the `file_name` and the `file_bytes`, a
        gzipped FITS file.

    Raises
    ------
    AntaresNotFoundError
        If there is no such alert, or it has no images.
    AntaresStorageError
        If the files can't be written.
    AntaresException
        If ANTARES can't be asked.

    Examples
    --------
    >>> get_thumbnails(9898524)["template"]["file_name"]  # doctest: +SKIP
    'candid1447210100015015000_pid1447210100015_targ_scimref.fits.gz'
    """
    found = fetch_images(alert_id, base=base, timeout_s=timeout_s)
    if output_dir is not None:
        _save(Path(output_dir).expanduser(), {image["file_name"]: image["blob"] for image in found.values()})
    return {
        kind: {"file_name": image["file_name"], "file_bytes": image["blob"]} for kind, image in found.items()
    }


def fetch_images(
    alert_id: int | str, *, base: str | None = None, timeout_s: float | None = None
) -> dict[str, dict[str, Any]]:
    """Fetch the images of an alert with all that ANTARES says of them; see `search.get_thumbnails`."""
    if isinstance(alert_id, bool) or not isinstance(alert_id, (int, str)) or not str(alert_id).strip(". "):
        raise AntaresConfigurationError(f"alert_id={alert_id!r} is no id of an alert")
    driver = Driver()
    try:
        with translating():
            limit_s = timeout_s_of(timeout_s)
            server = AntaresService(base_url(base), timeout_s=limit_s)
            images = driver.run(_images(server, alert_id, Deadline(limit_s)))
    finally:
        driver.close()
    return _with_own_names(images)


def _images(
    server: AntaresService, alert_id: int | str, deadline: Deadline
) -> Operation[dict[str, dict[str, Any]]]:
    what = f"the thumbnails of the alert {alert_id!r}"
    listed = yield from server.ask_many(f"alerts/{part(alert_id)}/thumbnails", deadline, what)
    wanted = {
        item["thumbnail_type"]: item
        for item in listed
        if item.get("thumbnail_type") in KINDS and isinstance(item.get("src"), str)
    }
    if not wanted:
        raise AntaresNotFoundError(
            f"{server.base} does not have {what}", service="antares", url=server.base, position=str(alert_id)
        )
    items = [wanted[kind] for kind in KINDS if kind in wanted]
    outcomes = yield Gather([_image(server, alert_id, item, deadline) for item in items], limit=len(KINDS))
    return {item["thumbnail_type"]: outcome.result() for item, outcome in zip(items, outcomes, strict=True)}


def _image(
    server: AntaresService, alert_id: int | str, item: Mapping[str, Any], deadline: Deadline
) -> Operation[dict[str, Any]]:
    kind, url = item["thumbnail_type"], urljoin(f"{server.base}/", item["src"])
    if urlsplit(url).scheme not in {"http", "https"}:
        raise server.strange(f"{url!r} as the place of an image", "an address")
    response = yield from server.get(url, deadline)
    if response.status != 200 or not response.body:
        raise server.failure(response, None, f"the {kind} image {url}")
    name = _safe_name(_given_name(response)) or _safe_name(unquote(urlsplit(url).path)) or kind
    return {
        "alert_id": alert_id,
        "id": item.get("id"),
        "type": kind,
        "blob": response.body,
        "file_name": name,
        "url": url,
    }


def _given_name(response: Response) -> str:
    """Return the name that a server gives a file (RFC 6266)."""
    from email.message import Message

    header = Message()
    header["content-disposition"] = " ".join(response.headers.get("content-disposition", "").split())
    return header.get_filename() or ""


def _safe_name(name: str) -> str:
    """Return a name without any folder; empty if nothing of it can be one. Names come from strangers."""
    last = name.replace("\\", "/").rpartition("/")[2]
    last = "".join(letter for letter in last if letter.isprintable() and letter != ":").strip()
    return last[-_LONGEST_NAME:].lstrip(".")


def _with_own_names(images: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """See to it that no two images of an alert take each other's place."""
    names = [image["file_name"].lower() for image in images.values()]
    for kind, image in images.items():
        if names.count(image["file_name"].lower()) > 1:
            image["file_name"] = f"{kind}_{image['file_name']}"
    return images


def _save(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        make_folder(folder)
        for name, content in files.items():
            write_durably(folder / name, content)
    except OSError as error:
        raise AntaresStorageError(
            f"the images can't be saved in {folder}: {error.strerror}", position=str(folder)
        ) from error
