"""Headers of FITS files in object stores.

>>> from nuncius.compat.astro_cloud.fits import load_headers, CloudService, PaymentSolution
>>> url = "https://s3.us-east-1.amazonaws.com/stpubdata/tess/public/mast/tess-s0022-4-4-cube.fits"
>>> for header in load_headers(url, CloudService.S3, PaymentSolution.AWSRequestPayer):  # doctest: +SKIP
...     print(header.offset, header.length, header.fits.get("XTENSION"))
"""

from __future__ import annotations

from nuncius.compat.astro_cloud.errors import AstroCloudArgumentError
from nuncius.compat.astro_cloud.fits.datatypes import CloudService, FITSHeader, PaymentSolution
from nuncius.compat.astro_cloud.fits.index import aws, azure, digital_ocean, gcp

__all__ = ["CloudService", "FITSHeader", "PaymentSolution", "load_headers"]


def load_headers(
    url: str, service: CloudService, payment_solution: PaymentSolution | None = None
) -> list[FITSHeader]:
    """Read the headers of a FITS file, and nothing of its data.

    Parameters
    ----------
    url : str
        The file: an ``https://`` link to any of the services or to any other server, or ``s3://``, ``gs://``, ``az://``.
    service : CloudService
        Where it lies: whose credentials are used if the server asks for some.
    payment_solution : PaymentSolution, optional
        That you pay for the transfer; for `CloudService.S3` and `CloudService.Spaces`.

    Returns
    -------
    list of FITSHeader
        All headers with their places, in the order of the file. Where the data of the last HDU are cut short, its header
        is there all the same.

    Raises
    ------
    AstroCloudError
        If the service isn't known, isn't paid that way, or doesn't give the file (`AstroCloudArgumentError`,
        `AstroCloudLoginError`, `AstroCloudForbiddenError`, `AstroCloudNotFoundError`, `AstroCloudServerError`), or the server
        can't send parts of it (`AstroCloudUnsupportedError`). All of them are a NotImplementedError too.
    FitsError
        If it is no FITS file, or a header is damaged.
    UnreachableError, DeadlineError
        If nobody answers, or not in time.
    ForkError
        In a process forked from one that had already read files; processes that were spawned may read.
    """
    for known, load in _SERVICES:
        if service is known:
            return load(url, payment_solution)
    names = ", ".join(str(known) for known in CloudService)
    raise AstroCloudArgumentError(f"Cloud Service[{service}] not implemented: choose one of {names}")


_SERVICES = (
    (CloudService.S3, aws.load_headers),
    (CloudService.ObjectStorage, gcp.load_headers),
    (CloudService.BlobStorage, azure.load_headers),
    (CloudService.Spaces, digital_ocean.load_headers),
)
