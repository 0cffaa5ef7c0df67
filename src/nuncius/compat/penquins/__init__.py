"""Kowalski as users of penquins know it.

Where a program has ``from penquins import Kowalski``, write::

    from nuncius.compat.penquins import Kowalski

and nothing else changes: the same constructor, the same methods, the same nested answers. What is better:

- Each of several queries has its answer, in the order asked, and a query that fails has an answer that says so (`Answer`).
- A question that timed out is not sent again behind your back: the server is told how long we wait (``max_time_ms``).
- A login that is refused, a proxy's page or a question that is too large raise typed errors (`nuncius.errors`) that are
  also the `ValueError` or `KeyError` of before. Too many positions for one request are asked in several.
- ``kowalski.token`` works; a token that dies is renewed where there is a password.
- Filters may hold dates, astropy times, numpy numbers and ids; cutouts arrive as bytes.
- If one of several instances dies, another that has the catalogs answers for it.

New programs have more from `nuncius.open_archive`: tables, units, separations, ``async``.
"""

from __future__ import annotations

from nuncius.compat.penquins.answers import Answer, Answers
from nuncius.compat.penquins.client import Kowalski

__all__ = ["Answer", "Answers", "Kowalski", "__version__"]

__version__ = "2.4.2"  # of the interface that is offered here
