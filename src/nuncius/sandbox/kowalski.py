"""Kowalski on loopback: our own server on an archive of the synthetic survey, with faults on demand.

The faults stand before the server and not in it: what the server answers without them is what `nuncius serve` answers.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nuncius.sandbox.faults import Fault, Faults
from nuncius.sandbox.http import Server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from nuncius.archives.server import Limits
    from nuncius.sandbox.faults import SandboxRequest

_SCRYPT_COST = 10  # its passwords are random and live for minutes
REFERENCE_CATALOG = "Gaia_EDR3"


class SandboxKowalski:
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
        self.name = name
        self.requests: list[SandboxRequest] = []
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
            self._start(Path(archive), folder, catalogs, limits, (delay_s, delay_per_position_s))
        except BaseException:
            self._closing.close()
            raise

    def _start(
        self,
        archive: Path,
        folder: Path,
        catalogs: Iterable[str] | None,
        limits: Limits | None,
        delays: tuple[float, float],
    ) -> None:
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
        app = create_app(opened, self._accounts, catalogs=catalogs, limits=limits)
        self._faults = Faults(app, self.requests, *delays)
        self._server = Server(self._faults, "Kowalski")
        self._closing.callback(self._server.stop)

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The host name."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port."""
        return self._server.port

    @property
    def url(self) -> str:
        """What `open_archive` takes."""
        return f"kowalski+{self.http_url}"

    @property
    def http_url(self) -> str:
        """Where a browser would find it."""
        return f"http://{self.host}:{self.port}"

    @property
    def token(self) -> str:
        """A token of the user; a fresh one each time."""
        return self._accounts.token(self.username, lifetime_s=86400)

    @property
    def admin_token(self) -> str:
        """A token of the admin; a fresh one each time."""
        return self._accounts.token(self.admin_username, lifetime_s=86400)

    # Faults -----------------------------------------------------------------------------------------------------------

    def fail(
        self,
        *,
        status: int = 503,
        times: int = 1,
        retry_after: float | str | None = None,
        path: str = "/api/queries",
    ) -> None:
        """Answer the next requests with an error, without asking the archive.

        Parameters
        ----------
        status : int
            The HTTP status.
        times : int
            How many requests.
        retry_after : float or str, optional
            What the header Retry-After says.
        path : str
            Which requests: those whose path begins so.
        """
        from http import HTTPStatus

        body = json.dumps({"status": "error", "message": HTTPStatus(status).phrase}).encode()
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self._faults.add(Fault(path, times, status=status, body=body, headers=headers))

    def answer(
        self,
        *,
        body: bytes,
        content_type: str = "application/json",
        status: int = 200,
        times: int = 1,
        path: str = "/api/queries",
    ) -> None:
        """Answer the next requests with something else: a page of a proxy, or what is no JSON."""
        self._faults.add(Fault(path, times, status=status, body=body, headers={"content-type": content_type}))

    def delay(self, seconds: float, times: int = 1, *, path: str = "/api/queries") -> None:
        """Let the next requests wait before they are answered."""
        self._faults.add(Fault(path, times, delay_s=seconds))

    def cut_body(self, times: int = 1, *, path: str = "/api/queries") -> None:
        """Break the connection in the middle of the next answers."""
        self._faults.add(Fault(path, times, cuts=True))

    def expire_tokens(self) -> None:
        """Let all tokens that were given out so far be expired."""
        self._faults.expired = datetime.now(UTC)

    def clear_faults(self) -> None:
        """Forget the faults that did not happen yet."""
        self._faults.clear()

    # The end ----------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Break all connections and stop, in the middle of whatever is going on."""
        self._server.kill()

    def close(self) -> None:
        """Stop it, and remove its archive."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxKowalski {self.name} at {self.http_url}>"


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
