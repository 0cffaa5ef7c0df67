"""FITS headers in object stores as users of astro-cloud know them.

Where a program has ``from astro_cloud.fits import load_headers, CloudService, PaymentSolution``, write::

    from nuncius.compat.astro_cloud.fits import load_headers, CloudService, PaymentSolution

and nothing else changes. What is better:

- All four services work, and any http URL; S3 with or without credentials, with session tokens, profiles and roles.
- The headers are found by their true places: primary arrays, random groups, heaps, tables and any other extension.
- A file of many HDUs takes a few round trips, not a connection for each 2880 bytes.
- ``offset`` and ``length`` are those of the header, in bytes.
- Failures are typed (`nuncius.errors`), and still the `NotImplementedError` of before.

New programs have more from `nuncius.open_fits`: sections, cutouts, rows of tables, ``async``.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.0.2"  # of the documented interface that is offered here
