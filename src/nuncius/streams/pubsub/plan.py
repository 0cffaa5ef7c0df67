"""Which subscription a stream reads, and how: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.streams.bounds import Start

CONFIG = {"lease_s": (10, 600), "max_messages": (1, 1_000_000), "max_bytes": (1, 2**40)}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a subscription is read.

    Parameters
    ----------
    subscription : str
        ``projects/PROJECT/subscriptions/NAME``.
    start : Start
        Where to begin, with `reset` or if the subscription is made.
    topic : str, optional
        What it is attached to if it is to be made; None if it must be there.
    attribute_filter : str
        Likewise.
    reset : bool
        Whether `start` counts for a subscription that is there, too.
    temporary : bool
        Whether the subscription is deleted in the end.
    quiet_s : float
        Nothing for so long is the end of a stream with ``stop="end"``: Pub/Sub knows no end.
    lease_s : int
        For how long messages are lent to us at a time; a process that is killed frees them after that (10 to 600).
    max_messages, max_bytes : int
        How much the server may send before something is acknowledged. More is asked for when the caller keeps all that
        in his hands and wants to see more.
    """

    subscription: str
    start: Start
    topic: str | None = None
    attribute_filter: str = ""
    reset: bool = False
    temporary: bool = False
    quiet_s: float = 10.0
    lease_s: int = 20
    max_messages: int = 1_000
    max_bytes: int = 100 * 1024 * 1024


def check_config(config: Mapping[str, Any] | None) -> dict[str, int]:
    """Return what `config=` says of `lease_s`, `max_messages` and `max_bytes`.

    Raises
    ------
    ConfigurationError
        If it holds something else.
    """
    found = {}
    for name, value in (config or {}).items():
        if name not in CONFIG:
            raise ConfigurationError(
                f"config={{{name!r}: …}} is not known for Pub/Sub; there are {', '.join(CONFIG)}",
                position=name,
            )
        lowest, highest = CONFIG[name]
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ConfigurationError(
                f"config={{{name!r}: {value!r}}}: give a whole number from {lowest} to {highest}",
                position=name,
            )
        found[name] = value
    return found
