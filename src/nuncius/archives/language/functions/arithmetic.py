"""Arithmetic: null where an operand is null or missing, an error where one is no number.

Whole numbers stay whole while they fit 64 bits and become floats beyond, as in MongoDB.
Source: the MongoDB manual, "Arithmetic Expression Operators" and "Trigonometry Expression Operators".
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import Function, failed, fit, is_nothing, number, whole
from nuncius.archives.language.values import in_utc

if TYPE_CHECKING:
    from collections.abc import Callable


def shifted(operator: str, date: datetime, milliseconds: Any) -> datetime:
    """Return a time some milliseconds later."""
    try:
        return in_utc(date) + timedelta(milliseconds=milliseconds)
    except (OverflowError, ValueError) as error:
        raise failed(operator, "the time is outside the years 1 to 9999") from error


def _add(*values: Any) -> Any:
    if any(map(is_nothing, values)):
        return None
    dates = [value for value in values if isinstance(value, datetime)]
    if len(dates) > 1:
        raise failed("$add", "takes one date at most")
    total: Any = 0
    for value in values:
        if not isinstance(value, datetime):
            total += number("$add", value)
    return shifted("$add", dates[0], total) if dates else fit(total)


def _subtract(left: Any, right: Any) -> Any:
    if is_nothing(left) or is_nothing(right):
        return None
    if isinstance(left, datetime):
        if isinstance(right, datetime):
            microseconds = (in_utc(left) - in_utc(right)) // timedelta(microseconds=1)
            return microseconds / 1000 if microseconds % 1000 else microseconds // 1000
        return shifted("$subtract", left, -number("$subtract", right))
    return fit(number("$subtract", left) - number("$subtract", right))


def _multiply(*values: Any) -> Any:
    if any(map(is_nothing, values)):
        return None
    product: Any = 1
    for value in values:
        product = fit(product * number("$multiply", value))
    return product


def _divide(left: Any, right: Any) -> Any:
    if is_nothing(left) or is_nothing(right):
        return None
    left, right = number("$divide", left), number("$divide", right)
    if right == 0:
        raise failed("$divide", "can't divide by 0")
    return left / right


def _mod(left: Any, right: Any) -> Any:
    if is_nothing(left) or is_nothing(right):
        return None
    left, right = number("$mod", left), number("$mod", right)
    if right == 0:
        raise failed("$mod", "can't divide by 0")
    if isinstance(left, int) and isinstance(right, int):
        return whole_remainder(left, right)
    return math.nan if math.isinf(left) else math.fmod(left, right)


def whole_remainder(value: int, divisor: int) -> int:
    """Return the remainder with the sign of the value; math.fmod would round an id with 19 digits."""
    rest = abs(value) % abs(divisor)
    return -rest if value < 0 else rest


def _pow(base: Any, exponent: Any) -> Any:
    if is_nothing(base) or is_nothing(exponent):
        return None
    base, exponent = number("$pow", base), number("$pow", exponent)
    if base == 0 and exponent < 0:
        raise failed("$pow", "can't raise 0 to a negative power")
    try:
        result = math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        return math.nan  # a fractional power of a negative number
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0 and abs(result) < 2**63:
        return base**exponent
    return result


def _log(value: Any, base: Any) -> Any:
    if is_nothing(value) or is_nothing(base):
        return None
    value, base = number("$log", value), number("$log", base)
    if value <= 0 or base <= 0 or base == 1:
        raise failed("$log", "takes a positive number, and a positive base other than 1")
    return math.log(value) / math.log(base)


def _at_places(operator: str, rounding: str) -> Callable[..., Any]:
    def call(value: Any, places: Any = 0) -> Any:
        if is_nothing(value) or is_nothing(places):
            return None
        places = whole(operator, places)
        if not -20 <= places <= 100:
            raise failed(operator, f"takes from -20 to 100 places, not {places}")
        value = number(operator, value)
        if not math.isfinite(value):
            return value
        step = Decimal(1).scaleb(-places)
        # The shortest decimal that means this float, so that 2.675 is in the middle between 2.67 and 2.68.
        exact = Decimal(value) if isinstance(value, int) else Decimal(repr(value))
        if int(exact.as_tuple().exponent) >= -places:
            return value
        rounded = (exact / step).to_integral_value(rounding=rounding) * step
        return fit(int(rounded)) if isinstance(value, int) else float(rounded)

    return call


def _of_number(operator: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        if is_nothing(value):
            return None
        value = number(operator, value)
        if isinstance(value, float) and math.isnan(value):
            return value
        try:
            return fit(function(value))
        except ValueError as error:
            raise failed(operator, f"has no value at {value!r}") from error
        except OverflowError:
            return math.inf

    return call


def _whole_part(function: Callable[[float], int]) -> Callable[[Any], Any]:
    # A float stays one, and what is not finite stays as it is.
    return lambda value: (
        float(function(value)) if isinstance(value, float) and math.isfinite(value) else value
    )


def _atan2(y: Any, x: Any) -> Any:
    if is_nothing(y) or is_nothing(x):
        return None
    return math.atan2(number("$atan2", y), number("$atan2", x))


def _one(operator: str, meaning: str, function: Callable[[Any], Any]) -> tuple[str, Function]:
    return operator, Function(meaning=meaning, call=_of_number(operator, function))


ARITHMETIC: dict[str, Function] = {
    "$add": Function(
        meaning="the sum of numbers; of a date and milliseconds, a date", call=_add, least=0, most=None
    ),
    "$subtract": Function(
        meaning="the difference; of two dates, in milliseconds", call=_subtract, least=2, most=2
    ),
    "$multiply": Function(meaning="the product", call=_multiply, least=0, most=None),
    "$divide": Function(meaning="the first divided by the second, as a float", call=_divide, least=2, most=2),
    "$mod": Function(meaning="the remainder, with the sign of the first", call=_mod, least=2, most=2),
    "$pow": Function(meaning="the first to the power of the second", call=_pow, least=2, most=2),
    "$log": Function(meaning="the logarithm of a number to a base", call=_log, least=2, most=2),
    "$round": Function(
        meaning="rounded to some decimal places, halves to the even neighbour",
        call=_at_places("$round", ROUND_HALF_EVEN),
        most=2,
    ),
    "$trunc": Function(
        meaning="cut after some decimal places", call=_at_places("$trunc", ROUND_DOWN), most=2
    ),
    "$atan2": Function(meaning="the angle of (y, x) in radians", call=_atan2, least=2, most=2),
    **dict(
        [
            _one("$abs", "the absolute value", abs),
            _one("$ceil", "the smallest whole number that is not smaller", _whole_part(math.ceil)),
            _one("$floor", "the largest whole number that is not larger", _whole_part(math.floor)),
            _one("$sqrt", "the square root", math.sqrt),
            _one("$exp", "e to the power of a number", math.exp),
            _one("$ln", "the natural logarithm", math.log),
            _one("$log10", "the logarithm to base 10", math.log10),
            _one("$sin", "the sine of an angle in radians", math.sin),
            _one("$cos", "the cosine of an angle in radians", math.cos),
            _one("$tan", "the tangent of an angle in radians", math.tan),
            _one("$asin", "the inverse sine in radians", math.asin),
            _one("$acos", "the inverse cosine in radians", math.acos),
            _one("$atan", "the inverse tangent in radians", math.atan),
            _one("$sinh", "the hyperbolic sine", math.sinh),
            _one("$cosh", "the hyperbolic cosine", math.cosh),
            _one("$tanh", "the hyperbolic tangent", math.tanh),
            _one("$asinh", "the inverse hyperbolic sine", math.asinh),
            _one("$acosh", "the inverse hyperbolic cosine", math.acosh),
            _one("$atanh", "the inverse hyperbolic tangent", math.atanh),
            _one("$degreesToRadians", "degrees in radians", math.radians),
            _one("$radiansToDegrees", "radians in degrees", math.degrees),
        ]
    ),
}
