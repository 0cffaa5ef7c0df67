"""When a pull stops, and how much may be on its way: what ``flow_configs`` says."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULTS: dict[str, int | None] = {"max_results": 10, "timeout": 30, "max_backlog": None}
_MAX_BACKLOG = 1_000


@dataclass(frozen=True, slots=True)
class Flow:
    """When a pull stops, and how much may be on its way.

    Parameters
    ----------
    max_results : int, optional
        The number of results at which it stops; None for no limit.
    timeout : int, optional
        The seconds without a new message after which it stops; None for no limit.
    max_backlog : int
        The most messages that are received and not processed.
    """

    max_results: int | None
    timeout: int | None
    max_backlog: int

    @property
    def is_endless(self) -> bool:
        """Whether the pull never stops by itself."""
        return self.max_results is None and self.timeout is None


def parse_flow(given: Mapping[str, Any] | None) -> Flow:
    """Understand ``flow_configs``.

    Raises
    ------
    ConfigurationError
        If a value is not a positive integer or None, or a key is not known. It is a `ValueError`.
    """
    values = {**_DEFAULTS, **(given or {})}
    if unknown := sorted(str(name) for name in values.keys() - _DEFAULTS.keys()):
        raise ConfigurationError(
            f"flow_configs has {', '.join(unknown)}; known are {', '.join(_DEFAULTS)}", position=unknown[0]
        )
    max_results, timeout, backlog = (_positive(name, value) for name, value in values.items())
    backlog = backlog or _MAX_BACKLOG
    return Flow(max_results, timeout, backlog if max_results is None else min(backlog, max_results))


def _positive(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ConfigurationError(f"{name} must be a positive integer or None.", position=name)
    return int(value)
