"""Light curves and cutouts as the Toolkit's reduced data and data products; what is there already is left as it is.

Since version 3 the Toolkit has a model of its own for photometry; before, a generic one with JSON. Both are written, by
what is there. Each measurement belongs to a bandpass, which is one trace of the Toolkit's plot: forced photometry, and
light that is missing against the template, are traces of their own, so that no magnitude is taken for what it isn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nuncius.tom.pictures import cutouts_png

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.alerts.cutouts import Cutouts
    from nuncius.alerts.lightcurve import LightCurve, Point

IMAGE_SCALE = 4
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_SIGNIFICANT = (
    3.0  # sigma; below it, a magnitude of forced photometry says no more than that the flux is small
)
_MAG_PER_RELATIVE_ERROR = 1.0857362047581296  # 2.5 / ln 10
_IMAGE_TYPE = "image_file"


@dataclass(frozen=True, slots=True)
class Datum:
    """One measurement as the Toolkit's plot shows it: a magnitude with its error, or a limit."""

    when: datetime
    bandpass: str
    brightness: float | None
    error: float | None
    limit: float | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells it from others of its target."""
        return self.bandpass, self.when, self.brightness, self.limit


def data_of(curve: LightCurve) -> list[Datum]:
    """Return what of a light curve is a magnitude or a limit, each once."""
    found = {datum.identity: datum for point in curve if (datum := _datum(point)) is not None}
    return list(found.values())


def add_photometry(
    target: Any, data: Iterable[Datum], *, service: str, object_id: str, telescope: str
) -> list[Any]:
    """Add measurements to a target; return those that are new."""
    from django.db import transaction
    from tom_dataproducts import models

    about = {"source_name": service, "source_location": object_id[:200]}
    has_own_model = hasattr(models, "PhotometryReducedDatum")
    known = _known(models, target)
    made = []
    with transaction.atomic():
        for datum in data:
            if datum.identity in known:
                continue
            if has_own_model:
                one, is_new = models.PhotometryReducedDatum.objects.get_or_create(
                    target=target, bandpass=datum.bandpass, timestamp=datum.when, brightness=datum.brightness,
                    limit=datum.limit, instrument="", reduction_version="",
                    defaults={**about, "brightness_error": datum.error, "telescope": telescope, "unit": "mag"},
                )  # fmt: skip
            else:
                one, is_new = models.ReducedDatum.objects.get_or_create(
                    target=target, data_type="photometry", timestamp=datum.when, value=_value(datum, telescope),
                    defaults=about,
                )  # fmt: skip
            made += [one] if is_new else []
    return made


def add_cutouts(target: Any, cutouts: Cutouts, *, service: str, alert_id: str) -> list[Any]:
    """Keep the images of an alert as a data product with a thumbnail; return it if it is new.

    The Toolkit makes thumbnails of FITS files alone, and of few of these; so the picture is made here.
    """
    from django.core.files.base import ContentFile
    from tom_dataproducts import models

    product_id = f"{service}:{alert_id}:{target.pk}"[:255]
    if models.DataProduct.objects.filter(product_id=product_id).exists():
        return []
    picture, small = cutouts_png(cutouts, scale=IMAGE_SCALE), cutouts_png(cutouts)
    if not picture:
        return []
    known_types = {kind for kind, _ in models.DATA_TYPE_CHOICES}
    product = models.DataProduct(
        product_id=product_id,
        target=target,
        data_product_type=_IMAGE_TYPE if _IMAGE_TYPE in known_types else "",
        extra_data=f"science, template and difference image of alert {alert_id}, from {service}",
    )
    product.data.save(f"cutouts-{alert_id}.png", ContentFile(picture), save=False)
    product.thumbnail.save(f"cutouts-{alert_id}_tb.png", ContentFile(small), save=False)
    product.save()
    return [product]


def _datum(point: Point) -> Datum | None:
    if point.mjd is None:
        return None
    when, band = _MJD_EPOCH + timedelta(days=point.mjd), point.band or "unknown"
    if point.kind == "limit":
        return None if point.limiting_mag is None else Datum(when, band[:32], None, None, point.limiting_mag)
    if point.mag is None:
        return None
    notes = []
    if point.kind == "forced":
        if point.mag_err is None or point.mag_err > _MAG_PER_RELATIVE_ERROR / _SIGNIFICANT:
            return None
        notes.append("forced")
    if point.is_positive is False:
        notes.append("fainter")
    bandpass = f"{band} ({', '.join(notes)})" if notes else band
    return Datum(when, bandpass[:32], float(point.mag), point.mag_err, None)


def _known(models: Any, target: Any) -> set[tuple[Any, ...]]:
    """Return the measurements that a target has, from whomever they are."""
    if hasattr(models, "PhotometryReducedDatum"):
        rows = models.PhotometryReducedDatum.objects.filter(target=target)
        return set(rows.values_list("bandpass", "timestamp", "brightness", "limit"))
    rows = models.ReducedDatum.objects.filter(target=target, data_type="photometry")
    return {
        (value.get("filter"), when, value.get("magnitude"), value.get("limit"))
        for when, value in rows.values_list("timestamp", "value")
    }


def _value(datum: Datum, telescope: str) -> dict[str, Any]:
    measured = {"magnitude": datum.brightness, "error": datum.error, "limit": datum.limit}
    present = {name: value for name, value in measured.items() if value is not None}
    return {**present, "filter": datum.bandpass, "telescope": telescope}
