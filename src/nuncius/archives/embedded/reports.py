"""What keeping, loading and exporting did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nuncius.alerts import Alert
    from nuncius.errors import PacketError


@dataclass(slots=True)
class IngestReport:
    """What `ingest` did.

    Parameters
    ----------
    received : int
        Alerts that came.
    archived : int
        Alerts made durable: new ones and revisions.
    revised : int
        Of these, alerts that were known with other content.
    duplicates : int
        Alerts that were known with the same content: nothing changed.
    unreadable : list
        Alerts whose packet turned out to be damaged, with the reason. A stream has put them into its quarantine.
    seconds : float
        How long it took.
    """

    received: int = 0
    archived: int = 0
    revised: int = 0
    duplicates: int = 0
    unreadable: list[tuple[Alert, PacketError]] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    @property
    def alerts_per_s(self) -> float:
        """The rate."""
        return self.received / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What `load_catalog` did.

    Parameters
    ----------
    rows : int
        How many rows the catalog has.
    skipped : int
        Of these, rows that the search by place passes over, for their position is missing or not on the sky. They are
        kept, and found by filters.
    seconds : float
        How long it took.
    """

    rows: int
    skipped: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """The rate."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export` did.

    Parameters
    ----------
    path : Path
        The folder.
    rows : dict of str to int
        How many documents of each catalog were written.
    files : int
        How many Parquet files.
    seconds : float
        How long it took.
    """

    path: Path
    rows: dict[str, int]
    files: int
    seconds: float
