"""Projections: which fields of a document are wanted, and which are computed.

Source: the MongoDB manual, "Project Fields to Return from Query", "$project" and "$addFields".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.expressions import DocumentScope, check_expression, fields_read, union_of
from nuncius.archives.language.filters import check_filter
from nuncius.archives.language.matching import meets_element
from nuncius.archives.language.values import MISSING, check_depth, check_path, has_operators, is_number
from nuncius.errors import FilterError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.archives.language.functions.base import Scope
    from nuncius.archives.language.values import Document, ProjectionLike


@dataclass(frozen=True, slots=True)
class Computed:
    """A field that an expression gives."""

    expression: Any


@dataclass(frozen=True, slots=True)
class Whole:
    """A field as it is, or not at all."""

    kept: bool

    def of(self, value: Any) -> Any:
        """Return what is wanted of a value."""
        return value if self.kept else MISSING


@dataclass(frozen=True, slots=True)
class Slice:
    """Some elements of an array: the first, the last if negative, or `count` after some."""

    start: int | None
    count: int

    def of(self, value: Any) -> Any:
        """Return what is wanted of a value."""
        if not isinstance(value, list):
            return value
        if self.start is None:
            return value[: self.count] if self.count >= 0 else value[self.count :]
        start = self.start if self.start >= 0 else max(len(value) + self.start, 0)
        return value[start : start + self.count]


@dataclass(frozen=True, slots=True)
class Element:
    """The first element of an array that meets a condition."""

    condition: Any

    def of(self, value: Any) -> Any:
        """Return what is wanted of a value."""
        if isinstance(value, list):
            for item in value:
                if meets_element(item, self.condition):
                    return [item]
        return MISSING


class Projection:
    """Which fields of a document are wanted.

    Parameters
    ----------
    projection : mapping or list of str, optional
        ``{"candid": 1}`` or ``["candid"]`` keeps what is named and `_id`; ``{"cutoutScience": 0}`` leaves it out;
        ``{"mag": "$candidate.magpsf"}`` computes it; ``{"prv_candidates": {"$slice": -3}}`` keeps the last three.
    place : str, optional
        What it is called in messages.
    stage : bool, optional
        Whether it is that of a `$project`, where `$slice` is an operator of expressions and a text means itself.
    variables : iterable of str, optional
        Names of variables that its expressions may use.

    Raises
    ------
    FilterError
        If it both keeps and leaves out, or is no projection.
    UnsupportedError
        If it asks for what no archive here can do: the positional operator, `$meta`.

    Examples
    --------
    >>> Projection({"mag": "$candidate.magpsf"}).apply({"_id": 1, "candidate": {"magpsf": 18.5}})
    {'_id': 1, 'mag': 18.5}
    """

    def __init__(
        self,
        projection: ProjectionLike,
        *,
        place: str = "projection",
        stage: bool = False,
        variables: Iterable[str] = (),
    ) -> None:
        self._place, self._stage, self._names = place, stage, frozenset(variables)
        check_depth(projection, place)
        given = self._as_mapping(projection)
        self._checked: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for name, value in given.items():
            self._checked[name] = self._read(name, value, f"{place}[{name!r}]", fields)
        own_id = fields.pop("_id", Whole(kept=True))
        if not isinstance(own_id, Whole):  # computed, or part of it
            fields["_id"] = own_id
        self._with_id = own_id.kept if isinstance(own_id, Whole) else not isinstance(own_id, Computed)
        self._keeps = self._mode(fields)
        self._tree = tree_of(
            {name: leaf for name, leaf in fields.items() if not isinstance(leaf, Computed)}, place
        )
        self._computed = tree_of(
            {name: leaf for name, leaf in fields.items() if isinstance(leaf, Computed)}, place
        )
        tree_of(fields, place)  # refuses a field within another
        self._parents(self._computed, self._tree)
        self._reads = union_of(
            fields_read(leaf.expression) for leaf in fields.values() if isinstance(leaf, Computed)
        )
        self._only_id = bool(given) and not fields and self._with_id

    # Checking

    def _as_mapping(self, projection: Any) -> Mapping[Any, Any]:
        if projection is None or isinstance(projection, Mapping):
            return projection or {}
        if (
            isinstance(projection, str)
            or not isinstance(projection, Collection)
            or not all(isinstance(name, str) for name in projection)
        ):
            raise FilterError(
                f"{self._place}: a list of field names or a mapping, not {projection!r}", position=self._place
            )
        return dict.fromkeys(projection or ["_id"], 1)

    def _read(self, name: Any, value: Any, place: str, fields: dict[str, Any]) -> Any:
        """Check one field, note what is to be done, and return it as a server takes it."""
        if not isinstance(name, str):
            raise FilterError(f"{place}: a field name is a text", position=place)
        if name.endswith(".$"):
            raise UnsupportedError(
                f"{place}: the positional operator is not supported; use $elemMatch or $filter",
                position=place,
            )
        if name.startswith("$"):
            raise FilterError(f"{place}: an operator stands where a field name belongs", position=place)
        check_path(name, place)
        if name in fields:  # once as a path, once as a part of a mapping
            raise FilterError(f"{place}: {name!r} is named twice", position=place)
        if isinstance(value, (bool, int, float)) and value in {0, 1}:
            fields[name] = Whole(kept=bool(value))
            return int(value)
        if isinstance(value, Mapping) and value and not has_operators(value):
            return {
                inner: self._read_inner(name, inner, item, place, fields) for inner, item in value.items()
            }
        leaf, checked = self._leaf(name, value, place)
        fields[name] = leaf
        return checked

    def _read_inner(self, name: str, inner: Any, value: Any, place: str, fields: dict[str, Any]) -> Any:
        if not isinstance(inner, str):
            raise FilterError(f"{place}: a field name is a text, not {inner!r}", position=place)
        return self._read(f"{name}.{inner}", value, f"{place}[{inner!r}]", fields)

    def _leaf(self, name: str, value: Any, place: str) -> tuple[Any, Any]:
        operator = next(iter(value)) if has_operators(value) and len(value) == 1 else None
        if operator == "$meta":
            raise UnsupportedError(
                f"{place}: $meta is not supported: there are no text scores", position=place
            )
        if not self._stage and operator == "$elemMatch":
            if "." in name:
                raise FilterError(f"{place}: $elemMatch can't stand at a dotted path", position=place)
            condition = check_filter({"x": value}, place)["x"]
            return Element(condition["$elemMatch"]), condition
        if not self._stage and operator == "$slice":
            bounds = _slice_bounds(value["$slice"], place)
            if bounds is not None:
                return bounds, {operator: value[operator]}
        wanted = isinstance(value, (Mapping, list, tuple)) or (
            isinstance(value, str) and (self._stage or value.startswith("$"))
        )
        if not wanted or value == {}:
            raise FilterError(
                f"{place}: 1 keeps a field and 0 leaves it out, '$other' or an operator computes it, not {value!r}; "
                "a value as it is would be {'$literal': …}",
                position=place,
            )
        checked = check_expression(value, place, self._names)
        return Computed(checked), checked

    def _mode(self, fields: Mapping[str, Any]) -> bool:
        keeps = [
            name for name, leaf in fields.items() if leaf != Whole(kept=False) and not isinstance(leaf, Slice)
        ]
        leaves_out = [name for name, leaf in fields.items() if leaf == Whole(kept=False)]
        if keeps and leaves_out:
            raise FilterError(
                f"{self._place}: keep or compute fields ({keeps[0]!r}), or leave fields out ({leaves_out[0]!r}), "
                "not both at once",
                position=self._place,
            )
        return bool(keeps)

    def _parents(self, computed: Mapping[str, Any], tree: dict[str, Any]) -> None:
        """Keep the documents and arrays that computed fields are set in."""
        for name, branch in computed.items():
            if isinstance(branch, dict):
                self._parents(branch, tree.setdefault(name, {}))

    # Using

    @property
    def fields(self) -> dict[str, Any] | None:
        """The checked projection as a server takes it; None if it is everything."""
        return dict(self._checked) or None

    @property
    def is_everything(self) -> bool:
        """Whether it changes nothing."""
        return not self._tree and not self._computed and self._with_id and not self._only_id

    def wants(self, field: str) -> bool:
        """Tell whether anything of a top-level field is wanted, or read to compute another one."""
        if self._only_id:
            return False
        if self._reads is None or field in self._reads:
            return True
        return (field in self._tree) if self._keeps else self._tree.get(field) != Whole(kept=False)

    def apply(self, document: Document, variables: Mapping[str, Any] | None = None) -> Document:
        """Return the document with the wanted fields.

        Raises
        ------
        FilterError
            If an expression can't work on a value of the document.
        """
        if self.is_everything:
            return document
        if self._only_id:
            return {"_id": document["_id"]} if "_id" in document else {}
        chosen: Document = _chosen(document, self._tree, others=not self._keeps)
        if self._computed:
            chosen = with_computed(chosen, self._computed, DocumentScope(document, variables or {}))
        if "_id" in document and self._with_id:
            return {"_id": document["_id"], **chosen}
        if "_id" in self._computed:
            return {"_id": chosen.pop("_id"), **chosen} if "_id" in chosen else chosen
        chosen.pop("_id", None)
        return chosen


def _slice_bounds(value: Any, place: str) -> Slice | None:
    """Read the `$slice` of a projection; None if it is an operator of expressions."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not all(map(is_number, numbers)):
        return None
    if len(numbers) not in {1, 2} or not all(number == int(number) for number in numbers):
        raise FilterError(f"{place}: $slice takes a number of elements or [skip, number]", position=place)
    if len(numbers) == 1:
        return Slice(None, int(numbers[0]))
    if numbers[1] <= 0:
        raise FilterError(f"{place}: $slice takes [skip, a positive number]", position=place)
    return Slice(int(numbers[0]), int(numbers[1]))


def tree_of(fields: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Turn dotted names into nested mappings.

    Raises
    ------
    FilterError
        If a field stands within another that is named.
    """
    tree: dict[str, Any] = {}
    for name, leaf in fields.items():
        *parents, last = name.split(".")
        branch: Any = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                break
        if not isinstance(branch, dict) or last in branch:
            raise FilterError(f"{place}: {name!r} and a field within another that is named", position=place)
        branch[last] = leaf
    return tree


def _chosen(value: Any, tree: Mapping[str, Any], *, others: bool) -> Any:
    """Return what a tree names, and the others too if these are wanted."""
    if isinstance(value, list):
        return [
            _chosen(item, tree, others=others)
            for item in value
            if others or isinstance(item, (Mapping, list))
        ]
    if not isinstance(value, Mapping):
        return value
    chosen = {}
    for name, item in value.items():
        branch = tree.get(name)
        if branch is None:
            if others:
                chosen[name] = item
        elif not isinstance(branch, dict):
            wanted = branch.of(item)
            if wanted is not MISSING:
                chosen[name] = wanted
        elif others or isinstance(item, (Mapping, list)):
            chosen[name] = _chosen(item, branch, others=others)
    return chosen


def with_computed(value: Any, tree: Mapping[str, Any], scope: Scope) -> Any:
    """Return a document with computed fields set, in each document of an array; what is MISSING is taken out."""
    if isinstance(value, list):
        return [with_computed(item, tree, scope) for item in value]
    changed = dict(value) if isinstance(value, Mapping) else {}
    for name, branch in tree.items():
        if isinstance(branch, Computed):
            computed = scope.value(branch.expression)
        else:
            computed = with_computed(changed.get(name), branch, scope)
        if computed is MISSING:
            changed.pop(name, None)
        else:
            changed[name] = computed
    return changed
