"""Rubin's own stream: framed packets, their schemas in Rubin's registry."""

from __future__ import annotations

from nuncius.brokers.profile import Profile


class Lsst(Profile):
    """Rubin Observatory: Confluent framing, SCRAM."""

    name = "lsst"
    title = "Rubin (LSST)"
    servers = "rubin-alert-stream-bootstrap.slac.stanford.edu:9094"
    port = 9094
    mechanism = "SCRAM-SHA-512"
    login_required = True
    schema = "https://rubin-alert-schemas.slac.stanford.edu/schema-registry"
    login_help = "Rubin gives it to brokers and to those who test the stream; the connection is not encrypted"
    topics_help = "such as lsst-alerts-v11 or alerts-simulated"
