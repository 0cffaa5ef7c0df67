"""What the packets say: the records of a candidate, of what was there before it, and of forced photometry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.sky.objects import COLOURS, Star
from nuncius.sandbox.sky.schema import earlier_names
from nuncius.sandbox.sky.telescope import ARCSEC_PER_PIXEL, date_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nuncius.sandbox.sky.visits import Visit

_MISSING = -999.0
_FAILED = -99999.0


def candidate_record(rng: np.random.Generator, visit: Visit, stars: Sequence[Star]) -> dict[str, Any]:
    """Return the candidate of an alert; `stars` are those around it."""
    source, exposure = visit.source, visit.exposure
    z = rng.standard_normal(4).tolist()
    record = {
        **_image_values(visit),
        **_measured(rng, visit),
        **_scores(rng, visit),
        **_reference_source(visit),
        **_catalogue_sources(visit, stars),
        "ssdistnr": _MISSING,
        "ssmagnr": _MISSING,
        "ssnamenr": "null",
        "ndethist": visit.detections,
        "ncovhist": visit.covered,
        "jdstarthist": visit.first_jd,
        "jdendhist": exposure.jd,
        "tooflag": 0,
        "rfid": _reference_image(visit),
        "jdstartref": 2458313.966389,
        "jdendref": 2458374.935625,
        "nframesref": 15,
        "nmatches": 300 + int(800 * exposure.wobble),
        "zpclrcov": -6e-6 * (1 + exposure.wobble),
        "zpmed": exposure.zero_point - 0.04,
        "clrmed": 0.7 + 0.03 * z[0],
        "clrrms": 0.25 + 0.02 * z[1],
        "exptime": 30.0,
        "drbversion": "d6_m7",
    }
    if source.kind == "asteroid":
        record["ssdistnr"] = abs(z[2])
        record["ssmagnr"] = round(source.mag + 0.2 + 0.05 * z[3], 1)
        record["ssnamenr"] = source.object_id
    return record


def earlier_record(visit: Visit, candidate: dict[str, Any] | None) -> dict[str, Any]:
    """Return an entry of the history: a detection as its own alert had it, or an upper limit if that is None."""
    known = _image_values(visit) if candidate is None else candidate
    # The survey's histories lack what was looked up in the catalogue of asteroids.
    record = {name: None if name.startswith("ss") else known.get(name) for name in earlier_names()}
    name, day = _difference_image(visit), date_of(visit.exposure.mjd)
    record["pdiffimfilename"] = f"/ztf/archive/sci/{day:%Y/%m%d}/{name[12:18]}/{name}.fz"
    return record


def forced_record(visit: Visit) -> dict[str, Any]:
    """Return the forced photometry of an earlier visit."""
    exposure = visit.exposure
    flux, error = (_FAILED, _FAILED) if visit.has_failed_forced else (visit.forced_flux, visit.sigma)
    return {
        **_exposure_values(visit),
        **_reference_source(visit),
        "rfid": _reference_image(visit),
        "sciinpseeing": exposure.seeing_px * ARCSEC_PER_PIXEL,
        "scibckgnd": exposure.sky_dn,
        "scisigpix": exposure.pixel_noise,
        "exptime": 30.0,
        "adpctdif1": 0.08 + 0.01 * exposure.wobble,
        "adpctdif2": 0.09 - 0.01 * exposure.wobble,
        "forcediffimflux": flux,
        "forcediffimfluxunc": error,
        "procstatus": "61" if visit.has_failed_forced else "0",
    }


def _exposure_values(visit: Visit) -> dict[str, Any]:
    """Return what every record says of its exposure."""
    exposure = visit.exposure
    return {
        "jd": exposure.jd,
        "fid": exposure.fid,
        "pid": visit.pid,
        "diffmaglim": exposure.limit_mag,
        "programid": 2 if exposure.band == "i" else 1,
        "rcid": visit.place.rcid,
        "field": exposure.field,
        "magzpsci": exposure.zero_point,
        "magzpsciunc": 1e-5 + 1e-5 * exposure.wobble,
        "magzpscirms": 0.02 + 0.02 * exposure.wobble,
        "clrcoeff": (-0.06, 0.09, 0.02)[exposure.fid - 1] + 0.01 * exposure.wobble,
        "clrcounc": 1e-5 + 1e-5 * exposure.wobble,
    }


def _image_values(visit: Visit) -> dict[str, Any]:
    """Return what candidates and upper limits say of their image."""
    return {
        **_exposure_values(visit),
        "pdiffimfilename": _difference_image(visit),
        "programpi": "nuncius",
        "nid": visit.exposure.night,
        "rbversion": "t17_f5_c3",
    }


def _difference_image(visit: Visit) -> str:
    exposure, rcid = visit.exposure, visit.place.rcid
    when = f"{date_of(exposure.mjd):%Y%m%d}{int(exposure.mjd % 1 * 1_000_000):06d}_{exposure.field:06d}"
    return f"ztf_{when}_z{exposure.band}_c{rcid // 4 + 1:02d}_o_q{rcid % 4 + 1}_scimrefdiffimg.fits"


def _reference_image(visit: Visit) -> int:
    return visit.exposure.field * 1_000_000 + 120_000 + visit.exposure.fid * 100 + visit.place.rcid


def _measured(rng: np.random.Generator, visit: Visit) -> dict[str, Any]:
    """Return where and how bright the candidate is, and the shape of its profile."""
    z, exposure, signal_to_noise = rng.standard_normal(9).tolist(), visit.exposure, visit.signal_to_noise
    mag = exposure.zero_point - 2.5 * math.log10(abs(visit.flux))
    mag_err = 2.5 / math.log(10) / signal_to_noise
    aperture_mag = mag + 0.5 * mag_err * z[0]
    width = exposure.seeing_px / 2.355 * (1 + 0.1 * abs(z[1]))
    ratio = 1 + (0.5 if visit.is_artefact else 0.08) * abs(z[2])
    pixels_snr = signal_to_noise * (1 + 0.05 * z[3])
    return {
        "candid": visit.candid,
        "isdiffpos": "t" if visit.flux > 0 else "f",
        "tblid": visit.row,
        "xpos": visit.place.x,
        "ypos": visit.place.y,
        "ra": round(visit.ra, 7),
        "dec": round(visit.dec, 7),
        "magpsf": mag,
        "sigmapsf": mag_err,
        "chipsf": (4 if visit.is_artefact else 1) * math.exp(0.2 * z[4]),
        "magap": aperture_mag,
        "sigmagap": 0.9 * mag_err,
        "magapbig": aperture_mag + 0.3 * mag_err * z[5],
        "sigmagapbig": 1.2 * mag_err,
        "magdiff": aperture_mag - mag,
        "magfromlim": exposure.limit_mag - aperture_mag,
        "sky": 0.4 * z[6],
        "fwhm": exposure.seeing_px * (1 + 0.1 * z[7]),
        "seeratio": exposure.seeing_px / 2.0,
        "classtar": max(0.0, min(1.0, 0.9 - 1.5 / signal_to_noise)),
        "mindtoedge": visit.place.edge_px,
        "aimage": width,
        "bimage": width / ratio,
        "aimagerat": width / exposure.seeing_px,
        "bimagerat": width / ratio / exposure.seeing_px,
        "elong": ratio,
        "nneg": min(25, int((9 if visit.is_artefact else 20 / signal_to_noise) + abs(z[8]))),
        "nbad": 0,
        "sumrat": 0.3 if visit.is_artefact else 1 - 0.5 / signal_to_noise,
        "scorr": signal_to_noise,
        "dsnrms": pixels_snr,
        "ssnrms": 1.5 * pixels_snr,
        "dsdiff": -0.5 * pixels_snr,
    }


def _scores(rng: np.random.Generator, visit: Visit) -> dict[str, float]:
    if visit.is_artefact:
        return {"rb": rng.beta(2, 8), "drb": rng.beta(1, 8)}
    return {"rb": rng.beta(7, 3), "drb": rng.beta(3 + 3 * visit.signal_to_noise, 0.6)}


def _reference_source(visit: Visit) -> dict[str, float]:
    """Return the nearest source of the reference image: the star itself, the galaxy, or something faint."""
    host = visit.source.host
    if host is not None:
        mag = host.mag + 0.5 * COLOURS["supernova"][visit.exposure.band] + 0.3
        dx, dy, sharpness = host.dx_arcsec, host.dy_arcsec, 0.5
    elif visit.reference_mag is not None:
        dx, dy, mag, sharpness = 0.0, 0.0, visit.reference_mag, -0.01
    else:
        dx, dy, mag, sharpness = 4 + 9 * visit.exposure.wobble, 3.0, 22.8, 0.1
    ra, dec = visit.source.position(visit.exposure.mjd)
    ra = (ra + dx / 3600 / math.cos(math.radians(dec))) % 360
    dec += dy / 3600
    return {
        "distnr": _separation_arcsec(visit.ra, visit.dec, ra, dec),
        "magnr": mag,
        "sigmagnr": 0.01 + 0.1 * 10 ** (0.4 * (mag - 22.8)),
        "chinr": 0.6 + 0.4 * visit.exposure.wobble,
        "sharpnr": sharpness,
        "ranr": round(ra, 7),
        "decnr": round(dec, 7),
    }


def _separation_arcsec(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the distance of two positions that are close together."""
    d_ra = ((ra1 - ra2 + 180) % 360 - 180) * math.cos(math.radians((dec1 + dec2) / 2))
    return 3600 * math.hypot(d_ra, dec1 - dec2)


def _catalogue_sources(visit: Visit, stars: Sequence[Star]) -> dict[str, Any]:
    """Return the neighbours in the catalogues of Pan-STARRS1 and Gaia."""
    found = [(star.distance_arcsec, star.mag, 0.98, star) for star in stars if star.distance_arcsec < 30]
    host = visit.source.host
    if host is not None:
        nucleus = Star(host.dx_arcsec / ARCSEC_PER_PIXEL, host.dy_arcsec / ARCSEC_PER_PIXEL, host.mag)
        found.insert(0, (nucleus.distance_arcsec, host.mag, 0.03, nucleus))
        found.sort()
    elif visit.reference_mag is not None:
        found.insert(0, (0.1, visit.source.mag, 0.99, Star(0.07, 0.07, visit.source.mag)))
    record: dict[str, Any] = {"nmtchps": len(found)}
    for rank in (1, 2, 3):
        names = [f"s{band}mag{rank}" for band in "griz"]
        record |= dict.fromkeys((*names, f"sgscore{rank}", f"distpsnr{rank}"), _MISSING)
        record[f"objectidps{rank}"] = int(_MISSING)
        if rank > len(found):
            continue
        distance, mag, score, star = found[rank - 1]
        offsets = (0.6, 0.0, -0.2, -0.3)
        record |= {name: mag + offset for name, offset in zip(names, offsets, strict=True)}
        record |= {f"sgscore{rank}": score, f"distpsnr{rank}": distance}
        record[f"objectidps{rank}"] = _ps1_number(visit, star)
    points = [(distance, mag) for distance, mag, score, _ in found if score > 0.5]
    bright = [point for point in points if point[1] < 14]
    record["neargaia"], record["maggaia"] = points[0] if points else (45.0, 19.0)
    record["neargaiabright"], record["maggaiabright"] = bright[0] if bright else (_MISSING, _MISSING)
    return record


def _ps1_number(visit: Visit, star: Star) -> int:
    """Return a number as PS1 makes them: the zone of declination, then right ascension in millionths of a degree."""
    dec = visit.dec + star.dy * ARCSEC_PER_PIXEL / 3600
    ra = (visit.ra + star.dx * ARCSEC_PER_PIXEL / 3600 / math.cos(math.radians(dec))) % 360
    zone, rest = divmod((dec + 90) * 120, 1)
    return int(zone) * 10**13 + int(ra * 1e6) * 10**4 + int(rest * 10**4)
