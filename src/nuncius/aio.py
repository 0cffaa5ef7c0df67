"""The async side: the same names as in `nuncius`, to be awaited.

>>> async with nuncius.aio.open_stream("kafka://localhost:9092/alerts") as stream:  # doctest: +SKIP
...     async for alert in stream:
...         print(alert)
>>> async with nuncius.aio.open_archive("kowalski+https://kowalski.caltech.edu") as archive:  # doctest: +SKIP
...     await archive.count("ZTF_alerts", {"objectId": "ZTF20acfkzcg"})
>>> async with nuncius.aio.open_fits("s3://bucket/image.fits") as fits:  # doctest: +SKIP
...     await fits[1].section[100:200, 100:200]
>>> async with nuncius.aio.open_dserver("https://demo.dtool.dev/lookup") as dserver:  # doctest: +SKIP
...     await dserver.search("supernova")
"""

from nuncius.archives.opening import open_async_archive as open_archive
from nuncius.brokers import open_async_publisher as open_publisher
from nuncius.brokers import open_async_stream as open_stream
from nuncius.cloudfits.many import read_async_headers as read_headers
from nuncius.cloudfits.opening import open_async_fits as open_fits
from nuncius.datasets.opening import open_async_dserver as open_dserver

__all__ = ["open_archive", "open_dserver", "open_fits", "open_publisher", "open_stream", "read_headers"]
