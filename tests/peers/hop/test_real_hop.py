"""What the real hop-client 0.13.0 publishes, read as a Hopskotch stream."""

import secrets

import pytest

from nuncius import Alert, Notice, open_stream

PLAIN = {"security.protocol": "PLAINTEXT"}

VOEVENT = b"""<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" role="observation"
  ivorn="ivo://nasa.gsfc.gcn/SWIFT#BAT_GRB_Pos_1159327-123">
  <Who><Date>2026-11-20T03:00:00</Date></Who>
  <What><Param name="TrigID" value="1159327"/></What>
  <WhereWhen><ObsDataLocation><ObservatoryLocation/><ObservationLocation>
    <AstroCoordSystem id="UTC-FK5-GEO"/>
    <AstroCoords coord_system_id="UTC-FK5-GEO">
      <Time><TimeInstant><ISOTime>2026-11-20T02:59:30.5</ISOTime></TimeInstant></Time>
      <Position2D unit="deg"><Name1>RA</Name1><Name2>Dec</Name2>
        <Value2><C1>120.25</C1><C2>-30.5</C2></Value2><Error2Radius>0.05</Error2Radius></Position2D>
    </AstroCoords></ObservationLocation></ObsDataLocation></WhereWhen>
</voe:VOEvent>
"""


@pytest.fixture
def exchange(broker, tmp_path):
    """Have hop serialise messages, and read them; return what came and how many were quarantined.

    They are sent by us: hop asks the broker for the settings of its topics first, which the sandbox's doesn't answer.
    """
    from hop.io import Producer

    def run(*messages, **options):
        topic = f"group.topic-{secrets.token_hex(4)}"
        for message in messages:
            payload, headers = Producer.pack(message, **options)
            broker.publish(topic, [payload], headers=dict(headers))
        url = f"hopskotch://{broker.host}:{broker.port}/{topic}"
        folder = tmp_path / "quarantine"
        with open_stream(url, group=False, stop="end", config=PLAIN, quarantine_dir=folder) as stream:
            return list(stream), stream.stats().quarantined

    return run


def test_a_voevent_is_a_notice_with_its_place_and_time(exchange, tmp_path):
    from hop.models import VOEvent

    path = tmp_path / "event.xml"
    path.write_bytes(VOEVENT)
    (notice,), quarantined = exchange(VOEvent.load_file(str(path)))
    assert isinstance(notice, Notice)
    assert quarantined == 0
    assert (notice.ra, notice.dec, notice.radius_deg) == (120.25, -30.5, 0.05)
    assert notice.time.isoformat().startswith("2026-11-20T02:59:30.5")
    assert "BAT_GRB_Pos_1159327-123" in notice.id


def test_a_circular_is_a_notice_with_its_text(exchange):
    from hop.models import GCNCircular

    header = {"title": "GCN CIRCULAR", "number": "40000", "subject": "GRB 261120A: optical counterpart",
              "date": "26/11/20 04:00:00 GMT", "from": "A. Nobody at Somewhere <a@example.org>"}  # fmt: skip
    (notice,), quarantined = exchange(GCNCircular(header=header, body="We observed the field."))
    assert quarantined == 0
    assert "We observed the field." in notice.text
    assert "GRB 261120A: optical counterpart" in notice.text


def test_json_and_avro_records_with_a_position_are_alerts(exchange):
    from hop.models import AvroBlob, JSONBlob

    record = {"object_id": "SN2026abc", "ra": 10.5, "dec": -3.25, "mag": 18.5}
    alerts, quarantined = exchange(JSONBlob(record), AvroBlob(record))
    assert quarantined == 0
    assert all(isinstance(alert, Alert) for alert in alerts)
    assert {(a.object_id, a.ra, a.dec) for a in alerts} == {("SN2026abc", 10.5, -3.25)}
    assert len(alerts) == 2


def test_bytes_of_no_known_kind_are_kept_as_they_are(exchange):
    from hop.models import Blob

    (notice,), quarantined = exchange(Blob(b"\x00\x01\xfe\xff"))
    assert (notice.raw, quarantined) == (b"\x00\x01\xfe\xff", 0)


def test_messages_that_hop_marks_as_tests_are_dropped(exchange):
    from hop.models import JSONBlob

    items, quarantined = exchange(JSONBlob({"object_id": "A", "ra": 1.0, "dec": 2.0}), test=True)
    assert (items, quarantined) == ([], 0)
