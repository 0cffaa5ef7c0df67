"""What several brokers say of one alert stands together: annotations are merged, whichever message came first."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.database import quoted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

# ANTARES sends loci and not alerts; a locus names its newest alert so.
_LOCI, _ALERTS = "ANTARES_alerts", "ZTF_alerts"
_NAME = "ztf_candidate:"
_NAMED = re.compile(rf"{_NAME}(\d{{1,18}})")


def merge_annotations(
    connection: sqlite3.Connection, catalog: str, number: int, known: str | None, more: Mapping[str, Any]
) -> None:
    """Add what another broker says of an alert that is known."""
    before = json.loads(known) if known else {}
    after = {**before, **more}
    if after != before:
        connection.execute(
            f"UPDATE {quoted(catalog)} SET annotations = ? WHERE id = ?", (json.dumps(after), number)
        )


def share_loci(
    connection: sqlite3.Connection, catalogs: Iterable[str], entered: Mapping[str, Iterable[Any]]
) -> None:
    """Let the survey's alert have what a locus says that names it; the locus itself stays in its own catalog.

    Parameters
    ----------
    connection : sqlite3.Connection
        In a transaction.
    catalogs : iterable of str
        All that there are.
    entered : mapping
        The rows that were entered, by catalog.
    """
    if not {_LOCI, _ALERTS} <= set(catalogs):
        return
    loci = [str(row.alert_id) for row in entered.get(_LOCI, ())]
    named = [int(found[1]) for found in map(_NAMED.fullmatch, loci) if found]
    named += [row.alert_id for row in entered.get(_ALERTS, ()) if isinstance(row.alert_id, int)]
    for alert_id in dict.fromkeys(named):
        said = connection.execute(
            f"SELECT annotations FROM {quoted(_LOCI)} WHERE alert_id = ? ORDER BY received DESC LIMIT 1",
            (f"{_NAME}{alert_id}",),
        ).fetchone()
        if said is None or said[0] is None:
            continue
        for number, known in connection.execute(
            f"SELECT id, annotations FROM {quoted(_ALERTS)} WHERE alert_id = ?", (alert_id,)
        ).fetchall():
            merge_annotations(connection, _ALERTS, number, known, json.loads(said[0]))
