"""What both clients stand on: a stream of ANTARES, read one alert at a time, in the words of antares-client."""

from __future__ import annotations

import difflib
import inspect
import itertools
import logging
import math
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar
from urllib.parse import quote

from nuncius.brokers import open_stream, profile_of
from nuncius.compat.antares_client.exceptions import (
    AntaresConfigurationError,
    AntaresLoginError,
    AntaresOptionError,
    translating,
)
from nuncius.credentials import Credentials
from nuncius.errors import LoginError, PacketError
from nuncius.settings import find_setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from nuncius.alerts import Alert, Notice
    from nuncius.streams import Stream
    from nuncius.streams.rules import StreamStats

log = logging.getLogger("nuncius.antares")

V = TypeVar("V")

PORT = 9092
_MOST_UNCOMMITTED = 10_000
_WITH_PORT = re.compile(r":\d+$")


class Reading(Generic[V]):
    """One subscription to streams of ANTARES; each client says how it was asked for, and what an alert is to its users."""

    _stream: Stream

    def __init__(
        self,
        topics: str | Iterable[str],
        *,
        servers: str | None,
        api_key: str | None,
        api_secret: str | None,
        group: str | None,
        ssl_ca_location: str | Path | None,
        enable_auto_commit: bool,
        config: Mapping[str, Any] | None,
        connect_timeout_s: float,
        quarantine_dir: str | Path | None,
    ) -> None:
        self._topics = names_of(topics)
        self._commits = enable_auto_commit
        self._closed = False
        self._given: list[
            Alert
        ] = []  # handed out and not finished; without auto-commit, all since the last commit
        self._stream = open_antares(
            self._topics,
            servers=servers,
            api_key=api_key,
            api_secret=api_secret,
            group=group,
            ssl_ca_location=ssl_ca_location,
            acknowledge="on_next" if enable_auto_commit else "manual",
            config=config,
            connect_timeout_s=connect_timeout_s,
            quarantine_dir=quarantine_dir,
        )

    @property
    def topics(self) -> list[str]:
        """The streams, by the names that were given."""
        return list(self._topics)

    @property
    def group(self) -> str | None:
        """The consumer group under whose name ANTARES remembers what was received."""
        return self._stream.group

    def stats(self) -> StreamStats:
        """Return what was received, handed out and quarantined so far."""
        return self._stream.stats()

    def commit(self) -> None:
        """Say that all alerts given so far are finished. It reaches ANTARES within 0.2 s, or with `close`."""
        self._check_open()
        self._stream.acknowledge(self._given)
        self._given = []

    def close(self) -> None:
        """Close the connection.

        An alert that was given and not followed by another call counts as unfinished, and comes again next time; leaving
        the ``with`` block without an error finishes it.
        """
        self._closed = True
        self._stream.close()

    def __enter__(self) -> Self:
        """Connect.

        Raises
        ------
        AntaresException
            What is wrong with the connection, within `connect_timeout_s`.
        """
        self._check_open()
        with translating():
            self._stream.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._stream.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {','.join(self._topics)}, group {self.group}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client holds a connection and a secret and is not pickled; make one in each process"
        )

    # Parts ------------------------------------------------------------------------------------------------------------

    def _value(self, alert: Alert) -> V:
        """Return what the users of this client call an alert."""
        raise NotImplementedError

    def _next(self, timeout_s: float | None) -> tuple[str, V] | tuple[None, None]:
        """Finish the alert before, and wait for the next one that can be read."""
        self._check_open()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with translating():
            while True:
                if len(self._given) >= _MOST_UNCOMMITTED:
                    raise AntaresConfigurationError(
                        f"{_MOST_UNCOMMITTED} alerts were given and none of them committed, which enable_auto_commit=False "
                        "leaves to you: call commit()"
                    )
                alert = self._stream.poll(None if end is None else max(0.0, end - time.monotonic()))
                if self._commits:
                    self._given = []  # the stream has finished it: we came back
                if alert is None:
                    return None, None
                self._given.append(alert)
                try:
                    return topic_of(alert), self._value(alert)
                except PacketError as error:  # it is in the quarantine now
                    log.warning("%s: %s", alert.origin, error)

    def _each(self, limit: int | None) -> Iterator[tuple[str, V]]:
        """Give alerts; who asks again after the last one has finished it."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise AntaresConfigurationError(f"{limit!r} is no number of alerts; give a whole number, or None")
        return self._given_out(limit)

    def _given_out(self, limit: int | None) -> Iterator[tuple[str, V]]:
        for _ in itertools.count() if limit is None else range(limit):
            topic, value = self._next(None)
            if topic is None or value is None:
                return  # the stream is over
            yield topic, value
        if self._commits and not self._closed:
            self.commit()

    def _check_open(self) -> None:
        if self._closed:
            raise AntaresConfigurationError("the client is closed; make a new one")


def open_antares(
    topics: Iterable[str],
    *,
    servers: str | None,
    api_key: str | None,
    api_secret: str | None,
    group: str | None,
    ssl_ca_location: str | Path | None,
    **options: Any,
) -> Stream:
    """Open streams of ANTARES as antares-client does: in the group of this machine's name, unless one is given.

    Raises
    ------
    AntaresException
        If an argument can't work, there is no login, or no certificates are found.
    """
    if (api_key is None) != (api_secret is None):
        raise AntaresConfigurationError("give both api_key and api_secret, or neither: they belong together")
    credentials = None
    if api_key is not None and api_secret is not None:
        credentials = Credentials(api_key, api_secret, source="api_secret=")
    place = "" if servers is None else f"{servers}/"
    with translating():
        try:
            return open_stream(
                f"antares://{place}{','.join(quote(topic, safe='') for topic in topics)}",
                credentials=credentials,
                group=group or find_setting("antares", "group") or socket.gethostname(),
                ssl_ca_location=ssl_ca_location,
                **options,
            )
        except LoginError as error:
            raise AntaresLoginError(
                "ANTARES lets nobody in without an API key, which the ANTARES team gives: run `nuncius login antares` once, set "
                "NUNCIUS_ANTARES_USERNAME (the key) and NUNCIUS_ANTARES_PASSWORD (the secret), or give api_key= and "
                "api_secret=",
                service="antares",
            ) from error


def names_of(topics: str | Iterable[str]) -> list[str]:
    """Return the names of streams, each once.

    Raises
    ------
    AntaresConfigurationError
        If there is none, or one is no text.
    """
    given = topics.split(",") if isinstance(topics, str) else list(topics)
    for topic in given:
        if not isinstance(topic, str):
            raise AntaresConfigurationError(
                f"topics={topics!r}: give a list of names, such as ['extragalactic']"
            )
    names = list(dict.fromkeys(topic.strip() for topic in given if topic.strip()))
    if not names:
        raise AntaresConfigurationError("topics: name at least one stream, such as ['extragalactic']")
    return names


def servers_of(host: str | None, port: int) -> str | None:
    """Return ``host:port``; None where neither was said, so that settings and the default have their word."""
    if host is None:
        if port == PORT:
            return None
        profile = profile_of("antares")
        default = find_setting("antares", "servers") or (profile and profile.servers) or ""
        host = _WITH_PORT.sub("", default.partition(",")[0])
    return f"{host}:{port}"


def check_options(unknown: Iterable[str], client: type[Reading[Any]]) -> None:
    """Refuse options that a client does not have.

    Raises
    ------
    AntaresOptionError
        With the one that is spelt alike. It is a `TypeError` too.
    """
    known = list(inspect.signature(client).parameters)[:-1]
    for name in unknown:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise AntaresOptionError(f"{client.__name__} has no option {name!r}; {hint}")


def seconds_of(timeout: float | None) -> float | None:
    """Return a time-out in seconds, None for ever: None and what is below 0 mean that.

    Raises
    ------
    AntaresConfigurationError
        If it is no number.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or math.isnan(timeout):
        raise AntaresConfigurationError(f"timeout={timeout!r}: give seconds, or -1 to wait for ever")
    return None if timeout < 0 or math.isinf(timeout) else float(timeout)


def topic_of(alert: Alert | Notice) -> str:
    """Return the stream of an alert, without ANTARES' prefix."""
    profile, origin = profile_of("antares"), alert.origin
    assert profile is not None
    assert origin is not None
    return profile.shown(origin.topic)
