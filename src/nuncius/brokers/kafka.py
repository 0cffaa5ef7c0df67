"""Any Kafka server."""

from __future__ import annotations

from nuncius.brokers.profile import Profile


class Kafka(Profile):
    """A server of which nothing is known: a login, if there is one, goes by SCRAM over TLS."""

    name = "kafka"
    title = "any Kafka server"
    mechanism = "SCRAM-SHA-512"
    tls = True
    login_help = (
        "as its operators say; without a login the connection is plain, unless ssl_ca_location= asks for TLS"
    )
    topics_help = "as they are; one that begins with ^ is a regular expression"
