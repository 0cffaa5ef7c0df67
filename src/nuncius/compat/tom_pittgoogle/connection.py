"""The subscription of a consumer: project, login, server; making and deleting it. Nothing here reads messages."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from nuncius._core.lazy import require
from nuncius.brokers.subscriptions import parse_address
from nuncius.compat.kinds import alike
from nuncius.compat.tom_pittgoogle import settings
from nuncius.errors import LoginError, NotFoundError
from nuncius.streams.pubsub import Client
from nuncius.streams.pubsub.subscriptions import delete, patiently, touch

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams.pubsub.login import GoogleLike

T = TypeVar("T")

log = logging.getLogger("nuncius.pittgoogle")

_PAGE = "https://console.cloud.google.com/cloudpubsub/subscription/detail/{name}?project={project}"
_DELETED = "_deleted-topic_"
_TIMEOUT_S = 10.0


class TopicNotFoundError(NotFoundError, ValueError):
    """There is no such topic, so no subscription can be made to it."""


class Connection:
    """A subscription in the user's project, logged in and there.

    Parameters
    ----------
    subscription_name, topic, credentials
        See `nuncius.compat.tom_pittgoogle.consumer_stream_python.ConsumerStreamPython`.
    """

    def __init__(self, subscription_name: str, topic: str | None, credentials: GoogleLike) -> None:
        name = settings.check_name(subscription_name)
        place = parse_address(f"pittgoogle://{topic or quote(name, safe='')}")
        self._is_emulator = place.is_open(credentials)
        project = settings.setting(settings.PROJECT)
        login = self.get_credentials(project) if credentials is None else credentials
        self._server = place.log_in(None if self._is_emulator else login)
        self.credentials = login if self._server.login is None else self._server.login.credentials
        self.user_project = project or place.project(self._server)
        own = f"pubsub://{quote(self.user_project, safe='')}/{quote(name, safe='')}"
        self.subscription_path, _ = parse_address(own).subscription(None, self._server)
        self._topic = self.topic_path = "projects/{}/topics/{}".format(*place.topic())
        self.pull_url = _PAGE.format(name=quote(name, safe=""), project=quote(self.user_project, safe=""))
        self.touch_subscription()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.subscription_path} of {self.topic_path}>"

    @cached_property
    def client(self) -> Any:
        """A `google.cloud.pubsub_v1.SubscriberClient` with this login, made when it is first asked for.

        Raises
        ------
        MissingExtraError
            If google-cloud-pubsub is not installed.
        """
        kind = require("google.cloud.pubsub_v1", extra="pubsub").SubscriberClient
        if self._is_emulator:
            grpc = require("grpc", extra="pubsub")
            # A client that finds an emulator by itself takes no answer above 4 MiB.
            channel = grpc.insecure_channel(self._server.address, [("grpc.max_receive_message_length", -1)])
            return kind(transport=kind.get_transport_class("grpc")(channel=channel))
        return kind(credentials=self.credentials, client_options={"api_endpoint": self._server.address})

    # Login -----------------------------------------------------------------------------------------------------------

    def get_credentials(self, user_project: str | None) -> Any:
        """Find credentials: the key file of a service account, what was kept of a login, else a login in the browser.

        The key file is the one that GOOGLE_APPLICATION_CREDENTIALS names. Nobody is asked to log in but at a terminal.

        Parameters
        ----------
        user_project : str, optional
            The project of the subscription. If the key is of another one, a warning says so.

        Returns
        -------
        google.auth.credentials.Credentials
            Without any rights if an emulator is used.

        Raises
        ------
        LoginError
            If there are none. It is a `PermissionError`.
        ConfigurationError
            If the key file can't be used.
        """
        if self._is_emulator:
            return require("google.auth.credentials", extra="pubsub").AnonymousCredentials()
        try:
            return settings.login_of(user_project).credentials
        except LoginError:
            if not settings.can_ask():
                raise
        return self.authenticate_with_oauth()

    def authenticate_with_oauth(self) -> Any:
        """Let a person log in with the browser, and return the credentials.

        An address is shown; Google sends the browser back to this machine. The login is kept in ``credentials.toml`` of
        nuncius and renews itself, so this is needed once. The client is named by PITTGOOGLE_OAUTH_CLIENT_ID and
        PITTGOOGLE_OAUTH_CLIENT_SECRET; the account must have access to the project.

        Raises
        ------
        LoginError
            If nobody logs in, or Google refuses.
        """
        self.credentials = settings.ask_person()
        return self.credentials

    # The subscription ------------------------------------------------------------------------------------------------

    def touch_subscription(self) -> None:
        """Make sure that the subscription is there and we can connect; make it if it is missing.

        Messages that were published before it was made are not in it. One that is there is taken as it is, and
        `topic_path` tells its topic.

        Raises
        ------
        TopicNotFoundError
            If there is no topic of that name either. It is a `ValueError`.
        UnreachableError, TlsError, LoginError, ForbiddenError
            What is wrong with the connection.
        """
        path, topic = self.subscription_path, self._topic
        try:
            found = self._ask(
                lambda client, left_s: touch(client, path, left_s, topic=topic, of_any_topic=True)
            )
        except NotFoundError as error:
            raise alike(error, TopicNotFoundError) from error
        self.topic_path = found.topic
        if found.created:
            log.info("made the subscription %s of %s; messages published before are not in it", path, topic)
        elif found.topic == _DELETED:
            log.warning(
                "the topic of %s was deleted: nothing new will come; delete_subscription() and make it anew",
                path,
            )

    def delete_subscription(self) -> None:
        """Delete the subscription with all that waits in it. It is no error if there is none.

        There is no need to: messages that wait cost nothing, and a subscription that nobody uses goes after 31 days.

        Raises
        ------
        UnreachableError, TlsError, LoginError, ForbiddenError
            What is wrong with the connection.
        """
        path = self.subscription_path
        was_there = self._ask(lambda client, left_s: delete(client, path, left_s))
        log.info("deleted %s" if was_there else "there is no %s to delete", path)

    def _ask(self, ask: Callable[[Client, float], T]) -> T:
        """Ask the server something, once."""
        if self._server.login is not None:
            self._server.login.check()
        client = Client(self._server)
        try:
            return patiently(lambda left_s: ask(client, left_s), time.monotonic() + _TIMEOUT_S, lambda: False)
        finally:
            client.close()
