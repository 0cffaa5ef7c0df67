"""Modules that load when they are needed, and the error when they are not installed."""

from __future__ import annotations

import importlib
from typing import Any

from nuncius.errors import MissingExtraError

# What a missing module is called on the pip line. Parts import only what stands below them: the few upward
# conveniences (`light_curve.plot()`) go through `upward` and are all listed here, which a test checks.
UPWARD = {
    "nuncius.cloudfits": "opening an item of a data set: Item.open",
    "nuncius.plots": "drawing from a value: LightCurve.plot, Cutout.plot, Cutouts.plot, Graph.plot",
}


def require(module: str, *, extra: str) -> Any:
    """Import an optional module, or raise an error with the pip line that installs it.

    Raises
    ------
    MissingExtraError
        If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name.partition(".")[0]):
            raise  # installed, but broken: its own error says more than ours
        raise MissingExtraError(
            f"{module} is not installed. It comes with: python -m pip install 'nuncius[{extra}]'",
            service=module,
        ) from error


def upward(module: str) -> Any:
    """Import a part of nuncius that stands above the caller, or beside it (docs/architecture.md)."""
    if module not in UPWARD:
        message = f"{module} is not in the list of upward imports"
        raise RuntimeError(message)
    return importlib.import_module(module)
