"""ANTARES as users of antares-client know it.

Where a program has ``from antares_client import Client``, write::

    from nuncius.compat.antares_client import Client

and nothing else changes; for the command ``antares-client`` write ``nuncius antares``. The interface of the releases 0.2
(`Client`, `thumbnails`) and 2.0 (`StreamingClient`, `search`, `models`) is there. What is better:

- An alert counts as finished when you come back for the next one, not when it arrives: a crash loses none.
- A message that can't be read is kept in a quarantine, and the stream goes on.
- A wrong key, a stream that doesn't exist, a certificate that can't be verified: each is an error of its own, in time.
- ``poll(timeout=0.05)`` takes 0.05 s, and ``poll(timeout=0)`` doesn't wait.
- Misspelt options are errors; `config` reaches every setting of librdkafka; TLS verifies the host.
- ``limit`` of a search is a limit, the next page is fetched while you work, and images come side by side.

New programs have more from `nuncius.open_stream` and `nuncius.open_archive`: filters, watch lists, sinks, ``async``.
"""

from __future__ import annotations

from nuncius.compat.antares_client.client import Client
from nuncius.compat.antares_client.exceptions import (
    AntaresAlertParseException,
    AntaresException,
    AntaresNetworkingException,
)
from nuncius.compat.antares_client.stream import StreamingClient

__all__ = [
    "AntaresAlertParseException",
    "AntaresException",
    "AntaresNetworkingException",
    "Client",
    "StreamingClient",
    "__version__",
]

__version__ = "0.2.0"  # of the documented interface that is offered here
