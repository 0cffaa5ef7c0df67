"""Where an alert came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a message in its stream.

    Parameters
    ----------
    service : str
        ``kafka``, ``replay`` or ``file``.
    topic : str
        The topic, or the path of the file.
    partition : int
        The partition of the topic; 0 for files.
    offset : int
        The offset in the partition, or the number of the record in the file.
    timestamp : datetime, optional
        When the broker took it, in UTC.
    key : bytes, optional
        The key of the message.
    headers : tuple
        Pairs of name and value.
    broker : str, optional
        The broker's name, for annotations; None for a plain server.
    """

    service: str
    topic: str
    partition: int = 0
    offset: int = 0
    timestamp: datetime | None = None
    key: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, bytes | None], ...] = field(default=(), repr=False)
    broker: str | None = None

    @property
    def position(self) -> str:
        """The place in one word, for messages and file names."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    def __str__(self) -> str:
        return f"{self.service}:{self.position}"
