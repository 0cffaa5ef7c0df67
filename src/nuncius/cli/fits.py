"""``nuncius fits``: read FITS files where they are, and only the bytes that are needed."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import click

from nuncius._core.terminal import printable
from nuncius.cli.fits_address import (
    AS_JSON,
    HDU,
    URL,
    WHOLE_FILE,
    Address,
    access_options,
    address_of,
    cost_of,
    counted,
    expand,
    hdu_of,
    is_listing,
    notes_of,
    open_address,
    print_json,
    print_rows,
    urls_of,
)
from nuncius.cli.fits_cutout import cutout
from nuncius.cli.fits_scan import scan
from nuncius.cli.fits_table import table
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import info_rows
from nuncius.errors import FitsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from astropy.io.fits import Header

    from nuncius.cli.fits_address import Access
    from nuncius.cloudfits import FileDescription, HduDescription

_SIZE_WIDTH = 18
_ABSENT = object()


@click.group("fits")
def command() -> None:
    """Read FITS files where they are: headers, cutouts, rows.

    URL is s3://, gs://, az://, abfs://, do://, https:// (also a presigned link), or a path. An HDU is chosen as in
    'image.fits[1]', 'image.fits[SCI]' or 'image.fits[SCI,2]', or with --hdu. A URL that holds a secret is given on
    standard input, as -. Credentials are taken from the environment and from profiles; never from the command line.
    """


command.add_command(cutout)
command.add_command(table)
command.add_command(scan)


# What is there ---------------------------------------------------------------------------------------------------------


@command.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL…")
@click.option("--hdus", is_flag=True, help="Of several files too, show each HDU.")
@WHOLE_FILE
@AS_JSON
@access_options
def ls(urls: tuple[str, ...], hdus: bool, whole_file: bool, as_json: bool, access: Access) -> None:
    """Show what is in a file: its HDUs, their shapes, and where they are.

    Of several files, of a folder that ends in "/", or of a pattern in quotes, a line for each file.

    \b
    Examples:
      nuncius fits ls s3://BUCKET/cube.fits
      nuncius fits ls s3://BUCKET/2026-11-20/
    """
    given = urls_of(urls)
    if len(given) == 1 and not is_listing(given[0], access):
        _ls_one(given[0], access, whole_file=whole_file, as_json=as_json)
        return
    if whole_file:
        raise click.UsageError("--whole-file reads one file")
    if failed := _ls_many(given, access, hdus=hdus, as_json=as_json):
        click.echo(f"{counted(failed, 'file')} could not be read", err=True)
        raise SystemExit(1)


def _ls_one(url: str, access: Access, *, whole_file: bool, as_json: bool) -> None:
    fits = open_address(Address(url), access, whole_file=whole_file)
    file = fits.description
    if as_json:
        print_json({**_facts(file), "requests": fits.stats.requests, "bytes_read": fits.stats.bytes})
        return
    notes = "".join(f", {note}" for note in notes_of(file))
    click.echo(f"{printable(file.url)}: {counted(len(file), 'HDU')}, {file.size:,} bytes{notes}")
    print_rows(info_rows(file))
    click.echo(cost_of(fits), err=True)


def _ls_many(urls: Sequence[str], access: Access, *, hdus: bool, as_json: bool) -> int:
    """Show many files as their headers come, in the order asked; return how many failed."""
    from nuncius.cloudfits import read_headers
    from nuncius.cloudfits.side_by_side import FailedFile

    failed = 0
    if not as_json and not hdus:
        click.echo(f"{'bytes':>{_SIZE_WIDTH}}  HDUs  file")
    for found in read_headers(expand(urls, access), ordered=True, on_error="yield", progress=False, **access):
        if isinstance(found, FailedFile):
            failed += 1
            click.echo(f"{printable(found.url)}: {printable(str(found.error))}", err=True)
        elif as_json:
            print_json(_facts(found))
        else:
            notes = "".join(f", {note}" for note in notes_of(found))
            click.echo(f"{found.size:>{_SIZE_WIDTH},}  {len(found):>4}  {printable(found.url)}{notes}")
            if hdus:
                print_rows(info_rows(found))
                click.echo()
    return failed


def _facts(file: FileDescription) -> dict[str, Any]:
    """Return what is known of a file, for JSON."""
    return {
        "url": file.url,
        "size": file.size,
        "etag": file.etag,
        "modified": None if file.modified is None else file.modified.isoformat(),
        "truncated": file.truncated,
        "trailing_bytes": file.trailing_bytes,
        "hdus": [
            {
                "index": hdu.index,
                "name": hdu.name,
                "version": hdu.version,
                "kind": hdu.kind,
                "shape": list(hdu.shape),
                "bitpix": hdu.bitpix,
                "header_offset": hdu.header_offset,
                "data_offset": hdu.data_offset,
                "data_size": hdu.data_size,
                "truncated": hdu.truncated,
            }
            for hdu in file
        ],
    }


# Headers ---------------------------------------------------------------------------------------------------------------


@command.command()
@URL
@click.option(
    "-k",
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only this keyword, such as EXPTIME, or those of a pattern, such as 'CRVAL?'; may be repeated.",
)
@HDU
@WHOLE_FILE
@AS_JSON
@access_options
def header(
    url: str, keys: tuple[str, ...], hdu: str | None, whole_file: bool, as_json: bool, access: Access
) -> None:
    """Show headers: of one HDU, or of all.

    \b
    Examples:
      nuncius fits header 's3://BUCKET/image.fits[SCI]'
      nuncius fits header s3://BUCKET/image.fits -k EXTNAME -k EXPTIME

    Exit code 1 if a keyword is in none of the headers.
    """
    address = address_of(url, hdu)
    fits = open_address(address, access, whole_file=whole_file)
    chosen = list(fits) if address.hdu is None else [hdu_of(fits, address.hdu)]
    if keys:
        _show_keys(chosen, keys, as_json=as_json)
    elif as_json:
        for one in chosen:
            print_json({"hdu": one.index, "name": one.name, "cards": list(_cards(one.header))})
    else:
        for one in chosen:
            if len(chosen) > 1:
                click.echo(f"# HDU {one.index} of {printable(fits.url)}")
            for line in _lines(one):
                click.echo(printable(line.rstrip()))
    click.echo(cost_of(fits), err=True)


def _show_keys(hdus: Sequence[HduDescription], keys: Sequence[str], *, as_json: bool) -> None:
    found = [{name: value for key in keys for name, value in _values_of(hdu, key)} for hdu in hdus]
    if as_json:
        for hdu, values in zip(hdus, found, strict=True):
            print_json({"hdu": hdu.index, "name": hdu.name, "keys": values})
    else:
        names = dict.fromkeys(name for values in found for name in values)
        # As text: numbers are shown as they are, not rounded or with commas.
        texts = [{name: _text(values.get(name)) for name in names} for values in found]
        print_rows(
            [
                {"hdu": hdu.index, "name": hdu.name or None, **row}
                for hdu, row in zip(hdus, texts, strict=True)
            ]
        )
    if absent := [key for key in keys if not any(_matches(name, key) for values in found for name in values)]:
        click.echo(f"in no header: {', '.join(map(printable, absent))}", err=True)
        raise SystemExit(1)


def _values_of(hdu: HduDescription, key: str) -> Iterator[tuple[str, Any]]:
    """Give the keywords that a key or a pattern means, with their values; none if the header hasn't them."""
    names = [key.strip().upper()]
    if _is_pattern(key):
        names = [name for name in dict.fromkeys(hdu.header) if _matches(name, key)]
    for name in names:
        value = _value_of(hdu, name)
        if value is not _ABSENT:
            yield name, value


def _value_of(hdu: HduDescription, name: str) -> Any:
    """Return a value as JSON can have it."""
    from astropy.io.fits import VerifyError

    try:
        return _plain(hdu.get(name, _ABSENT))
    except (ValueError, VerifyError) as error:
        raise FitsError(
            f"the card {name} in HDU {hdu.index} of {hdu.url} can't be read: {printable(str(error))}",
            url=hdu.url,
            position=f"HDU {hdu.index}",
        ) from error


def _is_pattern(key: str) -> bool:
    return "*" in key or "?" in key


def _matches(name: str, key: str) -> bool:
    return fnmatch.fnmatchcase(name, key.strip().upper()) if _is_pattern(key) else name == key.strip().upper()


def _lines(hdu: HduDescription) -> list[str]:
    """Return the cards as they stand; of a compressed image those of the image."""
    if hdu.kind == "compressed image":
        text: str = hdu.header.tostring(sep="\n", padding=False)
        return text.split("\n")
    end = (blocks.find_end(hdu.raw) or 0) + blocks.CARD
    return [hdu.raw[at : at + blocks.CARD].decode("ascii", "replace") for at in range(0, end, blocks.CARD)]


def _cards(header: Header) -> Iterator[list[Any]]:
    """Give keyword, value and comment of each card."""
    from astropy.io.fits import VerifyError

    for card in header.cards:
        try:
            yield [card.keyword, _plain(card.value), card.comment]
        except (ValueError, VerifyError):
            yield [card.keyword, None, "(this card can't be read)"]


def _plain(value: Any) -> Any:
    """Return a value of a header as JSON can have it: of a card without a value None, of several cards their lines."""
    from astropy.io.fits.card import Undefined

    if isinstance(value, Undefined):
        return None
    return value if value is _ABSENT or isinstance(value, (bool, int, float, str)) else str(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return "T" if value is True else "F" if value is False else str(value)
