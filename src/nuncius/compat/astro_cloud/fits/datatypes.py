"""The services, how they are paid, and a header with its place."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from astropy.io import fits


class CloudService(enum.Enum):
    """Where a file lies. `AWS` is another name of `S3`."""

    S3 = "amazon-web-services-static-storage-service"
    ObjectStorage = "google-cloud-platform-object-storage"
    BlobStorage = "azure-blob-storage"
    Spaces = "digital-ocean-spaces"
    AWS = "amazon-web-services-static-storage-service"  # noqa: PIE796 - an alias, on purpose


class PaymentSolution(enum.Enum):
    """Who pays for the transfer, if not the owner of the bucket."""

    AWSRequestPayer = "aws-request-payer"


class FITSHeader(NamedTuple):
    """A header and its place in the file; it pickles."""

    offset: int
    """Where the header begins, in bytes from the beginning of the file."""
    length: int
    """How many bytes the header takes, with its padding: a multiple of 2880. The data begin at ``offset + length``."""
    fits: fits.Header
    """The header as it stands in the file: that of a tile-compressed image is the header of its table."""
