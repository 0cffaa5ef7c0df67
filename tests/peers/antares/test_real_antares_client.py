"""The real antares-client 2.0.2 with the sandbox's ANTARES, and what it gets compared with what nuncius gets."""

import zlib

import bson
import pytest
from confluent_kafka import Consumer, TopicPartition

import nuncius
from nuncius.sandbox.loci import encode_document

pytestmark = pytest.mark.xdist_group("real-antares-client")


def documents(box, topic):
    return {locus.locus_id: locus.document() for locus in box.loci if topic in locus.tags}


def test_it_reads_loci_of_both_shapes(box, client):
    expected = documents(box, "extragalactic"), documents(box, "nuclear_transient")
    topics = ["extragalactic", "nuclear_transient"]
    got = client("consume", topics=topics, group="shapes", limit=sum(map(len, expected)))
    for topic, wanted in zip(topics, expected, strict=True):
        assert {entry["id"]: entry for name, entry in got if name == f"client.{topic}"} == wanted


def test_it_reads_what_nuncius_reads(box, client):
    wanted = documents(box, "high_snr")
    got = client("consume", topics=["high_snr"], group="side", limit=len(wanted))
    with nuncius.open_stream(
        f"{box.url}/high_snr",
        credentials=(box.api_key, box.api_secret),
        ssl_ca_location=box.ssl_ca_location,
        group=False,
        stop="end",
    ) as stream:
        ours = list(stream)
    assert {alert.object_id for alert in ours} == {entry["id"] for _, entry in got}
    theirs = {entry["id"]: entry for _, entry in got}
    for alert in ours:
        there = theirs[alert.object_id]
        assert (alert.ra, alert.dec) == (there["ra"], there["dec"])
        assert alert.alert_id == there["properties"]["newest_alert_id"]
        assert alert.annotations["antares"]["tags"] == there["tags"]


def test_it_commits_what_it_has_read(box, client):
    """A second client of the group would wait 45 s, until the broker in librdkafka has forgotten the first."""
    box.publish("resumed", box.loci[:20])
    read = client("consume", topics=["resumed"], group="resumed", limit=12)
    config = {"bootstrap.servers": f"{box.kafka.host}:{box.kafka.port}", "group.id": "resumed"}
    consumer = Consumer(config | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.assign(consumer.committed([TopicPartition("client.resumed", part) for part in range(4)]))
    rest = [bson.decode(zlib.decompress(message.value()))["id"] for message in consumer.consume(8, 10)]
    assert consumer.poll(0.5) is None
    consumer.close()
    ids = [entry["id"] for _, entry in read] + rest
    assert sorted(ids) == sorted(locus.locus_id for locus in box.loci[:20])


def test_a_wrong_secret_looks_like_silence_to_it(box, client):
    refused = box.front.counts()["refused"]
    answer = client("poll", topics=["extragalactic"], group="wrong", timeout=3, secret="guess")
    assert answer == {"topic": None, "locus": None}
    assert box.front.counts()["refused"] > refused


def test_an_unknown_and_a_forbidden_topic(box, client):
    assert "KafkaException(3)" in client("poll", topics=["extragalactik"], group="x", timeout=9)["error"]
    box.front.change(forbidden_topics=["client.extragalactic"])
    try:
        answer = client("poll", topics=["extragalactic"], group="y", timeout=9)
    finally:
        box.front.change(forbidden_topics=[])
    assert "KafkaException(29)" in answer["error"]


def test_a_locus_of_the_stream_fetches_the_rest_of_itself(box, client):
    locus = next(it for it in box.loci[1:] if it.catalog_objects)
    box.publish_raw("single", [encode_document(locus.document("old"))])
    got = client("lazy", topics=["single"], group="single")
    assert got["id"] == locus.locus_id
    assert [[name, mjd] for name, mjd, _ in got["alerts"]] == [[a.alert_id, a.mjd] for a in locus.alerts]
    assert got["columns"] == locus.light_curve().splitlines()[0].split(",")
    seen = [alert.properties["ant_mag"] for alert in locus.alerts if "ant_mag" in alert.properties]
    assert got["mags"] == pytest.approx(seen)
    assert got["catalogs"] == locus.catalogs
    assert got["times"] == len(locus.alerts)


@pytest.mark.parametrize("page", [7, 100])
def test_a_search_follows_the_pages(box, client, page):
    found = client("find", query={"term": {"tags": "variable_star"}}, page=page)
    assert {entry["id"]: entry for entry in found} == documents(box, "variable_star")


def test_a_cone(box, client):
    locus = box.loci[4]
    found = client("cone", ra=locus.ra, dec=locus.dec, radius=0.001)
    assert locus.document() in found


def test_a_locus_by_its_names(box, client):
    named = next(it for it in box.loci[1:] if it.properties["survey"].get("lsst", {}).get("dia_object_id"))
    asteroid = next(it for it in box.loci[1:] if "ztf_ssnamenr" in it.properties)
    found = client(
        "identify",
        id=named.locus_id,
        ztf=named.properties["ztf_object_id"],
        lsst=named.properties["survey"]["lsst"]["dia_object_id"][0],
        asteroid=asteroid.properties["survey"]["lsst"]["ss_object_id"][0],
    )
    assert found["none"] is None
    assert found["id"] == found["ztf"] == found["lsst"] == named.document()
    assert found["asteroid"]["properties"]["ztf_ssnamenr"] == asteroid.properties["ztf_ssnamenr"]


def test_thumbnails(box, client):
    newest = box.loci[3].newest
    found = client("thumbnails", alert_id=newest.alert_id)
    assert {kind: bytes.fromhex(blob) for kind, (_, blob) in found.items()} == newest.thumbnails
    assert all(name.endswith(f"_{kind}.fits.gz") for kind, (name, _) in found.items())


def test_catalogs(box, client):
    locus = next(it for it in box.loci if it.catalog_objects)
    found = client("catalogs", id=locus.locus_id, ra=locus.ra, dec=locus.dec)
    assert found["tags"] == box.topics
    assert set(found["samples"].values()) == {4}
    (match,) = locus.catalog_objects
    assert found["matches"] == {match["catalog_name"]: [match["properties"]]}
    assert match["properties"] in found["there"][match["catalog_name"]]


def test_gravitational_waves(box, client):
    name = box.rest.notices[0]["gracedb_id"]
    near = [locus for locus in box.loci[1:] if name in box.rest.events(locus)]
    found = client("waves", id=near[0].locus_id, event=name)
    assert found["same"]
    (stated,) = found["stated"]
    assert found["level"] == pytest.approx(stated["contour_level"])
    assert found["area"] == pytest.approx(stated["contour_area"])
