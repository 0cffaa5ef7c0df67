"""Brokers: what is special about each, and the opening of streams.

`nuncius.open_stream` and `nuncius.open_publisher` live here, and what one asks a broker without reading:
`topics`, `lag`, `rewind` and `diagnose`.
"""

from nuncius.brokers._async import open_publisher as open_async_publisher
from nuncius.brokers._async import open_stream as open_async_stream
from nuncius.brokers._sync import open_publisher, open_stream
from nuncius.brokers.asking import lag, rewind, topics
from nuncius.brokers.doctor import Verdict, diagnose
from nuncius.brokers.known import profile_of, profiles
from nuncius.brokers.profile import Profile
from nuncius.brokers.subscriptions import delete_subscription, touch_subscription

__all__ = [
    "Profile",
    "Verdict",
    "delete_subscription",
    "diagnose",
    "lag",
    "open_async_publisher",
    "open_async_stream",
    "open_publisher",
    "open_stream",
    "profile_of",
    "profiles",
    "rewind",
    "topics",
    "touch_subscription",
]
