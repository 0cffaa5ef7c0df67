"""How a service does at one moment: for the status file, the metrics, the status line and `nuncius health`."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nuncius._core.files import write_whole
from nuncius.streams.rules import StreamStats

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.streams.transport import Partition

WRITE_S = 2.0
"""How often the status file is written."""

_STALE_S = 60.0  # a file that was not written for so long is one of a program that is gone, or hangs
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a service does at one moment.

    Parameters
    ----------
    state : str
        ``connecting``, ``running``, ``stopped`` or ``failed``.
    trouble : str, optional
        Why it is not healthy; None if it is.
    urls : tuple of str
        What is read.
    started, at : float
        When the service started, and this moment, in seconds since 1970 UTC.
    kept : int
        How many alerts are in all sinks.
    rate_per_s : float
        How many came into them in a second, on average of the last ones.
    stats : StreamStats
        The figures of all streams together.
    streams : mapping
        The figures of each stream, by its URL.
    lag : mapping, optional
        How many messages are not finished, by (topic, partition); None where that is not known.
    free_bytes : mapping
        The free space by folder.
    is_paused : bool
        Whether reading rests, since a disk is full or what keeps the alerts is slow.
    last_error : str, optional
        The last trouble, also when it has passed.
    last_error_at : float, optional
        When that was.
    """

    state: str
    trouble: str | None
    urls: tuple[str, ...]
    started: float
    at: float
    kept: int = 0
    rate_per_s: float = 0.0
    stats: StreamStats = field(default_factory=StreamStats)
    streams: Mapping[str, StreamStats] = field(default_factory=dict)
    lag: Mapping[Partition, int] | None = None
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    is_paused: bool = False
    last_error: str | None = None
    last_error_at: float | None = None

    @property
    def age_s(self) -> float | None:
        """How long ago the last alert came; None if none did."""
        return None if self.stats.last_alert is None else max(0.0, self.at - self.stats.last_alert)

    def line(self) -> str:
        """Tell it in one line."""
        parts = [f"{self.kept:,} alerts", f"{self.rate_per_s:,.3g}/s"]
        if self.lag is not None:
            parts.append(f"{sum(self.lag.values()):,} behind")
        if self.age_s is not None:
            parts.append(f"last {shown_duration(self.age_s)} ago")
        if self.stats.quarantined:
            parts.append(f"{self.stats.quarantined:,} quarantined")
        if self.trouble is not None and self.state != "stopped":
            parts.append(self.trouble)
        elif self.state == "connecting":
            parts.append("connecting")
        elif self.is_paused:
            parts.append("the stream waits for what keeps the alerts")
        return ", ".join(parts)

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain values, as they stand in the status file."""
        return {
            "layout": _LAYOUT,
            "pid": os.getpid(),
            "host": platform.node(),
            "state": self.state,
            "healthy": self.trouble is None,
            "trouble": self.trouble,
            "urls": list(self.urls),
            "group": self.stats.group,
            "started": _iso(self.started),
            "updated": _iso(self.at),
            "kept": self.kept,
            "rate_per_s": round(self.rate_per_s, 3),
            "last_alert": _iso(self.stats.last_alert),
            "lag": None if self.lag is None else sum(self.lag.values()),
            "lags": {f"{topic}[{number}]": count for (topic, number), count in (self.lag or {}).items()},
            "paused": self.is_paused,
            "last_error": self.last_error,
            "last_error_at": _iso(self.last_error_at),
            "free_bytes": dict(self.free_bytes),
            "streams": {url: asdict(stats) for url, stats in self.streams.items()},
            "line": self.line(),
        }


def write_status(path: Path, snapshot: Snapshot) -> None:
    """Write the status file; who reads it finds the old one or the new one, never a part.

    Raises
    ------
    OSError
        If it can't be written.
    """
    write_whole(path, (json.dumps(snapshot.facts(), indent=2) + "\n").encode())


def read_verdict(path: Path, max_age_s: float | None = None) -> tuple[bool, str]:
    """Judge a service by its status file.

    Parameters
    ----------
    path : Path
        The status file.
    max_age_s : float, optional
        How old the last alert may be. By default any age: between two nights nothing comes.

    Returns
    -------
    bool, str
        Whether it is healthy, and why, in one line.
    """
    try:
        status = json.loads(path.read_bytes())
        updated, line = _unix(status["updated"]), str(status["line"])
        last = status["last_alert"] and _unix(status["last_alert"])
        started, pid, host = _unix(status["started"]), int(status["pid"]), status["host"]
        state, trouble = str(status["state"]), status["trouble"]
    except OSError as error:
        return False, f"there is no status in {path}: {error.strerror}"
    except (ValueError, TypeError, KeyError):
        return False, f"{path} is not the status file of a stream"
    now = time.time()
    if state in {"stopped", "failed"}:
        return False, f"{state}, {shown_duration(now - updated)} ago: {line}"
    if host == platform.node() and not _is_alive(pid):
        return False, f"the process {pid} is gone, without a word: {line}"
    if now - updated > _STALE_S:
        return False, f"the status is {shown_duration(now - updated)} old: the process hangs or is gone"
    if trouble:
        return False, line
    if max_age_s is not None and now - (last or started) > max_age_s:
        return False, f"no alert for {shown_duration(now - (last or started))}: {line}"
    return True, line


def shown_duration(seconds: float) -> str:
    """Write a duration for people, in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _iso(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
