"""Certificates for servers on loopback, good ones and bad ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

Certificate = Literal["good", "wrong-host", "expired", "foreign"]


def make_certificates(folder: Path, kind: Certificate = "good") -> tuple[Path, Path]:
    """Write the certificate of a server, and of the authority that a client shall trust.

    Parameters
    ----------
    folder : Path
        Where to.
    kind : str
        ``good``: for 127.0.0.1 and localhost. ``wrong-host``: for another host. ``expired``: since yesterday.
        ``foreign``: signed by another authority than the one that is written.

    Returns
    -------
    tuple of Path
        The authority's certificate; and the server's, with its key.

    Raises
    ------
    ConfigurationError
        If there is no such kind.
    MissingExtraError
        If trustme is not installed.
    """
    if kind not in get_args(Certificate):
        raise ConfigurationError(f"certificate={kind!r}: choose one of {', '.join(get_args(Certificate))}")
    trustme = require("trustme", extra="sandbox")
    authority = trustme.CA()
    signer = trustme.CA() if kind == "foreign" else authority
    names = ("kafka.example.org",) if kind == "wrong-host" else ("127.0.0.1", "localhost")
    until = datetime.now(UTC) - timedelta(days=1) if kind == "expired" else None
    issued = signer.issue_cert(*names, **({"not_after": until} if until else {}))
    trusted, own = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(trusted))
    own.touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(str(own))
    return trusted, own
