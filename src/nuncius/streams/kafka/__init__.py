"""Kafka: confluent-kafka (librdkafka) with settings under which nothing is lost."""

from nuncius.streams.kafka.connection import Connection, Security, connect
from nuncius.streams.kafka.transport import KafkaTransport

__all__ = ["Connection", "KafkaTransport", "Security", "connect"]
