"""The quarantine: messages that can't be read, kept byte for byte with the reason, so that they can be read later.

For each message two files: ``TOPIC/PARTITION-OFFSET.packet``, the bytes as they came, and beside it
``TOPIC/PARTITION-OFFSET.reason.json``. The folder is replayed with ``nuncius stream replay://FOLDER``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nuncius._core.files import lock, make_folder, write_durably
from nuncius.errors import QuarantineFullError, StorageError

if TYPE_CHECKING:
    from nuncius.alerts import Origin
    from nuncius.errors import PacketError


class Quarantine:
    """A folder of unreadable messages.

    Parameters
    ----------
    folder : Path
        Where.
    limit_bytes : int
        The most that it may hold.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._size: int | None = None
        self._lock = threading.Lock()

    def put(self, origin: Origin, value: bytes | None, error: PacketError) -> Path:
        """Keep one message; when this returns, it is on the disk. The same message is kept once.

        Returns
        -------
        Path
            The file with the bytes.

        Raises
        ------
        QuarantineFullError
            If the limit is passed.
        StorageError
            If the files can't be written.
        """
        folder = self.folder / _folder_name(origin.topic)
        replayed = Path(origin.topic)
        if (
            origin.service == "replay"
            and replayed.suffix == ".packet"
            and replayed.with_suffix(".reason.json").is_file()
        ):
            return replayed  # the replay of a quarantine: it is kept already
        reason = json.dumps(_describe(origin, value, error), indent=2)
        with self._lock, ExitStack() as folders:
            path = folder
            try:
                make_folder(folder)
                # Streams of several brokers, or several programs, may share the folder and have topics of one name.
                gate = folders.enter_context((self.folder / ".lock").open("ab"))
                lock(gate)
                path, is_kept = _place(folder, f"{origin.partition}-{origin.offset}", value or b"")
                if is_kept:
                    return path
                if self._size is None:
                    self._size = sum(map(_size_of, self.folder.rglob("*")))
                if self._size + len(value or b"") + len(reason) > self.limit_bytes:
                    raise QuarantineFullError(
                        f"the quarantine {self.folder} holds {self._size} bytes and may hold {self.limit_bytes}. Look "
                        "at the reasons in its .reason.json files, move them away, then start the stream again: "
                        "nothing of these messages was acknowledged",
                        position=str(self.folder),
                    ) from error
                # The reason first: a packet without its reason would be a riddle, the reverse is none.
                write_durably(path.with_suffix(".reason.json"), reason.encode())
                write_durably(path, value or b"")
            except OSError as fault:
                raise StorageError(
                    f"the quarantine {self.folder} can't be written ({fault.strerror}); the message {origin} was not "
                    "acknowledged",
                    position=str(path),
                ) from fault
            self._size += len(value or b"") + len(reason)
        return path


def _folder_name(topic: str) -> str:
    """Return a name that is safe for a folder; where that changes the topic's name, a digest keeps two apart."""
    name = re.sub(r"[^\w.-]+", "_", topic).strip("._")[-100:]
    if name == topic:
        return name
    digest = hashlib.blake2b(topic.encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"{name}-{digest}".lstrip("-")


def _place(folder: Path, stem: str, value: bytes) -> tuple[Path, bool]:
    """Return where a message is kept, and whether it is there already.

    A topic that was made again has the same offsets, and one message may hold several damaged alerts: what is kept is
    never replaced by other bytes.
    """
    path = folder / f"{stem}.packet"
    number = 1
    while path.is_file():
        if path.read_bytes() == value:
            return path, True
        number += 1
        path = folder / f"{stem}-{number}.packet"
    return path, False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # another process was writing it
        return 0


def _describe(origin: Origin, value: bytes | None, error: PacketError) -> dict[str, object]:
    return {
        "reason": str(error),
        "error": type(error).__name__,
        "where": error.position,
        "service": origin.service,
        "broker": origin.broker,
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "timestamp": origin.timestamp.isoformat() if origin.timestamp else None,
        "key": _base64(origin.key),
        "headers": [[name, _base64(content)] for name, content in origin.headers],
        "bytes": None if value is None else len(value),
        "quarantined": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")
