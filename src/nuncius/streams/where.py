"""Filters that are written as text: ``score > 0.9 and mag < 18``.

A text is checked word by word when the filter is made, and compiled once to a Python function of the words that it
uses. Nothing in it can reach more than an alert's values: there are no attributes of objects, no calls but those below.

Words
    ``survey``, ``alert_id``, ``object_id``, ``ra``, ``dec``, ``galactic_latitude`` (degrees), ``mjd``, ``band``, ``mag``,
    ``mag_err``, ``flux_njy``, ``flux_err_njy``, ``is_positive``, ``score``; of notices ``id``, ``kind``, ``text``; where it
    came from: ``broker``, ``topic``.
Paths
    ``candidate.drb`` goes into the packet, ``packet.candid`` is a field on its top level, ``annotations.fink.rf_kn_vs_nonkn``
    is what a broker added. Names that are no plain words stand in brackets: ``annotations.fink["v:lapse"]``, and so do
    numbers of list entries: ``prv_candidates[0].magpsf``. Values are as they were sent: where a survey writes -999 for
    what is missing, a path gives -999, and only the words above give what is missing.
Operators
    ``and``, ``or``, ``not``, comparisons (also ``15 < mag < 18``), ``in`` and ``not in`` with a list, or a path to one, or a
    text; ``is None``, ``is not None``; ``+``, ``-``, ``*``, ``/``, ``**``.
Functions
    ``abs(x)``, ``startswith(object_id, "ZTF")``, ``contains(text, "AGN")``, ``matches(object_id, "ZTF2[3-5]")``, which
    looks for a regular expression anywhere in the first 20,000 characters.

What is missing (None, NaN, a path that leads nowhere) is unknown, and so is each comparison with it, ``!=`` too, and a
comparison between a text and a number; calculations with it give what is missing. ``not`` of what is unknown is unknown,
``unknown and False`` is False, ``unknown or True`` is True, as in SQL. An alert passes if the answer is True. `is None`
asks for what is missing.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius.errors import FilterError
from nuncius.streams.conditions import CALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuncius.alerts import Alert, Notice

LONGEST = 2000  # characters of a filter
LONGEST_PATTERN = 200
MAX_DEPTH = 30
_ANYTHING = (
    r"(?:(?<!\\)\.|\\[SDWw]|(?<!\\)\[(?:\\.|[^\]]){2,}\])(?:[*+]|\{\d*,\})"  # repeated without a bound
)
_SHOWN = 48  # characters around the place of an error

_NUMBER, _TEXT, _TRUTH, _ANY = "a number", "a text", "true or false", ""

# The words, and of which kind they are; those of the measurement come from the alert's own point.
_POINT = {
    "ra": _NUMBER, "dec": _NUMBER, "mjd": _NUMBER, "band": _TEXT, "mag": _NUMBER, "mag_err": _NUMBER,
    "flux_njy": _NUMBER, "flux_err_njy": _NUMBER, "is_positive": _TRUTH, "score": _NUMBER,
}  # fmt: skip
_ITEM = {
    "survey": _TEXT, "alert_id": _ANY, "object_id": _TEXT, "kind": _TEXT, "id": _TEXT, "text": _TEXT,
}  # fmt: skip
_ORIGIN = {"broker": _TEXT, "topic": _TEXT}
WORDS = {**_ITEM, **_POINT, **_ORIGIN, "galactic_latitude": _NUMBER}
_OTHER_LANGUAGES = {"null": "None", "nan": "None", "true": "True", "false": "False"}

_COMPARISONS: dict[type, tuple[str, str]] = {  # and what is true where one is false
    ast.Lt: ("<", ">="), ast.GtE: (">=", "<"), ast.Gt: (">", "<="), ast.LtE: ("<=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
}  # fmt: skip
_TESTS = {"<": "lt", ">=": "ge", ">": "gt", "<=": "le", "==": "eq", "!=": "ne"}
_ARITHMETIC: dict[type, str] = {
    ast.Add: "plus",
    ast.Sub: "minus",
    ast.Mult: "times",
    ast.Div: "over",
    ast.Pow: "power",
}
_FUNCTIONS = {"abs": 1, "startswith": 2, "contains": 2, "matches": 2}


class Where:
    """A filter of alerts and notices; made by `parse_where`.

    Parameters
    ----------
    text : str
        What was written.
    fields : frozenset of str
        The top-level fields of the packet that its paths go into. No more than these and the survey's
        `reading_fields` are decoded, unless it asks for annotations.
    """

    __slots__ = ("_test", "fields", "text")

    def __init__(self, text: str, fields: frozenset[str], test: Callable[[Any], bool]) -> None:
        self.text = text
        self.fields = fields
        self._test = test

    def __call__(self, item: Alert | Notice) -> bool:
        """Tell whether an alert or notice passes.

        Raises
        ------
        PacketError
            If the packet is damaged where the filter looks.
        """
        return self._test(item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_where, (self.text,)

    def __repr__(self) -> str:
        return f"<Where {self.text}>"


def parse_where(text: str) -> Where:
    """Check and compile a filter.

    Parameters
    ----------
    text : str
        See `nuncius.streams.where` for what may stand in it.

    Raises
    ------
    FilterError
        If it means nothing; the message points at the place, and `position` is its column.

    Examples
    --------
    >>> from nuncius import Alert
    >>> where = parse_where("ra < 180 and startswith(object_id, 'ZTF') and candidate.drb > 0.9")
    >>> where(Alert.from_bytes(b'{"objectId": "ZTF18a", "ra": 10, "dec": 5, "candidate": {"drb": 0.95}}'))
    True
    >>> sorted(where.fields)
    ['candidate']
    """
    if not isinstance(text, str) or not text.strip():
        raise FilterError(f'where={text!r} is no filter; write a text such as "score > 0.9 and mag < 18"')
    if len(text) > LONGEST:
        raise FilterError(f"where: a filter has at most {LONGEST} characters, not {len(text)}")
    compiler = _Compiler(" ".join(re.split(r"[\r\n\t\f\v]", text)).strip())
    return Where(compiler.text, *compiler.compiled())


# From text to code ----------------------------------------------------------------------------------------------------


class _Value(NamedTuple):
    """An expression that stands for a value."""

    code: str
    kind: str
    literal: Any = None  # the value, if it is written as such


class _Compiler:
    """Writes the Python function of one filter.

    Three-valued logic needs no third value here: what is asked of a condition is either "is it known to be true" or "is
    it known to be false". A negation turns one question into the other, and so never meets what is unknown.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._words: dict[str, None] = {}  # used, in their order
        self._paths: dict[tuple[str | int, ...], str] = {}  # into the packet, and their variables
        self._constants: dict[str, Any] = {}

    def compiled(self) -> tuple[frozenset[str], Callable[[Any], bool]]:
        """Return the fields that the filter needs, and the function."""
        tree = self._parsed()
        answer = self._condition(tree.body, wanted=True)
        fields = frozenset(str(path[0]) for path in self._paths)
        names = {**CALLED, **self._constants, "fields": fields}
        lines = ["def where(item):", *(f"    {line}" for line in (*self._loading(), f"return {answer}"))]
        # All parts of this code are written here: nothing of the filter's text but literals, checked, stands in it.
        exec(compile("\n".join(lines), f"<where {self.text}>", "exec"), names)  # noqa: S102
        return fields, names["where"]

    def _parsed(self) -> ast.Expression:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes such as \d, which stay as they are written
                tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            begin = error.offset - 1 if error.offset else len(self.text)  # Python gives none at the end
            problem = error.msg if begin < len(self.text) else "something is missing here"
            cure = "conditions are joined with and, or, not; == compares; texts stand in quotes"
            raise self._error(f"{problem}; {cure}", begin) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._error(f"the filter can't be read: {error or 'it nests too deep'}", 0) from error
        waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise self._error(f"the filter nests deeper than {MAX_DEPTH} levels; split it", node)
            waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
        return tree

    def _loading(self) -> Iterator[str]:
        """Write what fetches the values, each once."""
        words = dict.fromkeys([*self._words, *(("ra", "dec") if "galactic_latitude" in self._words else ())])
        if self._paths:
            yield "packet = item.beginning(fields) if item.__class__ is Alert else item.packet"
        measured = [word for word in words if word in _POINT]
        if measured:
            yield "point = item._read.point if item.__class__ is Alert else None"
            yield "if point is not None:"
            yield from (f"    w_{word} = point.{word}" for word in measured)
            yield "else:"
            yield from (f"    w_{word} = getattr(item, {word!r}, None)" for word in measured)
        for word in words:
            if word in _ITEM:
                yield f"w_{word} = getattr(item, {word!r}, None)"
            elif word in _ORIGIN:
                yield f"w_{word} = getattr(item.origin, {word!r}, None)"
            elif word not in _POINT:
                yield f"w_{word} = {word}(w_ra, w_dec)"
        for path, variable in self._paths.items():
            yield f"{variable} = at(packet, {path!r})"

    # Conditions ----

    def _condition(self, node: ast.expr, *, wanted: bool) -> str:
        """Write what is true if the condition is known to be as wanted."""
        match node:
            case ast.BoolOp(op=op, values=values):
                word = " and " if isinstance(op, ast.And) is wanted else " or "
                return f"({word.join(self._condition(value, wanted=wanted) for value in values)})"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._condition(operand, wanted=not wanted)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                links = zip([left, *comparators], ops, comparators, strict=False)
                parts = [self._comparison(*link, wanted=wanted) for link in links]
                return f"({(' and ' if wanted else ' or ').join(parts)})"
            case ast.Call(func=ast.Name(id=name)) if name in _FUNCTIONS and name != "abs":
                return self._test_of_text(name, node, wanted=wanted)
        value = self._value(node)
        if value.kind in {_NUMBER, _TEXT}:
            raise self._error(f"this is {value.kind}, not a condition; compare it with something", node)
        return f"is_truth({value.code}, {wanted})"

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, *, wanted: bool) -> str:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._error("only None can stand behind is; write == to compare", right)
            return f"is_missing({self._value(left).code}, {isinstance(op, ast.Is) is wanted})"
        if isinstance(op, ast.In | ast.NotIn):
            wanted = isinstance(op, ast.In) is wanted
            if isinstance(right, ast.List | ast.Tuple | ast.Set):
                return self._membership(self._value(left), right, wanted=wanted)
            if self._value(right).kind in {_NUMBER, _TRUTH}:
                raise self._error("a list stands behind in", right)
            return f"holds({self._value(right).code}, {self._value(left).code}, {wanted})"
        for side in (left, right):
            if isinstance(side, ast.Constant) and side.value is None:
                raise self._error("a comparison with None is never true; write is None or is not None", side)
        a, b = self._value(left), self._value(right)
        if _TEXT in {a.kind, b.kind} and {a.kind, b.kind} & {_NUMBER, _TRUTH}:
            raise self._error(f"{a.kind} can't be compared with {b.kind}", right)
        sign = _COMPARISONS[type(op)][0 if wanted else 1]
        careful = f"{_TESTS[sign]}({a.code}, {b.code})"
        variable, literal = (b.code, a.literal) if a.literal is not None else (a.code, b.literal)
        # The common case without a call. NaN is unequal to all in Python, and unknown here.
        of_number = isinstance(literal, (int, float)) and not isinstance(literal, bool) and sign != "!="
        if not (variable.isidentifier() and (of_number or isinstance(literal, str))):
            return careful
        usual = "str" if isinstance(literal, str) else "float"
        return f"({a.code} {sign} {b.code} if {variable}.__class__ is {usual} else {careful})"

    def _membership(self, value: _Value, right: ast.List | ast.Tuple | ast.Set, *, wanted: bool) -> str:
        items = [self._value(item) for item in right.elts]
        for item, node in zip(items, right.elts, strict=True):
            if item.literal is None:
                raise self._error("a list holds plain texts or numbers", node)
        texts = {isinstance(item.literal, str) for item in items}
        if len(texts) != 1:
            raise self._error("a list holds texts, or numbers, not both and not nothing", right)
        if (value.kind == _TEXT and texts == {False}) or (
            value.kind in {_NUMBER, _TRUTH} and texts == {True}
        ):
            raise self._error(f"{value.kind} can't be compared with what is in this list", right)
        name = f"list_{len(self._constants)}"
        self._constants[name] = frozenset(item.literal for item in items)
        return f"is_among({value.code}, {name}, {'str' if texts == {True} else 'float'}, {wanted})"

    def _test_of_text(self, name: str, node: ast.Call, *, wanted: bool) -> str:
        subject, searched = (self._value(argument) for argument in self._arguments(name, node))
        if name == "contains":
            return f"holds({subject.code}, {searched.code}, {wanted})"
        if not isinstance(searched.literal, str) or subject.kind in {_NUMBER, _TRUTH}:
            raise self._error(f'write a value and a text: {name}(object_id, "ZTF")', node)
        if name == "startswith":
            return f"begins({subject.code}, {searched.code}, {wanted})"
        variable = f"pattern_{len(self._constants)}"
        self._constants[variable] = self._pattern(searched.literal, node.args[1])
        return f"is_found({subject.code}, {variable}, {wanted})"

    def _arguments(self, name: str, node: ast.Call) -> list[ast.expr]:
        if len(node.args) != _FUNCTIONS[name] or node.keywords:
            raise self._error(f"{name} takes {_FUNCTIONS[name]} values, not {len(node.args)}", node)
        return node.args

    def _pattern(self, pattern: str, node: ast.expr) -> re.Pattern[str]:
        trouble = _trouble_of(pattern)
        if trouble:
            raise self._error(trouble, node)
        try:
            return re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise self._error(f"{pattern!r} is no regular expression: {error}", node) from error

    # Values ----

    def _value(self, node: ast.expr) -> _Value:
        """Write what gives a value."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str()):
                return self._literal(node.value, node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                value = self._number(operand)
                if isinstance(op, ast.UAdd):
                    return value
                if value.literal is not None:
                    return self._literal(-value.literal, node)
                return _Value(f"minus(0, {value.code})", _NUMBER)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                code = f"{_ARITHMETIC[type(op)]}({self._number(left).code}, {self._number(right).code})"
                return _Value(code, _NUMBER)
            case ast.Call(func=ast.Name(id="abs")):
                return _Value(f"size({self._number(self._arguments('abs', node)[0]).code})", _NUMBER)
            case ast.Name(id=name):
                return self._word(name, node)
            case ast.Attribute() | ast.Subscript():
                return self._path(node)
        raise self._error(_cure_of(node), node)

    def _number(self, node: ast.expr) -> _Value:
        value = self._value(node)
        if value.kind == _TEXT:
            raise self._error("one can't calculate with a text", node)
        return value

    def _literal(self, value: Any, node: ast.expr) -> _Value:
        if isinstance(value, str):
            return _Value(repr(value), _TEXT, value)
        if not -1.7e308 < value < 1.7e308:
            raise self._error("this number is too large", node)
        return _Value(f"({value!r})", _TRUTH if isinstance(value, bool) else _NUMBER, value)

    def _word(self, name: str, node: ast.expr) -> _Value:
        if name in WORDS:
            self._words[name] = None
            return _Value(f"w_{name}", WORDS[name])
        if name in {"packet", "annotations"}:
            example = "packet.FIELD" if name == "packet" else "annotations.BROKER.NAME"
            raise self._error(f"{name} is no value; write {example}", node)
        close = difflib.get_close_matches(name, WORDS, n=1)
        similar = _OTHER_LANGUAGES.get(name.lower()) or (close[0] if close else None)
        raise self._error(
            f"no word {name!r} is known"
            + (f"; did you mean {similar}?" if similar else f"; known are {', '.join(WORDS)}.")
            + f' For a field of the packet write packet.{name}, for a text "{name}"',
            node,
        )

    def _path(self, node: ast.expr) -> _Value:
        parts: list[str | int] = []
        base = node
        while not isinstance(base, ast.Name):
            match base:
                case ast.Attribute(value=inner, attr=name):
                    parts.append(name)
                case ast.Subscript(value=inner, slice=index):
                    found = self._value(index).literal
                    if not isinstance(found, (str, int)) or isinstance(found, bool):
                        raise self._error("in brackets stands a name in quotes, or a whole number", index)
                    parts.append(found)
                case _:
                    raise self._error("a path begins with a name: candidate.drb", base)
            base = inner
        parts.append(base.id)
        if base.id in WORDS:
            raise self._error(f"{base.id} has no parts; packet.{base.id} is the packet's own field", node)
        if base.id in {"packet", "annotations"}:
            del parts[-1]
        path = tuple(reversed(parts))
        if not isinstance(path[0], str):
            raise self._error(f"write {base.id}.NAME", node)
        if base.id == "annotations":
            # Fetched where it is asked for: a broker's annotations stand at the end of a packet, and what stands before
            # them in the filter may have decided already.
            return _Value(f"at(item.annotations, {path!r})", _ANY)
        return _Value(self._paths.setdefault(path, f"p{len(self._paths)}"), _ANY)

    def _error(self, problem: str, place: ast.AST | int) -> FilterError:
        """Make an error that shows the place."""
        begin, end = place if isinstance(place, int) else 0, 0
        if isinstance(place, ast.expr):
            encoded = self.text.encode()  # places are counted in bytes
            begin, end = (
                len(encoded[: at or 0].decode(errors="ignore"))
                for at in (place.col_offset, place.end_col_offset)
            )
        first = max(0, begin - _SHOWN)
        shown = self.text[first : begin + _SHOWN]
        before, behind = "…" * (first > 0), "…" * (begin + _SHOWN < len(self.text))
        caret = " " * (len(before) + begin - first) + "^" + "~" * (min(end, begin + _SHOWN) - begin - 1)
        return FilterError(
            f"where: {problem}\n    {before}{shown}{behind}\n    {caret}", position=f"column {begin + 1}"
        )


def _cure_of(node: ast.expr) -> str:
    match node:
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
            return "conditions are joined with and, or, not; put comparisons in parentheses if in doubt"
        case ast.UnaryOp(op=ast.Invert()):
            return "write not for a negation"
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp():
            return "a condition is no value to calculate or compare with; join conditions with and, or, not"
        case ast.Constant(value=None):
            return "None is no value; write is None or is not None"
        case ast.BinOp():
            return f"this operator is not known here; known are {', '.join('+-*/')} and **"
        case ast.Call():
            return f"the functions are {', '.join(_FUNCTIONS)}"
        case ast.List() | ast.Tuple() | ast.Set():
            return "a list stands behind in"
    return f"this ({type(node).__name__}) is no part of a filter"


def _trouble_of(pattern: str) -> str:
    """Say what is wrong with a pattern whose search could take for ever, or that is not what was meant."""
    if len(pattern) > LONGEST_PATTERN:
        return f"a pattern has at most {LONGEST_PATTERN} characters, not {len(pattern)}"
    if any(ord(letter) < ord(" ") for letter in pattern):
        return 'a pattern holds no control characters; write r"\\b", not "\\b"'
    if re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern):
        return "a pattern can't refer back to what it found"
    # Each repetition of what may be anything tries every place, within each place of the one before it.
    if len(re.findall(_ANYTHING, pattern)) > 1:
        return "a pattern can't repeat . or a class twice; join several: matches(text, 'GRB') and matches(text, 'Fermi')"
    plain = re.sub(r"\\.", "a", pattern)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "a", plain)
    plain = re.sub(r"\(\?(?:P<\w+>|[:=!]|<[=!])", "(", plain)
    choosing = [False]  # for each open group, whether there are several ways to read it
    ended = False  # whether such a group ended just before
    for letter in plain:
        if letter in "*+{" and ended:
            return "what is repeated can't hold a repetition or alternatives; the search could take for ever"
        ended = False
        if letter == "(":
            choosing.append(False)
        elif letter == ")" and len(choosing) > 1:
            ended = choosing.pop()
            choosing[-1] |= ended
        elif letter in "*+?{|":
            choosing[-1] = True
    return ""
