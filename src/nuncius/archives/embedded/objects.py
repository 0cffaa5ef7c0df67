"""All that an archive knows of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts.lightcurve import LightCurve
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.histories import ENTRIES, read_entries
from nuncius.archives.embedded.query import read_document
from nuncius.errors import NotFoundError

if TYPE_CHECKING:
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document


class ArchivedObject:
    """All that an archive knows of one object, made by `object` of an embedded archive.

    Parameters
    ----------
    object_id : str
        The survey's name of it.
    catalog : str
        The catalog of its alerts.
    alerts : list of dict
        The documents of its alerts, oldest first, without images.
    """

    def __init__(
        self,
        object_id: str,
        catalog: str,
        alerts: list[Document],
        points: list[tuple[str, str, str, str | None]],
    ) -> None:
        self.object_id = object_id
        self.catalog = catalog
        self.alerts = alerts
        self._points = points  # the histories as text: most callers want either the documents or the curve
        self._curve: LightCurve | None = None

    @property
    def light_curve(self) -> LightCurve:
        """Its alerts and histories, each point once."""
        if self._curve is None:
            survey = survey_of_catalog(self.catalog)
            points = [survey.read(alert).point for alert in self.alerts]
            for list_name, entries in read_entries(self._points).items():
                found = (survey.history_point(list_name, entry) for entry in entries)
                points += [point for point in found if point is not None]
            self._curve = LightCurve(points)
        return self._curve

    def __repr__(self) -> str:
        return f"<ArchivedObject {self.object_id} in {self.catalog}: {len(self.alerts)} alerts, {self.light_curve!r}>"


def read_object(database: Database, object_id: str) -> ArchivedObject:
    """Read all that is known of an object.

    Raises
    ------
    NotFoundError
        If no alert of such an object is in the archive.
    """
    for catalog in database.catalogs("alerts"):
        with database.errors():
            ask = database.connection.execute
            rows = ask(
                f"SELECT document, extras, annotations FROM {quoted(catalog)} WHERE object_id = ? ORDER BY mjd",
                (object_id,),
            ).fetchall()
            if not rows:
                continue
            points = ask(
                f"SELECT {ENTRIES} FROM {quoted(f'{catalog}:points')} WHERE object_id = ?",
                (object_id,),
            ).fetchall()
        return ArchivedObject(object_id, catalog, [read_document(*row) for row in rows], points)
    raise NotFoundError(f"no alert of an object {object_id!r} is in {database.path}", position=object_id)
