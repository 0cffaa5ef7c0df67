"""Headers of files in S3 of Amazon, or in anything that speaks its protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.compat.astro_cloud.fits.datatypes import CloudService, PaymentSolution
from nuncius.compat.astro_cloud.fits.index import base

if TYPE_CHECKING:
    from nuncius.compat.astro_cloud.fits.datatypes import FITSHeader


def load_headers(url: str, payment_solution: PaymentSolution | None = None) -> list[FITSHeader]:
    """Read all headers of a file: `nuncius.compat.astro_cloud.fits.load_headers` with `CloudService.S3`."""
    base.check_payment(CloudService.S3, payment_solution, (None, PaymentSolution.AWSRequestPayer))
    return base.read_headers(url, "s3", requester_pays=payment_solution is PaymentSolution.AWSRequestPayer)
