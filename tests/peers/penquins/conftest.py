"""``nuncius serve`` in a process of its own, for the real penquins."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx2
import pytest


@dataclass
class Served:
    """Where a server is, and who may ask it."""

    port: int
    username: str = "vera"
    password: str = "rubin-1928"
    admin_username: str = "admin"
    admin_password: str = "galileo-1610"

    def config(self, *, admin=False):
        """Return what a client needs to know."""
        name = "admin_" if admin else ""
        login = {key: getattr(self, name + key) for key in ("username", "password")}
        return {"protocol": "http", "host": "127.0.0.1", "port": self.port, **login}


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    if not os.environ.get("NUNCIUS_TEST_PENQUINS"):
        pytest.skip("NUNCIUS_TEST_PENQUINS is not set: the job `nox -s penquins` runs these tests (PyPI)")
    pytest.importorskip("penquins", reason="penquins 2.4.2 is not installed; `nox -s penquins` does it")
    from nuncius.sandbox.kowalski import fill_archive

    path = tmp_path_factory.mktemp("penquins") / "night.db"
    fill_archive(path, alerts=60)
    return path


@pytest.fixture(scope="session")
def serve(archive):
    """Start servers on the archive."""
    processes = []

    def start(*catalogs):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            served = Served(taken.getsockname()[1])
        accounts = archive.with_name(f"{served.port}.accounts.db")
        for name, password, more in (
            (served.username, served.password, ()),
            (served.admin_username, served.admin_password, ("--admin",)),
        ):
            nuncius(
                "users",
                "add",
                name,
                "--archive",
                archive,
                "--accounts",
                accounts,
                *more,
                NUNCIUS_NEW_PASSWORD=password,
            ).check_returncode()
        log = archive.with_name(f"{served.port}.log").open("wb")
        chosen = [part for name in catalogs for part in ("--catalog", name)]
        command = ["serve", archive, "--port", str(served.port), "--accounts", accounts, *chosen]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "nuncius.cli", *map(str, command)], stdout=log, stderr=log
            )
        )
        log.close()
        wait(served.port, processes[-1], archive.with_name(f"{served.port}.log"))
        return served

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(20)


@pytest.fixture(scope="session")
def served(serve):
    return serve()


def nuncius(*command, **environment):
    return subprocess.run(
        [sys.executable, "-m", "nuncius.cli", *map(str, command)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def wait(port, process, log):
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False)
        except httpx2.ConnectError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the server did not start: {log.read_text()}"
            time.sleep(0.05)
        else:
            return
