"""State: variables and what reads and writes them.

A variable is declared by name; the program holds the declaration, the runtime the buffer. Reads and writes are not
pure, so no pass merges, drops or reorders them.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, Unsupported, define, fail
from thalweg.dialects.ops.checks import expect_integer
from thalweg.dialects.ops.indexing import expect_mode
from thalweg.dialects.types import TensorType, Type, VariableType

_NEEDS_STATE = Unsupported("reads or writes a variable, which a function of arrays cannot; tested through programs")


def _infer_variable(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [VariableType(TensorType(tuple(attrs["shape"]), attrs["dtype"]))]


variable_handle = define(
    "variable_handle",
    "",
    doc="The variable called `name`: a mutable tensor that outlives the call. Pure: reads and writes have effects.",
    infer=_infer_variable,
    attrs={"name": "str", "shape": "ints", "dtype": "dtype"},
    reference=_NEEDS_STATE,
)


def expect_variable(value: Type) -> VariableType:
    """`value` is a variable."""
    if not isinstance(value, VariableType):
        raise fail(f"the first operand must be a variable, got {value}.")
    return value


def _infer_read(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [expect_variable(operands[0]).tensor]


read = define("read", "variable", doc="The variable's present value.", infer=_infer_read, reference=_NEEDS_STATE,
              effects="read")


def _infer_assign(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    variable, value = operands
    wanted = expect_variable(variable).tensor
    if value != wanted:
        raise fail(f"the variable holds {wanted}, the value is {value}. Convert or reshape the value.")
    return []


assign = define("assign", "variable value", doc="Make value the variable's value.", infer=_infer_assign,
                reference=_NEEDS_STATE, effects="write")
assign_add = define("assign_add", "variable value", doc="Add value to the variable.", infer=_infer_assign,
                    reference=_NEEDS_STATE, effects="write")
assign_sub = define("assign_sub", "variable value", doc="Subtract value from the variable.", infer=_infer_assign,
                    reference=_NEEDS_STATE, effects="write")


def _infer_scatter_update(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    variable, indices, rows = operands
    table = expect_variable(variable).tensor
    assert isinstance(indices, TensorType)
    expect_integer(indices, "the indices")
    expect_mode(attrs["mode"], table)
    if table.rank == 0:
        raise fail(f"the variable holds {table}, which has no rows.")
    wanted = table.with_shape((*indices.shape, *table.shape[1:]))
    if rows != wanted:
        raise fail(f"the rows must be {wanted} for a variable of {table} and indices {indices}, got {rows}.")
    return []


scatter_update = define(
    "scatter_update", "variable indices rows",
    doc="Combine rows into the variable's rows at the indices: `mode` as for scatter, set, add, mul, min or max. Rows "
        "at indices outside are dropped.",
    infer=_infer_scatter_update, attrs={"mode": "str"}, defaults={"mode": "add"}, reference=_NEEDS_STATE,
    effects="write",
)
