"""Google Pub/Sub: the transport, its connection, and subscriptions."""

from nuncius.streams.pubsub.client import GOOGLE, Client, Server
from nuncius.streams.pubsub.plan import Plan, check_config
from nuncius.streams.pubsub.subscriptions import Subscription
from nuncius.streams.pubsub.transport import PubSubTransport

__all__ = ["GOOGLE", "Client", "Plan", "PubSubTransport", "Server", "Subscription", "check_config"]
