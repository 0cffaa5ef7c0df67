"""Alerts as files, as the command line of antares-client keeps them: a folder a stream, a file an alert."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nuncius._core.files import make_folder, sync_folder, write_durably
from nuncius._core.jsontext import to_text
from nuncius.compat.antares_client.reading import topic_of
from nuncius.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nuncius.alerts import Alert, Notice

_INDENT = 4
_LONGEST_NAME = 180


class TopicFiles:
    """A folder with a folder for each stream, and in it ``ALERT_ID.json`` for each alert.

    When an alert comes again with another content, both are kept: the later one with a digest in its name.

    Parameters
    ----------
    folder : Path
        Where; it is made if it doesn't exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep alerts; when this returns, they are on the disk.

        Raises
        ------
        StorageError
            If they can't be written.
        """
        try:
            for alert in items:
                self._write_one(alert)
        except OSError as error:
            raise StorageError(
                f"{self.folder} can't be written: {error.strerror}; the alerts were not acknowledged and come again",
                position=str(self.folder),
            ) from error

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`: nothing is held."""

    def _write_one(self, alert: Alert | Notice) -> None:
        folder = self.folder / _as_name(topic_of(alert))
        make_folder(folder)
        name, content = _as_name(str(alert.alert_id)), as_json(alert.packet)
        path = folder / f"{name}.json"
        try:
            is_other = path.read_bytes() != content
        except FileNotFoundError:
            is_other = False
        else:
            if not is_other:
                sync_folder(folder)  # whoever wrote it may have been killed before he had
                return
        write_durably(folder / f"{name}-{alert.digest[:8]}.json" if is_other else path, content)


def as_json(packet: Any) -> bytes:
    """Write a message as JSON. NaN is null, dates are texts, bytes are base64."""
    text = to_text(packet)[0]
    return json.dumps(json.loads(text), indent=_INDENT, ensure_ascii=False).encode() + b"\n"


def _as_name(text: str) -> str:
    """Return a name for a file or a folder: the text as it is, but for what could climb out or can't be in a name.

    Ids come from strangers. Escapes keep two of them apart, and a digest those that are too long.
    """
    name = quote(text, safe=" :+,=@", errors="surrogatepass")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name or "%"
