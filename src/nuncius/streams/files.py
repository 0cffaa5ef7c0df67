"""Keep alerts as files: durable before they are acknowledged, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from nuncius._core.files import lock, make_folder, sync_folder, write_all_durably
from nuncius._core.jsontext import to_text
from nuncius.alerts import Alert
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nuncius.alerts import Notice

FileFormat: TypeAlias = Literal["json", "jsonl", "avro"]


class FileSink:
    """A folder of alerts.

    Parameters
    ----------
    folder : Path
        Where; it is made if it doesn't exist.
    format : {"json", "jsonl", "avro"}
        ``json``: a file an alert, ``SURVEY/ALERT_ID.json``. ``jsonl``: a line an alert in ``alerts.jsonl``, which is
        appended to. ``avro``: the packets as they came, ``SURVEY/ALERT_ID.avro`` (whatever their container). Notices
        are kept as they came in ``GCN/ID.packet``. What comes with a known id and other content is kept beside, its
        digest behind the id.

    Raises
    ------
    ConfigurationError
        If the format is not known.
    """

    def __init__(self, folder: Path, format: FileFormat = "json") -> None:  # noqa: A002 - the users' word
        if format not in get_args(FileFormat):
            raise ConfigurationError(
                f"format={format!r} is not known; choose one of {', '.join(get_args(FileFormat))}"
            )
        self.folder = folder
        self.format = format

    def write(self, alerts: Sequence[Alert | Notice]) -> None:
        """Keep the alerts; when this returns, they are on the disk.

        Raises
        ------
        StorageError
            If they can't be written.
        """
        try:
            if self.format == "jsonl":
                self._append("".join(as_json(alert) + "\n" for alert in alerts).encode())
            else:
                files: dict[Path, bytes] = {}
                for alert in alerts:
                    path, content = self._file(alert)
                    if files.get(path, content) != content or _holds_other(path, content):
                        # What another broker sends of it, or a later version: neither takes the other's place.
                        path = path.with_name(f"{path.stem}-{alert.digest[:16]}{path.suffix}")
                    files[path] = content
                for folder in {path.parent for path in files}:
                    make_folder(folder)
                write_all_durably(files)
        except OSError as error:
            raise StorageError(
                f"{self.folder} can't be written: {error.strerror}; the alerts were not acknowledged and come again",
                position=str(self.folder),
            ) from error

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`: nothing is held."""

    def _file(self, alert: Alert | Notice) -> tuple[Path, bytes]:
        """Return the path and the content of an alert's file."""
        name = "-".join(_as_name(str(part)) for part in alert.key[1:] if part is not None)
        if self.format == "avro":
            content, ending = alert.raw, "avro" if isinstance(alert, Alert) else "packet"
        else:
            content, ending = as_json(alert).encode(), "json"
        return self.folder / _as_name(alert.survey) / f"{name}.{ending}", content

    def _append(self, lines: bytes) -> None:
        make_folder(self.folder)
        path = self.folder / "alerts.jsonl"
        is_new = not path.exists()
        with path.open("ab+") as file:
            lock(file)  # another member of the group may write here too
            # A crash may have left half a line; its alert was not acknowledged, so it comes again.
            _cut_half_line(file)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.folder)


def as_json(item: Alert | Notice) -> str:
    """Write an alert as one line of JSON: what all surveys have in common, and the packet; a notice likewise.

    Images are base64; NaN is null; ids are numbers of up to 19 digits, which JavaScript can't read without loss.
    """
    known: dict[str, Any] = {
        "survey": item.survey,
        "alert_id": item.alert_id,
        "object_id": item.object_id,
        "ra": item.ra,
        "dec": item.dec,
        "mjd": item.mjd,
    }
    if isinstance(item, Alert):
        known |= {
            "band": item.band,
            "mag": item.mag,
            "mag_err": item.mag_err,
            "flux_njy": item.flux_njy,
            "score": item.score,
        }
    else:
        known |= {"kind": item.kind, "time": item.time, "radius_deg": item.radius_deg, "text": item.text}
    return to_text({**known, "origin": str(item.origin) if item.origin else None, "packet": item.packet})[0]


def _as_name(text: str) -> str:
    """Return a safe name for a file; where that changes the text, a digest keeps two apart.

    Ids come from strangers: none may climb out of the folder, or take the place of another.
    """
    name = re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).lstrip(".")[:100]
    if name == text:
        return name
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{name}-{digest}".lstrip("-")


def _holds_other(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() != content
    except FileNotFoundError:
        return False


def _cut_half_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        last = file.read(end - start).rfind(b"\n")
        if last >= 0:
            file.truncate(start + last + 1)
            return
        end = start
    file.truncate(0)
