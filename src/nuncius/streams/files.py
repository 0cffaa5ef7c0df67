"""Keep alerts as files: durable before they are acknowledged, whole or not at all."""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, get_args

from nuncius._core.jsontext import to_text
from nuncius.errors import ConfigurationError, StorageError
from nuncius.streams.quarantine import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nuncius.alerts import Alert

FileFormat: TypeAlias = Literal["json", "jsonl", "avro"]


class FileSink:
    """A folder of alerts.

    Parameters
    ----------
    folder : Path
        Where; it is made if it doesn't exist.
    format : {"json", "jsonl", "avro"}
        ``json``: a file an alert, ``SURVEY/ALERT_ID.json``. ``jsonl``: a line an alert in ``alerts.jsonl``, which is
        appended to. ``avro``: the packets as they came, ``SURVEY/ALERT_ID.avro`` (whatever their container).

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

    def write(self, alerts: Sequence[Alert]) -> None:
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
                for alert in alerts:
                    self._write_one(alert)
        except OSError as error:
            raise StorageError(
                f"{self.folder} can't be written: {error.strerror}; the alerts were not acknowledged and come again",
                position=str(self.folder),
            ) from error

    def _write_one(self, alert: Alert) -> None:
        folder = self.folder / _as_name(alert.survey)
        folder.mkdir(parents=True, exist_ok=True)
        name = "-".join(_as_name(str(part)) for part in alert.key[1:] if part is not None)
        content = alert.raw if self.format == "avro" else as_json(alert).encode()
        write_durably(folder / f"{name}.{self.format}", content)

    def _append(self, lines: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "alerts.jsonl").open("ab+") as file:
            # A crash may have left half a line; its alert was not acknowledged, so it comes again.
            _cut_half_line(file)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def as_json(alert: Alert) -> str:
    """Write an alert as one line of JSON: what all surveys have in common, and the packet.

    Images are base64; NaN is null; ids are numbers of up to 19 digits, which JavaScript can't read without loss.
    """
    return to_text(
        {
            "survey": alert.survey,
            "alert_id": alert.alert_id,
            "object_id": alert.object_id,
            "ra": alert.ra,
            "dec": alert.dec,
            "mjd": alert.mjd,
            "band": alert.band,
            "mag": alert.mag,
            "mag_err": alert.mag_err,
            "flux_njy": alert.flux_njy,
            "score": alert.score,
            "origin": str(alert.origin) if alert.origin else None,
            "packet": alert.packet,
        }
    )[0]


def _as_name(text: str) -> str:
    # Ids come from strangers: none may climb out of the folder.
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".")[:120] or "_"


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
