"""``nuncius datasets``: look data sets up on a dserver, down to the URLs of their files."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import click

from nuncius._core.terminal import printable
from nuncius.cli.datasets_items import items
from nuncius.cli.datasets_login import login
from nuncius.cli.datasets_options import (
    AS_JSON,
    LIMIT,
    NAME,
    SORT,
    copies_of,
    end_with,
    filter_options,
    json_text,
    one_of,
    server_options,
    uri_of,
    uuid_of,
)
from nuncius.cli.datasets_output import (
    data_set_rows,
    minutes,
    print_data_set,
    print_facts,
    print_graph,
    print_json,
    print_rows,
    print_text,
    print_values,
    readable,
)
from nuncius.cli.fits_address import OVERWRITE
from nuncius.cli.fits_files import check_free, output_option, written_whole
from nuncius.datasets.listing import LARGEST_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nuncius.cli.datasets_options import Filters
    from nuncius.datasets import DataSet, DServer
    from nuncius.errors import NunciusError


_PICTURES = (".png", ".pdf", ".svg")


@click.group("datasets")
def command() -> None:
    """Look up data sets on a dserver, and find their files.

    The server is given with --url, or found as DSERVER_URL in the environment or in ~/.config/dtool/dtool.json. So is the
    login: DSERVER_TOKEN, or DSERVER_TOKEN_GENERATOR_URL with DSERVER_USERNAME and DSERVER_PASSWORD; without a password you
    are asked for it. It is never given on the command line; `nuncius datasets login` stores it. A data set is named by its URI, or by its UUID.
    """


command.add_command(items)
command.add_command(login)


# Finding data sets -----------------------------------------------------------------------------------------------------


@command.command()
@click.argument("words", nargs=-1)
@filter_options
@SORT
@LIMIT
@AS_JSON
@server_options
def search(
    dserver: DServer,
    words: tuple[str, ...],
    filters: Filters,
    sort: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Find data sets by words; without any, all that you may see.

    One of several WORDS suffices. In quotes for the shell, "phrases" have to be there as they are, and -words must not.

    \b
    Examples:
      nuncius datasets search supernova --tag spectrum
      nuncius datasets search '"flux calibrated" -raw' --sort -frozen_at --limit 10
    """
    found = dserver.iter_data_sets(
        " ".join(words) or None, **filters, sort=sort or "uri", page_size=_page_size(limit)
    )
    with closing(found):
        _show(found, limit, as_json=as_json)


@command.command()
@click.argument("query", metavar="QUERY")
@filter_options
@SORT
@LIMIT
@AS_JSON
@server_options
def query(
    dserver: DServer, query: str, filters: Filters, sort: str | None, limit: int | None, as_json: bool
) -> None:
    """Find data sets by a query in MongoDB's language.

    QUERY is JSON, or @FILE with it, or - for standard input. Its fields are base_uri, uri, uuid, name, creator_username,
    tags, and what is in the readme, manifest and annotations.

    \b
    Example:
      nuncius datasets query '{"readme.object.kind": "supernova", "name": {"$regex": "spectrum$"}}'
    """
    asked = json_text(query)
    if sort:
        _show(dserver.query(asked, **filters, sort=sort), limit, as_json=as_json)
        return
    with closing(dserver.iter_data_sets(query=asked, **filters, page_size=_page_size(limit))) as found:
        _show(found, limit, as_json=as_json)


@command.command()
@click.argument("stages", metavar="STAGES")
@server_options
def aggregate(dserver: DServer, stages: str) -> None:
    """Run an aggregation on the server's database; prints JSON, one line for each result.

    STAGES is a list in JSON, or @FILE with it, or - for standard input. Many servers don't allow it.

    \b
    Example:
      nuncius datasets aggregate '[{"$sortByCount": "$creator_username"}]'
    """
    for value in dserver.aggregate(json_text(stages)):
        print_json(value)


def _page_size(limit: int | None) -> int:
    """Return how many to ask for at a time: one more than are shown, which tells whether there are more."""
    return LARGEST_PAGE if limit is None else min(limit + 1, LARGEST_PAGE)


def _show(found: Iterable[DataSet], limit: int | None, *, as_json: bool) -> None:
    """Show data sets: as JSON while they come, as a table when all are there."""
    coming = iter(found)
    shown = islice(coming, limit)
    if as_json:
        for data_set in shown:
            print_json(data_set)
    elif rows := data_set_rows(shown):
        print_rows(rows, last="uri")
    else:
        click.echo("nothing found; `nuncius datasets base-uris` shows where you may search", err=True)
    if limit is not None and next(coming, None) is not None:
        click.echo("there are more than these; a larger --limit shows them", err=True)


# One data set ----------------------------------------------------------------------------------------------------------


@command.command()
@NAME
@AS_JSON
@server_options
def show(dserver: DServer, name: str, as_json: bool) -> None:
    """Show all that is known of a data set, but for its items; of a UUID each copy."""
    copies = copies_of(dserver, name)
    parts = ["tags", "annotations", "readme", *(["data_set"] if isinstance(copies[0], str) else [])]
    failed: list[NunciusError] = []
    found = dserver.get_many(copies, parts, allow_partial=True, progress=False)
    for number, (copy, details) in enumerate(zip(copies, found, strict=True)):
        errors = details.pop("errors")
        if "data_set" in errors:
            raise errors["data_set"]
        failed += errors.values()
        known = details.pop("data_set", copy)
        values = {**known, **details}
        if "readme" in values:
            values["readme"] = str(values["readme"])
        if as_json:
            print_json(values)
            continue
        if number:
            click.echo()
        print_data_set(values)
    end_with(failed)


@command.command()
@NAME
@AS_JSON
@server_options
def readme(dserver: DServer, name: str, as_json: bool) -> None:
    """Show the readme of a data set.

    It comes as it is; only to a terminal without what that would obey.
    """
    data_set = one_of(dserver, name)
    text = dserver.readme(data_set)
    if as_json:
        print_json({"uri": uri_of(data_set), "readme": str(text)})
    else:
        print_text(text)


@command.command()
@NAME
@AS_JSON
@server_options
def manifest(dserver: DServer, name: str, as_json: bool) -> None:
    """Show the manifest of a data set: its items, with sizes and hashes."""
    found = dserver.manifest(one_of(dserver, name))
    if as_json:
        print_json(dict(found))
        return
    files = found.files
    click.echo(
        f"{len(files):,} items, {found.size:,} bytes, {printable(str(found.get('hash_function')))}, dtoolcore "
        f"{printable(str(found.get('dtoolcore_version')))}"
    )
    rows = [
        {"bytes": i.size, "changed (UTC)": minutes(i.modified), "hash": i.hash, "path": i.relpath}
        for i in files
    ]
    print_rows(rows, last="path")


@command.command()
@NAME
@AS_JSON
@server_options
def tags(dserver: DServer, name: str, as_json: bool) -> None:
    """Show the tags of a data set, one a line."""
    found = dserver.tags(one_of(dserver, name))
    if as_json:
        print_json(found)
        return
    for tag in found:
        click.echo(printable(str(tag)))


@command.command("annotations")
@NAME
@AS_JSON
@server_options
def annotations_(dserver: DServer, name: str, as_json: bool) -> None:
    """Show the annotations of a data set."""
    found = dserver.annotations(one_of(dserver, name))
    if as_json:
        print_json(dict(found))
    else:
        print_values(found)


@command.command()
@NAME
@click.option(
    "--key", "keys", multiple=True, metavar="FIELD",
    help="Where a data set says what it was derived from, such as readme.derived_from.uuid; may be repeated.",
)  # fmt: skip
@click.option("--dot", is_flag=True, help="Print it in the language of Graphviz.")
@output_option(*_PICTURES)
@OVERWRITE
@AS_JSON
@server_options
def graph(
    dserver: DServer,
    name: str,
    keys: tuple[str, ...],
    dot: bool,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what a data set was derived from, and what was derived from it.

    What was derived from a data set stands below it. JSON has a line for each data set, with derived_from.

    \b
    Examples:
      nuncius datasets graph UUID
      nuncius datasets graph UUID --out graph.png
    """
    if out is not None:
        check_free(out, overwrite=overwrite)
    found = dserver.graph(uuid_of(dserver, name), dependency_keys=list(keys) or None)
    if as_json:
        for data_set in found.data_sets:
            print_json(data_set)
    elif dot:
        click.echo(readable(found.to_dot()))
    elif out is None:
        print_graph(found)
    if out is not None:
        with written_whole(out) as part:
            found.plot().figure.savefig(part, format=out.suffix[1:].lower(), dpi=150)
        click.echo(f"wrote {out}", err=True)


# The server ------------------------------------------------------------------------------------------------------------


@command.command()
@click.argument("username", required=False)
@AS_JSON
@server_options
def summary(dserver: DServer, username: str | None, as_json: bool) -> None:
    """Show how many data sets you may see, and how large they are: by base URI, creator and tag.

    Of another USERNAME only for administrators.
    """
    found = dserver.summary(username)
    if as_json:
        print_json(dict(found))
        return
    print_facts({"data sets": found.get("number_of_datasets"), "bytes": found.get("total_size_in_bytes")})
    for by, title in (("base_uri", "base URI"), ("creator", "creator"), ("tag", "tag")):
        counts, sizes = (found.get(f"{what}_per_{by}") for what in ("datasets", "size_in_bytes"))
        if isinstance(counts, dict) and isinstance(sizes, dict) and counts:
            click.echo()
            print_rows(
                [{"data sets": n, "bytes": sizes.get(name), title: name} for name, n in counts.items()]
            )


@command.command("base-uris")
@AS_JSON
@server_options
def base_uris(dserver: DServer, as_json: bool) -> None:
    """Show the base URIs, and what you may do there; administrators see those of the others too."""
    me = dserver.me()
    may_search, may_register = (
        set(map(str, me.get(f"{what}_permissions_on_base_uris") or ())) for what in ("search", "register")
    )
    names = may_search | may_register
    if me.get("is_admin"):
        names.update(dserver.base_uris())
    rows = [(name in may_search, name in may_register, name) for name in sorted(names)]
    if as_json:
        for searched, registered, name in rows:
            print_json({"base_uri": name, "search": searched, "register": registered})
        return
    words = {True: "yes", False: "no"}
    print_rows(
        [
            {"search": words[searched], "register": words[registered], "base URI": name}
            for searched, registered, name in rows
        ]
    )
    if not rows:
        click.echo(f"{printable(str(me.get('username')))} may search nowhere", err=True)


@command.command()
@AS_JSON
@server_options
def versions(dserver: DServer, as_json: bool) -> None:
    """Show the versions of the server and its plugins; it takes no login."""
    found = dserver.versions()
    if as_json:
        print_json(found)
    else:
        print_rows([{"module": module, "version": version} for module, version in sorted(found.items())])
