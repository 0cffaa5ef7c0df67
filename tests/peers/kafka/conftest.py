"""A real Apache Kafka: one broker in KRaft mode, from Maven Central, on loopback."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from functools import cached_property
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_reader="right" user_stranger="right";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.partitions=4
message.max.bytes=33554432
replica.fetch.max.bytes=33554432
"""


class RealKafka:
    """Starts, kills and restarts the broker; its data stay."""

    def __init__(self, jars: Path, folder: Path):
        self.folder = folder
        ports = _free_ports(3)
        self.server, self.login_server = f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
        self.properties = folder / "server.properties"
        self.properties.write_text(
            PROPERTIES.format(plain=ports[0], sasl=ports[1], controller=ports[2], data=folder / "data")
        )
        self.java = ["java", "-Xmx512m", "-cp", f"{jars}/*"]
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        subprocess.run(
            [*self.java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self.properties)],
            check=True, capture_output=True,
        )  # fmt: skip
        self.process = None
        self.start()

    def start(self):
        self.log = (self.folder / "kafka.log").open("ab")
        self.process = subprocess.Popen(
            [*self.java, "kafka.Kafka", str(self.properties)], stdout=self.log, stderr=subprocess.STDOUT
        )
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.server, "log_level": 0})
        deadline = time.monotonic() + 60
        while True:
            try:
                if admin.list_topics(timeout=2).brokers:
                    return
            except KafkaException:
                assert self.process.poll() is None, (self.folder / "kafka.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "Kafka did not start"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    @cached_property
    def admin(self):  # kept: one that nobody holds is gone before it answers
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.server})

    def create(self, topic, partitions=4):
        from confluent_kafka.admin import NewTopic

        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def publish(self, topic, values, *, timestamp_ms=0):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.server, "message.max.bytes": 33554432, "linger.ms": 5})
        failed = []
        for number, value in enumerate(values):
            producer.produce(
                topic,
                value,
                partition=number % 4,
                timestamp=timestamp_ms,
                on_delivery=lambda error, _: error and failed.append(error),
            )
            producer.poll(0)
        producer.flush(30)
        assert not failed

    def committed(self, group, topic, partitions=4):
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.server, "group.id": group, "enable.auto.commit": False}
        )
        try:
            found = consumer.committed([TopicPartition(topic, n) for n in range(partitions)], timeout=10)
            return sum(max(0, part.offset) for part in found)
        finally:
            consumer.close()


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    if not os.environ.get("NUNCIUS_TEST_KAFKA"):
        pytest.skip(
            "NUNCIUS_TEST_KAFKA is not set: the job `nox -s kafka` runs these tests (Java 17, Maven Central)"
        )
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: a real Kafka needs Java 17 and Maven")
    folder = tmp_path_factory.mktemp("kafka")
    jars = folder / "jars"
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(HERE / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={jars}",
    ]
    fetched = subprocess.run(command, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"Maven could not fetch Apache Kafka: {fetched.stdout[-300:]}")
    broker = RealKafka(jars, folder)
    yield broker
    broker.kill()


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
