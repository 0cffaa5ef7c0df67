"""How operations that read many things at once are run: both colours on an event loop, never on a thread a piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from nuncius._core import background
from nuncius._core.drivers import AsyncDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius._core.operations import Operation

T = TypeVar("T")


class Runner:
    """Runs operations for sync code: on the background loop, while the caller waits."""

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result."""
        return background.run(AsyncDriver().run(operation))

    @property
    def blocking(self) -> Callable[[Operation[Any]], Any] | None:
        """Runs an operation where nothing can be awaited."""
        return self.run


class AsyncRunner:
    """Runs operations in the caller's loop."""

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its result."""
        return await AsyncDriver().run(operation)

    @property
    def blocking(self) -> Callable[[Operation[Any]], Any] | None:
        """Nothing may block a loop."""
        return None
