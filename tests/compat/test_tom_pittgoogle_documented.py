"""The workflow of tom_pittgoogle's documentation, and how it finds the project and the login.

Of the documented example only the import line is written, the placeholder filled in, and ``return result = …`` put right.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
import urllib.request

import pytest
from pittgoogle_support import STREAM, left, names, packets

from nuncius.compat.tom_pittgoogle import settings
from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython
from nuncius.errors import ConfigurationError, LoginError, MissingExtraError
from nuncius.sandbox.pubsub import SandboxPubSub

pytest_plugins = ["pittgoogle_fixtures"]

WORKFLOW = """
from tom_pittgoogle.consumer_stream_python import ConsumerStreamPython

subscription_name = "ztf-loop"
consumer = ConsumerStreamPython(subscription_name)

def user_callback(alert_dict):
    # Process the alert as desired. If processing is successful,
    # tell the consumer to send an acknowldgement to Pub/Sub.
    success = True
    if success:
        ack = True
    else:
        ack = False
    result = {"ack": ack}
    return result

alert_dicts_list = consumer.stream_alerts(user_callback=user_callback)

import json, sys
print(json.dumps([alert["objectId"] for alert in alert_dicts_list]))
print(json.dumps("django" in sys.modules))
"""
BROKER = "nuncius.compat.tom_pittgoogle.broker_stream_python"
SIGNATURES = {
    "stream_alerts": "(self, send_data='alert_dict', include_metadata=False, user_callback=None, return_list=False, "
    "flow_configs=None, **user_kwargs)",
    "callback": "(self, message)",
    "touch_subscription": "(self)",
    "delete_subscription": "(self)",
    "get_credentials": "(self, user_project)",
    "authenticate_with_oauth": "(self)",
}


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", script.replace("from tom_pittgoogle", "from nuncius.compat.tom_pittgoogle")],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_documented_workflow(pubsub):
    pubsub.publish(STREAM, packets(20))
    assert run(WORKFLOW) == [names(10), False]
    assert left(pubsub) == (10, 0, 10, 0)


@pytest.mark.parametrize("method", SIGNATURES)
def test_documented_signatures(method):
    signature = inspect.signature(getattr(ConsumerStreamPython, method))
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    assert str(signature.replace(parameters=plain, return_annotation=signature.empty)) == SIGNATURES[method]


def test_the_documented_constructor_and_attributes(consumer):
    parameters = list(inspect.signature(ConsumerStreamPython).parameters.values())
    assert [(one.name, one.kind.name) for one in parameters[:2]] == [
        ("subscription_name", "POSITIONAL_OR_KEYWORD"),
        ("save_fields", "POSITIONAL_OR_KEYWORD"),
    ]
    assert {one.kind.name for one in parameters[2:]} == {"KEYWORD_ONLY"}
    assert consumer.save_fields == {
        "top-level": ["objectId", "candid"],
        "candidate": ["jd", "ra", "dec", "magpsf", "classtar"],
        "metadata": ["message_id", "publish_time", "kafka.timestamp"],
    }
    assert consumer.database_list == []
    assert consumer.streaming_pull_future is None
    assert consumer.queue.empty()


def test_a_broker_without_django_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "django.forms", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, BROKER, raising=False)
    with pytest.raises(MissingExtraError, match=r"nuncius\[tom\]"):
        importlib.import_module(BROKER)


# Project and login ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running_google():
    with SandboxPubSub(project="observatory", tls=True) as box:
        yield box


@pytest.fixture
def google(running_google, no_login, monkeypatch):
    """Give a server that wants TLS and a login, in the place of Google's."""
    box = running_google
    box.reset()
    for name, value in {"SERVERS": box.endpoint, "SSL_CA_LOCATION": str(box.ca_file)}.items():
        monkeypatch.setenv(f"NUNCIUS_PITTGOOGLE_{name}", value)
    box.login.refuses = ""
    return box


@pytest.fixture
def key_file(google, tmp_path):
    return google.login.write_key_file(tmp_path / "key.json")


def test_nobody_is_logged_in(no_login, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "observatory")
    with pytest.raises(PermissionError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        ConsumerStreamPython(STREAM)
    assert isinstance(caught.value, LoginError)


def test_an_emulator_wants_nobody(consumer):
    from google.auth.credentials import AnonymousCredentials

    assert isinstance(consumer.get_credentials("nuncius-sandbox"), AnonymousCredentials)
    assert isinstance(consumer.credentials, AnonymousCredentials)


def test_a_key_file_that_is_none(no_login, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match=r"none\.json"):
        ConsumerStreamPython(STREAM)


def test_the_project_of_the_environment(pubsub, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-one")
    consumer = ConsumerStreamPython(STREAM)
    assert consumer.user_project == "another-one"
    assert consumer.subscription_path == "projects/another-one/subscriptions/ztf-loop"


def test_a_key_file(google, key_file, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    consumer = ConsumerStreamPython(STREAM)
    assert consumer.user_project == "observatory"  # that of the key
    google.publish(STREAM, packets(3))
    assert len(consumer.stream_alerts(flow_configs={"max_results": 3})) == 3
    assert left(google) == (0, 0, 3, 0)


def test_a_key_file_of_another_project_is_told(google, key_file, monkeypatch, caplog):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-one")
    with caplog.at_level("WARNING", "nuncius.pittgoogle"):
        assert ConsumerStreamPython(STREAM).user_project == "another-one"
    assert "another-one" in caplog.text
    assert "belongs to observatory" in caplog.text


def test_a_login_that_is_refused(google, key_file, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    google.login.refuses = "invalid_grant"
    with pytest.raises(PermissionError, match="invalid_grant"):
        ConsumerStreamPython(STREAM)


def test_a_login_can_be_given(google, key_file):
    consumer = ConsumerStreamPython(STREAM, credentials=key_file)
    assert consumer.credentials.service_account_email == "reader@observatory.iam.gserviceaccount.com"


@pytest.fixture
def person(google, monkeypatch):
    """Let a person at a browser agree to everything; the client is in the environment."""
    from functools import partial

    visited = []

    class Browser:
        def open(self, url, **more):
            visited.append(url)
            threading.Thread(
                target=lambda: urllib.request.urlopen(url, timeout=10).close(), daemon=True
            ).start()

    monkeypatch.setattr("webbrowser.get", lambda *_: Browser())
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the token endpoint is on loopback
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "observatory")
    monkeypatch.setenv("PITTGOOGLE_OAUTH_CLIENT_ID", google.login.client_id)
    monkeypatch.setenv("PITTGOOGLE_OAUTH_CLIENT_SECRET", google.login.client_secret)
    places = {"authorise_url": google.login.authorise_url, "token_url": google.login.token_url}
    monkeypatch.setattr(settings, "log_in", partial(settings.log_in, **places))
    return visited


def test_a_person_logs_in_once(google, person, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", _Terminal())
    consumer = ConsumerStreamPython(STREAM)
    assert len(person) == 1
    assert person[0] in capsys.readouterr().out
    google.publish(STREAM, packets(3))
    assert len(consumer.stream_alerts(flow_configs={"max_results": 3})) == 3
    google.tokens.clear()  # the token has ended, and is renewed from what was kept
    grants = len(google.login.grants)
    ConsumerStreamPython(STREAM)
    assert len(person) == 1
    assert google.login.grants[grants:] == ["refresh_token"]


def test_nobody_is_asked_but_at_a_terminal(google, person):
    with pytest.raises(LoginError):
        ConsumerStreamPython(STREAM)
    assert person == []


def test_a_login_without_a_client(consumer):
    with pytest.raises(LoginError, match="PITTGOOGLE_OAUTH_CLIENT_ID"):
        consumer.authenticate_with_oauth()


class _Terminal:
    def isatty(self):
        return True
