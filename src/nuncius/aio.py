"""The async side: the same names as in `nuncius`, to be awaited.

>>> async with nuncius.aio.open_stream("kafka://localhost:9092/alerts") as stream:  # doctest: +SKIP
...     async for alert in stream:
...         print(alert)
"""

from nuncius.brokers import open_async_stream as open_stream

__all__ = ["open_stream"]
