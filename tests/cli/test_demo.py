import json
import sqlite3

import pytest

from nuncius import open_archive, read_packets
from nuncius.sandbox.sky import SyntheticSky

SKY = {source.object_id for source in SyntheticSky().objects}


def figures(done):
    return json.loads(done.stdout.splitlines()[-1])


def test_synthetic_alerts_end_in_archive_and_page(cli, tmp_path):
    found = figures(cli("demo", "--alerts", 80, "--out", "here", "--json"))
    assert found["published"] == found["received"] == found["archived"] == 80
    assert found["quarantined"] == found["duplicates"] == 0
    assert found["alerts_per_s"] == pytest.approx(80 / found["seconds"], rel=0.05)
    with open_archive(tmp_path / "here" / "night.db", read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 80
    page = (tmp_path / "here" / "night.html").read_text(encoding="utf-8")
    assert page.count("<img") + page.count("<svg") >= 4
    assert 'src="http' not in page


def test_two_brokers_are_one_stream_and_poison_is_read_when_its_schema_is_known(cli, tmp_path):
    found = figures(cli("demo", "--alerts", 20, "--out", "here", "--json"))["brokers"]
    assert found["received"] == 120  # sixty alerts, each by two brokers
    assert found["quarantined"] == found["replayed"] == 1
    assert found["kept"] in {2 * found["documents"], 2 * found["documents"] - 1}
    with open_archive(tmp_path / "here" / "watched.db", read_only=True) as archive:
        documents = list(archive.find("ZTF_alerts"))
    assert len(documents) == found["documents"] == found["annotated"]
    assert len({document["objectId"] for document in documents}) == found["watched"]
    assert all(0 <= document["annotations"]["fink"]["snn_sn_vs_all"] <= 1 for document in documents)
    assert len({document["annotations"]["watchlist"]["name"] for document in documents}) == found["watched"]
    assert len(list((tmp_path / "here" / "quarantine-brokers").rglob("*.packet"))) == 1


def test_of_a_cube_of_many_gigabytes_little_is_read(cli):
    cube = figures(cli("demo", "--alerts", 20, "--out", "here", "--json"))["cube"]
    assert cube["size"] > 45e9
    assert (cube["hdus"], cube["header_requests"], cube["header_bytes"]) == (3, 2, 2 * 32768)
    assert cube["requests"] <= 20
    assert cube["bytes"] < 3e6


def test_from_the_name_of_an_object_to_a_line_of_its_spectrum(cli):
    done = cli("demo", "--alerts", 20, "--out", "here", "--json")
    found = figures(done)["data_sets"]
    assert found["object_id"] in SKY
    assert (found["data_sets"], found["items"]) == (6, 4)
    # A search, the manifest of each, and the graph.
    assert found["lookup_requests"] == 1 + found["data_sets"] + 1
    assert found["pixels"] == 51
    assert (found["requests"], found["bytes"]) == (1, 5760)
    assert "ZTF25dffzpkk-frames" in done.stderr
    assert "40% deep" in done.stderr


def test_a_login_for_another_dserver_does_not_disturb_it(cli):
    others = {
        "DSERVER_URL": "https://nowhere.invalid",
        "DSERVER_TOKEN": "x",
        "DSERVER_DISABLE_AUTHENTICATION": "1",
    }
    done = cli("demo", "--alerts", 20, "--out", "here", "--json", **others)
    assert figures(done)["data_sets"]["data_sets"] == 6


def test_packets_of_a_folder_and_what_is_unreadable_among_them(cli, tmp_path):
    folder = tmp_path / "packets"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.json").write_text(
            json.dumps({"alert_id": number, "objectId": "A", "ra": 1, "dec": 2})
        )
    (folder / "bad.avro").write_bytes(b"Obj\x01 and no more")
    found = figures(cli("demo", "--packets", folder, "--json"))
    assert (found["published"], found["received"], found["archived"], found["quarantined"]) == (4, 4, 3, 1)
    assert len(list((tmp_path / "nuncius-demo" / "quarantine").rglob("*.packet"))) == 1


def test_every_real_packet_is_archived(cli, packets_dir, tmp_path):
    found = figures(cli("demo", "--packets", packets_dir, "--json"))
    count = len(list(read_packets(packets_dir)))
    assert found["published"] == found["received"] == found["archived"] == count
    assert found["quarantined"] == found["duplicates"] == 0


def test_a_second_demo_replaces_the_first_and_nothing_else(cli, tmp_path):
    assert figures(cli("demo", "--alerts", 20, "--json"))["archived"] == 20
    assert figures(cli("demo", "--alerts", 20, "--json"))["archived"] == 20
    sqlite3.connect(tmp_path / "night.db").close()
    (tmp_path / "night.db").write_bytes(b"mine")
    refused = cli("demo", "--alerts", 20, "--out", ".", code=1)
    assert "give another folder" in refused.stderr
    assert (tmp_path / "night.db").read_bytes() == b"mine"


def test_the_next_commands_that_it_names_work(cli, tmp_path):
    said = cli("demo", "--alerts", 60).stdout
    commands = [line.split() for line in said.splitlines() if line.strip().startswith("nuncius archive")]
    assert len(commands) == 3
    for command in commands:
        assert cli(*[part.strip("'") for part in command[1:]]).stdout
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_folder_is_said(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no packet" in cli("demo", "--packets", "empty", code=1).stderr
