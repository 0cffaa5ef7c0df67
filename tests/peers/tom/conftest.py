"""Real TOM projects on each generation of the Toolkit, alerts for them, and people with real browsers.

Each version of tomtoolkit is in an environment of its own, made here unless NUNCIUS_TOM_ENVIRONMENTS names a folder that
has them (VERSION/bin/python).
"""

import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import fastavro
import pytest
from browser import Browser, chromium
from project import ARCHIVE, STREAM, VERSIONS, Project

EACH = [pytest.param(version, marks=pytest.mark.xdist_group(f"tom {version}")) for version in VERSIONS]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", params=EACH)
def version(request):
    """Return the version of tomtoolkit."""
    if not os.environ.get("NUNCIUS_TEST_TOM"):
        pytest.skip("NUNCIUS_TEST_TOM is not set: the job `nox -s tom` runs these tests (PyPI, chromium)")
    return request.param


@pytest.fixture(scope="session")
def tom_python(version, tmp_path_factory):
    """Return the interpreter of the environment that has this version."""
    if ready := os.environ.get("NUNCIUS_TOM_ENVIRONMENTS"):
        return str(Path(ready).absolute() / version / "bin" / "python")
    pytest.importorskip(
        "uv", reason="uv, which makes environments fast, is not installed; `nox -s tom` does it"
    )
    folder = tmp_path_factory.mktemp(f"tomtoolkit_{version}") / "environment"
    python = str(folder / "bin" / "python")
    _uv("venv", "--python", sys.executable, str(folder))
    more = ["tom-alertstreams==1.3.0"] if version == VERSIONS[-1] else []
    _uv(
        "pip",
        "install",
        "--python",
        python,
        f"tomtoolkit=={version}",
        "-e",
        f"{ROOT}[pubsub]",
        "pytest",
        *more,
    )
    return python


def _uv(*command):
    done = subprocess.run([sys.executable, "-m", "uv", "--quiet", *command], capture_output=True, text=True)
    assert done.returncode == 0, f"tomtoolkit could not be installed: {done.stderr[-1000:]}"


@pytest.fixture(scope="session")
def project(tom_python, version, tmp_path_factory):
    """Return a project, made from scratch."""
    return Project(tmp_path_factory.mktemp(f"tom_{version}"), tom_python).build()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Return a browser that reaches nothing but this machine."""
    pytest.importorskip("playwright", reason="playwright is not installed; `nox -s tom` does it")
    if chromium() is None:
        pytest.skip("there is no chromium (on Debian: apt-get install chromium)")
    opened = Browser(tmp_path_factory.mktemp("npm"))
    yield opened
    opened.close()


# Alerts ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def alerts():
    """Return the alerts of the synthetic sky by the names of their objects, each in the order of time."""
    from nuncius import Alert
    from nuncius.sandbox import synthetic_alerts

    found = {}
    for packet in synthetic_alerts(400):
        alert = Alert.from_bytes(packet)
        found.setdefault(alert.object_id, []).append(alert)
    return found


@pytest.fixture(scope="session")
def alert_at(alerts):
    """Return what makes an alert of an object of any name, anywhere on the sky."""
    from nuncius import Alert

    template = next(iter(alerts.values()))[0].raw
    reader = fastavro.reader(io.BytesIO(template))
    [content] = reader
    numbers = itertools.count(content["candid"] + 10**9)

    def make(name, ra, dec, *, days=0.0, mag=17.5):
        number = next(numbers)
        when = content["candidate"]["jd"] + days
        candidate = content["candidate"] | {"candid": number, "ra": ra, "dec": dec, "jd": when, "magpsf": mag}
        out = io.BytesIO()
        packet = content | {"objectId": name, "candid": number, "candidate": candidate}
        fastavro.writer(out, reader.writer_schema, [packet])
        return Alert.from_bytes(out.getvalue())

    return make


@pytest.fixture(scope="session")
def archive(project, alerts):
    """Return an archive of the project with these alerts, open."""
    import nuncius

    with nuncius.open_archive(project.folder / "night.db") as opened:
        opened.ingest([alert for several in alerts.values() for alert in several])
        yield opened


@pytest.fixture(scope="session")
def pubsub():
    """Return a Pub/Sub server."""
    from nuncius.sandbox.pubsub import SandboxPubSub

    with SandboxPubSub() as server:
        yield server


@pytest.fixture(scope="session")
def services(project, archive, pubsub):
    """Return what the project's settings say of our services."""
    return {
        ARCHIVE: {"url": str(archive.path)},
        STREAM: {"url": pubsub.url, "archive": str(project.folder / "stream.db")},
    }


@pytest.fixture(scope="session")
def served(project, services):
    """Serve the project."""
    with project.served(settings={"DATA_SERVICES": services}) as running:
        yield running


@pytest.fixture(scope="session")
def unprotected(project, services):
    """Serve the project without the protection of results."""
    with project.served(settings={"DATA_SERVICES": services}, unprotected=True) as running:
        yield running


# People ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cookies():
    """Keep the logins of people, by project."""
    return {}


@pytest.fixture
def person(browser, project, cookies):
    """Return what lets somebody sit down at a browser, logged in if they have a name; no page may fail meanwhile."""
    people = []

    def sit_down(name, served):
        kept = cookies.get((project.folder, name))
        someone = browser.person(name, served.url, kept)
        people.append(someone)
        if kept is None and name:
            someone.log_in()
            cookies[project.folder, name] = someone.context.storage_state()
        return someone

    yield sit_down
    failures = [failure for someone in people for failure in someone.failures]
    for someone in people:
        someone.close()
    assert not failures
