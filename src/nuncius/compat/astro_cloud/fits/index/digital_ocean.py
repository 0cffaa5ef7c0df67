"""Headers of files in Spaces of Digital Ocean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.compat.astro_cloud.fits.datatypes import CloudService, PaymentSolution
from nuncius.compat.astro_cloud.fits.index import base

if TYPE_CHECKING:
    from nuncius.compat.astro_cloud.fits.datatypes import FITSHeader


def load_headers(url: str, payment_solution: PaymentSolution | None = None) -> list[FITSHeader]:
    """Read all headers of a file: `nuncius.compat.astro_cloud.fits.load_headers` with `CloudService.Spaces`."""
    base.check_payment(CloudService.Spaces, payment_solution, (None, PaymentSolution.AWSRequestPayer))
    # It knows no requester who pays: the owner does, whatever is asked.
    return base.read_headers(url, "do")
