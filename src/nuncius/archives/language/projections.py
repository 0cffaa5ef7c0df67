"""Projections: which fields of a document are wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nuncius.errors import FilterError

if TYPE_CHECKING:
    from nuncius.archives.language.values import Document


class Projection:
    """Which fields of a document are wanted.

    Parameters
    ----------
    projection : mapping or list of str, optional
        ``{"candid": 1}`` or ``["candid"]`` keeps what is named and `_id`; ``{"cutoutScience": 0}`` leaves it out.

    Raises
    ------
    FilterError
        If it both keeps and leaves out, or is no projection.
    """

    def __init__(self, projection: Mapping[str, Any] | Sequence[str] | None) -> None:
        if projection is not None and not isinstance(projection, Mapping):
            if (
                isinstance(projection, str)
                or not isinstance(projection, Collection)
                or not all(isinstance(name, str) for name in projection)
            ):
                raise FilterError(
                    f"projection: a list of field names or a mapping, not {projection!r}",
                    position="projection",
                )
            projection = dict.fromkeys(projection or ["_id"], 1)
        fields = dict(projection or {})
        for name, value in fields.items():
            if not isinstance(name, str) or not isinstance(value, (bool, int)) or value not in {0, 1}:
                raise FilterError(
                    f"projection[{name!r}]: 1 keeps a field and 0 leaves it out",
                    position=f"projection[{name!r}]",
                )
        self._with_id = bool(fields.pop("_id", True))
        if len(set(map(bool, fields.values()))) > 1:
            raise FilterError(
                "projection: keep fields (1) or leave fields out (0), not both at once", position="projection"
            )
        self._keeps = bool(fields) and all(fields.values())
        self._tree = _tree(fields)
        self._only_id = projection is not None and not fields and self._with_id and bool(projection)

    @property
    def is_everything(self) -> bool:
        """Whether it changes nothing."""
        return not self._tree and self._with_id and not self._only_id

    def wants(self, field: str) -> bool:
        """Tell whether anything of a top-level field is wanted."""
        if self._only_id:
            return False
        return (field in self._tree) if self._keeps else self._tree.get(field, {}) is not None

    def apply(self, document: Document) -> Document:
        """Return the document with the wanted fields."""
        if self.is_everything:
            return document
        if self._only_id:
            return {"_id": document["_id"]} if "_id" in document else {}
        chosen: Document = (_keep if self._keeps else _leave_out)(document, self._tree)
        if "_id" in document and self._with_id:
            return {"_id": document["_id"], **chosen}
        chosen.pop("_id", None)
        return chosen


def _tree(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested mappings; None marks the end of a path."""
    tree: dict[str, Any] = {}
    for name in fields:
        *parents, last = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if branch is None:
                break
        if branch is None or branch.get(last) is not None:
            raise FilterError(
                f"projection: {name!r} and a field within another that is named", position="projection"
            )
        branch[last] = None
    return tree


def _keep(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_keep(item, tree) for item in value if isinstance(item, (Mapping, list))]
    return {
        name: value[name] if branch is None else _keep(value[name], branch)
        for name, branch in ((name, tree[name]) for name in value if name in tree)
        if branch is None or isinstance(value[name], (Mapping, list))
    }


def _leave_out(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_leave_out(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _leave_out(item, tree[name]) if name in tree else item
        for name, item in value.items()
        if name not in tree or tree[name] is not None
    }
