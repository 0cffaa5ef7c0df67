"""Real stores and real clients of stores, on loopback.

The clients and moto are in an environment of their own, on top of the one that runs the tests: it sees that one's packages
and has others, so that little is installed twice. Azurite is a program of node's, installed into a temporary folder.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from stores_support import ODD, REGION, running

from nuncius.cloudfits.stores import logins, sessions
from nuncius.sandbox.fits_files import compressed_image, good_file, large_table, many_hdus
from nuncius.sandbox.store import SandboxStore

PACKAGES = (
    "moto[s3]==5.2.5",
    "flask>=3",
    "flask-cors>=6",  # which moto's server needs
    "s3fs==2026.9.0",
    "adlfs==2026.8.0",
    "aiohttp>=3.9",
)
AZURITE = "azurite@3.35.0"  # the last one that runs on node 20
HERE = Path(__file__).resolve().parent


def need_the_job():
    if not os.environ.get("NUNCIUS_TEST_STORES"):
        pytest.skip("NUNCIUS_TEST_STORES is not set: the job `nox -s stores` runs these tests (PyPI, npm)")


@pytest.fixture(scope="session")
def clients_python(tmp_path_factory):
    """Return the interpreter of the environment that has moto and the clients."""
    need_the_job()
    if given := os.environ.get("NUNCIUS_STORES_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("clients")
    venv.create(folder, with_pip=False)
    below = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    seen = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    Path(below, "below.pth").write_text("\n".join(seen), encoding="utf-8")
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    installed = subprocess.run([*map(str, install), *PACKAGES], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"moto and the clients could not be installed: {installed.stderr[-300:]}")
    return str(python)


@pytest.fixture(scope="session")
def client(clients_python):
    """Have a real client do one thing, in a process of its own, and return what it says."""

    def call(action, **order):
        done = subprocess.run(
            [clients_python, str(HERE / "client_program.py")],
            input=json.dumps({"action": action, **order}),
            capture_output=True,
            text=True,
            timeout=120,
            env={
                name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AZURE_"))
            },
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return call


# What is kept everywhere ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def objects():
    """Return what each store keeps: key -> (bytes, whether anybody may read it)."""
    small = many_hdus("small", count=5)
    kept = {
        "x.fits": (good_file(), True),
        ODD: (good_file()[:14400], True),
        "private.fits": (good_file(), False),
        "empty.fits": (b"", True),
        "mosaic.fits": (small.read(0, small.size), True),
        "tiles.fits": (compressed_image(), True),
        "catalog.fits": (large_table(2000), True),
    }
    return kept | {f"night/{number}/image.fits": (good_file(), True) for number in range(7)}


@pytest.fixture(scope="session")
def store(objects):
    need_the_job()
    with SandboxStore(region=REGION) as opened:
        for key, (data, public) in objects.items():
            opened.put(key, data, public=public)
        opened.put("private.fits", good_file(), bucket="shut", public=False)
        yield opened


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    """Let nobody's credentials be found, and say anew what is announced once."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "SPACES_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(logins, "machine_cloud", lambda: None)
    monkeypatch.setattr(sessions, "_regions", {})


# moto -------------------------------------------------------------------------------------------------------------------


class Moto:
    """moto's server with an account that may do everything; it checks who asks only in `checking`."""

    def __init__(self, url):
        self.url = url
        anybody = {"aws_access_key_id": "any", "aws_secret_access_key": "thing", "region_name": REGION}
        self.s3 = boto3.client("s3", endpoint_url=url, **anybody)
        iam = boto3.client("iam", endpoint_url=url, **anybody)
        iam.create_user(UserName="reader")
        made = iam.create_access_key(UserName="reader")["AccessKey"]
        self.keys = made["AccessKeyId"], made["SecretAccessKey"]
        allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=policy)

    @contextmanager
    def checking(self):
        """Let it check signatures, with botocore; it fails then for who is nobody, and for links."""
        self._check_after("0")
        try:
            yield
        finally:
            self._check_after("inf")

    def _check_after(self, count):
        import requests

        assert requests.post(f"{self.url}/moto-api/reset-auth", data=count, timeout=60).status_code == 200


@pytest.fixture(scope="session")
def moto(clients_python, objects, tmp_path_factory):
    command = [clients_python, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with running(command, ready=r"http://127\.0\.0\.1:\d+", cwd=tmp_path_factory.mktemp("moto")) as url:
        server = Moto(url)
        for bucket in ("sky", "shut"):
            server.s3.create_bucket(Bucket=bucket)
        server.s3.put_bucket_acl(Bucket="sky", ACL="public-read")
        for key, (data, public) in objects.items():
            acl = "public-read" if public else "private"
            server.s3.put_object(Bucket="sky", Key=key, Body=data, ACL=acl)
        server.s3.put_object(Bucket="shut", Key="private.fits", Body=good_file())
        yield server


# Azurite ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def azurite_program(tmp_path_factory):
    need_the_job()
    if given := os.environ.get("NUNCIUS_AZURITE"):
        return Path(given)
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not installed: Azurite comes from npm and runs on node 18 or later"
        )
    folder = tmp_path_factory.mktemp("azurite-program")
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--loglevel=error")
    command = ["npm", "install", *options, "--prefix", str(folder), AZURITE]
    installed = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if installed.returncode:
        pytest.skip(f"Azurite could not be installed: {installed.stderr[-300:]}")
    return folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@pytest.fixture(scope="session")
def azurite(azurite_program, store, objects, client, tmp_path_factory):
    """Return the URL of the account that the sandbox has too, with the same key and the same objects."""
    folder = tmp_path_factory.mktemp("azurite")
    options = ("--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry")
    command = ["node", str(azurite_program), "--blobHost", "127.0.0.1", "--silent", *options]
    env = os.environ | {"AZURITE_ACCOUNTS": f"{store.azure_account}:{store.azure_key}"}
    listens = r"(?<=listens on )http://127\.0\.0\.1:\d+"
    with running(command, ready=listens, cwd=folder, env=env) as server:
        url = f"{server}/{store.azure_account}"
        files = {}
        for number, (key, (data, public)) in enumerate(objects.items()):
            path = folder / f"{number}.fits"
            path.write_bytes(data)
            files[key] = [str(path), "sky" if public else "shut"]
        client("fill_azure", url=url, account=store.azure_account, key=store.azure_key, files=files)
        yield url
