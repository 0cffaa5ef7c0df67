"""The data sets that the sandbox's dserver has of its own, the same for each start.

=====================  ============================  =====================================================================
base URI               data set                      what is in it
=====================  ============================  =====================================================================
s3://sandbox-spectra   SUPERNOVA-frames              raw frames of a supernova
s3://sandbox-spectra   SUPERNOVA-spectrum            its spectrum, derived from the frames (the readme says so)
s3://sandbox-spectra   SUPERNOVA-classification      a result, derived from the spectrum (an annotation says so)
s3://sandbox-spectra   SUPERNOVA-notes               a readme that is no YAML
s3://sandbox-spectra   SUPERNOVA-unlabelled          an empty readme, and no items
s3://sandbox-imaging   STAR-cutouts                  science, template and difference of an alert
s3://sandbox-imaging   STAR-light-curve              a table
s3://sandbox-imaging   SUPERNOVA-light-curve         a table; registered by PUT
smb://sandbox/copies   STAR-light-curve              the same UUID at another base URI
file://sandbox/…       STAR-logbook                  a base URI with blanks, a plus and an umlaut
s3://sandbox-embargo   OTHER-light-curve             only the admin may see it
=====================  ============================  =====================================================================

SUPERNOVA, STAR and OTHER are the names of objects of the synthetic sky. The reader may search s3://sandbox-spectra.
"""

from __future__ import annotations

import json
import random
import uuid
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.dserver.spectra import draw_frame, draw_light_curve, draw_spectrum

if TYPE_CHECKING:
    from nuncius.sandbox.dserver import SandboxDServer
    from nuncius.sandbox.sky import SkyObject, SyntheticSky
    from nuncius.sandbox.store import SandboxStore

SPECTRA, IMAGING, EMBARGO = "s3://sandbox-spectra", "s3://sandbox-imaging", "s3://sandbox-embargo"
COPIES, ODD = "smb://sandbox/copies", "file://sandbox/Nächte 1 + 2"
_BEGIN_S = 1_763_000_000.123456  # seconds since 1970, to the microsecond


def fill(server: SandboxDServer, store: SandboxStore | None) -> None:
    """Add the data sets; the items of those on S3 are put into the store, if there is one."""
    from nuncius.sandbox.sky import SyntheticSky

    both = (server.username, "admin")
    for base_uri in (SPECTRA, IMAGING, COPIES, ODD):
        readers = ("reader",) if base_uri == SPECTRA else ()
        server.add_base_uri(base_uri, search=(*both, *readers), register=both)
    server.add_base_uri(EMBARGO, search=("admin",), register=("admin",))
    sky = SyntheticSky(seed=1, objects=10)
    _Filling(server, store).all(sky)


class _Filling:
    """Adds one data set after the other, with UUIDs and times that are always the same."""

    def __init__(self, server: SandboxDServer, store: SandboxStore | None) -> None:
        self._server = server
        self._store = store
        self._random = random.Random(1)  # noqa: S311 - the same each time, on purpose
        self._number = 0

    def add(self, name: str, base_uri: str, **more: Any) -> str:
        self._number += 1
        created = _BEGIN_S + 86400.5 * self._number
        more.setdefault("uuid", str(uuid.UUID(int=self._random.getrandbits(128), version=4)))
        store = self._store if base_uri.startswith("s3:") else None
        return self._server.add(
            name, base_uri=base_uri, created_at=created, frozen_at=created + 1234.75, store=store, **more
        )

    def all(self, sky: SyntheticSky) -> None:
        star, supernova, other = (sky.objects[index] for index in (0, 1, 8))
        self._spectra(supernova)
        self._imaging(sky, star, supernova)
        self.add(
            f"{other.object_id}-light-curve",
            EMBARGO,
            readme=_readme(other, "light curve under embargo"),
            items={"lightcurve.fits": draw_light_curve(other)},
            tags=["light-curve"],
        )

    def _spectra(self, source: SkyObject) -> None:
        name = source.object_id
        frames = self.add(
            f"{name}-frames",
            SPECTRA,
            readme=_readme(source, "raw frames of a long-slit spectrograph"),
            items={f"raw/frame_{number}.fits": draw_frame(seed=number) for number in (1, 2)},
            tags=["raw", "spectrum"],
        )
        spectrum = self.add(
            f"{name}-spectrum",
            SPECTRA,
            readme=_readme(source, "spectrum, flux calibrated"),
            items={"spectrum.fits": draw_spectrum(source), "log.txt": b"2 frames combined\n"},
            tags=["reduced", "spectrum"],
            annotations={"object_id": name, "resolution": 1200, "wavelength_nm": [380, 920]},
            derived_from=[frames],
        )
        self.add(
            f"{name}-classification",
            SPECTRA,
            readme=_readme(source, "classification of the spectrum"),
            items={"result.json": json.dumps({"class": source.subtype, "phase_d": -1.5}).encode()},
            tags=["classification"],
            annotations={"object_id": name, "source_dataset_uuid": spectrum.rpartition("/")[2]},
            creator_username="admin",
        )
        self.add(
            f"{name}-notes",
            SPECTRA,
            readme="seen: [through clouds\n\tnot photometric: {\n",
            items={"notes.txt": b"clouds\n"},
        )
        self.add(f"{name}-unlabelled", SPECTRA)

    def _imaging(self, sky: SyntheticSky, star: SkyObject, supernova: SkyObject) -> None:
        self.add(
            f"{star.object_id}-cutouts",
            IMAGING,
            readme=_readme(star, "cutouts of an alert"),
            items=_cutouts(sky, star.object_id),
            tags=["cutouts"],
            annotations={"object_id": star.object_id},
        )
        name, curve = f"{star.object_id}-light-curve", {"lightcurve.fits": draw_light_curve(star)}
        readme = _readme(star, "light curve in three bands")
        uri = self.add(name, IMAGING, readme=readme, items=curve, tags=["light-curve"])
        self.add(
            name,
            COPIES,
            readme=readme,
            items=curve,
            tags=["light-curve", "copy"],
            uuid=uri.rpartition("/")[2],
        )
        self.add(
            f"{supernova.object_id}-light-curve",
            IMAGING,
            readme=_readme(supernova, "light curve in three bands"),
            items={"lightcurve.fits": draw_light_curve(supernova)},
            tags=["light-curve"],
            by_put=True,
        )
        self.add(
            f"{star.object_id}-logbook",
            ODD,
            readme=_readme(star, "Beobachtungsbuch: klare Nächte"),
            items={"Größe + Farbe.txt": "Größe: 16,2\n".encode()},
            tags=["Logbuch"],
        )


def _readme(source: SkyObject, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "creation_date": "2025-11-13",
        "object": {
            "id": source.object_id,
            "kind": source.kind,
            "ra": round(source.ra, 6),
            "dec": round(source.dec, 6),
        },
        "owners": [{"name": "Vera Example", "username": "testuser", "email": "vera@example.org"}],
    }


def _cutouts(sky: SyntheticSky, object_id: str) -> dict[str, bytes]:
    from nuncius.alerts import Alert

    for packet in sky.alerts(200):
        alert = Alert.from_bytes(packet)
        if alert.object_id == object_id:
            return {
                f"{kind.lower()}.fits.gz": alert.packet[f"cutout{kind}"]["stampData"]
                for kind in ("Science", "Template", "Difference")
            }
    raise LookupError(object_id)
