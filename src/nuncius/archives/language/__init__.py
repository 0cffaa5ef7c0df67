"""The query language of the archives: MongoDB's, as Kowalski's users write it, as values and pure functions.

Filters, projections, sort orders, expressions and pipelines are checked when they are given (`check_…`, `Projection`),
so that a misspelt operator is an error that points at the place. What is checked is plain data, which can be sent to a
server, and has one meaning here: `matches`, `evaluate`, `run_pipeline`. `OPERATORS` lists all operators.
"""

from nuncius.archives.language.bounds import bounded
from nuncius.archives.language.expressions import check_expression, evaluate, fields_read
from nuncius.archives.language.filters import check_filter, fields_of_filter, matches
from nuncius.archives.language.geo import geo_region, near_of
from nuncius.archives.language.pipelines import (
    check_pipeline,
    collections_of,
    distinct_values,
    run_pipeline,
)
from nuncius.archives.language.projections import Projection
from nuncius.archives.language.reference import OPERATORS
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
    "OPERATORS",
    "Document",
    "Filter",
    "Projection",
    "ProjectionLike",
    "SortLike",
    "bounded",
    "check_expression",
    "check_filter",
    "check_pipeline",
    "check_sort",
    "collections_of",
    "compare",
    "distinct_values",
    "equal",
    "evaluate",
    "fields_of_filter",
    "fields_read",
    "first_documents",
    "geo_region",
    "matches",
    "near_of",
    "plain",
    "run_pipeline",
    "sort_documents",
]
