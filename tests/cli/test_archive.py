import json

import pytest

# Where the night of the fixture `night` is made, all that ask it run: it takes longer than they do.
pytestmark = pytest.mark.xdist_group("cli-night")


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_info(cli, night):
    found = lines(cli("archive", "info", night, "--json"))[0]
    assert found["catalogs"]["ZTF_alerts"]["alerts"] == 60
    assert "ZTF_alerts" in cli("archive", "info", night).stdout


def test_find_filters_sorts_and_limits(cli, night):
    condition = '{"candidate.drb": {"$gt": 0.5}}'
    count = int(cli("archive", "find", night, "ZTF_alerts", condition, "--count").stdout)
    arguments = (
        "archive",
        "find",
        night,
        "ZTF_alerts",
        condition,
        "--sort",
        "-candidate.magpsf",
        "--limit",
        "5",
    )
    found = lines(cli(*arguments, "--json"))
    mags = [document["candidate"]["magpsf"] for document in found]
    assert mags == sorted(mags, reverse=True)
    assert len(found) == min(5, count)
    table = cli(*arguments).stdout
    assert all(str(document["candid"]) in table for document in found), "19 digits are not cut"


def test_fields(cli, night):
    found = lines(
        cli(
            "archive",
            "find",
            night,
            "ZTF_alerts",
            "--fields",
            "objectId,candidate.jd",
            "--limit",
            "2",
            "--json",
        )
    )
    assert [set(document) for document in found] == [{"_id", "objectId", "candidate"}] * 2


def test_cone_nearest_first_with_a_negative_declination(cli, night):
    ra, dec = 200.0, -20.5
    found = lines(cli("archive", "cone", night, "ZTF_alerts", ra, dec, "--radius", "100deg", "--json"))
    separations = [document["separation_arcsec"] for document in found]
    assert separations
    assert separations == sorted(separations)
    sexagesimal = cli(
        "archive", "cone", night, "ZTF_alerts", "13h20m00s", "-20d30m00s", "--radius", "100deg", "--json"
    )
    assert [d["_id"] for d in lines(sexagesimal)] == [d["_id"] for d in found]


def test_object(cli, night, tmp_path):
    name = lines(cli("archive", "find", night, "ZTF_alerts", "--limit", "1", "--json"))[0]["objectId"]
    found = lines(cli("archive", "object", night, name, "--json", "--plot", "curve.png"))[0]
    assert found["object_id"] == name
    assert len(found["light_curve"]) >= len(found["alerts"]) > 0
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_backup_and_prune(cli, night):
    cli("archive", "backup", night, "copy.db")
    assert "exists" in cli("archive", "backup", night, "copy.db", code=1).stderr
    assert (
        "60 alerts deleted"
        in cli("archive", "prune", "copy.db", "--older-than", "2099-01-01T00:00Z", "--yes").stdout
    )
    assert cli("archive", "find", "copy.db", "ZTF_alerts", "--count").stdout.strip() == "0"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("find", "NIGHT", "ZTF_alert"), 1, "did you mean ZTF_alerts"),
        (("find", "NIGHT", "ZTF_alerts", "{candid: 1}"), 2, "It is JSON"),
        (("find", "NIGHT", "ZTF_alerts", '{"candid": {"$gtt": 1}}'), 1, "did you mean $gt"),
        (("find", "none.db", "ZTF_alerts"), 1, "there is no archive none.db"),
        (("cone", "NIGHT", "ZTF_alerts", "10", "95"), 1, "not on the sky"),
        (("cone", "NIGHT", "ZTF_alerts", "10", "5", "--radius", "2"), 1, "2 arcsec"),
        (("cone", "NIGHT", "ZTF_alerts", "ten", "5"), 2, "is no position"),
        (("object", "NIGHT", "nobody"), 1, "nobody"),
        (("prune", "NIGHT", "--older-than", "soon", "--yes"), 1, "not understood"),
        (("prune", "NIGHT"), 2, "--older-than"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(cli, night, arguments, code, said):
    done = cli("archive", *(night if part == "NIGHT" else part for part in arguments), code=code)
    assert said in done.stderr


def test_a_reader_that_goes_away_is_no_error(cli, night):
    import subprocess
    import sys

    command = (
        f"{sys.executable} -m nuncius.cli archive find {night} ZTF_alerts --limit 60 --json | head -c 10"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
