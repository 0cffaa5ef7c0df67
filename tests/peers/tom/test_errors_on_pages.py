"""What goes wrong with a service is told on the page, with its cure: never a page that says that the server failed.

(The people of these tests note each answer with a status of 500, and then the test fails.)
"""

import contextlib
import http.server
import json
import shutil
import socket
import threading
import time

import pytest
from project import ARCHIVE, STREAM

KOWALSKI = "Nuncius Kowalski"
BOOM = "Nuncius BOOM"
ANTARES = "Nuncius ANTARES"
PITTGOOGLE = "Nuncius Pitt-Google"

PASSWORD = "correct-horse-1610"
HOSTILE = "<img src=x onerror=alert('owned')>"


class Rude(http.server.BaseHTTPRequestHandler):
    """A server that refuses everybody, and puts markup into what it says."""

    def do_GET(self):
        answer = json.dumps({"status": "error", "message": HOSTILE, "detail": HOSTILE}).encode()
        self.send_response(400, "Bad Request")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def rude():
    """Return where the rude server is."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def silent():
    """Return a port on which somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def closed():
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def leaving(project, archive):
    """Return an archive that will be gone."""
    return archive.backup(project.folder / "leaving.db")


@pytest.fixture(scope="module")
def serve(project):
    """Return what serves the project with other services, and ends that with the module's tests."""
    with contextlib.ExitStack() as stack:
        yield lambda settings: stack.enter_context(project.served(settings=settings))


@pytest.fixture(scope="module")
def broken(serve, project, closed, silent, leaving):
    """Serve the project with services none of which can work."""
    spoilt = project.folder / "spoilt.db"
    spoilt.write_bytes(b"this is a letter, not an archive\n" * 500)
    login = ["observer", PASSWORD]
    services = {
        ARCHIVE: {"url": str(spoilt)},
        KOWALSKI: {"url": f"kowalski+http://{closed}", "credentials": login},
        BOOM: {"url": f"boom+http://{silent}", "credentials": login, "timeout_s": 2},
        ANTARES: {"url": "gopher://antares.example.org"},
        PITTGOOGLE: {"url": f"pittgoogle://{closed}/ztf-loop", "archive": str(leaving)},
        STREAM: {"archive": str(project.folder / "nowhere.db")},
    }
    return serve({"DATA_SERVICES": services})


@pytest.fixture(scope="module")
def slips(rude):
    """Return settings with slips of the pen, and a server that is no good."""
    return {
        ARCHIVE: {"ulr": "night.db"},
        KOWALSKI: {"url": f"kowalski+http://{rude}", "credentials": ["observer", PASSWORD]},
        BOOM: {"url": f"boom+http://observer:{PASSWORD}@{rude}"},
    }


@pytest.fixture(scope="module")
def careless(serve, slips):
    """Serve the project with these settings, as a web server does that looks at no checks."""
    return serve({"DATA_SERVICES": slips, "SILENCED_SYSTEM_CHECKS": ["nuncius_tom.E004"]})


@pytest.fixture
def vera(person, broken):
    return person("vera", broken)


def told(someone, service, **question):
    """Ask a service that can't answer, and return what the page says."""
    rows = someone.ask(service, **question)
    assert rows.count() == 0
    assert someone.page.title().startswith("mytom")  # a page of the Toolkit
    text = someone.messages
    assert PASSWORD not in someone.page.content()
    assert text
    return text


# Services that can't work ----------------------------------------------------------------------------------------------


def test_a_file_that_is_no_archive(vera):
    assert "spoilt.db" in told(vera, ARCHIVE, object_id="ZTF25dqjbnfp")


def test_a_server_that_is_down(vera):
    text = told(vera, KOWALSKI, object_id="ZTF25dqjbnfp")
    assert KOWALSKI in text
    assert "Try again later" in text


def test_a_server_that_never_answers(vera):
    begun = time.monotonic()
    text = told(vera, BOOM, object_id="ZTF25dqjbnfp")
    assert time.monotonic() - begun < 60
    assert BOOM in text


def test_an_address_that_means_nothing(vera):
    text = told(vera, ANTARES, object_id="ANT2026abc")
    assert f"settings.DATA_SERVICES['{ANTARES}']" in text
    assert "gopher" in text


def test_a_stream_without_an_address(vera):
    text = told(vera, STREAM, live_s=2)
    assert f"DATA_SERVICES['{STREAM}']" in text
    assert "url" in text


def test_an_archive_that_no_worker_has_filled(vera):
    text = told(vera, STREAM)
    assert "nowhere.db" in text
    assert "nuncius_ingest" in text


def test_a_stream_whose_server_is_down(vera):
    begun = time.monotonic()
    text = told(vera, PITTGOOGLE, live_s=3)
    assert time.monotonic() - begun < 60
    assert PITTGOOGLE in text


def test_an_archive_that_is_gone_when_the_targets_are_made(vera, leaving):
    rows = vera.ask(PITTGOOGLE, limit=2)
    shutil.move(leaving, f"{leaving}.moved")
    vera.create(*rows.all())
    assert "leaving.db" in vera.messages


# Settings that are written wrongly -------------------------------------------------------------------------------------


def test_the_command_line_refuses_them_at_once(project, slips):
    done = project.manage("check", check=False, settings={"DATA_SERVICES": slips})
    assert done.returncode != 0
    assert "did you mean 'url'?" in done.stderr
    assert "write it as 'credentials'" in done.stderr
    assert PASSWORD not in done.stderr


def test_an_option_with_a_slip_of_the_pen(person, careless):
    text = told(person("vera", careless), ARCHIVE, object_id="ZTF25dqjbnfp")
    assert "'ulr'" in text
    assert "did you mean 'url'?" in text


def test_a_login_in_an_address_is_refused_and_not_shown(person, careless):
    text = told(person("vera", careless), BOOM, object_id="ZTF25dqjbnfp")
    assert "credentials" in text


def test_markup_in_what_a_server_says_is_shown_as_text(person, careless):
    vera = person("vera", careless)
    text = told(vera, KOWALSKI, object_id="ZTF25dqjbnfp")
    assert KOWALSKI in text
    assert vera.page.locator("img[src=x]").count() == 0
    assert vera.alarms == []


# Questions that mean nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"position": "over there"}, "over there"),
        ({"position": "10 20", "radius_arcsec": -1}, "radius"),
        ({"limit": 0}, "between 1 and"),
        ({"since": "yesterday"}, "yesterday"),
        ({"mag_min": 19, "mag_max": 15}, "magnitude"),
        ({"where": "score >"}, "score"),
        ({"position": HOSTILE}, "<img"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_question_that_means_nothing_goes_back_to_the_form(person, served, question, says):
    vera = person("vera", served)
    vera.ask(ARCHIVE, **question)
    shown = vera.page.locator("form.form")
    assert says in shown.locator(".invalid-feedback, .alert, .errorlist").first.inner_text()
    for name, value in question.items():
        assert shown.locator(f"[name={name}]").input_value() == str(value)  # what was typed is still there
    assert vera.alarms == []


SAVE = """
from tom_dataservices.models import DataServiceQuery
for name, more in [
    ("of an earlier release", {{"object_id": {name!r}, "colour": "blue"}}),
    ("spoilt", {{"limit": "many", "object_id": {name!r}}}),
]:
    DataServiceQuery.objects.create(
        name=name, data_service={service!r}, parameters={{"data_service": {service!r}, **more}}
    )
"""


@pytest.fixture(scope="module")
def saved(project, alerts):
    """Save two questions that this release doesn't make."""
    name = next(iter(alerts))
    project.manage("shell", "--command", SAVE.format(name=name, service=ARCHIVE))
    return name


def test_a_question_that_an_earlier_release_saved(person, served, saved):
    vera = person("vera", served)
    assert saved in vera.ask_again("of an earlier release").first.inner_text()


def test_a_saved_question_that_is_spoilt(person, served, saved):
    vera = person("vera", served)
    assert vera.ask_again("spoilt").count() == 0
    assert "limit" in vera.messages
