"""A header whose name is no text, which only a producer below Python's interface can send."""

from __future__ import annotations

import ctypes
import sys

import pytest

from nuncius import open_stream
from streams_support import MockCluster, packet

VTYPE = {"topic": 1, "value": 4, "msgflags": 7, "partition": 2, "headers": 9, "end": 0}
COPY = 2


@pytest.mark.skipif(
    sys.platform != "linux", reason="the library is found among the process's memory maps (Linux)"
)
def test_it_is_quarantined_and_the_others_come(tmp_path):
    from mock_cluster import _library

    library = _library()
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    error, value = ctypes.create_string_buffer(200), packet(1)
    with MockCluster({"alerts": 1}) as cluster:
        settings = ctypes.c_void_p(library.rd_kafka_conf_new())
        library.rd_kafka_conf_set(settings, b"bootstrap.servers", cluster.server.encode(), error, 200)
        producer = ctypes.c_void_p(library.rd_kafka_new(0, settings, error, 200))
        for name in (*[b"fine"] * 30, b"bad\xff\xfe", b"fine", b"\xff"):
            arguments = (
                VTYPE["topic"], b"alerts", VTYPE["msgflags"], COPY,
                VTYPE["value"], value, ctypes.c_size_t(len(value)),
                VTYPE["headers"], name, b"v", ctypes.c_size_t(1), VTYPE["end"],
            )  # fmt: skip
            assert library.rd_kafka_producev(producer, *arguments) == 0
        assert library.rd_kafka_flush(producer, 10_000) == 0
        library.rd_kafka_destroy(producer)  # or it would look for its broker to the end of the tests
        url = f"kafka://{cluster.server}/alerts"
        with open_stream(url, group=False, stop="end", quarantine_dir=tmp_path) as stream:
            assert [found.alert_id for found in stream] == [1] * 31
        assert stream.stats().quarantined == 2
