"""Expressions of symbolic dimensions, such as ``past + new``: evaluated within bounds."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

#: Longer ones are taken for names.
_LONGEST = 1000
#: No intermediate result may exceed it; dimensions are 64-bit integers.
_LARGEST = 1 << 62
_LARGEST_POWER = 64
_NAME = re.compile(r"[^\W\d][\w.]*")
#: Only exact square roots are dimensions, but ``floor`` takes others.
_Number = Fraction | float

_OPERATORS: Mapping[type[ast.operator], Callable[[_Number, _Number], _Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: operator.mod,
}


def evaluate_expression(text: str, dims: Mapping[str, int]) -> int | None:
    """Return the integer that an expression of known dimensions is, or None.

    It has the operators ``+ - * / // % **``, parentheses, and ``max``, ``min``, ``floor``, ``sqrt``, ``mod``.
    """
    if len(text) > _LONGEST:
        return None
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        names.append(found[0])
        return f" v{len(names) - 1} "  # names may have dots, which Python would read otherwise

    try:
        tree = ast.parse(_NAME.sub(number, text).strip(), mode="eval")
        value = _value(tree.body, names, dims)
    except (ArithmeticError, LookupError, RecursionError, SyntaxError, TypeError, ValueError, MemoryError):
        return None
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None


def _value(node: ast.expr, names: list[str], dims: Mapping[str, int]) -> _Number:
    match node:
        case ast.Constant(value=int(literal)):
            value: _Number = Fraction(literal)
        case ast.Name(id=name):
            value = Fraction(dims[names[int(name[1:])]])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand, names, dims)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            value = _power(_value(left, names, dims), _value(right, names, dims))
        case ast.BinOp(left=left, op=sign, right=right):
            value = _OPERATORS[type(sign)](_value(left, names, dims), _value(right, names, dims))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            called = names[int(name[1:])].lower()
            value = _call(called, [_value(each, names, dims) for each in arguments])
        case _:
            raise ValueError("not an expression of dimensions")
    if not -_LARGEST <= value <= _LARGEST or (isinstance(value, Fraction) and value.denominator > _LARGEST):
        raise OverflowError
    return value


def _power(base: _Number, exponent: _Number) -> _Number:
    if exponent != int(exponent) or not -_LARGEST_POWER <= exponent <= _LARGEST_POWER:
        raise OverflowError
    return base ** int(exponent)


def _call(name: str, arguments: list[_Number]) -> _Number:
    if name in ("max", "min"):
        return max(arguments) if name == "max" else min(arguments)
    if name == "mod":
        left, right = arguments
        return left % right
    (only,) = arguments
    if name == "floor":
        return Fraction(math.floor(only))
    if name == "sqrt":
        exact = math.isqrt(math.floor(only))
        return Fraction(exact) if exact * exact == only else math.sqrt(only)
    raise LookupError(name)
