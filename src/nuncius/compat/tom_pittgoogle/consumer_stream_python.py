"""`ConsumerStreamPython` as its documentation has it: pull alerts of Pitt-Google, and do something with each.

>>> consumer = ConsumerStreamPython("ztf-loop")  # doctest: +SKIP
>>> def user_callback(alert_dict):
...     return {"ack": True, "result": alert_dict["objectId"]}
>>> consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 3})  # doctest: +SKIP
['ZTF20aaelulu', 'ZTF18abjrdau', 'ZTF19aacbuzd']
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from nuncius.compat.tom_pittgoogle.connection import Connection, TopicNotFoundError
from nuncius.compat.tom_pittgoogle.flow import parse_flow
from nuncius.compat.tom_pittgoogle.messages import (
    DEFAULT_FIELDS,
    Call,
    CallbackError,
    ReceivedMessage,
    check_save_fields,
)
from nuncius.compat.tom_pittgoogle.pulling import Pull, PullFuture
from nuncius.errors import ConfigurationError, PacketError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nuncius.compat.tom_pittgoogle.flow import Flow
    from nuncius.compat.tom_pittgoogle.messages import SaveFields, SendData
    from nuncius.streams.pubsub.login import GoogleLike

__all__ = ["CallbackError", "ConsumerStreamPython", "PullFuture", "TopicNotFoundError"]

log = logging.getLogger("nuncius.pittgoogle")

_LIGHT_TOPIC = "ztf-loop"
_SLICE_S = 0.2
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1, 60
_MANY = 10_000


class ConsumerStreamPython(Connection):
    """A subscription to a stream of Pitt-Google.

    Making one logs in, and makes sure that the subscription is there: if it is missing, it is made in the user's project,
    to Pitt-Google's topic of the same name. With ``PUBSUB_EMULATOR_HOST`` an emulator is used, without any login.

    Parameters
    ----------
    subscription_name : str
        The name of the subscription.
    save_fields : mapping, optional
        To which fields an ``alert_dict`` is reduced: ``"top-level"`` and the name of any record of the packet to lists of
        names, which then stand side by side; ``"metadata"`` to those of the ``metadata_dict``. If it is not given, alerts
        of the topic ztf-loop have objectId, candid, jd, ra, dec, magpsf and classtar, and others are whole.
    topic : str, optional
        The topic of a subscription that is to be made: its name, or ``projects/PROJECT/topics/TOPIC``.
    credentials : path or google.auth.credentials.Credentials, optional
        A login instead of those that `get_credentials` looks for.

    Attributes
    ----------
    user_project : str
        The project of the subscription: GOOGLE_CLOUD_PROJECT.
    subscription_path, topic_path : str
        Their full names.
    pull_url : str
        The page of the subscription in Google's console.
    queue : queue.Queue
        By which `callback` tells `stream_alerts` of results.
    streaming_pull_future : PullFuture or None
        The pull that runs, or ran last: ``cancel()`` ends it, from a callback or another thread.
    database_list : list
        The results of the call that runs, or ran last; also when it ended by an error.
    save_fields : dict
        See above.

    Raises
    ------
    LoginError
        If there is no login. It is a `PermissionError`.
    TopicNotFoundError
        If there is neither a subscription nor a topic of that name. It is a `ValueError`.
    ConfigurationError
        If an argument can't work, or no project is named. It is a `ValueError`.
    UnreachableError, TlsError, ForbiddenError
        What is wrong with the connection.
    """

    def __init__(
        self,
        subscription_name: str,
        save_fields: Mapping[str, Sequence[str]] | None = None,
        *,
        topic: str | None = None,
        credentials: GoogleLike = None,
    ) -> None:
        self.save_fields: SaveFields = check_save_fields(
            DEFAULT_FIELDS if save_fields is None else save_fields
        )
        self._lightens_all = save_fields is not None
        super().__init__(subscription_name, topic, credentials)
        self.queue: queue.Queue[Any] = queue.Queue()
        self.streaming_pull_future: PullFuture | None = None
        self.database_list: list[Any] = []
        self._failures: dict[str, int] = {}  # by message id, of those that were given back
        self._parked: set[str] = set()
        self._running = threading.Lock()
        self._call = self._new_call()

    def stream_alerts(
        self,
        send_data: SendData = "alert_dict",
        include_metadata: bool = False,
        user_callback: Callable[..., Any] | None = None,
        return_list: bool = False,
        flow_configs: Mapping[str, int | None] | None = None,
        **user_kwargs: Any,
    ) -> list[Any]:
        """Pull messages, hand each to a function, and acknowledge what it has finished.

        Parameters
        ----------
        send_data : {"alert_dict", "alert_bytes", "full_msg"}
            What is handed out: the values of the packet, its bytes as they were sent, or the whole
            `google.pubsub_v1.types.PubsubMessage`.
        include_metadata : bool
            Whether a dict with ``metadata_dict`` and ``alert_dict`` (or ``alert_bytes``) is handed out instead. The
            metadata are message_id, publish_time and all attributes; see also `save_fields`.
        user_callback : callable, optional
            Called with the message and `user_kwargs`, here in this thread, one message after the other. It returns a dict:

            - ``ack``: whether the message is finished. Otherwise it comes again, after 1 s, then 2 s, 4 s … up to 60 s; so
              does a message on which the callback raises. What was not finished when the pull ends is given back.
            - ``result``: what goes into the list, and is counted. None: neither. If it is left out, the message itself goes
              into the list and is counted, once it is finished. With ``"ack": False`` a result goes into the list, and the
              message does not come again before the next pull.

            Without one, each message is a result.
        return_list : bool
            The list is returned in any case; but if there is a callback and the pull never ends by itself (no
            `max_results` and no `timeout`), results are kept only if this is True.
        flow_configs : mapping, optional
            ``max_results`` (10), ``timeout`` (30: seconds without a new message) and ``max_backlog`` (1000, and never more
            than `max_results`: messages that are received and not processed). None is no limit.
        **user_kwargs
            For `user_callback`.

        Returns
        -------
        list
            The results of this call, in the order of processing. If the call ends by an error, `database_list` has them.

        Raises
        ------
        ConfigurationError
            If an argument can't work; it is a `ValueError`. If it is about the callback, or what that returns, it is a
            `TypeError` too.
        NotFoundError, ForbiddenError, LoginError, UnreachableError, ServerError
            What is wrong with the subscription or the connection. What passes by itself is waited for.
        QuarantineFullError
            If nothing of what comes can be read.
        """
        flow = parse_flow(flow_configs)
        call = self._new_call(send_data, include_metadata, user_callback, user_kwargs)
        keeps = return_list or user_callback is None or not flow.is_endless
        if not self._running.acquire(blocking=False):
            raise ConfigurationError("this consumer is pulling already; make another one for another thread")
        self.streaming_pull_future = future = PullFuture()
        self.queue, self.database_list, self._failures, self._parked = queue.Queue(), [], {}, set()
        self._call = call
        try:
            self._pull(flow, future, keeps=keeps)
        except BaseException as error:
            future.finish(error)
            raise
        else:
            future.finish()
        finally:
            self._call = self._new_call()
            self._running.release()
        return self.database_list

    def callback(self, message: Any) -> None:
        """Process one message: hand it to the user's function, collect the result, and acknowledge it or give it back.

        `stream_alerts` calls this with each message. It can be given to Google's own `SubscriberClient.subscribe` too;
        results are then to be taken from `queue`.

        Parameters
        ----------
        message : google.cloud.pubsub_v1.subscriber.message.Message
            Or what looks like one.

        Raises
        ------
        CallbackError
            If the user's function does not return what it should.
        """
        self._parked.discard(message.message_id)
        try:
            handed_out = self._call.handed_out(message)
        except PacketError as error:
            log.warning("%s can't be read: %s", message.message_id, error)
            if isinstance(message, ReceivedMessage):
                message.ack()  # it is in the quarantine
            else:
                self._give_back(message)
            return
        try:
            ack, result = self._call.outcome(handed_out)
        except CallbackError:
            raise
        except Exception:  # the user's code may raise anything, and none of it may lose the message
            log.warning("user_callback failed on %s, which comes again", message.message_id, exc_info=True)
            ack, result = False, None
        if result is not None:
            self.queue.put(result)
        if ack:
            self._failures.pop(message.message_id, None)
            message.ack()
        elif result is not None and isinstance(message, ReceivedMessage):
            self._parked.add(message.message_id)  # ours until the pull ends, so that no result comes twice
        else:
            self._give_back(message)

    # Parts -----------------------------------------------------------------------------------------------------------

    def _pull(self, flow: Flow, future: PullFuture, *, keeps: bool) -> None:
        decodes = self._call.send_data == "alert_dict"
        pull = Pull(self._server, self.subscription_path, max_backlog=flow.max_backlog, decodes=decodes)
        count = 0
        with pull.stream as stream:
            since = time.monotonic()
            while not future.cancelled() and (flow.max_results is None or count < flow.max_results):
                left_s = _SLICE_S if flow.timeout is None else since + flow.timeout - time.monotonic()
                if left_s <= 0:
                    if trouble := stream.stats().last_error:
                        log.warning(
                            "nothing new came for %g s, and perhaps could not: %s", flow.timeout, trouble
                        )
                    break
                alert = stream.poll(min(left_s, _SLICE_S))
                if alert is None:
                    continue
                message = ReceivedMessage(alert, stream)
                had_failed = message.message_id in self._failures
                self.callback(message)
                pull.transport.parked = len(self._parked)
                count += self._collect(keeps=keeps)
                # What fails again and again is no new message, or it would keep the pull alive for ever.
                if not (had_failed and message.message_id in self._failures):
                    since = time.monotonic()

    def _collect(self, *, keeps: bool) -> int:
        """Take the results out of the queue; return how many there were."""
        count = 0
        while True:
            try:
                result = self.queue.get_nowait()
            except queue.Empty:
                return count
            count += 1
            if keeps:
                self.database_list.append(result)
                if len(self.database_list) == _MANY:
                    log.warning("%d results are held in memory; fewer with a smaller max_results", _MANY)

    def _give_back(self, message: Any) -> None:
        """Let a message come again, each time later."""
        name = message.message_id
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        self._parked.add(name)
        message.modify_ack_deadline(min(_FIRST_DELAY_S * 2 ** min(failures - 1, 10), _LONGEST_DELAY_S))
        message.drop()

    def _new_call(
        self,
        send_data: SendData = "alert_dict",
        include_metadata: bool = False,
        user_callback: Callable[..., Any] | None = None,
        user_kwargs: Mapping[str, Any] | None = None,
    ) -> Call:
        is_light = self._lightens_all or self.topic_path.rpartition("/")[2] == _LIGHT_TOPIC
        fields = self.save_fields if is_light else None
        return Call(send_data, include_metadata, user_callback, user_kwargs or {}, fields)
