"""How the archive is asked: all questions but those for places (see `places`)."""

from __future__ import annotations

from nuncius.archives.embedded.aggregate import aggregate
from nuncius.archives.embedded.explain import Explanation, explain
from nuncius.archives.embedded.fields import create_index, drop_index, indexes
from nuncius.archives.embedded.find import count, distinct, estimated_count, find
from nuncius.archives.embedded.reading import select
from nuncius.archives.embedded.rows import read_document

__all__ = [
    "Explanation",
    "aggregate",
    "count",
    "create_index",
    "distinct",
    "drop_index",
    "estimated_count",
    "explain",
    "find",
    "indexes",
    "read_document",
    "select",
]
