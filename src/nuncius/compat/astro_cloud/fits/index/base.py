"""What is the same for all services: open the file, ask for its headers, and try with credentials if it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nuncius.cloudfits.access import Access
from nuncius.cloudfits.places import find_place
from nuncius.cloudfits.stores.clients import find_login
from nuncius.compat.astro_cloud.errors import AstroCloudArgumentError, translating
from nuncius.compat.astro_cloud.fits.datatypes import FITSHeader
from nuncius.errors import ConfigurationError, ForbiddenError, LoginError, NunciusError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.compat.astro_cloud.fits.datatypes import CloudService, PaymentSolution

# How an object is named at a server whose name tells nothing. Spaces don't care about the region.
_OBJECTS = {
    "s3": "s3://{bucket}/{key}",
    "do": "do://{bucket}.us-east-1/{key}",
    "gs": "gs://{bucket}/{key}",
    "az": "az://{bucket}/{key}",
}


def load_headers(url: str, auth: Callable[[Any], Any] | None = None) -> list[FITSHeader]:
    """Read all headers of a file at any server.

    Parameters
    ----------
    url : str
        The file.
    auth : requests.auth.AuthBase, optional
        Who signs: `nuncius.compat.astro_cloud.auth.aws.AWSAuth`, or what requests takes as ``auth=``; of anything else than
        `AWSAuth` the header lines that it adds are sent along with each request.

    Returns
    -------
    list of FITSHeader
        As `nuncius.compat.astro_cloud.fits.load_headers` gives them, with its errors.
    """
    if auth is None:
        return read_headers(url, None)
    from nuncius.compat.astro_cloud.auth.aws import AWSAuth

    if isinstance(auth, AWSAuth):
        return read_headers(url, "s3", requester_pays=auth.request_payer)
    return read_headers(url, None, headers=_added_lines(url, auth))


def read_headers(
    url: str, store: str | None, *, requester_pays: bool = False, headers: dict[str, str] | None = None
) -> list[FITSHeader]:
    """Read all headers of a file; as an object of a store if a server that isn't known refuses it otherwise.

    Parameters
    ----------
    url : str
        The file.
    store : {"s3", "do", "gs", "az"}, optional
        Which interface its server may have.
    requester_pays : bool
        Whether you pay for the transfer, where that is asked for.
    headers : dict, optional
        Further header lines of each request.
    """
    with translating():
        if find_place(url).kind != "http":
            return _read(url, requester_pays=requester_pays, headers=headers)
        try:
            # A plus sign is one; some servers take it for a space unless it is encoded.
            return _read(url if "?" in url else url.replace("+", "%2B"), headers=headers)
        except NunciusError as error:
            address = urlsplit(url)
            bucket, _, key = unquote(address.path).removeprefix("/").partition("/")
            if store is None or not _may_be_store(error) or address.query or address.username or not key:
                raise
        there = _OBJECTS[store].format(bucket=bucket, key=key)
        return _read(there, endpoint=f"{address.scheme}://{address.netloc}", requester_pays=requester_pays)


def check_payment(
    service: CloudService,
    payment_solution: PaymentSolution | None,
    accepted: tuple[PaymentSolution | None, ...],
) -> None:
    """Refuse what a service can't be paid with.

    Raises
    ------
    AstroCloudArgumentError
        If it isn't among what is accepted.
    """
    if payment_solution not in accepted:
        names = " or ".join(str(one) for one in accepted)
        raise AstroCloudArgumentError(
            f"Unsupported Payment Solution[{payment_solution}] for {service}: it takes {names}",
            service=service.value,
        )


def _read(url: str, *, requester_pays: bool = False, **options: Any) -> list[FITSHeader]:
    from astropy.io import fits

    from nuncius.cloudfits import open_fits

    with open_fits(url, requester_pays=requester_pays and _can_pay(url, options), **options) as opened:
        return [
            FITSHeader(hdu.header_offset, len(hdu.raw), fits.Header.fromstring(hdu.raw)) for hdu in opened
        ]


def _can_pay(url: str, options: dict[str, Any]) -> bool:
    """Tell whether there is somebody who pays; without credentials a bucket may be public all the same."""
    place = find_place(url, options.get("endpoint"))
    return place.kind == "s3" and not find_login(place, Access()).anonymous


def _may_be_store(error: NunciusError) -> bool:
    """Tell whether a store may have answered so because nobody said who he is, or in which region the bucket lies."""
    if isinstance(error, (ServerError, ConfigurationError)):
        return error.status in (None, 301, 307, 400)
    return isinstance(error, (LoginError, ForbiddenError))


def _added_lines(url: str, auth: Callable[[Any], Any]) -> dict[str, str]:
    """Return the header lines that somebody else's auth adds to a request."""
    import requests

    session = requests.Session()
    session.trust_env = False  # only what was given
    signed = session.prepare_request(requests.Request("GET", url, auth=auth))
    plain = session.prepare_request(requests.Request("GET", url))
    return {name: str(value) for name, value in signed.headers.items() if name not in plain.headers}
