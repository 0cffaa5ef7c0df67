"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.archives._sync import Archive
from nuncius.archives.alerce import operations
from nuncius.archives.results import Result

if TYPE_CHECKING:
    from nuncius.alerts.cutouts import Cutouts
    from nuncius.alerts.lightcurve import LightCurve
    from nuncius.archives.alerce.backend import AlerceBackend
    from nuncius.archives.language import Document


class AlerceArchive(Archive):
    """ALeRCE's ZTF objects: an archive with the catalog ``ALERCE_objects``, and what ALeRCE has of each object.

    An object comes as a document with `_id` (its `oid`), `meanra`, `meandec`, `ndet`, `firstmjd`, `lastmjd` and how a
    classifier sees it: `classifier`, `class`, `probability`. That is ALeRCE's default one unless the filter names
    another. ALeRCE wants no login.
    """

    _backend: AlerceBackend

    def object(self, oid: str, *, timeout_s: float | None = None) -> Document:
        """Return an object by its name, without classes; see `probabilities` for these.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.object_(self._backend.server, oid, deadline))

    def light_curve(
        self, oid: str, *, forced: bool = False, timeout_s: float | None = None
    ) -> LightCurve:
        """Return the light curve of an object: difference magnitudes and upper limits, read as ZTF's own packets are.

        Parameters
        ----------
        oid : str
            The object.
        forced : bool
            Whether forced photometry is fetched too, from another server.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError
            If there is no such object.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(
            operations.light_curve(self._backend.server, oid, deadline, forced=forced)
        )

    def detections(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return the detections of an object, with ALeRCE's corrected magnitudes.

        Raises
        ------
        NotFoundError
            If there is no such object.
        """
        return self._of(oid, "detections", timeout_s)

    def non_detections(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return the upper limits of an object; see `detections`."""
        return self._of(oid, "non_detections", timeout_s)

    def forced_photometry(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return the forced photometry of an object; see `detections`."""
        deadline = self._deadline(timeout_s)
        return Result(
            self._driver.run(operations.forced_photometry(self._backend.server, oid, deadline))
        )

    def magstats(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return statistics of an object's magnitudes, one row a band; see `detections`."""
        return self._of(oid, "magstats", timeout_s)

    def probabilities(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return how likely each classifier takes an object to be of each class; see `detections`."""
        return self._of(oid, "probabilities", timeout_s)

    def features(self, oid: str, *, timeout_s: float | None = None) -> Result:
        """Return the features of an object's light curve that classifiers look at; see `detections`."""
        return self._of(oid, "features", timeout_s)

    def classifiers(self, *, timeout_s: float | None = None) -> Result:
        """Return all classifiers, with their versions and classes."""
        server, deadline = self._backend.server, self._deadline(timeout_s)
        return Result(self._driver.run(server.rows(server.classifiers, deadline, "the classifiers")))

    def stamps(
        self, oid: str, candid: int | str | None = None, *, timeout_s: float | None = None
    ) -> Cutouts:
        """Return the images of an alert, fetched side by side.

        Parameters
        ----------
        oid : str
            The object.
        candid : int, optional
            The alert; the first one that has images by default.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError
            If there is no such alert, or it has no images.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.stamps(self._backend.server, oid, candid, deadline))

    def _of(self, oid: str, kind: str, timeout_s: float | None) -> Result:
        deadline = self._deadline(timeout_s)
        return Result(self._driver.run(operations.of_object(self._backend.server, oid, kind, deadline)))
