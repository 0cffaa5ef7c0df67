"""What is wrong with a connection is told from the call that waits, in time, with its cure."""

from __future__ import annotations

import signal
import socket
import sys
import time

import pytest

from nuncius import open_stream
from nuncius.errors import ConfigurationError, ForkError, NotFoundError, UnreachableError
from streams_support import QUICK, end_program, line_of, new_name, packets, produce, read_all, run_program

IN_TIME_S = 1.0  # above the limit that the caller gave


@pytest.fixture(params=["with", "for"])
def fails(request, open_any):
    """Open a stream that fails, in the block or in a bare loop, and return how long it took."""

    async def attempt(kind, match, url, **options):
        begin = time.monotonic()
        with pytest.raises(kind, match=match) as failure:  # noqa: PT012
            if request.param == "with":
                async with open_any(url, **options):
                    pass
            else:
                async for _ in open_any(url, **options):
                    pass
        return time.monotonic() - begin, failure.value

    return attempt


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_a_closed_port(fails, group, closed_port):
    took, error = await fails(
        UnreachableError, f"127.0.0.1:{closed_port}.*refused", f"kafka://127.0.0.1:{closed_port}/alerts",
        group=group, connect_timeout_s=1,
    )  # fmt: skip
    assert 0.9 < took < 1 + IN_TIME_S
    assert error.url == f"kafka://127.0.0.1:{closed_port}"


async def test_a_host_that_does_not_exist(fails, group):
    took, _ = await fails(
        UnreachableError, r"no\.such\.host\.invalid", "kafka://no.such.host.invalid/alerts", group=group,
        connect_timeout_s=1,
    )  # fmt: skip
    assert took < 1 + IN_TIME_S


async def test_a_server_that_never_answers(fails, group):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        took, _ = await fails(
            UnreachableError, "no Kafka broker answers", f"kafka://127.0.0.1:{silent.getsockname()[1]}/alerts",
            group=group, connect_timeout_s=1,
        )  # fmt: skip
    assert took < 1 + IN_TIME_S


async def test_one_of_several_servers_is_enough(open_any, server, topic, group, closed_port):
    produce(server, topic, packets(10))
    url = f"kafka://127.0.0.1:{closed_port},{server}/{topic}"
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        assert len(await read_all(stream)) == 10


async def test_an_unknown_topic_names_those_that_are_close(fails, server, group):
    stem = new_name("ztf_programid")
    produce(server, f"{stem}1", [])
    produce(server, f"{stem}2", [])
    took, error = await fails(NotFoundError, f"{stem}[12]", f"kafka://{server}/{stem}3", group=group)
    assert took < IN_TIME_S
    assert f"'{stem}3'" in str(error)


async def test_one_unknown_topic_among_known_ones(fails, server, topic, group):
    produce(server, topic, [])
    missing = new_name("missing")
    took, error = await fails(NotFoundError, missing, f"kafka://{server}/{topic},{missing}", group=group)
    assert took < IN_TIME_S
    assert error.position == missing


async def test_a_pattern_that_fits_nothing(fails, server, group):
    took, _ = await fails(NotFoundError, r"\^no-such-", f"kafka://{server}/^no-such-.*", group=group)
    assert took < IN_TIME_S


async def test_a_pattern_that_is_none(fails, server, group):
    took, _ = await fails(
        ConfigurationError, r"regular expression|pattern", f"kafka://{server}/^[", group=group
    )
    assert took < IN_TIME_S


async def test_asking_for_a_topic_does_not_make_it(open_any, server, group):
    missing = new_name("missing")
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await read_all(open_any(f"kafka://{server}/{missing}", group=group))


@pytest.mark.parametrize("config", [{"no.such.setting": 1}, {"fetch.wait.max.ms": "soon"}])
async def test_a_setting_that_is_refused(fails, server, topic, group, config):
    produce(server, topic, [])
    took, error = await fails(
        ConfigurationError, "config=", f"kafka://{server}/{topic}", group=group, config=config
    )
    assert took < IN_TIME_S
    assert next(iter(config)) in str(error)


async def test_a_login_where_none_is_known(fails, server, topic, group):
    """The broker speaks plain text: the secured connection is refused, in time and without the password."""
    produce(server, topic, [])
    took, error = await fails(
        UnreachableError, server, f"kafka://{server}/{topic}", group=group, credentials=("jane", "s3cret-pw"),
        connect_timeout_s=2,
    )  # fmt: skip
    assert took < 2 + IN_TIME_S
    assert "s3cret-pw" not in str(error)


async def test_closing_while_connecting_does_not_wait(open_any, group, closed_port):
    stream = open_any(f"kafka://127.0.0.1:{closed_port}/alerts", group=group, connect_timeout_s=30)
    assert await stream.poll(0.3) is None
    begin = time.monotonic()
    await stream.close()
    assert time.monotonic() - begin < 1


# Signals and processes ------------------------------------------------------------------------------------------------------

READING = """
import sys, time
import nuncius
url, group, config = sys.argv[1], sys.argv[2], eval(sys.argv[3])
stream = nuncius.open_stream(url, group=group, config=config)
try:
    with stream:
        count = 0
        for alert in stream:
            count += 1
            if count == 10:
                print("ready", flush=True)
except KeyboardInterrupt:
    print("stopped", count, flush=True)
"""

READING_ASYNC = """
import asyncio, sys
import nuncius.aio
url, group, config = sys.argv[1], sys.argv[2], eval(sys.argv[3])

async def main():
    async with nuncius.aio.open_stream(url, group=group, config=config) as stream:
        count = 0
        async for alert in stream:
            count += 1
            if count == 10:
                print("ready", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("program", [READING, READING_ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("config", [{}, QUICK], ids=["classic", "consumer"])
def test_ctrl_c_ends_a_waiting_program(server, topic, group, program, config, record_property):
    produce(server, topic, packets(10))
    child = run_program(program, f"kafka://{server}/{topic}", group, config, wait=False)
    try:
        assert line_of(child) == "ready"
        time.sleep(0.3)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert line_of(child).startswith("stopped")
        took = time.monotonic() - begin
        record_property("seconds", round(took, 3))
        print(f"Ctrl-C took {took:.3f} s")
        assert took < 0.5
        assert child.wait(10) == 0
    finally:
        end_program(child)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_a_program_that_connects(group, closed_port):
    text = """
import sys, time
import nuncius
print("ready", flush=True)
try:
    with nuncius.open_stream(sys.argv[1], group="g", connect_timeout_s=30):
        pass
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    child = run_program(text, f"kafka://127.0.0.1:{closed_port}/alerts", wait=False)
    try:
        assert line_of(child) == "ready"
        time.sleep(1)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert line_of(child) == "stopped"
        assert child.wait(10) == 0
        assert time.monotonic() - begin < 1.5
    finally:
        end_program(child)


def test_a_program_may_end_without_closing(server, topic, group):
    produce(server, topic, packets(10))
    text = """
import sys
import nuncius
for alert in nuncius.open_stream(sys.argv[1], group=sys.argv[2], config=eval(sys.argv[3])):
    break
keep = nuncius.open_stream(sys.argv[1], group=sys.argv[2], config=eval(sys.argv[3]))
next(keep)
print("done")
"""
    begin = time.monotonic()
    done = run_program(text, f"kafka://{server}/{topic}", group, QUICK)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "done", "")
    assert time.monotonic() - begin < 15


FORKING = """
import os, sys
import nuncius
from nuncius.errors import ForkError
stream = nuncius.open_stream(sys.argv[1], group=sys.argv[2], acknowledge="manual", config=eval(sys.argv[3]))
stream.__enter__()
alert = next(stream)
what = sys.argv[4]
child = os.fork()
if child == 0:
    try:
        if what == "next":
            next(stream)
        elif what == "poll":
            stream.poll(0)
        elif what in ("acknowledge", "release"):
            getattr(stream, what)(alert)
        elif what == "seek":
            stream.seek("earliest")
        else:
            getattr(stream, what)()
    except ForkError as error:
        assert "spawn" in str(error)
        os._exit(7)
    except BaseException as error:
        print(type(error), error, file=sys.stderr)
        os._exit(8)
    os._exit(9)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
again = next(stream)  # the parent is not disturbed
stream.acknowledge([alert, again])
stream.__exit__(None, None, None)
print(status)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["next", "poll", "acknowledge", "release", "seek", "lag", "topics"])
@pytest.mark.timeout(15)
def test_a_stream_is_not_used_in_a_fork(server, topic, group, what):
    produce(server, topic, packets(10))
    done = run_program(FORKING, f"kafka://{server}/{topic}", group, QUICK, what)
    assert (done.stdout.strip(), done.stderr.strip()) == ("7", "")


def test_a_stream_made_before_a_fork_tells_in_the_child(group):
    """Also when it was only opened and never entered."""
    import os

    stream = open_stream("kafka://127.0.0.1:1/alerts", group=group)
    stream._engine._process = os.getpid() + 1
    with pytest.raises(ForkError, match="spawn"):
        stream.__enter__()
    with pytest.raises(ForkError, match="spawn"):
        next(stream)
