"""Rows of dataflow: their types, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import dataflow
from thalweg.dialects.types import ResourceType, TensorType, bool_, float32, int32
from thalweg.runtime.plan import DATAFLOW

X = TensorType((3,), float32)
PRED, INDEX = TensorType((), bool_), TensorType((), int32)
STACK = ResourceType("stack", (X,))


@pytest.mark.parametrize(
    ("row", "operands", "attrs", "results"),
    [
        (dataflow.switch, [X, PRED], {}, [X, X]),
        (dataflow.switch, [STACK, PRED], {}, [STACK, STACK]),
        (dataflow.merge, [X, X, X], {}, [X, INDEX]),
        (dataflow.enter, [X], {"frame": "f"}, [X]),
        (dataflow.exit_, [X], {"frame": "f"}, [X]),
        (dataflow.next_iteration_source, [], {"name": "n", "shape": (3,), "dtype": float32}, [X]),
        (dataflow.next_iteration_source, [], {"name": "n", "shape": (3,), "dtype": float32, "kind": "stack"}, [STACK]),
        (dataflow.next_iteration_sink, [X], {"name": "n"}, []),
        (dataflow.loop_cond, [PRED], {}, [PRED]),
        (dataflow.pivot, [X], {}, [X]),
        (dataflow.stack, [], {"length": 5, "shape": (3,), "dtype": float32}, [STACK]),
        (dataflow.stack_write, [STACK, INDEX, X], {}, [STACK]),
        (dataflow.stack_read, [STACK, INDEX], {}, [X]),
        (dataflow.stack_all, [STACK], {"length": 5}, [TensorType((5, 3), float32)]),
    ],
    ids=lambda value: value.name if isinstance(value, OpDef) else None,
)
def test_types(row: OpDef, operands: list[Any], attrs: dict[str, Any], results: list[Any]) -> None:
    assert list(row.result_types(operands, row.complete(attrs))) == results
    assert row.runs == "host"


@pytest.mark.parametrize(
    ("row", "operands", "attrs", "message"),
    [
        (dataflow.switch, [X, X], {}, r"switch: the predicate must be bool\[\], got f32\[3\]"),
        (dataflow.merge, [], {}, "merge: takes at least one value"),
        (dataflow.merge, [X, PRED], {}, r"merge: the values must have one type, got f32\[3\], bool\[\]"),
        (dataflow.loop_cond, [X], {}, r"loop_cond: the predicate must be bool\[\]"),
        (dataflow.stack_write, [X, INDEX, X], {}, "stack_write: the first operand must be a stack"),
        (dataflow.stack_write, [STACK, X, X], {}, r"stack_write: the index must be i32\[\]"),
        (dataflow.stack_write, [STACK, INDEX, PRED], {}, r"stack_write: the stack holds f32\[3\], the value is bool"),
        (dataflow.stack_read, [STACK, PRED], {}, r"stack_read: the index must be i32\[\]"),
        (dataflow.stack_all, [X], {"length": 5}, "stack_all: the first operand must be a stack"),
    ],
    ids=lambda value: value.name if isinstance(value, OpDef) else None,
)
def test_misfits(row: OpDef, operands: list[Any], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        row.result_types(operands, row.complete(attrs))


def test_the_executor_knows_the_rows() -> None:
    rows = {v.name for v in vars(dataflow).values() if isinstance(v, OpDef)}
    assert {name for name in rows if not name.startswith("stack")} == DATAFLOW
