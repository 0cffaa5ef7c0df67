"""What is on its way to a broker: queued, confirmed or failed, and nothing in between.

Both faces of a publisher stand on one `Outbox`. Nothing here waits for long: the faces call again.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError, ForkError, UnreachableError
from nuncius.streams.kafka.asking import Asker
from nuncius.streams.kafka.faults import Translator

if TYPE_CHECKING:
    from nuncius.errors import NunciusError
    from nuncius.streams.kafka import Connection
    from nuncius.streams.publishing.values import Outgoing, Value

log = logging.getLogger("nuncius.streams")
_librdkafka_log = logging.getLogger("nuncius.librdkafka")

# So much may wait for its confirmation; then publishing waits.
_QUEUE = {"queue.buffering.max.messages": 10_000, "queue.buffering.max.kbytes": 128 * 1024}
_LEAVE_S = 5.0
_GRACE_S = 5.0  # librdkafka looks for messages whose time is over once in a while


class Outbox:
    """The messages that one publisher sends.

    Parameters
    ----------
    connection : Connection
        Where to.
    timeout_s : float
        How long a message may take until it is confirmed, tries and outages included.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        if not timeout_s >= 0.1:
            raise ConfigurationError(f"timeout_s={timeout_s}: a broker needs at least a tenth of a second")
        self.confirmed = 0
        self.unconfirmed: list[Value] = []
        self.timeout_s = timeout_s
        self._connection = connection
        self._faults = Translator(connection, action="write to")
        self._given = 0
        self._failed = 0
        self._topics: set[str] = set()
        self._failure: NunciusError | None = None
        self._trouble: NunciusError | None = None
        self._producer: Any = None
        self._process = os.getpid()
        self._lock = threading.Lock()  # whichever thread waits is told of what was confirmed

    @property
    def give_up_s(self) -> float:
        """After so long every message is confirmed or has failed."""
        return self.timeout_s + _GRACE_S

    @property
    def waiting(self) -> int:
        """How many messages are neither confirmed nor failed.

        Counted here: librdkafka no longer counts a message whose fate another thread is just being told.
        """
        with self._lock:
            return self._given - self.confirmed - self._failed

    def is_open(self, topic: str) -> bool:
        """Tell whether a topic is known to exist."""
        return topic in self._topics

    def open(self, topic: str) -> None:
        """Connect, log in, and see that the topic exists; this may take `timeout_s`.

        Raises
        ------
        LoginError, TlsError, UnreachableError, NotFoundError, ForbiddenError, ConfigurationError
            What is wrong.
        """
        self._check_process()
        settings = {"allow.auto.create.topics": False, **self._settings()}
        # Most brokers would make a topic of any name: a slip of the pen must not send a night into nowhere.
        if str(settings["allow.auto.create.topics"]).lower() != "true":
            with Asker(self._connection, timeout_s=self.timeout_s) as asker:
                asker.watermarks([topic])
        if self._producer is None:
            self._producer = self._made(settings)
        self._topics.add(topic)

    def put(self, message: Outgoing) -> bool:
        """Queue a message; return False if there is no room for it now.

        Raises
        ------
        ConfigurationError
            If it is larger than the client may send.
        NunciusError
            If it can't be queued for another reason.
        """
        from confluent_kafka import KafkaException

        self._check_process()
        self._count(1)  # first: another thread may be told of its fate before `produce` returns
        try:
            self._producer.produce(
                message.topic,
                message.content,
                key=message.key,
                headers=message.headers or None,
                timestamp=message.timestamp_ms,
                on_delivery=partial(self._delivered, message.value),
            )
        except BufferError:
            self._count(-1)
            return False
        except KafkaException as error:
            self._count(-1)
            raise self._typed(error.args[0], message.topic) from error
        self._producer.poll(0)
        return True

    def serve(self, seconds: float) -> None:
        """Wait for confirmations, at most so long."""
        if self._producer is not None:
            self._producer.flush(seconds)

    def check(self) -> None:
        """Raise what has gone wrong since the last check, once.

        Raises
        ------
        NunciusError
            Of the class that says why; it tells how many messages were not confirmed.
        """
        if self._failure is None:
            return
        failure, self._failure = self._trouble or self._failure, None
        raise self._reported(failure)

    def overdue(self) -> NunciusError:
        """Return the error for messages that are neither confirmed nor failed when the time is over."""
        return UnreachableError(
            f"{self._connection.servers} has not confirmed {self.waiting} of {self._given} messages yet; they may arrive",
            service=self._connection.service,
            url=self._connection.url,
        )

    def abandon(self) -> None:
        """Send what is left of a publisher that nobody has closed, and say what could not be sent."""
        if self._producer is None or os.getpid() != self._process:
            return
        self.serve(min(self.timeout_s, _LEAVE_S))
        if lost := self.waiting + len(self.unconfirmed):
            log.error(
                "%d of %d messages to %s were not confirmed, and the publisher was not closed: use it in a `with` block, or "
                "call flush",
                lost,
                self._given,
                self._connection.servers,
            )

    def _count(self, messages: int) -> None:
        with self._lock:
            self._given += messages

    def _made(self, settings: dict[str, Any]) -> Any:
        from confluent_kafka import KafkaException, Producer

        try:
            return Producer({**settings, "error_cb": self._on_error}, logger=_librdkafka_log)
        except KafkaException as error:
            raise ConfigurationError(
                f"config= is not accepted: {error.args[0].str()}", service=self._connection.service
            ) from error

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {**_QUEUE, **self._connection.publisher_settings()}
        # It may have this name or that, and a message that waits for ever would never be reported.
        settings.pop("delivery.timeout.ms", None)
        settings["message.timeout.ms"] = round(self.timeout_s * 1000)
        return settings

    def _delivered(self, value: Value, error: Any, message: Any) -> None:
        with self._lock:
            if error is None:
                self.confirmed += 1
                self._trouble = None
                return
            self._failed += 1
            self.unconfirmed.append(value)
            self._failure = self._failure or self._typed(error, message.topic())

    def _on_error(self, error: Any) -> None:
        typed = self._faults.typed(error)
        if type(typed) is not UnreachableError:
            self._trouble = typed  # messages that run out of time for it say only that

    def _typed(self, error: Any, topic: str) -> NunciusError:
        from confluent_kafka import KafkaError

        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return ConfigurationError(
                f"{self._connection.servers} takes no message of this size in {topic}: {error.str()}",
                service=self._connection.service,
                url=self._connection.url,
            )
        return self._faults.typed(error, topic)

    def _reported(self, error: NunciusError) -> NunciusError:
        return type(error)(
            f"{len(self.unconfirmed)} of {self._given} messages failed: {error.message}. They are in `unconfirmed` of the "
            "publisher; where the broker was out of reach they may have arrived all the same",
            service=error.service,
            url=error.url,
            position=error.position,
        )

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkError(
                "a publisher can't be used in a forked process: librdkafka does not survive a fork. Open it in the worker "
                "itself, or start workers with multiprocessing.get_context('spawn')"
            )
