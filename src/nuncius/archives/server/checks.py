"""What a query may hold, whatever the query language could do: no writing, no code, no way into what is not opened.

The language knows the stages and operators that exist, and none of them writes. These checks stand before it and are
made on the values as they were sent, at every depth, so that a new stage is not by accident a new door.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.archives.server.limits import forbidden, invalid, wrong

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from nuncius.archives.server.limits import Limits, Refusal

# Kowalski's own list, and what else of MongoDB writes or reads what is no collection.
_STAGES = frozenset({"$out", "$merge", "$unionWith"})
_CODE = frozenset({"$where", "$function", "$accumulator"})
_INTERNAL = frozenset(
    {
        "$changeStream", "$collStats", "$currentOp", "$indexStats", "$listLocalSessions", "$listSampledQueries",
        "$listSessions", "$planCacheStats", "$querySettings", "$shardedDataDistribution",
    }
)  # fmt: skip
# Kowalski's filters are plain JSON: these would be compared as documents, and nothing would ever be equal to them.
_EXTENDED_JSON = frozenset(
    {
        "$date",
        "$binary",
        "$numberInt",
        "$numberLong",
        "$numberDouble",
        "$numberDecimal",
        "$regularExpression",
        "$timestamp",
    }
)
_JOINS = {"$lookup": "from", "$graphLookup": "from"}
_REGEX_OPERATORS = frozenset({"$regexMatch", "$regexFind", "$regexFindAll"})
_MOST_CHOICES = 5  # repetitions and alternatives of one expression: each may try every place of the text

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,119}")
PROTECTED = frozenset({"users", "filters", "queries"})


def check_document(document: Any, limits: Limits) -> None:
    """Check that a document which was computed is not too large to be written; its parts may stand in it many times.

    Raises
    ------
    Refusal
        If it is.
    """
    left, waiting = limits.document_bytes, [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (str, bytes)):
            left -= len(part)
        elif isinstance(part, Mapping):
            left -= sum(map(len, part)) + 4 * len(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            left -= 4 * len(part)
            waiting.extend(part)
        if left < 0:
            raise wrong(
                "OperationFailure",
                f"BSONObjectTooLarge: a document may have about {limits.document_bytes} bytes",
            )


def check_name(name: object) -> str:
    """Return the name of a catalog as it is looked up.

    Raises
    ------
    Refusal
        If it can't be one, or is that of something which is never opened.
    """
    if not isinstance(name, str):
        raise wrong("TypeError", "name must be an instance of str")
    name = name.strip()
    if name.lower() in PROTECTED or name.lower().startswith(("system.", "sqlite_")):
        raise invalid("Protected collection")
    if not NAME.fullmatch(name) or ".." in name:
        raise wrong(
            "InvalidName", f"collection names must be made of letters, digits and _, not {name[:80]!r}"
        )
    return name


def check_pipeline_shape(pipeline: Any) -> list[dict[str, Any]]:
    """Return a pipeline if it is a list of stages, as Kowalski has it.

    Raises
    ------
    Refusal
        If it is none, or empty.
    """
    if not isinstance(pipeline, (list, tuple)):
        raise invalid("Unsupported pipeline specification")
    if not pipeline:
        raise invalid("Pipeline must contain at least one stage")
    if not all(isinstance(stage, dict) and len(stage) == 1 for stage in pipeline):
        raise wrong(
            "OperationFailure", "A pipeline stage specification object must contain exactly one field."
        )
    return list(pipeline)


def check_safe(value: Any, opened: Collection[str], limits: Limits) -> None:
    """Check a filter, projection or pipeline at every depth.

    Raises
    ------
    Refusal
        If it holds a stage that writes, code, a join with a catalog that is not opened, too many stages, or a regular
        expression that could take for ever.
    """
    stages = 0
    for number, (name, item) in enumerate(_entries(value)):
        if number >= limits.conditions:
            raise wrong(
                "OperationFailure", f"a query may have {limits.conditions} names of fields and operators"
            )
        if name in _STAGES:
            raise invalid(f"Pipeline uses forbidden stages: {{{name!r}}}")
        if name in _CODE or name in _INTERNAL:
            raise forbidden(f"{name} is not allowed on this server: it only reads documents and runs no code")
        if name in _EXTENDED_JSON:
            raise wrong("OperationFailure", f"unknown operator: {name}; a query is plain JSON")
        if name in _JOINS:
            _check_join(name, item, opened)
        elif name == "$regex":
            check_regex(item, limits)
        elif name in _REGEX_OPERATORS:
            check_regex(item.get("regex") if isinstance(item, Mapping) else None, limits)
        elif name == "pipeline" or (name == "$facet" and isinstance(item, Mapping)):
            parts = [item] if name == "pipeline" else item.values()
            stages += sum(len(part) for part in parts if isinstance(part, (list, tuple)))
    stages += len(value) if isinstance(value, (list, tuple)) else 0
    if stages > limits.stages:
        raise wrong("OperationFailure", f"a pipeline may have {limits.stages} stages, not {stages}")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Give all names and values in a structure, whose depth was checked when it was read."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)


def _check_join(stage: str, operand: Any, opened: Collection[str]) -> None:
    other = operand.get(_JOINS[stage]) if isinstance(operand, Mapping) else None
    if not isinstance(other, str) or other not in opened:
        raise forbidden(
            f"{stage} joins only with catalogs that this server has opened, and {str(other)[:80]!r} is none of them"
        )


def check_regex(pattern: Any, limits: Limits) -> None:
    """Check that a regular expression can't take for ever.

    A repetition within a repetition, alternatives within a repetition, and references back can make a search take
    exponential time, in which nothing else of the program runs.

    Raises
    ------
    Refusal
        If it is none, too long or could be too slow.
    """
    if not isinstance(pattern, str) or pattern.startswith("$"):
        raise wrong("OperationFailure", "a regular expression must be a text written out in the query")
    if len(pattern) > limits.regex_chars:
        raise wrong("OperationFailure", f"a regular expression may have {limits.regex_chars} characters")
    try:
        # With and without "x" among the options, under which blanks and comments mean nothing.
        parsed = [re._parser.parse(pattern, flags) for flags in (0, re.VERBOSE)]  # type: ignore[attr-defined]
    except (re.error, OverflowError, RecursionError) as error:
        raise wrong("OperationFailure", f"Regular expression is invalid: {error}") from None
    if max(_choices(items, inside=False) for items in parsed) > _MOST_CHOICES:
        raise wrong(
            "OperationFailure", f"a regular expression may have {_MOST_CHOICES} repetitions and alternatives"
        )


def _choices(items: Sequence[Any], *, inside: bool) -> int:
    """Count the repetitions and alternatives, each of which multiplies the time, and refuse one within a repetition."""
    found = 0
    for kind, operand in items:
        name = str(kind)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, repeated = operand
            if inside and least != most:
                raise _slow("a repetition within a repetition")
            found += least != most
            found += _choices(repeated, inside=inside or most > 1)
        elif name == "BRANCH":
            if inside:
                raise _slow("alternatives within a repetition")
            found += 1 + sum(_choices(branch, inside=inside) for branch in operand[1])
        elif name in {"SUBPATTERN", "ATOMIC_GROUP"}:
            found += _choices(operand[-1] if name == "SUBPATTERN" else operand, inside=inside)
        elif name in {"ASSERT", "ASSERT_NOT"}:
            found += _choices(operand[1], inside=inside)
        elif name in {"GROUPREF", "GROUPREF_EXISTS"}:
            raise _slow("a reference back to a group")
    return found


def _slow(what: str) -> Refusal:
    return wrong("OperationFailure", f"{what} in a regular expression can take for ever and is not allowed")
