"""`nuncius serve` and `nuncius users`, as they are typed."""

import os
import re
import signal
import stat
import subprocess
import sys
import time

import httpx2
import pytest
from click.testing import CliRunner

from nuncius.archives.server import Accounts
from nuncius.cli import main
from nuncius.sandbox.kowalski import fill_archive

PASSWORD = "a long enough password"
NUNCIUS = [sys.executable, "-m", "nuncius.cli"]


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "night.db"
    fill_archive(path, alerts=10)
    return path


@pytest.fixture
def run(monkeypatch):
    def run(*arguments, code=0, **options):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
        assert done.exit_code == code, done.output
        return done.output

    monkeypatch.delenv("NUNCIUS_NEW_PASSWORD", raising=False)
    return run


def test_users_are_added_listed_changed_and_removed(run, night):
    output = run("users", "add", "vera", "--archive", night, input=f"{PASSWORD}\n{PASSWORD}\n")
    assert "added vera" in output
    assert PASSWORD not in output
    accounts = night.with_name("night.db.accounts.db")
    assert stat.S_IMODE(accounts.stat().st_mode) == 0o600
    environment = {"NUNCIUS_NEW_PASSWORD": "another password"}
    run(
        "users",
        "add",
        "edwin",
        "--admin",
        "--email",
        "e@example.org",
        "--accounts",
        accounts,
        env=environment,
    )
    listed = run("users", "list", "--archive", night)
    assert re.search(r"edwin +True +e@example\.org", listed)
    assert "vera" in listed
    run("users", "password", "vera", "--archive", night, env=environment)
    with Accounts(accounts) as known:
        assert known.accepts("vera", "another password")
        assert known.get("edwin").admin
    run("users", "remove", "vera", "--archive", night)
    assert "vera" not in run("users", "list", "--archive", night)


def test_what_can_not_be_done_with_users(run, night, tmp_path):
    environment = {"NUNCIUS_NEW_PASSWORD": PASSWORD}
    assert "--archive night.db" in run("users", "list", code=2)
    assert "there is no archive" in run("users", "list", "--archive", tmp_path / "nope.db", code=2)
    assert "no users yet" in run("users", "list", "--archive", night)
    assert "no account 'nobody'" in run("users", "remove", "nobody", "--archive", night, code=1)
    assert "no account 'nobody'" in run(
        "users", "password", "nobody", "--archive", night, code=1, env=environment
    )
    assert "a user name has" in run("users", "add", "a b", "--archive", night, code=1, env=environment)
    assert "6 to 1024" in run(
        "users", "add", "vera", "--archive", night, code=1, env={"NUNCIUS_NEW_PASSWORD": "x"}
    )
    run("users", "add", "vera", "--archive", night, env=environment)
    assert "already" in run("users", "add", "vera", "--archive", night, code=1, env=environment)
    assert run("users", "add", "vera", PASSWORD, "--archive", night, code=2)  # never on the command line


@pytest.fixture
def account(night):
    with Accounts(f"{night}.accounts.db") as accounts:
        accounts.add("vera", PASSWORD)


def test_what_is_not_served(run, night, tmp_path):
    assert "nobody has an account yet" in run("serve", night, code=1)
    with Accounts(f"{night}.accounts.db") as accounts:
        accounts.add("vera", PASSWORD)
    assert "--certificate" in run("serve", night, "--host", "0.0.0.0", code=1)
    assert "has no catalog 'Nope'" in run("serve", night, "--catalog", "Nope", code=1)
    certificate = tmp_path / "cert.pem"
    certificate.write_text("")
    assert "--certificate and --key together" in run("serve", night, "--certificate", certificate, code=1)
    assert run("serve", tmp_path / "nope.db", code=1)
    assert not (tmp_path / "nope.db.accounts.db").exists()


def wait_for(url):
    deadline = time.monotonic() + 30
    while True:
        try:
            return httpx2.get(url, timeout=5, trust_env=False)
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.usefixtures("account")
def test_a_server_runs_until_ctrl_c(night):
    port = free_port()
    process = subprocess.Popen(
        [*NUNCIUS, "serve", night, "--port", str(port), "--catalog", "ZTF_alerts"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        answer = wait_for(url)
        assert answer.status_code == 401
        assert "server" not in answer.headers
        token = httpx2.post(f"{url}/api/auth", json={"username": "vera", "password": PASSWORD}).json()[
            "token"
        ]
        body = {"query_type": "info", "query": {"command": "catalog_names"}}
        found = httpx2.post(f"{url}/api/queries", json=body, headers={"Authorization": token})
        assert found.json()["data"] == ["ZTF_alerts"]
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"serving {night} at {url}" in errors
    assert "vera POST /api/queries 200 info - rows=0" in errors
    assert "Traceback" not in errors
    for secret in (PASSWORD, token):
        assert secret not in output + errors
