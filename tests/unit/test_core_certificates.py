"""Which certificates a broker is verified with when nobody names any."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nuncius._core import certificates
from nuncius._core.certificates import find_certificates
from nuncius.errors import TlsError


@pytest.fixture
def bare(monkeypatch):
    """A machine that keeps certificates nowhere, and has no certifi."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(certificates, "_PLACES", ())
    nowhere = ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", "/nowhere", "SSL_CERT_DIR", "/nowhere")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return monkeypatch


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle.pem"
    path.write_text("certificates")
    return path


def test_what_is_found_here_verifies(monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    context = ssl.create_default_context(cafile=find_certificates())
    assert context.cert_store_stats()["x509_ca"] > 0


def test_the_variable_comes_first(monkeypatch, bundle):
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert find_certificates() == bundle


@pytest.mark.parametrize("value", ["", "/nowhere/at/all.pem"])
def test_a_variable_that_names_no_file_is_passed_over(bare, bundle, value):
    bare.setenv("SSL_CERT_FILE", value)
    bare.setattr(certificates, "_PLACES", (str(bundle),))
    assert find_certificates() == bundle


def test_a_folder_is_no_file_of_certificates(bare, bundle, tmp_path):
    bare.setenv("SSL_CERT_FILE", str(tmp_path))
    bare.setattr(certificates, "_PLACES", (str(bundle),))
    assert find_certificates() == bundle


@pytest.mark.parametrize("field", ["cafile", "openssl_cafile"])
def test_python_and_openssl_are_asked_before_the_usual_places(bare, bundle, tmp_path, field):
    other = tmp_path / "other.pem"
    other.write_text("")
    bare.setattr(certificates, "_PLACES", (str(other),))
    found = ssl.get_default_verify_paths()._replace(**{field: str(bundle)})
    bare.setattr(ssl, "get_default_verify_paths", lambda: found)
    assert find_certificates() == bundle


def test_the_first_usual_place_that_is_there_counts(bare, bundle):
    bare.setattr(certificates, "_PLACES", ("/nowhere/a.pem", str(bundle), "/nowhere/b.pem"))
    assert find_certificates() == bundle


def test_certifi_is_the_last_resort(bare, bundle):
    certifi = ModuleType("certifi")
    certifi.where = lambda: str(bundle)
    bare.setitem(sys.modules, "certifi", certifi)
    bare.setattr("importlib.util.find_spec", lambda name: certifi if name == "certifi" else None)
    assert find_certificates() == bundle


def test_none_anywhere_is_told_with_its_cure(bare):
    with pytest.raises(TlsError, match=r"Could not locate SSL certificates.*ssl_ca_location=.*SSL_CERT_FILE"):
        find_certificates()


def test_nothing_is_loaded_that_is_not_needed(monkeypatch, bundle):
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setitem(sys.modules, "certifi", None)  # an import would fail
    assert find_certificates() == Path(bundle)
