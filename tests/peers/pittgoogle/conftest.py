"""The real pittgoogle-client, led to the sandbox's Pub/Sub server by the variable of Google's clients."""

import importlib.metadata
import os

import pytest

CLIENT = "pittgoogle-client"
VERSION = "0.3.23"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not os.environ.get("NUNCIUS_TEST_PITTGOOGLE"):
        pytest.skip("NUNCIUS_TEST_PITTGOOGLE is not set: the job `nox -s pittgoogle` runs these tests (PyPI)")
    try:
        version = importlib.metadata.version(CLIENT)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{CLIENT} {VERSION} is not installed; `nox -s pittgoogle` does it")
    assert version == VERSION
    # Of connections that end gRPC writes to the terminal.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from nuncius.sandbox.pubsub import SandboxPubSub

    with SandboxPubSub() as running:
        key_file = running.login.write_key_file(tmp_path_factory.mktemp("key") / "key.json")
        variables = running.environment | {"GOOGLE_APPLICATION_CREDENTIALS": str(key_file)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            yield running


@pytest.fixture
def box(server):
    server.reset()
    yield server
    server.reset()


@pytest.fixture
def pittgoogle(box):
    import pittgoogle

    return pittgoogle


@pytest.fixture
def auth(pittgoogle, box):
    """Return credentials as that client makes them: it reads the variables when it is imported."""
    names = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS")
    return pittgoogle.Auth(**{name: os.environ[name] for name in names})
