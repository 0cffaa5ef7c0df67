"""`nuncius datasets` on the sandbox's dserver."""

import json
import os
import subprocess
import sys

import httpx2
import pytest
from click.testing import CliRunner

from nuncius.cli import main
from nuncius.cli.datasets import command
from nuncius.cli.datasets_output import table_lines
from nuncius.sandbox import Sandbox

ODD = "file://sandbox/Nächte 1 + 2"
READMES = "s3://readmes"
WILD = "seen:\u00a0\x1b[31mred\x1b[0m\n\tthrough clouds\r\nend"


@pytest.fixture(scope="module")
def box():
    with Sandbox() as sandbox:
        server = sandbox.dserver
        server.add(
            "wild\x1b[2J",
            base_uri=READMES,
            readme=WILD,
            tags=["a\x07b"],
            annotations={"year": 2025, "none": None},
        )
        origin = server.add("origin", base_uri="s3://tree")
        left, right = (
            server.add(name, base_uri="s3://tree", derived_from=[origin]) for name in ("left", "right")
        )
        unknown = "00000000-0000-4000-8000-000000000000"
        both = server.add("both", base_uri="s3://tree", derived_from=[left, right, unknown])
        server.add("after", base_uri="s3://tree", derived_from=[both])
        yield sandbox


@pytest.fixture
def server(box):
    yield box.dserver
    box.dserver.clear_faults()


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Run `nuncius datasets` in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0, stdin=None, token=server.token, **environment):
        known = {"HOME": str(tmp_path), "DSERVER_URL": server.url, "DSERVER_TOKEN": token, **environment}
        done = CliRunner().invoke(main, ["datasets", *map(str, arguments)], input=stdin, env=known)
        assert isinstance(done.exception, SystemExit | None), repr(done.exception)
        assert done.exit_code == code, done.output
        assert token is None or len(token) < 20 or token not in done.output
        return done

    return call


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def uri(server, name):
    """Return the URI of the data set whose name ends so, at the first base URI that has one."""
    return next(row["uri"] for row in asked(server, "uris?page_size=100") if row["name"].endswith(name))


def asked(server, path):
    """Return what the server itself answers."""
    return httpx2.get(f"{server.url}/{path}", headers={"Authorization": f"Bearer {server.token}"}).json()


def uuid_of(address):
    return address.rpartition("/")[2]


# Finding data sets -----------------------------------------------------------------------------------------------------


def test_all_that_one_may_see_as_the_server_says_it(run, server):
    assert lines(run("search", "--json")) == asked(server, "uris?page_size=100")
    table = run("search").stdout.splitlines()
    assert table[0].split() == ["name", "creator", "frozen", "(UTC)", "items", "bytes", "uri"]
    row = next(line for line in table if "-spectrum " in line)
    assert row.split()[1:] == ["testuser", "2025-11-15", "02:33", "2", "5,778", uri(server, "-spectrum")]
    assert any(line.endswith(f"{ODD}/ZTF18dfdhjcr-logbook") for line in table), "nothing is cut"


def test_words_and_filters(run):
    def names(*arguments):
        return [row["name"].partition("-")[2] for row in lines(run("search", *arguments, "--json"))]

    assert names("ZTF25dffzpkk", "--sort", "-created_at") == [
        "light-curve", "unlabelled", "notes", "classification", "spectrum", "frames",
    ]  # fmt: skip
    assert sorted(names("supernova", "--tag", "spectrum")) == ["frames", "spectrum"]
    assert names("--tag", "spectrum", "--tag", "raw") == ["frames"]
    assert names("supernova", "--creator", "admin") == ["classification"]
    assert names("--base-uri", ODD) == ["logbook"]
    assert names("supernova -raw", "--tag", "spectrum") == ["spectrum"]
    assert (
        run("search", "nobodyhasthisword").stderr
        == "nothing found; `nuncius datasets base-uris` shows where you may search\n"
    )


def test_a_uuid_at_two_places_is_found_twice(run, server):
    uuid = uuid_of(uri(server, "8dfdhjcr-light-curve"))
    found = lines(run("search", "--uuid", uuid, "--json"))
    assert [row["base_uri"] for row in found] == ["s3://sandbox-imaging", "smb://sandbox/copies"]


def test_a_limit_is_one_request_and_says_that_there_is_more(run, server):
    before = len(server.requests)
    limited = run("search", "--limit", 3, "--json")
    assert len(lines(limited)) == 3
    assert limited.stderr == "there are more than these; a larger --limit shows them\n"
    assert [request.path for request in server.requests[before:]].count(
        "/uris"
    ) <= 2  # the next page may be on its way
    everything = len(asked(server, "uris?page_size=100"))
    assert run("search", "--limit", everything).stderr == ""


def test_a_query_from_the_command_line_a_file_and_standard_input(run, tmp_path):
    query = '{"readme.object.kind": "supernova", "name": {"$regex": "(spectrum|frames)$"}}'
    (tmp_path / "query.json").write_text(query)
    found = lines(run("query", query, "--sort", "-name", "--json"))
    assert [row["name"] for row in found] == ["ZTF25dffzpkk-spectrum", "ZTF25dffzpkk-frames"]
    assert found[0]["tags"] == ["reduced", "spectrum"]
    assert "reduced, spectrum" in run("query", query).stdout
    for again in (run("query", "@query.json", "--json"), run("query", "-", "--json", stdin=query)):
        assert sorted(row["name"] for row in lines(again)) == ["ZTF25dffzpkk-frames", "ZTF25dffzpkk-spectrum"]
    (limited,) = lines(run("query", query, "--sort", "name", "--limit", 1, "--json"))
    assert limited["name"] == "ZTF25dffzpkk-frames"


@pytest.mark.parametrize("query", ["{", "[]", "3"])
def test_a_query_that_is_none(run, query):
    assert run("query", query, code=1).stderr.startswith("nuncius: ")


def test_a_query_in_a_file_that_is_not_there(run):
    assert "absent.json can't be read" in run("query", "@absent.json", code=2).stderr


def test_an_aggregation_and_a_server_that_allows_none(run, server):
    stages = '[{"$match": {"tags": "spectrum"}}, {"$count": "n"}]'
    assert "DSERVER_ALLOW_DIRECT_AGGREGATION" in run("aggregate", stages, code=1).stderr
    server.allow_aggregation = True
    try:
        assert lines(run("aggregate", stages)) == [{"n": 2}]
    finally:
        server.allow_aggregation = False


# One data set ----------------------------------------------------------------------------------------------------------


def test_a_data_set_by_uri_and_by_uuid(run, server):
    address = uri(server, "-spectrum")
    (found,) = lines(run("show", address, "--json"))
    known = {name: found[name] for name in found if name not in {"tags", "annotations", "readme"}}
    assert known == asked(server, f"uris/s3/sandbox-spectra/{uuid_of(address)}")
    assert found["tags"] == ["reduced", "spectrum"]
    assert found["annotations"] == {
        "object_id": "ZTF25dffzpkk",
        "resolution": 1200,
        "wavelength_nm": [380, 920],
    }
    assert lines(run("show", uuid_of(address).upper(), "--json")) == [found]
    shown = run("show", address).stdout
    assert shown.startswith("name              ZTF25dffzpkk-spectrum\n")
    assert "size_in_bytes     5,778\n" in shown
    assert "    resolution     1200\n" in shown
    assert "frozen_at         2025-11-15 02:33:55 UTC\n" in shown
    assert "    description: spectrum, flux calibrated\n" in shown


def test_each_copy_of_a_uuid_is_shown_and_one_has_to_be_named_for_the_rest(run, server):
    uuid = uuid_of(uri(server, "8dfdhjcr-light-curve"))
    assert [row["tags"] for row in lines(run("show", uuid, "--json"))] == [
        ["light-curve"],
        ["light-curve", "copy"],
    ]
    assert run("show", uuid).stdout.count("description: light curve in three bands") == 2
    refused = run("readme", uuid, code=2).stderr
    assert f"  s3://sandbox-imaging/{uuid}\n  smb://sandbox/copies/{uuid}\n" in refused


def test_a_part_that_fails_leaves_the_others(run, server):
    server.fail(status=500, times=20, path="/tags/s3/sandbox-spectra")
    done = run("show", uri(server, "-spectrum"), "--json", code=1)
    assert "HTTP 500" in done.stderr
    assert "resolution" in lines(done)[0]["annotations"]
    assert "tags" not in lines(done)[0]


@pytest.mark.parametrize("what", ["show", "readme", "manifest", "tags", "annotations", "items", "graph"])
def test_a_data_set_that_is_not_there(run, what):
    name = "00000000-0000-4000-8000-00000000abcd"
    assert "no data set" in run(what, name, code=1).stderr
    assert run(what, f"s3://sandbox-spectra/{name}", code=1).stderr.startswith("nuncius: ")
    assert "not yours" in run(what, f"s3://elsewhere/{name}", code=1).stderr


def test_a_readme_comes_byte_for_byte(run, server):
    address = f"{READMES}/{uuid_of(uri(server, '[2J'))}"
    assert run("readme", address).stdout_bytes.decode() == WILD
    assert lines(run("readme", address, "--json")) == [{"uri": address, "readme": WILD}]


def test_manifest_tags_and_annotations(run, server):
    address = uri(server, "-spectrum")
    path = f"s3/sandbox-spectra/{uuid_of(address)}"
    assert lines(run("manifest", address, "--json")) == [asked(server, f"manifests/{path}")]
    table = run("manifest", address).stdout.splitlines()
    assert table[0] == "2 items, 5,778 bytes, md5sum_hexdigest, dtoolcore 3.19.0"
    assert [line.split()[-1] for line in table[1:]] == ["path", "log.txt", "spectrum.fits"]
    assert run("tags", address).stdout == "reduced\nspectrum\n"
    assert lines(run("tags", address, "--json")) == [["reduced", "spectrum"]]
    assert lines(run("annotations", address, "--json"))[0]["wavelength_nm"] == [380, 920]
    assert "wavelength_nm  [380, 920]\n" in run("annotations", address).stdout


def test_text_of_strangers_does_not_reach_the_terminal(run, server):
    address = uri(server, "[2J")
    for what in ("search", "show", "tags", "annotations", "manifest", "graph"):
        shown = run(what, address).stdout if what != "search" else run("search", "wild").stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown
    assert "year  2025\n" in run("annotations", address).stdout


# On a terminal ---------------------------------------------------------------------------------------------------------


def on_terminal(server, folder, *arguments):
    """Return what a terminal of 70 columns gets."""
    pty = pytest.importorskip("pty", exc_type=ImportError)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "HOME": str(folder), "DSERVER_URL": server.url, "DSERVER_TOKEN": server.token,
                   "COLUMNS": "70"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "nuncius.cli", "datasets", *arguments], stdout=theirs, stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # the other side has gone
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    return said.decode().replace("\r\n", "\n")


def test_a_readme_on_a_terminal_has_nothing_that_it_would_obey(server, tmp_path):
    said = on_terminal(server, tmp_path, "readme", uri(server, "[2J"))
    assert said == "seen:??[31mred?[0m\n        through clouds\nend\n"


def test_a_table_fits_the_terminal_and_is_whole(server, tmp_path):
    said = on_terminal(server, tmp_path, "search", "ZTF25dffzpkk").splitlines()
    at = next(number for number, line in enumerate(said) if line.startswith("ZTF25dffzpkk-spectrum "))
    assert said[at + 1] == f"  {uri(server, '-spectrum')}"
    assert max(map(len, said)) <= 70


def test_lines_of_a_table():
    rows = [{"name": "größe", "bytes": 1234, "empty": None, "uri": "s3://a"}, {"name": "天", "bytes": None, "empty": None, "uri": None}]  # fmt: skip
    assert list(table_lines(rows, last="uri")) == ["name   bytes  uri", "größe  1,234  s3://a", "天"]
    assert list(table_lines(rows, last="uri", width=15)) == [
        "name   bytes",
        "  uri",
        "größe  1,234",
        "  s3://a",
        "天",
    ]
    assert next(table_lines(rows, last="uri", width=20)) == "name   bytes  uri"
    assert list(table_lines([])) == []


# Items -----------------------------------------------------------------------------------------------------------------


def test_items_of_a_data_set_with_sizes_and_urls(run, server):
    address = uri(server, "-frames")
    found = lines(run("items", address, "*.fits", "--json"))
    assert [(item["relpath"], item["size"]) for item in found] == [
        ("raw/frame_1.fits", 14400),
        ("raw/frame_2.fits", 14400),
    ]
    assert all(item["url"] == f"{address}/data/{item['identifier']}" for item in found)
    assert lines(run("items", address, "raw/*_2.fits", "--json")) == found[1:]
    table = run("items", uuid_of(address)).stdout.splitlines()
    assert table[0].split() == ["bytes", "path", "url"]
    assert table[1].split() == ["14,400", "raw/frame_1.fits", found[0]["url"]]
    assert run("items", address, "*.txt").stderr == "nothing found\n"


def test_urls_of_items_go_into_fits(run, box, cli, server):
    urls = run("items", "--search", "supernova", "--tag", "spectrum", "*.fits", "--url-only").stdout.split()
    assert len(urls) == 3
    store = box.store
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    listed = cli("fits", "ls", *urls, "--endpoint", store.s3_endpoint, "--json", **keys)
    assert [json.loads(line)["size"] for line in listed.stdout.splitlines()] == [5760, 14400, 14400]


def test_items_that_can_not_be_reached_say_why(run, server):
    copies = "smb://sandbox/copies"
    (found,) = lines(run("items", "--base-uri", copies, "--json"))
    assert found["url"] is None
    assert "network share" in run("items", "--base-uri", copies).stderr
    only = run("items", "--search", "ZTF18dfdhjcr", "*.fits", "--url-only", code=1)
    assert only.stdout.startswith("s3://sandbox-imaging/")
    assert len(only.stdout.splitlines()) == 1
    assert "network share" in only.stderr


def test_a_manifest_that_can_not_be_read_leaves_the_others(run, server):
    server.fail(status=500, times=20, path="/manifests/s3/sandbox-imaging")
    done = run("items", "--search", "supernova", "*.fits", "--json", code=1)
    assert [item["relpath"] for item in lines(done)] == [
        "spectrum.fits",
        "raw/frame_1.fits",
        "raw/frame_2.fits",
    ]
    assert "could not be read; the first is s3://sandbox-imaging/" in done.stderr
    assert "The others are shown" in done.stderr
    assert "allow_partial" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("s3://a/b", "*.fits", "another"), ("s3://a/b", "--tag", "raw"), ("--search", "a", "*.fits", "b"),
     ("1e2feb89-414c-443c-9027-c4d1c386bbc4", "--search", "a")],
)  # fmt: skip
def test_items_of_nothing_or_of_too_much(run, server, arguments):
    before = len(server.requests)
    assert "Usage:" in run("items", *arguments, code=2).stderr
    assert len(server.requests) == before


# What was made from what -----------------------------------------------------------------------------------------------


def graph_uuids(server):
    return {name: uuid_of(uri(server, name)) for name in ("origin", "left", "right", "both", "after")}


def test_a_graph_as_a_tree(run, server):
    uuids = graph_uuids(server)
    said = run("graph", uuids["both"]).stdout.splitlines()
    first, second = sorted(
        ("left", "right"), key=lambda name: next(n for n, line in enumerate(said) if name in line)
    )
    assert said == [
        f"origin  {uuids['origin']}",
        f"├── {first}  {uuids[first]}",
        f"│   └── both  {uuids['both']}  <--",
        f"│       └── after  {uuids['after']}",
        f"└── {second}  {uuids[second]}",
        f"    └── both  {uuids['both']}  (see above)  <--",
        "00000000…  00000000-0000-4000-8000-000000000000  (not there, or not yours to see)",
        f"└── both  {uuids['both']}  (see above)  <--",
    ]


def test_a_graph_by_uri_as_json_as_dot_and_as_a_picture(run, server, tmp_path):
    address = uri(server, "both")
    rows = {row["name"]: row for row in lines(run("graph", address, "--json"))}
    assert set(rows) == {"origin", "left", "right", "both", "after"}
    assert rows["after"]["derived_from"] == [uuid_of(address)]
    dot = run("graph", address, "--dot").stdout
    assert dot.startswith("digraph data_sets {\n")
    assert dot.count(" -> ") == 6
    for name, begin in (("graph.png", b"\x89PNG"), ("graph.pdf", b"%PDF"), ("graph.svg", b"<?xml")):
        assert run("graph", address, "--out", name).stdout == ""
        assert (tmp_path / name).read_bytes().startswith(begin)
    before = (tmp_path / "graph.png").stat().st_mtime_ns
    assert "--overwrite" in run("graph", address, "--out", "graph.png", code=1).stderr
    assert (tmp_path / "graph.png").stat().st_mtime_ns == before
    assert ".png, .pdf, .svg" in run("graph", address, "--out", "graph.fits", code=2).stderr


def test_a_graph_by_other_keys(run, server):
    uuid = uuid_of(uri(server, "-classification"))
    rows = lines(run("graph", uuid, "--key", "annotations.source_dataset_uuid", "--json"))
    assert [row["name"] for row in rows if row["derived_from"]] == ["ZTF25dffzpkk-classification"]
    assert {row["name"] for row in rows} == {"ZTF25dffzpkk-classification", "ZTF25dffzpkk-spectrum"}


def test_a_plugin_that_is_missing_is_named(run, server):
    plugins = server.plugins
    server.plugins = {name: version for name, version in plugins.items() if "graph" not in name}
    try:
        refused = run("graph", uuid_of(uri(server, "-spectrum")), code=1)
    finally:
        server.plugins = plugins
    assert "dserver-dependency-graph-plugin" in refused.stderr


# The server ------------------------------------------------------------------------------------------------------------


def test_summary(run, server):
    assert lines(run("summary", "--json")) == [asked(server, "me/summary")]
    said = run("summary").stdout
    assert said.startswith(f"data sets  {asked(server, 'me/summary')['number_of_datasets']}\n")
    assert "        5  34,622  s3://sandbox-spectra\n" in said
    assert run("summary", "admin", code=1).stderr.startswith("nuncius: ")


def test_base_uris_of_a_user_of_an_admin_and_of_nobody(run, server):
    mine = lines(run("base-uris", "--json"))
    assert {"base_uri": ODD, "search": True, "register": True} in mine
    assert not any("embargo" in row["base_uri"] for row in mine)
    reader = lines(run("base-uris", "--json", token=server.tokens["reader"]))
    assert reader == [{"base_uri": "s3://sandbox-spectra", "search": True, "register": False}]
    admin = run("base-uris", token=server.admin_token).stdout.splitlines()
    assert "yes     yes       s3://sandbox-embargo" in admin
    assert run("base-uris", token=server.tokens["nobody"]).stderr == "nobody may search nowhere\n"


def test_versions_take_no_login(run, server):
    assert lines(run("versions", "--json", token=None)) == [asked(server, "config/versions")["versions"]]
    assert "dservercore                      0.22.0\n" in run("versions", token=None).stdout


@pytest.mark.parametrize(
    "body", [b"[]", b'"x"', b"{}", b'{"number_of_datasets": [1], "datasets_per_tag": 3}', b"<html>"]
)
@pytest.mark.parametrize(
    "what", ["summary", "base-uris", "versions", "search", "show", "items", "annotations"]
)
def test_answers_that_are_none_end_in_words(run, server, what, body):
    server.answer(body=body, times=20)
    arguments = ("s3://a/b",) if what in {"show", "items", "annotations"} else ()
    done = CliRunner().invoke(
        main, ["datasets", what, *arguments], env={"DSERVER_URL": server.url, "DSERVER_TOKEN": server.token}
    )
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code in {0, 1}


# Who and where ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_named_and_a_login_in_the_file_of_dtool(run, server, tmp_path):
    (tmp_path / ".config" / "dtool").mkdir(parents=True)
    settings = {"DSERVER_URL": server.url, "DSERVER_TOKEN_GENERATOR_URL": server.token_url,
                "DSERVER_USERNAME": server.username, "DSERVER_PASSWORD": server.password}  # fmt: skip
    (tmp_path / ".config" / "dtool" / "dtool.json").write_text(json.dumps(settings))
    assert lines(run("search", "--json", token=None, DSERVER_URL=None))
    assert lines(run("search", "--url", server.url, "--json", token=None, DSERVER_URL=None))


def test_logins_that_do_not_work(run, server):
    missing = run("search", code=1, token=None).stderr
    assert "DSERVER_TOKEN" in missing
    assert "token=" not in missing
    assert run("search", code=1, token=server.tokens["expired"]).stderr.startswith("nuncius: ")
    assert "no dserver is named" in run("search", code=1, DSERVER_URL=None).stderr


def test_no_secret_is_an_argument(run):
    assert "No such option" in run("search", "--token", "abc", code=2).stderr
    refused = run("search", "--url", "https://user:geheim@host", code=1).stderr
    assert "geheim" not in refused
    assert "credentials=" not in refused


def test_nobody_there_in_time(run, server):
    server.delay(5, times=10, path="/uris")
    assert run("search", "--timeout", 0.2, code=1).stderr.startswith("nuncius: ")


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_command_explains_itself(run, name):
    said = run(name, "--help").stdout
    assert said.startswith("Usage:")
    assert "--url" in said


# Storing a login -------------------------------------------------------------------------------------------------------


def test_a_login_is_tried_kept_used_and_forgotten(run, server, tmp_path):
    def call(*arguments, **more):
        here = {
            "NUNCIUS_CONFIG_DIR": str(tmp_path / "config"),
            "DSERVER_TOKEN_GENERATOR_URL": server.token_url,
        }
        return run(*arguments, token=None, **here, **more)

    path = tmp_path / "config" / "credentials.toml"
    refused = call("login", stdin=f"{server.username}\nwrong-password\n", code=1)
    assert "refuses the login" in refused.output
    assert not path.exists()
    kept = call("login", "--username", server.username, stdin=f"{server.password}\n")
    assert f"knows you as {server.username}" in kept.output
    assert server.password not in kept.output
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(call("summary", "--json").stdout)["number_of_datasets"] > 0
    assert "holds it no more" in call("login", "--remove").output
    assert "wants a token" in call("summary", code=1).output


def test_urls_of_items_are_all_listed_from_standard_input(run, box, server):
    urls = run("items", "--search", "supernova", "--tag", "spectrum", "*.fits", "--url-only").stdout
    keys = {"AWS_ACCESS_KEY_ID": box.store.access_key, "AWS_SECRET_ACCESS_KEY": box.store.secret_key}
    command = ["fits", "ls", "-", "--endpoint", box.store.s3_endpoint, "--json"]
    listed = CliRunner().invoke(main, command, input=f"\n{urls}\n", env=keys)
    assert listed.exit_code == 0, listed.output
    assert [json.loads(line)["size"] for line in listed.stdout.splitlines()] == [5760, 14400, 14400]


def test_a_slow_server_is_told_of_in_words_of_options(run, server):
    server.delay(3, times=1, path="/uris")
    done = run("search", "x", "--timeout", "0.3", code=1)
    assert "give more time with --timeout" in done.output
    assert "timeout_s" not in done.output
