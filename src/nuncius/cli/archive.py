"""``nuncius archive``: ask an archive, in a file or anywhere, and look after one in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nuncius.archives import open_archive
from nuncius.archives.documents import survey_of_catalog
from nuncius.cli.tables import print_documents, print_json, print_table

_ARCHIVE = click.argument("archive")


class _ArchiveFile(click.Path):
    """The path of an archive in a file; what only such a one can do is refused for a server before anything is asked."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            self.fail(f"{value}: only an archive in a file can do this; give its path", param, ctx)
        return super().convert(value, param, ctx)


_FILE = click.argument("file", type=_ArchiveFile(dir_okay=False, path_type=Path), is_eager=True)
_CATALOG = click.argument("catalog")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a document.")
_FIELDS = click.option("--fields", metavar="A,B.C", help="The fields to show, with dots for nested ones.")
_TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.001), metavar="S", help="Seconds to wait."
)
_CONDITION = click.option("--filter", "condition", default="{}", help="A filter besides, as for find.")
_RADIUS = click.option(
    "--radius", default="2arcsec", show_default=True, help="With its unit: 2arcsec, 1arcmin, 0.5deg."
)


@click.group("archive")
def command() -> None:
    """Ask an archive: a file, or a server.

    ARCHIVE is the path of a file, or a URL: kowalski+https://HOST, boom+https://HOST,
    antares+https://HOST, alerce+https://HOST, mongodb://HOST/DATABASE,
    duckdb:///FOLDER. A login is taken from NUNCIUS_KOWALSKI_USERNAME and NUNCIUS_KOWALSKI_PASSWORD (or BOOM, MONGODB),
    from credentials.toml or from netrc; never from the command line.
    """


@command.command()
@_ARCHIVE
@_AS_JSON
def info(archive: str, as_json: bool) -> None:
    """Show what an archive holds."""
    with _opened(archive) as opened:
        found = opened.info()
    if as_json:
        print_json(found)
        return
    if "layout" in found:
        click.echo(f"{found['path']}: {found['bytes'] / 1e6:.1f} MB, layout {found['layout']}")
    else:
        click.echo(f"{archive}: {len(found['catalogs'])} catalogs")
    print_table([{"catalog": name, **numbers} for name, numbers in found["catalogs"].items()])


@command.command()
@_ARCHIVE
@_CATALOG
@click.argument("filter", default="{}")
@_FIELDS
@click.option("--sort", metavar="FIELD", help="Sort by a field, downward with a minus: -candidate.jd.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most to show.")
@click.option("--count", "only_count", is_flag=True, help="Show only how many there are.")
@click.option("--explain", "only_explain", is_flag=True, help="Show how the question would be answered.")
@_TIMEOUT
@_AS_JSON
def find(
    archive: str,
    catalog: str,
    filter: str,
    fields: str | None,
    sort: str | None,
    limit: int,
    only_count: bool,
    only_explain: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Find documents by what they hold.

    FILTER is JSON in MongoDB's language, as for Kowalski.

    \b
    Examples:
      nuncius archive find night.db ZTF_alerts '{"candidate.drb": {"$gt": 0.9}}' --sort candidate.magpsf
      nuncius archive find night.db ZTF_alerts_aux --fields _id --limit 5
    """
    condition = _parsed(filter)
    with _opened(archive) as opened:
        if only_count:
            click.echo(opened.count(catalog, condition, timeout_s=timeout_s))
            return
        if only_explain:
            click.echo(str(opened.explain(catalog, condition, sort=_order(sort), timeout_s=timeout_s)))
            return
        names = _names(fields)
        wanted = names if names or as_json else _without_images(catalog)
        found = opened.find(
            catalog, condition, projection=wanted, sort=_order(sort), limit=limit, timeout_s=timeout_s
        )
        _show(found, catalog, names, as_json=as_json)


@command.command()
@_ARCHIVE
@_CATALOG
@click.argument("pipeline")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The most to show.")
@_TIMEOUT
@_AS_JSON
def aggregate(
    archive: str, catalog: str, pipeline: str, limit: int, timeout_s: float | None, as_json: bool
) -> None:
    """Run a pipeline: group, count, join.

    PIPELINE is a list of stages in JSON.

    \b
    Example:
      nuncius archive aggregate night.db ZTF_alerts '[{"$sortByCount": "$candidate.fid"}]'
    """
    with _opened(archive) as opened:
        found = opened.aggregate(catalog, [*_parsed(pipeline), {"$limit": limit}], timeout_s=timeout_s)
        rows = [dict(document) for document in found]
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(rows)
    if not rows:
        click.echo("nothing found", err=True)


@command.command()
@_ARCHIVE
@_CATALOG
@click.argument("field")
@_CONDITION
@_TIMEOUT
@_AS_JSON
def distinct(
    archive: str, catalog: str, field: str, condition: str, timeout_s: float | None, as_json: bool
) -> None:
    """Show the values that a field has, each once."""
    with _opened(archive) as opened:
        values = opened.distinct(catalog, field, _parsed(condition), timeout_s=timeout_s)
    if as_json:
        print_json({"field": field, "values": values})
        return
    for value in values:
        click.echo(value)


@command.command(context_settings={"ignore_unknown_options": True})
@_ARCHIVE
@_CATALOG
@click.argument("ra")
@click.argument("dec")
@_RADIUS
@_CONDITION
@_FIELDS
@click.option("--limit", type=click.IntRange(min=1), help="The most to show, the nearest first.")
@_TIMEOUT
@_AS_JSON
def cone(
    archive: str,
    catalog: str,
    ra: str,
    dec: str,
    radius: str,
    condition: str,
    fields: str | None,
    limit: int | None,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Find documents around a position, the nearest first.

    RA and DEC are ICRS degrees, or sexagesimal as in 05h00m48.2s -10d13m35s.

    \b
    Example:
      nuncius archive cone night.db ZTF_alerts 75.2008 35.3614 --radius 5arcsec
    """
    names = _names(fields)
    wanted = names if names or as_json else _without_images(catalog)
    with _opened(archive) as opened:
        found = opened.cone_search(
            catalog, _position(ra, dec), radius, filter=_parsed(condition), projection=wanted, limit=limit,
            timeout_s=timeout_s,
        )  # fmt: skip
        _show(found, catalog, names, as_json=as_json)


@command.command()
@_ARCHIVE
@click.argument("left")
@click.argument("right")
@_RADIUS
@_CONDITION
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most to show.")
@_TIMEOUT
@_AS_JSON
def crossmatch(
    archive: str,
    left: str,
    right: str,
    radius: str,
    condition: str,
    limit: int,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Find, for the documents of LEFT, the nearest one of RIGHT.

    \b
    Example:
      nuncius archive crossmatch night.db ZTF_alerts Gaia_EDR3 --radius 2arcsec
    """
    from itertools import islice

    with _opened(archive) as opened:
        found = opened.crossmatch(
            left, right, radius, filter=_parsed(condition), projection=_without_images(left), limit=1,
            timeout_s=timeout_s,
        )  # fmt: skip
        matched = list(islice(found, limit))
    if as_json:
        for document in matched:
            print_json(document)
        return
    for document in matched:
        nearest = document["matches"][0]
        document["separation_arcsec"] = nearest["separation_arcsec"]
        document["match"] = str(nearest.get("_id"))
    if not print_documents(matched, left, ()):
        click.echo("nothing found", err=True)


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
@click.argument("name")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--ra", metavar="COLUMN", help="The column with the right ascension; guessed where it is plain."
)
@click.option("--dec", metavar="COLUMN", help="The column with the declination.")
@click.option("--replace", is_flag=True, help="Replace a reference catalog of that name.")
def load(file: Path, name: str, table: Path, ra: str | None, dec: str | None, replace: bool) -> None:
    """Load a reference catalogue from TABLE (CSV, FITS, Parquet, VOTable) as the catalog NAME.

    \b
    Example:
      nuncius archive load night.db Gaia_EDR3 gaia.fits --ra ra --dec dec
    """
    with open_archive(file) as archive:
        report = archive.load_catalog(name, table, ra=ra, dec=dec, replace=replace)
    click.echo(f"{report.rows} rows loaded in {report.seconds:.1f} s as {name}")
    if report.skipped:
        click.echo(f"{report.skipped} of them have no position on the sky", err=True)


@command.command()
@_FILE
@_CATALOG
@click.argument("field")
@click.option("--drop", is_flag=True, help="Remove the index.")
def index(file: Path, catalog: str, field: str, drop: bool) -> None:
    """Make an index on a field, so that filters on it need not read every document."""
    with open_archive(file) as archive:
        (archive.drop_index if drop else archive.create_index)(catalog, field)
        click.echo(
            f"indexes of {catalog}: {', '.join(archive.indexes(catalog)) or 'none besides the built-in ones'}"
        )


@command.command()
@_FILE
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--catalog", "catalogs", multiple=True, help="Which; all that have positions by default.")
def export(file: Path, folder: Path, catalogs: tuple[str, ...]) -> None:
    """Write catalogs to FOLDER as Parquet divided by place on the sky, for lsdb, Dask and DuckDB."""
    with open_archive(file, read_only=True) as archive:
        archive.export(folder, catalogs=list(catalogs) or None)
    click.echo(f"wrote {folder}")


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


def _opened(archive: str) -> Any:
    return open_archive(archive, read_only=True)


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
            f'{error}. It is JSON, in single quotes for the shell: \'{{"candidate.drb": {{"$gt": 0.9}}}}\'',
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
