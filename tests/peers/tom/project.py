"""A TOM project made from scratch, as an astronomer makes one: `django-admin`, `tom_setup`, some settings, `migrate`.

To look at one yourself:

    python tests/peers/tom/project.py FOLDER --python PYTHON --port 8000

with the interpreter of an environment that has tomtoolkit and nuncius. It serves until Ctrl-C; the users are vera and
galileo, their passwords are below.
"""

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

# All by default, the newest last; NUNCIUS_TOM_VERSIONS names some, where minutes count.
VERSIONS = os.environ.get("NUNCIUS_TOM_VERSIONS", "2.32.4,3.0.1,3.1.0").split(",")

# Our services, as the Toolkit's menu names them.
ARCHIVE = "Nuncius Archive"
STREAM = "Nuncius Stream"

NAME = "mytom"
USERS = {"vera": "rubin-1928", "galileo": "sidereus-1610"}

# What tom_setup asks: go on?, name of one's own app, type of targets (sidereal), hints?
ANSWERS = "y\ncustom_code\n1\nn\n"

# What our documentation has one add, and what differs from one run of the server to the next.
SETTINGS = """
# What a test needs.
import json

ALLOWED_HOSTS = ["127.0.0.1"]
CACHES["default"]["LOCATION"] = os.path.join(BASE_DIR, "cache")
if "tom_dataservices" not in INSTALLED_APPS:
    INSTALLED_APPS += ["tom_dataservices"]
INSTALLED_APPS += ["nuncius.tom"]
globals().update(json.loads(os.environ.get("MYTOM_SETTINGS", "{}")))
"""

# The protection of results is taken away as a developer could: when the apps are ready.
OWN_APP = """
import os

from django.apps import AppConfig


class CustomCodeConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "custom_code"

    def ready(self):
        if os.environ.get("MYTOM_UNPROTECTED"):
            from nuncius.tom import rows

            rows.PROTECTED = False
"""

MAKE_USERS = """
import json, sys
from django.contrib.auth.models import User
for name, password in json.loads(sys.stdin.read()).items():
    User.objects.create_user(name, f"{name}@example.org", password)
"""


@dataclass(frozen=True)
class Served:
    """A server of the project."""

    url: str
    log: Path


class Project:
    """A project in a folder, run by an interpreter that has tomtoolkit and nuncius.

    Parameters
    ----------
    parent : Path
        The folder in which its folder is made.
    python : str or Path
        The interpreter.
    """

    def __init__(self, parent, python):
        self.folder = Path(parent) / NAME  # tom_setup takes the folder's name for the project's
        self.python = str(python)
        self._served = 0
        # What a program of the project gets to know of the world around it: no login or setting of whoever runs this.
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("NUNCIUS_", "GOOGLE_", "PUBSUB_", "DJANGO_", "PYTHON"))
        } | {"HOME": str(self.folder / "home"), "PYTHONUNBUFFERED": "1"}

    def build(self):
        """Make all of it."""
        self.folder.mkdir(parents=True)
        (self.folder / "home").mkdir()
        self._run("-m", "django", "startproject", NAME, str(self.folder))
        settings = self.folder / NAME / "settings.py"
        begun = settings.read_text()
        settings.write_text(begun.replace("INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'tom_setup',", 1))
        # It makes a superuser only with a terminal.
        self.manage("tom_setup", given=ANSWERS)
        made = settings.read_text()
        settings.write_text(made + SETTINGS)
        (self.folder / "custom_code" / "apps.py").write_text(OWN_APP)
        self.manage("migrate", "--verbosity", "0")
        self.manage("shell", "--command", MAKE_USERS, given=json.dumps(USERS))
        return self

    def manage(self, *command, given="", check=True, settings=None):
        """Run a command of the project, and return how it ended."""
        return self._run("manage.py", *command, given=given, check=check, settings=settings)

    def count(self, table):
        """Return how many rows the tables of the project's database have whose names end so."""
        with contextlib.closing(sqlite3.connect(self.folder / "db.sqlite3")) as database:
            names = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?", [f"%{table}"]
            )
            return sum(
                database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
                for (name,) in names.fetchall()
            )

    def start(self, *command, log, settings=None, unprotected=False):
        """Begin a command that goes on, and return its process."""
        with log.open("wb") as out:
            return subprocess.Popen(
                [self.python, "manage.py", *command],
                cwd=self.folder,
                env=self._environment(settings, unprotected=unprotected),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @contextlib.contextmanager
    def served(self, *, settings=None, unprotected=False, port=0):
        """Serve the project on a port of 127.0.0.1 until the end of the block."""
        self._served += 1
        log = self.folder / f"served_{self._served}.log"
        port = port or _free_port()
        command = ("runserver", f"127.0.0.1:{port}", "--noreload")
        process = self.start(*command, log=log, settings=settings, unprotected=unprotected)
        try:
            served = Served(f"http://127.0.0.1:{port}", log)
            _wait(served, process)
            yield served
        finally:
            end(process)

    def _run(self, *command, given="", check=True, settings=None):
        done = subprocess.run(
            [self.python, *command],
            cwd=self.folder,
            env=self._environment(settings),
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def _environment(self, settings, *, unprotected=False):
        more = {"MYTOM_SETTINGS": json.dumps(settings or {}, default=str)}
        if unprotected:
            more["MYTOM_UNPROTECTED"] = "1"
        return self.environment | more


def end(process):
    """End a process of ours, politely if it listens."""
    process.terminate()
    try:
        return process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _wait(served, process):
    """Wait until the server answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while True:
        try:
            opener.open(served.url + "/accounts/login/", timeout=10).close()
        except urllib.error.HTTPError as error:
            raise RuntimeError(
                f"the server answers {error.code}:\n{served.log.read_text()[-3000:]}"
            ) from error
        except urllib.error.URLError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{served.log.read_text()[-3000:]}") from error
            time.sleep(0.1)
        else:
            return


def main():
    """Make a project, and serve it."""
    parser = argparse.ArgumentParser(
        description="Make a TOM project from scratch, and serve it until Ctrl-C."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that has tomtoolkit and nuncius"
    )
    parser.add_argument("--settings", default="{}", help="more settings, as JSON")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    project = Project(given.folder.absolute(), given.python)
    if not project.folder.exists():
        project.build()
    with project.served(settings=json.loads(given.settings), port=given.port) as served:
        print(f"{served.url}  users and passwords: {USERS}")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
