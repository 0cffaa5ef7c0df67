"""``nuncius datasets items``: the files of data sets, and where their bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuncius._core.terminal import printable
from nuncius.cli.datasets_options import (
    AS_JSON,
    end_with,
    filter_options,
    names_data_set,
    one_of,
    server_options,
)
from nuncius.cli.datasets_output import item_rows, print_json, print_rows
from nuncius.datasets.operations import matches
from nuncius.errors import PartialResultError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.cli.datasets_options import Filters
    from nuncius.datasets import DServer, Item
    from nuncius.errors import NunciusError


@click.command()
@click.argument("names", nargs=-1, metavar="[URI|UUID] [PATTERN]")
@click.option("--search", "words", metavar="WORDS", help="Of all data sets that a search finds.")
@filter_options
@click.option("--url-only", is_flag=True, help="Print nothing but the URLs, for other programs.")
@AS_JSON
@server_options
def items(
    dserver: DServer,
    names: tuple[str, ...],
    words: str | None,
    filters: Filters,
    url_only: bool,
    as_json: bool,
) -> None:
    """Show the items of a data set, or of all that a search finds: their sizes, and where their bytes are.

    PATTERN, such as 'spectrum*.fits', is compared with the name of the file; with a slash in it with the whole path. URLs of data
    sets that are published on the web may be signed: whoever has such a URL can read the item.

    \b
    Examples:
      nuncius datasets items s3://BUCKET/UUID 'spectrum*.fits'
      nuncius datasets items --search supernova --tag spectrum 'spectrum*.fits'
      nuncius datasets items UUID 'spectrum*.fits' --url-only | nuncius fits ls -
    """
    searches = words is not None or any(filters.values())
    if not searches and not names:
        raise click.UsageError(
            "name a data set, or search with --search, --tag, --creator, --base-uri or --uuid"
        )
    if len(names) > (1 if searches else 2) or (searches and any(map(names_data_set, names))):
        raise click.UsageError(
            "a data set is named or searched for, and then at most a pattern; put it in quotes, so that the shell leaves it"
        )
    failed: list[NunciusError] = []
    if searches:
        pattern = names[0] if names else "*"
        try:
            found = dserver.find_items(pattern, free_text=words or None, **filters)
        except PartialResultError as error:
            found = error.result
            failed.append(error)
    else:
        if not names_data_set(names[0]):
            raise click.UsageError(
                f"{names[0]!r} is no URI and no UUID; for a pattern alone, search with --search, --tag or --base-uri"
            )
        found = dserver.items(one_of(dserver, names[0]))
        found = [item for item in found if len(names) < 2 or matches(item, names[1])]
    _show_items(found, failed, url_only=url_only, as_json=as_json)
    end_with(failed)


def _show_items(found: Sequence[Item], failed: list[NunciusError], *, url_only: bool, as_json: bool) -> None:
    """Show items; where the URLs are what is wanted, an item without one is a failure."""
    places = [_place(item) for item in found]
    urls = [place if isinstance(place, str) else None for place in places]
    reasons = [place for place in places if isinstance(place, UnsupportedError)]
    if url_only:
        for place in places:
            if isinstance(place, str):
                click.echo(place)
        failed += reasons
        return
    if as_json:
        for item, url in zip(found, urls, strict=True):
            print_json(_facts(item, url))
    elif found:
        print_rows(item_rows(found, urls), last="url")
    else:
        click.echo("nothing found", err=True)
    # Of one data set mostly all items have the same reason.
    of_each = {reason.url: str(reason) for reason in reversed(reasons)}
    for reason in reversed(of_each.values()):
        click.echo(printable(reason), err=True)


def _place(item: Item) -> str | UnsupportedError:
    """Return the URL of an item, or why it has none."""
    try:
        url = item.url
    except UnsupportedError as error:
        return error
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in url):
        return UnsupportedError(
            f"{item.relpath!r} in {item.data_set_uri}: its address has control characters in it, and is not shown",
            url=item.data_set_uri,
        )
    return url


def _facts(item: Item, url: str | None) -> dict[str, Any]:
    return {
        "data_set_uri": item.data_set_uri,
        "relpath": item.relpath,
        "identifier": item.identifier,
        "size": item.size,
        "hash": item.hash,
        "modified": item.modified and item.modified.isoformat(),
        "url": url,
    }
