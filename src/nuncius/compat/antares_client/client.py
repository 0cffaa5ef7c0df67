"""The class `Client` as antares-client 0.2 documents it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.compat.antares_client.reading import PORT, Reading, check_options, seconds_of, servers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from nuncius.alerts import Alert


class Client(Reading[dict[str, Any]]):
    """A subscription to streams of ANTARES.

    An alert counts as finished when you come back for the next one, or leave the ``with`` block without an error; ANTARES
    then never sends it again. What was not finished comes again after a crash. A message that can't be read is kept in the
    quarantine, and the stream goes on.

    Nothing is sent before the client is entered (``with``) or first polled. It works in scripts, threads and notebooks whose
    event loop is running, and is used by one thread at a time: whoever polls finishes the alert before, so several threads
    (or processes) take a client each, with one `group`, among whose members ANTARES divides the alerts.

    Parameters
    ----------
    topics : list of str
        The names of the streams.
    host, port : str and int, optional
        Where ANTARES' Kafka is; the public one by default.
    api_key, api_secret : str, optional
        The login. By default it is looked for in ``NUNCIUS_ANTARES_USERNAME`` and ``NUNCIUS_ANTARES_PASSWORD``, and in what
        ``nuncius login antares`` has stored.
    group : str, optional
        The name under which ANTARES remembers what was received; this machine's name by default. In a container, whose
        name changes with each start, give one: a new name gets everything anew.
    ssl_ca_location : str or Path, optional
        The certificates that ANTARES is verified with; the system's by default.
    enable_auto_commit : bool
        Whether finished alerts are committed by themselves; otherwise call `commit`.
    config : mapping, optional
        Any setting of librdkafka, but for those that delivery depends on.
    connect_timeout_s : float
        How long connecting may take, login and streams included.
    quarantine_dir : str or Path, optional
        Where messages go that can't be read; a folder in the user's data folder by default.
    **unknown
        Refused: a misspelt option is an error.

    Raises
    ------
    AntaresConfigurationError
        If an argument can't work.
    AntaresLoginError
        If there is no API key.
    AntaresTlsError
        ``Could not locate SSL certificates``: if there are none on this machine and no `ssl_ca_location`.

    Examples
    --------
    >>> with Client(["extragalactic"], api_key=key, api_secret=secret) as client:  # doctest: +SKIP
    ...     for topic, alert in client.iter():
    ...         print(topic, alert["id"])
    """

    def __init__(
        self,
        topics: Iterable[str],
        *,
        host: str | None = None,
        port: int = PORT,
        api_key: str | None = None,
        api_secret: str | None = None,
        group: str | None = None,
        ssl_ca_location: str | Path | None = None,
        enable_auto_commit: bool = True,
        config: Mapping[str, Any] | None = None,
        connect_timeout_s: float = 10.0,
        quarantine_dir: str | Path | None = None,
        **unknown: Any,
    ) -> None:
        check_options(unknown, Client)
        super().__init__(
            topics,
            servers=servers_of(host, port),
            api_key=api_key,
            api_secret=api_secret,
            group=group,
            ssl_ca_location=ssl_ca_location,
            enable_auto_commit=enable_auto_commit,
            config=config,
            connect_timeout_s=connect_timeout_s,
            quarantine_dir=quarantine_dir,
        )

    def poll(self, timeout: float | None = -1) -> tuple[str, dict[str, Any]] | tuple[None, None]:
        """Return the next alert.

        Parameters
        ----------
        timeout : float
            How many seconds to wait; -1 (or None) waits for ever, 0 doesn't wait.

        Returns
        -------
        (topic, alert) : (str, dict)
            The stream, without ANTARES' prefix, and the message as it was sent; ``(None, None)`` when the time is over.

        Raises
        ------
        AntaresLoginError, AntaresForbiddenError, AntaresNotFoundError, AntaresNetworkingException
            What is wrong with the connection, within `connect_timeout_s`. An outage later on is no error: the client
            connects again.
        AntaresQuarantineFullError
            If nothing of what comes can be read.
        """
        return self._next(seconds_of(timeout))

    def iter(self, num_alerts: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return an iterator over (topic, alert).

        Parameters
        ----------
        num_alerts : int, optional
            How many; by default it never ends. The last one is finished when the loop is.

        Raises
        ------
        AntaresException
            As `poll` does.
        """
        return self._each(num_alerts)

    def _value(self, alert: Alert) -> dict[str, Any]:
        return alert.packet
