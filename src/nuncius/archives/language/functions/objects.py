"""Documents within documents, and values as they are.

Source: the MongoDB manual, "Object Expression Operators", "$literal" and "$let".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import Function, document, is_nothing, text
from nuncius.archives.language.values import MISSING, plain
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from nuncius.archives.language.functions.base import Check, Scope


def merge(*several: Any) -> dict[str, Any]:
    """Put documents together; of equal names the last has the value. Nothing is passed over."""
    given = several[0] if len(several) == 1 and isinstance(several[0], list) else several
    merged: dict[str, Any] = {}
    for one in given:
        if not is_nothing(one):
            merged.update(document("$mergeObjects", one))
    return merged


def _get(argument: Any, scope: Scope) -> Any:
    if isinstance(argument, Mapping) and "field" in argument:
        name, given = scope.value(argument["field"]), scope.value(argument.get("input", "$$CURRENT"))
    else:
        name, given = scope.value(argument), scope.value("$$CURRENT")
    if given is None:
        return None
    name = text("$getField", name)
    return given.get(name, MISSING) if isinstance(given, Mapping) else MISSING


def _check_get(argument: Any, place: str, names: frozenset[str], check: Check) -> Any:
    if isinstance(argument, Mapping) and "field" in argument:
        extra = set(argument) - {"field", "input"}
        if extra:
            raise FilterError(f"{place} takes field and input, not {min(map(str, extra))!r}", position=place)
        return {name: check(item, f"{place}[{name!r}]", names) for name, item in argument.items()}
    return check(argument, place, names)


def _set(given: dict[str, Any]) -> Any:
    if is_nothing(given["input"]):
        return None
    changed = dict(document("$setField", given["input"]))
    name, value = text("$setField", given["field"]), given["value"]
    if value is MISSING:
        changed.pop(name, None)
    else:
        changed[name] = value
    return changed


def _let(argument: Mapping[str, Any], scope: Scope) -> Any:
    defined = {name: scope.value(item) for name, item in argument["vars"].items()}
    return scope.within(**defined).value(argument["in"])


def _check_let(argument: Any, place: str, names: frozenset[str], check: Check) -> Any:
    if not isinstance(argument, Mapping) or set(argument) != {"vars", "in"}:
        raise FilterError(f"{place} takes {{'vars': {{name: …}}, 'in': …}}", position=place)
    given = argument["vars"]
    if not isinstance(given, Mapping):
        where = f"{place}['vars']"
        raise FilterError(f"{where} is a mapping of names to expressions", position=where)
    for name in given:
        check_name(name, f"{place}['vars']")
    defined = {name: check(item, f"{place}['vars'][{name!r}]", names) for name, item in given.items()}
    return {"vars": defined, "in": check(argument["in"], f"{place}['in']", names | set(given))}


def check_name(name: Any, place: str) -> str:
    """Refuse the name of a variable that can't be one: it begins with a small letter.

    Raises
    ------
    FilterError
        If it does not.
    """
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or not (name[0].islower() or not name[0].isascii())
    ):
        raise FilterError(
            f"{place}: the name of a variable begins with a small letter and has letters, digits and _, not {name!r}",
            position=place,
        )
    return name


OBJECTS: dict[str, Function] = {
    "$mergeObjects": Function(
        meaning="documents put together; the last has the say", call=merge, least=0, most=None
    ),
    "$getField": Function(
        meaning="a field by its name, which may have dots and dollar signs", lazy=_get, check=_check_get
    ),
    "$setField": Function(
        meaning="a document with a field set, or taken out with $$REMOVE",
        named=_set,
        least=0,
        most=0,
        required=("field", "input", "value"),
    ),
    "$let": Function(meaning="an expression with variables defined", lazy=_let, check=_check_let),
    "$literal": Function(
        meaning="a value as it is, dollar signs and all",
        lazy=lambda argument, _: argument,
        check=lambda argument, place, _names, _check: plain(argument, place),
    ),
}
