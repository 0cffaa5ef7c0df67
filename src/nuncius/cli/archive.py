"""``nuncius archive``: ask a local archive, and look after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nuncius.archives import open_archive
from nuncius.archives.documents import survey_of_catalog
from nuncius.cli.tables import print_documents, print_json, print_table

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a document.")
_FIELDS = click.option("--fields", metavar="A,B.C", help="The fields to show, with dots for nested ones.")


@click.group("archive")
def command() -> None:
    """Ask a local archive, and look after it."""


@command.command()
@_FILE
@_AS_JSON
def info(file: Path, as_json: bool) -> None:
    """Show what an archive holds."""
    with open_archive(file, read_only=True) as archive:
        found = archive.info()
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['path']}: {found['bytes'] / 1e6:.1f} MB, layout {found['layout']}")
    print_table([{"catalog": name, **numbers} for name, numbers in found["catalogs"].items()])


@command.command()
@_FILE
@click.argument("catalog")
@click.argument("filter", default="{}")
@_FIELDS
@click.option("--sort", metavar="FIELD", help="Sort by a field, downward with a minus: -candidate.jd.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most to show.")
@click.option("--count", "only_count", is_flag=True, help="Show only how many there are.")
@_AS_JSON
def find(
    file: Path,
    catalog: str,
    filter: str,
    fields: str | None,
    sort: str | None,
    limit: int,
    only_count: bool,
    as_json: bool,
) -> None:
    """Find alerts by what they hold.

    FILTER is JSON in MongoDB's language, as for Kowalski.

    \b
    Examples:
      nuncius archive find night.db ZTF_alerts '{"candidate.drb": {"$gt": 0.9}}' --sort candidate.magpsf
      nuncius archive find night.db ZTF_alerts_aux --fields _id --limit 5
    """
    condition = _parsed(filter)
    with open_archive(file, read_only=True) as archive:
        if only_count:
            click.echo(archive.count(catalog, condition))
            return
        names = _names(fields)
        wanted = names if names or as_json else _without_images(catalog)
        found = archive.find(catalog, condition, projection=wanted, sort=_order(sort), limit=limit)
        _show(found, catalog, names, as_json=as_json)


@command.command(context_settings={"ignore_unknown_options": True})
@_FILE
@click.argument("catalog")
@click.argument("ra")
@click.argument("dec")
@click.option(
    "--radius", default="2arcsec", show_default=True, help="With its unit: 2arcsec, 1arcmin, 0.5deg."
)
@click.option("--filter", "condition", default="{}", help="A filter besides, as for find.")
@_FIELDS
@click.option("--limit", type=click.IntRange(min=1), help="The most to show, the nearest first.")
@_AS_JSON
def cone(
    file: Path,
    catalog: str,
    ra: str,
    dec: str,
    radius: str,
    condition: str,
    fields: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Find alerts around a position, the nearest first.

    RA and DEC are ICRS degrees, or sexagesimal as in 05h00m48.2s -10d13m35s.

    \b
    Example:
      nuncius archive cone night.db ZTF_alerts 75.2008 35.3614 --radius 5arcsec
    """
    names = _names(fields)
    wanted = names if names or as_json else _without_images(catalog)
    with open_archive(file, read_only=True) as archive:
        found = archive.cone_search(
            catalog, _position(ra, dec), radius, filter=_parsed(condition), projection=wanted, limit=limit
        )
        _show(found, catalog, names, as_json=as_json)


@command.command("object")
@_FILE
@click.argument("object_id")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the light curve into this file."
)
@_AS_JSON
def object_(file: Path, object_id: str, plot: Path | None, as_json: bool) -> None:
    """Show all that is known of one object: its alerts and its merged light curve."""
    from dataclasses import asdict

    with open_archive(file, read_only=True) as archive:
        found = archive.object(object_id)
    if plot:
        found.light_curve.plot().figure.savefig(plot, dpi=150, bbox_inches="tight")
        click.echo(f"wrote {plot}", err=True)
    if as_json:
        points = [asdict(point) for point in found.light_curve]
        print_json(
            {"object_id": object_id, "catalog": found.catalog, "alerts": found.alerts, "light_curve": points}
        )
        return
    curve = found.light_curve
    click.echo(
        f"{object_id} in {found.catalog}: {len(found.alerts)} alerts; {len(curve.detections)} detections, "
        f"{len(curve.limits)} limits, {len(curve.forced)} forced"
    )
    print_documents(found.alerts, found.catalog, ())


@command.command()
@_FILE
@click.option(
    "--older-than", required=True, metavar="TIME", help="How long ago (30d), or a time (2026-01-01T00:00Z)."
)
@click.confirmation_option(prompt="Delete these alerts and their history for good?")
def prune(file: Path, older_than: str) -> None:
    """Delete what is older than a time. Asks first; --yes doesn't."""
    with open_archive(file) as archive:
        click.echo(f"{archive.prune(older_than)} alerts deleted")


@command.command()
@_FILE
@click.argument("target", type=click.Path(path_type=Path))
def backup(file: Path, target: Path) -> None:
    """Copy an archive to TARGET while it is in use."""
    with open_archive(file, read_only=True) as archive:
        click.echo(f"wrote {archive.backup(target)}")


def _show(found: Any, catalog: str, names: list[str] | None, *, as_json: bool) -> None:
    if as_json:
        for document in found:
            print_json(document)
        return
    if not print_documents(found, catalog, names or ()):
        click.echo("nothing found", err=True)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(
            f'{error}. A filter is JSON, in single quotes for the shell: \'{{"candidate.drb": {{"$gt": 0.9}}}}\'',
            param_hint="FILTER",
        ) from error


def _names(fields: str | None) -> list[str] | None:
    return [name.strip() for name in fields.split(",") if name.strip()] if fields else None


def _without_images(catalog: str) -> dict[str, int]:
    return dict.fromkeys(survey_of_catalog(catalog).cutout_fields, 0)


def _order(sort: str | None) -> list[tuple[str, int]] | None:
    if not sort:
        return None
    return [(sort.removeprefix("-"), -1 if sort.startswith("-") else 1)]


def _position(ra: str, dec: str) -> Any:
    try:
        return float(ra), float(dec)
    except ValueError:
        pass
    from astropy.coordinates import SkyCoord

    try:
        return SkyCoord(ra, dec, unit=("hourangle", "deg"))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(f"{ra!r} {dec!r} is no position: {error}", param_hint="RA DEC") from error
