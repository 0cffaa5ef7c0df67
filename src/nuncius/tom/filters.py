"""A question as a filter of an archive, in MongoDB's language, which all archives understand.

What a user writes in the form's field "Filter" is the language of `nuncius.streams.where`: ``score > 0.9 and
candidate.ndethist >= 3``. An archive decides it where the documents are, so that of its operators only those remain that
compare a field with a value: ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in`` and ``not in`` a list, ``is None``,
``startswith``, ``contains``, ``matches``, joined by ``and``, ``or``, ``not``. As there, what is missing is unknown, and an
alert passes if the answer is True; so ``not`` is carried to the comparisons, which MongoDB answers with False where a
field is missing.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from nuncius.alerts.lightcurve import AB_ZERO_POINT_NJY
from nuncius.errors import FilterError
from nuncius.streams.where import WORDS, parse_where

if TYPE_CHECKING:
    from nuncius.tom.questions import Question
    from nuncius.tom.words import Words

Condition = dict[str, Any]

_OPERATORS: dict[type, str] = {
    ast.Lt: "$lt", ast.LtE: "$lte", ast.Gt: "$gt", ast.GtE: "$gte", ast.Eq: "$eq", ast.NotEq: "$ne",
    ast.In: "$in", ast.NotIn: "$nin",
}  # fmt: skip
_OPPOSITE = {
    "$lt": "$gte", "$gte": "$lt", "$gt": "$lte", "$lte": "$gt", "$eq": "$ne", "$ne": "$eq", "$in": "$nin", "$nin": "$in",
}  # fmt: skip
_TURNED = {"$lt": "$gt", "$gt": "$lt", "$lte": "$gte", "$gte": "$lte", "$eq": "$eq", "$ne": "$ne"}
_MEASURED = frozenset({"mag", "mag_err", "flux_njy", "flux_err_njy", "score"})


def condition_of(question: Question, words: Words) -> Condition:
    """Return the filter of a question, without its position.

    Raises
    ------
    FilterError
        If the catalog has no such field, or `where` means nothing there; `position` names the form's field.
    """
    parts: list[Condition] = []
    if question.object_id:
        parts.append(objects_condition([question.object_id], words))
    begin, end = question.mjd_range
    parts += [_compared("mjd", "$gte", begin, words)] if begin is not None else []
    parts += [_compared("mjd", "$lt", end, words)] if end is not None else []
    low, high = question.mag_min, question.mag_max
    parts += [_compared("mag", "$gte", low, words)] if low is not None else []
    parts += [_compared("mag", "$lte", high, words)] if high is not None else []
    if question.where:
        parts.append(where_condition(question.where, words))
    if not parts:
        return {}
    return parts[0] if len(parts) == 1 else {"$and": parts}


def objects_condition(names: list[str], words: Words) -> Condition:
    """Return the filter for objects of these names."""
    path = _path("object_id", words)
    if not words.number_ids:
        return {path: names[0]} if len(names) == 1 else {path: {"$in": names}}
    numbers = [int(name) for name in names if name.isdecimal() and len(name) < 20]
    moving = [int(name[3:]) for name in names if name.startswith("sso") and name[3:].isdecimal()]
    return {"$or": [{path: {"$in": numbers}}, {path.replace("diaObjectId", "ssObjectId"): {"$in": moving}}]}


def where_condition(text: str, words: Words) -> Condition:
    """Return the filter that a text means.

    Raises
    ------
    FilterError
        If it means nothing, or an archive can't decide it; `position` is ``where``.

    Examples
    --------
    >>> from nuncius.tom.words import words_of
    >>> where_condition("candidate.drb > 0.9 and not candidate.ndethist < 3", words_of("ZTF_alerts", "kowalski"))
    {'$and': [{'candidate.drb': {'$gt': 0.9}}, {'candidate.ndethist': {'$gte': 3}}]}
    """
    text = parse_where(text).text  # checks words, length and depth
    try:
        return _Translator(words).condition(ast.parse(text, mode="eval").body, positive=True)
    except FilterError as error:
        raise FilterError(str(error), position="where") from error


class _Translator:
    def __init__(self, words: Words) -> None:
        self._words = words

    def condition(self, node: ast.expr, *, positive: bool) -> Condition:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.condition(node.operand, positive=not positive)
        if isinstance(node, ast.BoolOp):
            joined = "$and" if isinstance(node.op, ast.And) is positive else "$or"
            return {joined: [self.condition(value, positive=positive) for value in node.values]}
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [
                self._comparison(sides[number], operator, sides[number + 1], positive=positive)
                for number, operator in enumerate(node.ops)
            ]
            return pairs[0] if len(pairs) == 1 else {"$and" if positive else "$or": pairs}
        if isinstance(node, ast.Call):
            return self._called(node, positive=positive)
        raise _beyond(node)

    def _comparison(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, *, positive: bool
    ) -> Condition:
        if isinstance(operator, (ast.Is, ast.IsNot)):
            is_missing = isinstance(operator, ast.Is) is positive
            path = self._field(left)[1]
            return {path: None} if is_missing else {path: {"$ne": None}}
        name = _OPERATORS[type(operator)]
        if _is_value(left) and not _is_value(right) and name in _TURNED:
            left, right, name = right, left, _TURNED[name]
        word, path = self._field(left)
        value = _value(right)
        name = name if positive else _OPPOSITE[name]
        if word is not None:
            return _compared(word, name, value, self._words)
        return _plain(path, name, value)

    def _called(self, node: ast.Call, *, positive: bool) -> Condition:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        patterns = {"startswith": "^{}", "contains": "{}"}
        if len(node.args) != 2 or name not in {*patterns, "matches"}:
            raise _beyond(node)
        text = _value(node.args[1])
        pattern = text if name == "matches" else patterns[name].format(re.escape(text))
        path = self._field(node.args[0])[1]
        found = {"$regex": pattern}
        return {path: found} if positive else {path: {"$not": found, "$ne": None}}

    def _field(self, node: ast.expr) -> tuple[str | None, str]:
        """Return the word, if it is one, and the path."""
        names: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                names.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                names.append(str(node.slice.value))
                node = node.value
            elif isinstance(node, ast.Name):
                names.append(node.id)
                break
            else:
                raise _beyond(node)
        names.reverse()
        if len(names) == 1 and names[0] in WORDS:
            word = names[0]
            return word, (self._words.flux or "") if word == "mag" and self._words.flux else _path(
                word, self._words
            )
        return None, ".".join(names[1:] if names[0] == "packet" else names)


def _compared(word: str, operator: str, value: Any, words: Words) -> Condition:
    """Return the comparison of a word with a value."""
    if word == "mag" and words.flux is not None and "mag" not in words.paths:
        return _brightness(words.flux, operator, value)
    path = _path(word, words)
    if word == "mjd" and isinstance(value, (int, float)):
        value = words.time(float(value))
    if word == "band" and words.bands is not None:
        known = words.bands
        value = [known.get(one, one) for one in value] if isinstance(value, list) else known.get(value, value)
    if word == "object_id" and words.number_ids:
        value = [_number(one) for one in value] if isinstance(value, list) else _number(value)
    found = _plain(path, operator, value)
    if word in _MEASURED and words.sentinels and operator != "$eq" and isinstance(found[path], dict):
        found[path].setdefault("$nin", []).extend(words.sentinels)  # what they stand for is missing
    return found


def _plain(path: str, operator: str, value: Any) -> Condition:
    if operator == "$eq":
        return {path: value}
    if operator == "$ne":
        return {path: {"$nin": [value, None]}}
    if operator == "$nin":
        return {path: {"$nin": [*value, None]}}
    return {path: {operator: value}}


def _brightness(path: str, operator: str, mag: Any) -> Condition:
    """Compare the magnitude of a signed flux: a magnitude is that of the absolute value."""
    if not isinstance(mag, (int, float)) or operator not in {"$lt", "$lte", "$gt", "$gte"}:
        raise FilterError(
            "the magnitudes of this catalog are fluxes: compare them with <, <=, > or >=", position="where"
        )
    flux = 10 ** (0.4 * (AB_ZERO_POINT_NJY - mag))
    if operator in {"$lt", "$lte"}:  # brighter
        turned = _TURNED[operator]
        return {"$or": [{path: {turned: flux}}, {path: {operator: -flux}}]}
    turned = _TURNED[operator]
    return {path: {turned: flux, operator: -flux, "$ne": 0}}


def _path(word: str, words: Words) -> str:
    if word in words.paths:
        return words.paths[word]
    known = ", ".join(sorted(words.paths)) or "none"
    raise FilterError(
        f"{word!r} is not known of this catalog's alerts (known: {known}); write the path of a field"
    )


def _is_value(node: ast.expr) -> bool:
    return isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.UnaryOp))


def _value(node: ast.expr) -> Any:
    if not _is_value(node):
        raise _beyond(node)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise _beyond(node) from None
    return list(value) if isinstance(value, tuple) else value


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else value


def _beyond(node: ast.expr) -> FilterError:
    return FilterError(
        f"an archive can't decide {ast.unparse(node)!r}: it compares a field with a value, as in candidate.drb > 0.9"
    )
