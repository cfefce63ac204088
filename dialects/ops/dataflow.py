"""Dataflow control: what `lower-control` makes of branches and loops that span devices or hold host ops.

There are no regions here: an op runs when its operands are there. `switch` sends a value one of two ways, and what is
on the other way is dead: ops with a dead operand do not run and give dead results, until a `merge` takes whichever
operand is alive. Loops run in frames of their own, which `enter` opens and `exit` leaves. Each iteration has a tag, and
several may be under way at once. The executor does all of this (`runtime/frames.py`).

SSA has no cycles, so the way back to the head of a loop is cut in two: what goes into a `next_iteration_sink` comes out
of the `next_iteration_source` of the same name, one iteration later.

The attribute `tw.frame` tells of which loop an op's operands are values, since regions no longer do.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, Unsupported, define, fail
from thalweg.dialects.types import ResourceType, TensorType, Type, bool_, int32

_FLOWS = Unsupported("decides at run time what runs; tested by running lowered programs")
_BOOL = TensorType((), bool_)
STACK = "stack"


def _same(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [operands[0]]


def _infer_switch(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    value, pred = operands
    if pred != _BOOL:
        raise fail(f"the predicate must be bool[], got {pred}.")
    return [value, value]


switch = define(
    "switch", "value pred", doc="The value twice: the first is alive where the predicate is false, the second where it "
    "is true.", infer=_infer_switch, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip


def _infer_merge(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if not operands:
        raise fail("takes at least one value.")
    if any(t != operands[0] for t in operands):
        raise fail(f"the values must have one type, got {', '.join(map(str, operands))}.")
    return [operands[0], TensorType((), int32)]


merge = define(
    "merge", "*values",
    doc="The operand that is alive, as soon as it is there, and which one it is. Dead once all of them are.",
    infer=_infer_merge, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip

enter = define(
    "enter", "value",
    doc="Brings a value into the loop `frame`: to its first iteration, or if `constant` to every one. "
    "`parallel_iterations` of the loop may be under way at once.", infer=_same,
    attrs={"frame": "str", "constant": "bool", "parallel_iterations": "int"},
    defaults={"constant": False, "parallel_iterations": 10}, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip

exit_ = define(
    "exit", "value", doc="Takes a value out of the loop `frame`: that of the iteration in which it is alive.",
    infer=_same, attrs={"frame": "str"}, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip


def _infer_source(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    element = TensorType(tuple(attrs["shape"]), attrs["dtype"])
    return [ResourceType(attrs["kind"], (element,)) if attrs["kind"] else element]


next_iteration_source = define(
    "next_iteration_source", "",
    doc="What went into the `next_iteration_sink` called `name`, in the iteration after. A resource if `kind` says of "
    "which kind, else a tensor.", infer=_infer_source,
    attrs={"name": "str", "shape": "ints", "dtype": "dtype", "kind": "str"}, defaults={"kind": ""},
    reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip

next_iteration_sink = define(
    "next_iteration_sink", "value",
    doc="Hands the value to the next iteration, where it comes out of the `next_iteration_source` called `name`.",
    infer=lambda operands, attrs: [], attrs={"name": "str"}, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip


def _infer_loop_cond(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if operands[0] != _BOOL:
        raise fail(f"the predicate must be bool[], got {operands[0]}.")
    return [_BOOL]


loop_cond = define(
    "loop_cond", "pred", doc="The predicate of a loop, as it goes to all switches of the loop.", infer=_infer_loop_cond,
    reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip

pivot = define(
    "pivot", "value", doc="The value. What has no operand of its own in a branch or iteration comes after its pivot, "
    "and is dead where the pivot is.", infer=_same, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip


# Stacks: the rows that a loop writes one by one, and that another loop reads.


def _expect_stack(value: Type) -> TensorType:
    if not isinstance(value, ResourceType) or value.kind != STACK:
        raise fail(f"the first operand must be a stack, got {value}.")
    return value.components[0]


def _expect_index(value: Type) -> None:
    if value != TensorType((), int32):
        raise fail(f"the index must be i32[], got {value}.")


stack = define(
    "stack", "",
    doc="A new stack of `length` rows, each of `shape` and `dtype`. Beyond the limit of memory for stacks, rows wait "
    "in a file.",
    infer=lambda operands, attrs: [ResourceType(STACK, (TensorType(tuple(attrs["shape"]), attrs["dtype"]),))],
    attrs={"length": "int", "shape": "ints", "dtype": "dtype"}, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip


def _infer_stack_write(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    handle, index, value = operands
    row = _expect_stack(handle)
    _expect_index(index)
    if value != row:
        raise fail(f"the stack holds {row}, the value is {value}.")
    return [handle]


stack_write = define(
    "stack_write", "stack index value", doc="The stack with the value as row `index`; the same stack, so that what "
    "takes the result comes after the writing.", infer=_infer_stack_write, reference=_FLOWS, effects="write",
    runs="host",
)  # fmt: skip


def _infer_stack_read(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_index(operands[1])
    return [_expect_stack(operands[0])]


stack_read = define(
    "stack_read", "stack index", doc="Row `index` of a stack; with `last`, the stack then forgets it.",
    infer=_infer_stack_read, attrs={"last": "bool"}, defaults={"last": False}, reference=_FLOWS, effects="write",
    runs="host",
)  # fmt: skip


def _infer_stack_all(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    row = _expect_stack(operands[0])
    return [row.with_shape((attrs["length"], *row.shape))]


stack_all = define(
    "stack_all", "stack", doc="All `length` rows of a stack as one tensor.", infer=_infer_stack_all,
    attrs={"length": "int"}, reference=_FLOWS, effects="write", runs="host",
)  # fmt: skip
