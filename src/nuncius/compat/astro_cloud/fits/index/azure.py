"""Headers of files in Azure Blob Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.compat.astro_cloud.fits.datatypes import CloudService
from nuncius.compat.astro_cloud.fits.index import base

if TYPE_CHECKING:
    from nuncius.compat.astro_cloud.fits.datatypes import FITSHeader, PaymentSolution


def load_headers(url: str, payment_solution: PaymentSolution | None = None) -> list[FITSHeader]:
    """Read all headers of a file: `nuncius.compat.astro_cloud.fits.load_headers` with `CloudService.BlobStorage`."""
    base.check_payment(CloudService.BlobStorage, payment_solution, (None,))
    return base.read_headers(url, "az")
