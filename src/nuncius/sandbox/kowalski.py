"""Kowalski on loopback: our own server on an archive of the synthetic survey, with faults on demand.

The faults stand before the server and not in it: what the server answers without them is what `nuncius serve` answers.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.http import HttpService

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.archives.server import Limits

_SCRYPT_COST = 10  # its passwords are random and live for minutes
REFERENCE_CATALOG = "Gaia_EDR3"


class SandboxKowalski(HttpService):
    """A Kowalski server on loopback; it is ready when it is made.

    Parameters
    ----------
    name : str
        What it is called, to tell several apart.
    alerts : int
        How many alerts of the synthetic survey are in its archive, under ``ZTF_alerts``.
    seed : int
        Of the synthetic survey.
    archive : str or Path, optional
        An archive to serve instead.
    catalogs : iterable of str, optional
        Which catalogs are opened; all by default.
    delay_s, delay_per_position_s : float
        How much slower than possible each answer is.
    limits : Limits, optional
        What one request may cost.

    Attributes
    ----------
    username, password, admin_username, admin_password : str
        Its two accounts.
    requests : list of SandboxRequest
        What arrived, in that order.

    Raises
    ------
    MissingExtraError
        If starlette, uvicorn or PyJWT is not installed.

    Examples
    --------
    >>> with SandboxKowalski() as box:  # doctest: +SKIP
    ...     archive = nuncius.open_archive(box.url, token=box.token)
    """

    first_path = "/api/queries"

    def __init__(
        self,
        *,
        name: str = "default",
        alerts: int = 120,
        seed: int = 1,
        archive: str | Path | None = None,
        catalogs: Iterable[str] | None = None,
        delay_s: float = 0.0,
        delay_per_position_s: float = 0.0,
        limits: Limits | None = None,
    ) -> None:
        self.username, self.admin_username = "astronomer", "admin"
        self.password, self.admin_password = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
        self._closing = contextlib.ExitStack()
        try:
            folder = Path(
                self._closing.enter_context(tempfile.TemporaryDirectory(prefix="nuncius-kowalski-"))
            )
            if archive is None:
                archive = folder / "night.db"
                fill_archive(archive, alerts=alerts, seed=seed)
            app = self._application(Path(archive), folder, catalogs, limits)
            super().__init__(app, name=name, delay_s=delay_s, delay_per_position_s=delay_per_position_s)
        except BaseException:
            self._closing.close()
            raise

    def _application(
        self, archive: Path, folder: Path, catalogs: Iterable[str] | None, limits: Limits | None
    ) -> Any:
        from nuncius._core.lazy import require
        from nuncius.archives import open_archive
        from nuncius.archives.server import Accounts

        require("uvicorn", extra="server")
        require("starlette", extra="server")
        from nuncius.archives.server.app import create_app

        opened = self._closing.enter_context(open_archive(archive, read_only=True))
        self._accounts = self._closing.enter_context(
            Accounts(folder / "accounts.db", scrypt_cost=_SCRYPT_COST)
        )
        self._accounts.add(self.username, self.password)
        self._accounts.add(self.admin_username, self.admin_password, admin=True)
        return create_app(opened, self._accounts, catalogs=catalogs, limits=limits)

    @staticmethod
    def error_body(reason: str) -> dict[str, Any]:
        """See `HttpService.error_body`."""
        return {"status": "error", "message": reason}

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What `open_archive` takes."""
        return f"kowalski+{self.http_url}"

    @property
    def token(self) -> str:
        """A token of the user; a fresh one each time."""
        return self._accounts.token(self.username, lifetime_s=86400)

    @property
    def admin_token(self) -> str:
        """A token of the admin; a fresh one each time."""
        return self._accounts.token(self.admin_username, lifetime_s=86400)

    def expire_tokens(self) -> None:
        """Let all tokens that were given out so far be expired."""
        self._faults.expired = datetime.now(UTC)

    def close(self) -> None:
        """Stop it, and remove its archive."""
        super().close()
        self._closing.close()


# What is in it --------------------------------------------------------------------------------------------------------


def fill_archive(path: str | Path, *, alerts: int = 120, seed: int = 1) -> None:
    """Make an archive with alerts of the synthetic survey and the reference catalog that belongs to it.

    Parameters
    ----------
    path : str or Path
        The archive.
    alerts : int
        How many alerts.
    seed : int
        Of the synthetic sky.
    """
    from nuncius.alerts import Alert
    from nuncius.archives import open_archive
    from nuncius.sandbox.sky import synthetic_alerts
    from nuncius.sandbox.sky.reference import synthetic_catalog

    with open_archive(path) as archive:
        packets = synthetic_alerts(alerts, seed=seed)
        archive.ingest([Alert.from_bytes(packet) for packet in packets], progress=False)
        archive.load_catalog(
            REFERENCE_CATALOG, synthetic_catalog(seed=seed), ra="ra", dec="dec", progress=False
        )
