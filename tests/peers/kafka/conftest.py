"""A real Apache Kafka in KRaft mode, from Maven Central, on loopback: one broker, and a cluster of three."""

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
from kafka_support import wait_until

HERE = Path(__file__).parent

# vera may do everything; reader and stranger only what the lists of rights say.
PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{plain},SASL_PLAINTEXT://{sasl},TLS://{tls},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{plain},SASL_PLAINTEXT://{sasl},TLS://{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,TLS:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.tls.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_reader="right" user_stranger="right";
listener.name.tls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_vera="right" user_reader="right";
listener.name.tls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={certificate}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:vera
log.dirs={data}
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=8
share.coordinator.state.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=300
log.initial.task.delay.ms=0
log.retention.check.interval.ms=300
num.partitions=4
message.max.bytes=33554432
replica.fetch.max.bytes=33554432
"""


class RealKafka:
    """Starts, kills and restarts brokers; their data stay."""

    def __init__(self, jars: Path, folder: Path, certificates: Path, *, brokers: int):
        self.folder, self.count = folder, brokers
        self.ssl_ca_location = certificates / "ca.pem"
        ports = _free_ports(4 * brokers)
        plain, sasl, tls, controllers = (
            [f"127.0.0.1:{port}" for port in ports[brokers * at : brokers * (at + 1)]] for at in range(4)
        )
        self.server, self.login_server, self.tls_server = map(",".join, (plain, sasl, tls))
        self.java = [
            "java",
            "-Xmx384m" if brokers > 1 else "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{jars}/*",
        ]
        # One that begins with "-" would be taken for an option.
        cluster = "n" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        formats = []
        for at in range(brokers):
            text = PROPERTIES.format(
                node=at + 1,
                voters=",".join(f"{number}@{place}" for number, place in enumerate(controllers, 1)),
                plain=plain[at], sasl=sasl[at], tls=tls[at], controller=controllers[at],
                certificate=certificates / "server.pem",
                data=folder / f"data{at + 1}",
                copies=brokers,
                in_sync=max(1, brokers - 1),
            )  # fmt: skip
            self.properties(at + 1).write_text(text)
            command = [
                *self.java,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster,
                "-c",
                str(self.properties(at + 1)),
            ]
            for name in ("vera", "reader"):
                command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password=right]"]
            formats.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        for process in formats:
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said
        self.processes = {}
        for node in range(1, brokers + 1):
            self.launch(node)
        self.wait_until_there()

    def properties(self, node):
        return self.folder / f"server{node}.properties"

    def launch(self, node=1):
        with (self.folder / f"kafka{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [*self.java, "kafka.Kafka", str(self.properties(node))], stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_there(self):
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.server, "log_level": 0})
        deadline = time.monotonic() + 60
        while True:
            try:
                if len(admin.list_topics(timeout=2).brokers) == self.count:
                    return
            except KafkaException:
                pass
            for node, process in self.processes.items():
                assert process.poll() is None, (self.folder / f"kafka{node}.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Kafka did not start"
            time.sleep(0.1)

    def start(self, node=1):
        self.launch(node)
        self.wait_until_there()

    def kill(self, node=1):
        process = self.processes.pop(node)
        process.kill()
        process.wait()

    def close(self):
        for node in list(self.processes):
            self.kill(node)

    @cached_property
    def admin(self):  # kept: one that nobody holds is gone before it answers
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.server, "log_level": 0})

    def create(self, topic, partitions=4, **config):
        from confluent_kafka.admin import NewTopic

        config = {name.replace("_", "."): str(value) for name, value in config.items()}
        self.admin.create_topics([NewTopic(topic, partitions, self.count, config=config)])[topic].result(30)
        # The brokers learn of it a little later.
        assert wait_until(lambda: self._shows(topic, partitions))

    def _shows(self, topic, partitions):
        found = self.admin.list_topics(topic, timeout=5).topics[topic]
        return found.error is None and len(found.partitions) == partitions

    def configure(self, topic, **config):
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

        entries = [
            ConfigEntry(name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        asked = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([asked]).values():
            future.result(10)

    def allow(self, user, kind, name, operation):
        from confluent_kafka.admin import AclBinding, AclPermissionType, ResourcePatternType

        binding = AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW
        )
        for future in self.admin.create_acls([binding]).values():
            future.result(10)

    def coordinator(self, group):
        """Return the number of the broker that keeps a group."""
        return self.admin.describe_consumer_groups([group])[group].result(10).coordinator.id

    def publish(self, topic, values, *, timestamp_ms=0, partitions=4, per_s=None):
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": self.server, "message.max.bytes": 33554432, "linger.ms": 5,
                "enable.idempotence": True, "log_level": 0,
            }
        )  # fmt: skip
        failed = []
        for number, value in enumerate(values):
            producer.produce(
                topic,
                value,
                partition=number % partitions,
                timestamp=timestamp_ms,
                on_delivery=lambda error, _: error and failed.append(error),
            )
            producer.poll(0 if per_s is None else 1 / per_s)
        assert producer.flush(60) == 0
        assert not failed

    def committed(self, group, topic, partitions=4):
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.server, "group.id": group, "enable.auto.commit": False, "log_level": 0}
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
def jars(tmp_path_factory):
    if not os.environ.get("NUNCIUS_TEST_KAFKA"):
        pytest.skip(
            "NUNCIUS_TEST_KAFKA is not set: the job `nox -s kafka` runs these tests (Java 17, Maven Central)"
        )
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: a real Kafka needs Java 17 and Maven")
    folder = tmp_path_factory.mktemp("jars")
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(HERE / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder}",
    ]
    fetched = subprocess.run(command, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"Maven could not fetch Apache Kafka: {fetched.stdout[-300:]}")
    return folder


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Give a folder with the brokers' certificate and that of the authority; Kafka wants the key as PKCS 8."""
    import trustme
    from cryptography.hazmat.primitives import serialization as form

    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    key = form.load_pem_private_key(made.private_key_pem.bytes(), None)
    blob = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (folder / "server.pem").write_bytes(blob + b"".join(one.bytes() for one in made.cert_chain_pems))
    return folder


@pytest.fixture(scope="session")
def kafka(jars, certificates, tmp_path_factory):
    """Give one broker."""
    broker = RealKafka(jars, tmp_path_factory.mktemp("kafka"), certificates, brokers=1)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def three(jars, certificates, tmp_path_factory):
    """Give a cluster of three brokers, which keep each message three times."""
    cluster = RealKafka(jars, tmp_path_factory.mktemp("three"), certificates, brokers=3)
    yield cluster
    cluster.close()


@pytest.fixture
def topic(kafka):
    name = f"t-{uuid.uuid4().hex[:8]}"
    kafka.create(name)
    return name


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
