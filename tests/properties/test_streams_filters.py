"""Random filters of random values: what is compiled agrees with a slow evaluator that has three truth values."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from nuncius.streams.where import parse_where

NUMBERS, TEXTS, TRUTHS = ("mag", "score", "ra", "mjd"), ("band", "object_id", "survey"), ("is_positive",)
PATHS = (
    ("candidate", "drb"),
    ("candidate", "tag"),
    ("packet", "candid"),
    ("annotations", "fink", "classes"),
    ("props", 0, "x"),
    ("props", -1),
)

# Values that packets hold, those that nobody expects among them ------------------------------------------------------

numbers = (
    st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0, 1e300, -1e300, 10**400, math.nan, math.inf, -math.inf])
)  # fmt: skip
texts = st.sampled_from(["", "g", "r", "ZTF", "ZTF21a", "g r"])
odd = (
    st.none()
    | st.booleans()
    | st.just(b"g")
    | st.just([])
    | st.just({})
    | st.lists(numbers | texts, max_size=3)
)
values = numbers | texts | odd
items = st.builds(
    lambda words, drb, tag, candid, classes, props: SimpleNamespace(
        **words,
        packet={"candidate": {"drb": drb, "tag": tag}, "candid": candid, "props": props},
        annotations={"fink": {"classes": classes}},
        origin=None,
    ),
    st.fixed_dictionaries(dict.fromkeys((*NUMBERS, *TEXTS, *TRUTHS), values)),
    values,
    values,
    values,
    values,
    values | st.lists(st.fixed_dictionaries({"x": values}), max_size=2),
)

# Expressions, as trees -----------------------------------------------------------------------------------------------

paths = st.tuples(st.just("path"), st.sampled_from(PATHS))
number_literals = st.tuples(st.just("literal"), st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0, 1e300]))
text_literals = st.tuples(st.just("literal"), texts)


def calculated(inner):
    return st.tuples(
        st.just("calculate"), st.sampled_from(["+", "-", "*", "/", "**"]), inner, inner
    ) | st.tuples(st.sampled_from(["minus", "abs"]), inner)


number_values = st.recursive(
    st.tuples(st.just("word"), st.sampled_from(NUMBERS + TRUTHS)) | paths | number_literals,
    calculated,
    max_leaves=4,
)
text_values = st.tuples(st.just("word"), st.sampled_from(TEXTS)) | paths | text_literals
signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


def compared(of_kind):
    return st.tuples(st.just("compare"), of_kind, st.lists(st.tuples(signs, of_kind), min_size=1, max_size=2))


leaves = (
    compared(number_values)
    | compared(text_values)
    | st.tuples(st.just("among"), st.booleans(), number_values, st.lists(number_literals, min_size=1, max_size=3))
    | st.tuples(st.just("among"), st.booleans(), text_values, st.lists(text_literals, min_size=1, max_size=3))
    | st.tuples(st.just("held"), st.booleans(), number_values | text_values, paths | text_values)
    | st.tuples(st.just("missing"), st.booleans(), number_values | text_values)
    | st.tuples(st.just("begins"), text_values, text_literals)
    | st.tuples(st.just("found"), text_values, st.sampled_from(["^Z", "[0-9]", "g|r", "a$"]))
    | st.tuples(st.just("truth"), paths | st.tuples(st.just("word"), st.just("is_positive")))
    | st.tuples(st.just("truth"), st.tuples(st.just("literal"), st.booleans()))
)  # fmt: skip
conditions = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=6,
)


def written(tree):
    """Write a tree as text."""
    match tree:
        case ("word", name):
            return name
        case ("path", parts):
            return parts[0] + "".join(
                f".{part}" if isinstance(part, str) else f"[{part}]" for part in parts[1:]
            )
        case ("literal", value):
            return f"({value!r})"
        case ("calculate", sign, a, b):
            return f"({written(a)} {sign} {written(b)})"
        case ("minus", a):
            return f"(-{written(a)})"
        case ("abs", a):
            return f"abs({written(a)})"
        case ("compare", first, links):
            return "(" + written(first) + "".join(f" {sign} {written(b)}" for sign, b in links) + ")"
        case ("among", yes, a, literals):
            return f"({written(a)} {'in' if yes else 'not in'} [{', '.join(map(written, literals))}])"
        case ("held", yes, a, container):
            return f"({written(a)} {'in' if yes else 'not in'} {written(container)})"
        case ("missing", yes, a):
            return f"({written(a)} {'is' if yes else 'is not'} None)"
        case ("begins", a, literal):
            return f"startswith({written(a)}, {written(literal)})"
        case ("found", a, pattern):
            return f"matches({written(a)}, {pattern!r})"
        case ("truth", a):
            return written(a)
        case ("not", a):
            return f"(not {written(a)})"
    return "(" + f" {tree[0]} ".join(map(written, tree[1])) + ")"


# The slow way --------------------------------------------------------------------------------------------------------


def kind(value):
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, int)):
        return "number"
    return "number" if isinstance(value, float) and not math.isnan(value) else None


def value_of(tree, item):
    """Return a value; None for what is missing or can't be calculated."""
    match tree:
        case ("word", name):
            return getattr(item, name)
        case ("path", (first, *rest)):
            here = item.annotations if first == "annotations" else item.packet
            for name in rest if first in {"annotations", "packet"} else (first, *rest):
                try:
                    right = isinstance(here, dict if isinstance(name, str) else list)
                    here = here[name] if right else None
                except (KeyError, IndexError):
                    here = None
            return here
        case ("literal", value):
            return value
    operands = [value_of(operand, item) for operand in tree[1:] if isinstance(operand, tuple)]
    if any(kind(operand) != "number" for operand in operands):
        return None
    try:
        match tree:
            case ("minus", _):
                return -operands[0]
            case ("abs", _):
                return abs(operands[0])
            case (_, "**", _, _):
                found = float(operands[0]) ** float(operands[1])
                return None if isinstance(found, complex) else found
            case (_, sign, _, _):
                a, b = operands
                return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[
                    sign
                ]()
    except (OverflowError, ZeroDivisionError):
        return None


def truth_of(tree, item):
    """Return True, False or None for unknown."""
    match tree:
        case ("not", inner):
            found = truth_of(inner, item)
            return None if found is None else not found
        case ("and" | "or" as word, parts):
            found = [truth_of(part, item) for part in parts]
            decisive = word == "or"
            return decisive if decisive in found else None if None in found else not decisive
        case ("compare", first, links):
            found = []
            for sign, operand in links:
                found.append(compared_truth(sign, value_of(first, item), value_of(operand, item)))
                first = operand
            return False if False in found else None if None in found else True
        case ("among", yes, a, literals):
            value, wanted = value_of(a, item), [literal for _, literal in literals]
            if kind(value) is None or kind(value) != kind(wanted[0]):
                return None
            return any(value == one for one in wanted) is yes
        case ("held", yes, a, container):
            value, container = value_of(a, item), value_of(container, item)
            if kind(value) is None or not isinstance(container, (str, list)):
                return None
            if isinstance(container, str):
                return (value in container) is yes if kind(value) == "text" else None
            return any(kind(one) == kind(value) and one == value for one in container) is yes
        case ("missing", yes, a):
            value = value_of(a, item)
            return (value is None or (isinstance(value, float) and math.isnan(value))) is yes
        case ("begins", a, (_, text)):
            value = value_of(a, item)
            return value[: len(text)] == text if isinstance(value, str) else None
        case ("found", a, pattern):
            value = value_of(a, item)
            return re.search(pattern, value) is not None if isinstance(value, str) else None
    value = value_of(tree[1], item)
    return value != 0 if kind(value) == "number" else None


def compared_truth(sign, a, b):
    if kind(a) is None or kind(a) != kind(b):
        return None
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[sign]


@settings(max_examples=600, deadline=None)
@given(conditions, st.lists(items, min_size=1, max_size=4))
def test_a_filter_means_what_three_valued_logic_says(tree, some):
    where = parse_where(written(tree))
    for item in some:
        expected = truth_of(tree, item)
        event(f"{expected}")
        assert where(item) is (expected is True), (where.text, item)


@settings(max_examples=200, deadline=None)
@given(conditions, items)
def test_a_filter_and_its_negation_never_both_pass(tree, item):
    text = written(tree)
    both = parse_where(text)(item), parse_where(f"not ({text})")(item)
    assert both == (truth_of(tree, item) is True, truth_of(tree, item) is False)
