"""The brokers that nuncius knows."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuncius.brokers.profile import Profile

# Each in the file of its name, loaded when it is asked for.
_CLASSES = {
    "antares": "Antares",
    "babamul": "Babamul",
    "fink": "Fink",
    "gcn": "Gcn",
    "hopskotch": "Hopskotch",
    "kafka": "Kafka",
    "lasair": "Lasair",
    "lsst": "Lsst",
    "pittgoogle": "PittGoogle",
    "pubsub": "PubSub",
    "ztf": "Ztf",
}


@cache
def profile_of(name: str) -> Profile | None:
    """Return the profile of a broker by its scheme; other packages are asked only about what nobody here knows."""
    if name in _CLASSES:
        found: Profile = getattr(import_module(f"nuncius.brokers.{name}"), _CLASSES[name])()
        return found
    for entry in entry_points(group="nuncius.brokers", name=name):
        other: Profile = entry.load()
        return other
    return None


def names() -> list[str]:
    """Return the schemes of all brokers, sorted."""
    return sorted({*_CLASSES, *(entry.name for entry in entry_points(group="nuncius.brokers"))})


def profiles() -> list[Profile]:
    """Return the profiles of all brokers, sorted by their schemes."""
    return [profile for name in names() if (profile := profile_of(name)) is not None]
