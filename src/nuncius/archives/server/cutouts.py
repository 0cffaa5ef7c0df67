"""Cutouts as Kowalski serves them: FITS files and pictures, north up."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.alerts.cutouts import Cutout
from nuncius.archives.server.limits import Refusal, wrong

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SURVEYS = {"ztf": "ZTF_alerts", "wntr": "WNTR_alerts", "pgir": "PGIR_alerts", "turbo": "TURBO_alerts"}
KINDS = ("science", "template", "difference")
FORMATS = ("fits", "png")
_OPTIONS = {
    "interval": ("asymmetric_percentile", "min_max", "zscale"),
    "stretch": ("linear", "log", "asinh", "sqrt"),
    "cmap": ("bone", "gray", "cividis", "viridis", "magma"),
}


def make_cutout(
    archive: Any,
    opened: Collection[str],
    path: Mapping[str, str],
    options: Mapping[str, str],
    *,
    timeout_s: float,
) -> tuple[bytes, str]:
    """Return an image and its media type.

    Parameters
    ----------
    archive : EmbeddedArchive
        Where the alert is.
    opened : collection of str
        The opened catalogs.
    path : mapping
        `survey`, `candid`, `cutout` and `format`.
    options : mapping
        `interval`, `stretch` and `cmap` of a picture.
    timeout_s : float
        How long it may take.

    Raises
    ------
    Refusal
        If there is no such image, or no such way to draw it.
    """
    survey, kind, form = (path[part].lower() for part in ("survey", "cutout", "format"))
    for value, known, what in (
        (survey, [*SURVEYS], f"survey {survey[:40]} must be one of [{', '.join(SURVEYS)}]"),
        (kind, KINDS, f"cutout {kind[:40]} not in {list(KINDS)}"),
        (form, FORMATS, f"file format {form[:40]} not in {list(FORMATS)}"),
    ):
        if value not in known:
            raise Refusal(400, what)
    chosen = {name: _choice(name, options.get(name, known[0]), known) for name, known in _OPTIONS.items()}
    candid = path["candid"]
    if not candid.isascii() or not candid.isdigit() or len(candid) > 19:
        raise wrong("ValueError", f"invalid literal for int() with base 10: {candid[:40]!r}")
    image = _image(archive, opened, survey, int(candid), kind, timeout_s)
    return (_fits(image), "image/fits") if form == "fits" else (_png(image, **chosen), "image/png")


def _choice(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refusal(400, f"{name} {value[:40]} not in {list(known)}")
    return value


def _image(
    archive: Any, opened: Collection[str], survey: str, candid: int, kind: str, timeout_s: float
) -> Any:
    import numpy as np

    name = SURVEYS[survey]
    field = f"cutout_{kind}" if survey == "wntr" else f"cutout{kind.capitalize()}"
    found = None
    if name in opened:
        found = archive.find_one(
            name, {"candid": candid}, projection={field: 1, "_id": 0}, timeout_s=timeout_s
        )
    if found is None:
        raise Refusal(400, f"{survey} alert {candid} not found")
    data = found.get(field)
    data = data.get("stampData") if isinstance(data, dict) else data
    if not isinstance(data, bytes):
        raise Refusal(400, f"{survey} alert {candid} has no {kind} cutout")
    return np.flipud(Cutout(kind, data).data)


def _fits(image: Any) -> bytes:
    from astropy.io import fits

    file = io.BytesIO()
    fits.PrimaryHDU(image.astype(">f4")).writeto(file)
    return file.getvalue()


def _png(image: Any, *, interval: str, stretch: str, cmap: str) -> bytes:
    import numpy as np
    from astropy import visualization as vis

    intervals = {
        "asymmetric_percentile": vis.AsymmetricPercentileInterval(1, 100),
        "min_max": vis.MinMaxInterval(),
        "zscale": vis.ZScaleInterval(),
    }
    stretches = {
        "linear": vis.LinearStretch, "log": vis.LogStretch, "asinh": vis.AsinhStretch, "sqrt": vis.SqrtStretch,
    }  # fmt: skip
    values = np.where(np.isfinite(image), image, np.nan)
    low, high = (0.0, 1.0)
    if np.isfinite(values).any():
        low, high = intervals[interval].get_limits(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels without data
        scaled = stretches[stretch]()(np.clip((values - low) / ((high - low) or 1.0), 0, 1))
    file = io.BytesIO()
    # Written without pyplot, whose state threads can't share.
    require("matplotlib.image", extra="plots").imsave(
        file, np.nan_to_num(scaled), cmap=cmap, vmin=0, vmax=1, dpi=42, format="png", origin="upper"
    )
    return file.getvalue()
