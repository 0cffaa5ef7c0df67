"""What the language knows, operator by operator, with one line of meaning each: the source of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nuncius.archives.language.functions.table import GROUPS
from nuncius.archives.language.grouping import ACCUMULATIONS
from nuncius.archives.language.pipelines import ALL_STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILTER: Final = {
    "$eq": "equal to a value; of an array, one element",
    "$ne": "not equal to a value; also where the field is missing",
    "$gt": "greater than a value of the same type",
    "$gte": "greater than or equal to a value of the same type",
    "$lt": "smaller than a value of the same type",
    "$lte": "smaller than or equal to a value of the same type",
    "$in": "equal to one of the values, or found by one of the regular expressions",
    "$nin": "none of the values; also where the field is missing",
    "$not": "does not meet other operators; also where the field is missing",
    "$exists": "whether the field is there, null or not",
    "$type": "of a type, by its name or number: double, string, object, array, bool, date, null, int, long, number …",
    "$regex": "a text in which a regular expression is found",
    "$options": "beside $regex: i (either case), m (lines), s (a dot is any character), x (blanks don't count)",
    "$mod": "a number with a remainder: [divisor, remainder]",
    "$bitsAllSet": "a whole number in which all of these bits are set",
    "$bitsAllClear": "a whole number in which none of these bits is set",
    "$bitsAnySet": "a whole number in which one of these bits is set",
    "$bitsAnyClear": "a whole number in which one of these bits is not set",
    "$size": "an array of a length",
    "$all": "an array with all of the values",
    "$elemMatch": "an array of which one element meets all conditions",
    "$geoWithin": "a position in a region: $centerSphere [[lon, lat], radians], or $geometry",
    "$geoIntersects": "a position in a $geometry: Polygon, MultiPolygon or Point",
    "$nearSphere": "a position within $maxDistance, sorted by distance: [lon, lat] and radians, or $geometry and metres",
    "$near": "as $nearSphere",
}
_LOGIC: Final = {
    "$and": "meets all filters",
    "$or": "meets at least one filter",
    "$nor": "meets no filter",
    "$expr": "an expression is true",
    "$comment": "a remark, which means nothing",
}
_PROJECTION: Final = {
    "$slice": "some elements of an array: the first, the last (negative), or [skip, number]",
    "$elemMatch": "the first element of an array that meets conditions",
}

OPERATORS: Mapping[str, Mapping[str, str]] = {
    "filter": _FILTER,
    "filter: logic": _LOGIC,
    "projection": _PROJECTION,
    "stage": {name: stage.meaning for name, stage in ALL_STAGES.items()},
    "accumulator": {name: how.meaning for name, how in ACCUMULATIONS.items()},
    **{
        f"expression: {group}": {name: function.meaning for name, function in functions.items()}
        for group, functions in GROUPS.items()
    },
}
