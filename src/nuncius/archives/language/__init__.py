"""The query language of the archives: MongoDB's, as Kowalski's users write it, as values and pure functions."""

from nuncius.archives.language.filters import check_filter, matches
from nuncius.archives.language.projections import Projection
from nuncius.archives.language.sorting import check_sort, first_documents, sort_documents
from nuncius.archives.language.values import (
    MISSING,
    Document,
    Filter,
    ProjectionLike,
    SortLike,
    compare,
    equal,
    plain,
)

__all__ = [
    "MISSING",
    "Document",
    "Filter",
    "Projection",
    "ProjectionLike",
    "SortLike",
    "check_filter",
    "check_sort",
    "compare",
    "equal",
    "first_documents",
    "matches",
    "plain",
    "sort_documents",
]
