"""Accounts, tokens and the guards around them."""

import base64
import hashlib
import json
import os
import sqlite3
import stat

import pytest

import nuncius.archives.server.accounts as module
from nuncius.archives.server import Accounts, Limits
from nuncius.archives.server.accounts import accounts_path
from nuncius.archives.server.guard import LoginGuard, Slots
from nuncius.archives.server.limits import Refusal
from nuncius.archives.server.run import check_address
from nuncius.errors import ConfigurationError, LoginError, NotFoundError, StorageError

PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(tmp_path):
    with Accounts(tmp_path / "a.db", scrypt_cost=4) as opened:
        opened.add("vera", PASSWORD, email="vera@example.org")
        yield opened


def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def forged(claims, *, header=None, signature=b""):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    head = json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode()
    return f"{part(head)}.{part(json.dumps(claims).encode())}.{part(signature)}"


# Accounts


def test_an_account_is_added_changed_and_removed(accounts):
    account = accounts.get("vera")
    assert (account.name, account.admin, account.email) == ("vera", False, "vera@example.org")
    assert accounts.accepts("vera", PASSWORD)
    assert not accounts.accepts("vera", PASSWORD + "r")
    accounts.edit("vera", password="another one", email="v@example.org")
    assert accounts.accepts("vera", "another one")
    assert not accounts.accepts("vera", PASSWORD)
    assert accounts.get("vera").email == "v@example.org"
    accounts.remove("vera")
    assert accounts.everyone() == []
    assert not accounts.accepts("vera", "another one")


def test_names_and_passwords_that_can_not_be_used(accounts):
    for name in ("", "a b", "x" * 65, "../a", "-a", "é", "a\n", None, 5):
        with pytest.raises(ConfigurationError, match="a user name has"):
            accounts.add(name, PASSWORD)
    for password in ("", "short", "x" * 1025, None, 5):
        with pytest.raises(ConfigurationError, match="a password has 6 to 1024 characters"):
            accounts.add("edwin", password)
    with pytest.raises(ConfigurationError, match="there is an account 'vera' already"):
        accounts.add("vera", PASSWORD)
    for call in (accounts.get, accounts.remove):
        with pytest.raises(NotFoundError, match="no account 'nobody'"):
            call("nobody")
    with pytest.raises(NotFoundError):
        accounts.edit("nobody", password=PASSWORD)


def test_the_file_holds_no_password_and_only_its_owner_may_read_it(accounts):
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600
    accounts.close()
    assert PASSWORD.encode() not in accounts.path.read_bytes()
    with sqlite3.connect(accounts.path) as connection:
        (kept,) = connection.execute("SELECT hash FROM users").fetchone()
    connection.close()
    assert kept.startswith("scrypt$4$")


def test_a_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "a.db"
    Accounts(path, scrypt_cost=4).close()
    path.chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        Accounts(path)


def test_files_that_are_no_accounts_are_refused(tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    other.chmod(0o600)
    with pytest.raises(StorageError, match="no accounts file"):
        Accounts(other)
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be looked at " * 50)
    text.chmod(0o600)
    with pytest.raises(StorageError, match="can't be used"):
        Accounts(text)
    with pytest.raises(StorageError, match="can't be used"):
        Accounts(tmp_path / "no" / "folder" / "a.db")


def test_the_accounts_stand_beside_the_archive(tmp_path):
    assert accounts_path(tmp_path / "night.db") == tmp_path / "night.db.accounts.db"


def test_an_unknown_name_costs_as_much_as_a_known_one(accounts, monkeypatch):
    costs = []
    scrypt = hashlib.scrypt

    def counted(password, **options):
        costs.append(options["n"])
        return scrypt(password, **options)

    monkeypatch.setattr(module.hashlib, "scrypt", counted)
    assert not accounts.accepts("vera", "wrong password")
    assert not accounts.accepts("nobody", "wrong password")
    assert costs == [16, 16]


def test_passwords_may_be_any_text(accounts):
    for number, password in enumerate(("pässwörd", "\ud83d lone half", "x" * 1024, "nul\0nul")):
        accounts.add(f"user{number}", password)
        assert accounts.accepts(f"user{number}", password)
    assert not accounts.accepts("vera", "x" * 2_000_000)


# Tokens


def test_a_token_says_whose_it_is(accounts):
    token = accounts.token("vera", lifetime_s=60)
    assert accounts.user_of(token).name == "vera"
    claims = claims_of(token)
    assert claims["user_id"] == "vera"
    assert isinstance(claims["exp"], int)
    assert isinstance(claims["created_at"], str)


def test_a_token_dies(accounts):
    with pytest.raises(LoginError, match=r"^token has expired$"):
        accounts.user_of(accounts.token("vera", lifetime_s=-1))
    token = accounts.token("vera", lifetime_s=60)
    accounts.edit("vera", email="v@example.org")
    assert accounts.user_of(token).name == "vera"
    accounts.edit("vera", password=PASSWORD)
    with pytest.raises(LoginError, match=r"^token is invalid$"):
        accounts.user_of(token)
    token = accounts.token("vera", lifetime_s=60)
    accounts.remove("vera")
    accounts.add("vera", PASSWORD)
    with pytest.raises(LoginError, match=r"^token is invalid$"):
        accounts.user_of(token)
    with pytest.raises(NotFoundError):
        accounts.token("nobody", lifetime_s=60)


def test_forged_tokens_are_invalid(accounts, tmp_path):
    claims = claims_of(accounts.token("vera", lifetime_s=60))
    with Accounts(tmp_path / "b.db", scrypt_cost=4) as others:
        others.add("vera", PASSWORD)
        foreign = others.token("vera", lifetime_s=60)
    head, body, signature = accounts.token("vera", lifetime_s=60).split(".")
    other_body = forged({**claims, "user_id": "admin"}).split(".")[1]
    for token in (
        "", "x", "a.b.c", foreign, f"{head}.{other_body}.{signature}", f"{head}.{body}.", f"{head}.{body}",
        forged(claims), forged(claims, header={"alg": "none"}), forged(claims, header={"alg": "None", "typ": "JWT"}),
        "é" * 20, "." * 10_000,
    ):  # fmt: skip
        with pytest.raises(LoginError, match=r"^token is invalid$"):
            accounts.user_of(token)


@pytest.mark.parametrize("missing", ["exp", "user_id", "version"])
def test_a_token_of_ours_without_a_claim_is_invalid(accounts, missing):
    import jwt

    claims = claims_of(accounts.token("vera", lifetime_s=60))
    del claims[missing]
    token = jwt.encode(claims, accounts._secret, algorithm="HS256")
    with pytest.raises(LoginError, match=r"^token is invalid$"):
        accounts.user_of(token)
    for odd in ({"user_id": ["vera"]}, {"version": 5}, {"exp": "soon"}):
        claims = claims_of(accounts.token("vera", lifetime_s=60)) | odd
        with pytest.raises(LoginError, match=r"^token is invalid$"):
            accounts.user_of(jwt.encode(claims, accounts._secret, algorithm="HS256"))


def test_tokens_outlive_the_server(accounts):
    token = accounts.token("vera", lifetime_s=60)
    with Accounts(accounts.path, scrypt_cost=4) as again:
        assert again.user_of(token).name == "vera"


def test_accounts_show_no_secret(accounts):
    assert PASSWORD not in repr(accounts) + repr(accounts.everyone())
    assert "scrypt" not in repr(accounts.everyone())


# Guards


def test_failed_logins_are_slowed_down_by_name_and_address(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("nuncius.archives.server.guard.time.monotonic", lambda: now[0])
    guard = LoginGuard()
    for _ in range(5):
        guard.check("vera", "10.0.0.1")
        guard.tried("vera", "10.0.0.1")
    with pytest.raises(Refusal) as caught:
        guard.check("vera", "10.0.0.1")
    assert (caught.value.status, caught.value.retry_after_s) == (429, 300)
    guard.check("vera", "10.0.0.2")  # the owner, elsewhere, is not locked out
    guard.check("edwin", "10.0.0.1")
    now[0] = 301.0
    guard.check("vera", "10.0.0.1")


def test_failed_logins_are_slowed_down_by_address():
    guard = LoginGuard()
    for number in range(30):
        guard.check(f"user{number}", "10.0.0.1")
        guard.tried(f"user{number}", "10.0.0.1")
    with pytest.raises(Refusal, match="too many logins have failed"):
        guard.check("vera", "10.0.0.1")


def test_a_login_forgives_and_the_guard_forgets():
    guard = LoginGuard()
    for _ in range(4):
        guard.tried("vera", "10.0.0.1")
    guard.succeeded("vera", "10.0.0.1")
    for _ in range(4):
        guard.tried("vera", "10.0.0.1")
    guard.check("vera", "10.0.0.1")
    for number in range(6000):
        guard.tried(f"user{number}", f"10.0.{number // 250}.{number % 250}")
    assert len(guard._failures) <= 10_000


def test_logins_that_succeed_are_not_counted():
    guard = LoginGuard()
    for _ in range(100):
        guard.check("vera", "10.0.0.1")
        guard.tried("vera", "10.0.0.1")
        guard.succeeded("vera", "10.0.0.1")


def test_slots_are_counted_by_user_and_for_all():
    slots = Slots(Limits(queries_per_user=1, queries=2))
    with slots.one("a"):
        with pytest.raises(Refusal) as caught, slots.one("a"):
            pass
        assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
        with slots.one("b"), pytest.raises(Refusal) as caught, slots.one("c"):
            pass
        assert caught.value.status == 503
    with slots.one("a"):
        assert slots._running == {"a": 1}
    assert not slots._running


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_encryption(host):
    check_address(host, encrypted=False, proxy=None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_addresses_need_encryption(host):
    with pytest.raises(ConfigurationError, match="--certificate"):
        check_address(host, encrypted=False, proxy=None)
    check_address(host, encrypted=True, proxy=None)
    check_address(host, encrypted=False, proxy="10.0.0.1")


def test_a_umask_changes_nothing(tmp_path):
    before = os.umask(0)
    try:
        Accounts(tmp_path / "a.db", scrypt_cost=4).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600
