"""librdkafka's mock cluster with its fault control, in a process of its own; for the fault tests and the benchmarks.

Run as a program it prints its address, then obeys lines on standard input (`down`, `up`, `errors CODE N`, where the
errors are answers to Fetch requests) and ends when standard input closes. `MockCluster` starts it and speaks to it.

The control functions are in the library that the wheel of confluent-kafka brings, but not in its Python interface, so
they are called through ctypes (Linux only: the library is found among the process's memory maps). Sources:
librdkafka's rdkafka_mock.h.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Self

_FETCH = 1


class MockCluster:
    """A mock cluster of one broker in another process.

    Parameters
    ----------
    topics : dict
        Partitions by topic.
    session_timeout_ms : int
        After so long without a sign of life a member of a group (`group.protocol=consumer`) is dead.
    """

    def __init__(self, topics: dict[str, int], *, session_timeout_ms: int = 1000) -> None:
        names = [f"{name}={count}" for name, count in topics.items()]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--session-timeout-ms", str(session_timeout_ms), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.server = self._answer()

    def order(self, line: str) -> None:
        """Have it obey one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        if (answer := self._answer()) != "ok":
            message = f"the mock cluster answered {answer!r} to {line!r}"
            raise RuntimeError(message)

    def close(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _library() -> ctypes.CDLL:
    import confluent_kafka  # noqa: F401 - loads the library

    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    path = next(line.split()[-1] for line in lines if "librdkafka" in line)
    library = ctypes.CDLL(path)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, pointer, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, number]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, number]),
        ("rd_kafka_mock_set_group_consumer_session_timeout_ms", None, [pointer, number]),
        ("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", None, [pointer, number]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, number]),
        ("rd_kafka_mock_push_request_errors_array",
         None, [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)]),
    ):  # fmt: skip
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main() -> None:
    """Run the cluster until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--session-timeout-ms", type=int, default=1000)
    parser.add_argument("topics", nargs="*", help="NAME=PARTITIONS")
    options = parser.parse_args()
    library = _library()
    settings = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(
        settings, b"log_level", b"2", None, 0
    )  # it has no servers of its own, and would warn
    client = library.rd_kafka_new(0, settings, None, 0)
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    library.rd_kafka_mock_set_group_consumer_session_timeout_ms(cluster, options.session_timeout_ms)
    library.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(cluster, options.session_timeout_ms // 5)
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    for topic in options.topics:
        name, _, count = topic.partition("=")
        library.rd_kafka_mock_topic_create(cluster, name.encode(), int(count), 1)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word in {"down", "up"}:
            getattr(library, f"rd_kafka_mock_broker_set_{word}")(cluster, 1)
        elif word == "errors":
            code, count = map(int, numbers)
            codes = (ctypes.c_int * count)(*[code] * count)
            library.rd_kafka_mock_push_request_errors_array(cluster, _FETCH, count, codes)
        print("ok", flush=True)


if __name__ == "__main__":
    main()
