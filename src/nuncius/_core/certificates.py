"""Where this machine keeps the certificates of the authorities that it trusts."""

from __future__ import annotations

import importlib.util
import os
import ssl
from pathlib import Path

from nuncius.errors import TlsError

# Debian and Ubuntu, Fedora, openSUSE, Alpine and macOS; FreeBSD.
_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
)


def find_certificates() -> Path:
    """Return the file with the certificates of the system: SSL_CERT_FILE, else where OpenSSL and systems keep them.

    Raises
    ------
    TlsError
        If there is none.
    """
    paths = ssl.get_default_verify_paths()
    for place in (os.environ.get("SSL_CERT_FILE"), paths.cafile, paths.openssl_cafile, *_PLACES):
        if place and Path(place).is_file():
            return Path(place)
    if importlib.util.find_spec("certifi") is not None:
        import certifi

        return Path(certifi.where())
    raise TlsError(
        "Could not locate SSL certificates. `openssl version -d` prints the folder where OpenSSL looks for them; give "
        "the file in it (cert.pem, certs.pem or ca-certificates.crt) with ssl_ca_location=, or set SSL_CERT_FILE"
    )
