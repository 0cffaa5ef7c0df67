"""The class `StreamingClient` as antares-client 2.0 has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.compat.antares_client.exceptions import AntaresAlertParseException, AntaresNetworkingException
from nuncius.compat.antares_client.models import Locus
from nuncius.compat.antares_client.reading import Reading, check_options, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from nuncius.alerts import Alert

__all__ = ["AntaresAlertParseException", "AntaresNetworkingException", "StreamingClient"]


class StreamingClient(Reading[Locus]):
    """A subscription to streams of ANTARES that gives loci; see `nuncius.compat.antares_client.Client` for what it does.

    Parameters
    ----------
    topics : list of str
        The names of the streams.
    api_key, api_secret : str, optional
        The login; see `Client`.
    group, ssl_ca_location, enable_auto_commit : optional
        As for `Client`.
    bootstrap_server : str, optional
        ``host:port``; the public ANTARES by default.
    config, connect_timeout_s, quarantine_dir : optional
        As for `Client`.
    **unknown
        Refused: a misspelt option is an error.

    Raises
    ------
    AntaresConfigurationError, AntaresLoginError, AntaresTlsError
        As `Client` does.

    Examples
    --------
    >>> with StreamingClient(["extragalactic"], key, secret) as client:  # doctest: +SKIP
    ...     for topic, locus in client.iter(limit=10):
    ...         print(topic, locus.locus_id, locus.properties["newest_alert_magnitude"])
    """

    def __init__(
        self,
        topics: Iterable[str],
        api_key: str | None = None,
        api_secret: str | None = None,
        *,
        group: str | None = None,
        ssl_ca_location: str | Path | None = None,
        enable_auto_commit: bool = True,
        bootstrap_server: str | None = None,
        config: Mapping[str, Any] | None = None,
        connect_timeout_s: float = 10.0,
        quarantine_dir: str | Path | None = None,
        **unknown: Any,
    ) -> None:
        check_options(unknown, StreamingClient)
        super().__init__(
            topics,
            servers=bootstrap_server,
            api_key=api_key,
            api_secret=api_secret,
            group=group,
            ssl_ca_location=ssl_ca_location,
            enable_auto_commit=enable_auto_commit,
            config=config,
            connect_timeout_s=connect_timeout_s,
            quarantine_dir=quarantine_dir,
        )

    def poll(self, timeout: float | None = None) -> tuple[str, Locus] | tuple[None, None]:
        """Return the next (topic, locus), or ``(None, None)`` after `timeout` seconds; see `Client.poll`."""
        return self._next(seconds_of(timeout))

    def iter(self, limit: int | None = None) -> Iterator[tuple[str, Locus]]:
        """Return an iterator over (topic, locus); see `Client.iter`."""
        return self._each(limit)

    def _value(self, alert: Alert) -> Locus:
        return Locus.from_alert(alert)
