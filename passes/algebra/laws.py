"""The table of algebraic laws, and what a law is.

A law says in a line what equals what, and finds it out for one op:

    @law("x + 0 = x", elementwise.add)
    def _(x, y):
        return x if constant_number(y) == 0 else None

The function gets the op's operands, and by name after `*` attributes, or `op`, the operation itself. It returns the
value that takes the result's place, or None. Laws of floating-point numbers hold for every number, infinities and NaN
included; they may turn -0 into 0, and rounding may happen once less.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.passes.rewriting import definition

V: TypeAlias = ir.Value
Function: TypeAlias = Callable[..., "V | None"]


@dataclass(frozen=True)
class Law:
    """What equals what for one op."""

    text: str
    row: OpDef
    function: Function
    wants: tuple[str, ...]  # keyword arguments of the function


LAWS: dict[str, list[Law]] = {}  # by the op's MLIR name


def first_that_holds(operation: ir.Operation) -> V | None:
    """What takes the place of an op's result by the first law that fits, built at the insertion point, or None."""
    operands = list(operation.operands)
    available: dict[str, Any] = {"op": operation}
    for law_ in LAWS[operation.name]:
        if len(available) == 1 and any(name != "op" for name in law_.wants):
            available.update(attributes_of(law_.row, operation))
        value = law_.function(*operands, **{name: available[name] for name in law_.wants})
        if value is not None:
            return value
    return None


def law(text: str, *rows: OpDef) -> Callable[[Function], Function]:
    """Decorator: the function is a law of these rows. Laws of one row are tried in the order they are written."""

    def register(function: Function) -> Function:
        keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for row in rows:
            LAWS.setdefault(row.mlir_name, []).append(Law(text, row, function, tuple(keywords)))
        return function

    return register


def made_by(value: V, row: OpDef) -> ir.Operation | None:
    """The op that a value comes from, if it is of this row."""
    operation = definition(value)
    return operation if operation is not None and operation.name == row.mlir_name else None


def attribute(operation: ir.Operation, row: OpDef, name: str) -> Any:
    """One attribute of an op, decoded."""
    return attributes_of(row, operation)[name]


def is_integer(value: V) -> bool:
    return not tensor_type_of(value).dtype.is_floating
