"""Checkpoints as ops, so that each task of a cluster writes and reads what it holds itself.

A save has three parts. `snapshot` copies variables, while training waits; `save` writes the copy, while training goes
on; `commit_checkpoint`, on one task, makes the files of all tasks a checkpoint. `restore` reads one tensor, or the rows
of it that a task wants. The format is that of `runtime/checkpoints.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, Unsupported, define, fail
from thalweg.dialects.ops.state import expect_variable
from thalweg.dialects.types import TensorType, Type, VariableType, int64, string

_WRITES_FILES = Unsupported("reads or writes files; the kernels are tested in tests/programs/replication")
_NUMBER, _TEXT = TensorType((), int64), TensorType((), string)


def _expect(value: Type, wanted: TensorType, name: str) -> None:
    if value != wanted:
        raise fail(f"{name} must be {wanted}, got {value}.")


def _infer_snapshot(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect(operands[0], _NUMBER, "the number")
    for variable in operands[1:]:
        expect_variable(variable)
    return []


snapshot = define(
    "snapshot", "number *variables",
    doc="Copy the variables as they are at one moment, in place of the copy that `name` had. `save` on the same task "
        "writes it; `number` says which.",
    infer=_infer_snapshot, attrs={"name": "str"}, reference=_WRITES_FILES, effects="write", runs="host",
)  # fmt: skip


def _infer_save(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    number, path, variable = operands
    _expect(number, _NUMBER, "the number")
    _expect(path, _TEXT, "the path")
    if not isinstance(variable, VariableType):
        raise fail(f"the last operand must be a variable of the snapshot, got {variable}.")
    return [_TEXT]


save = define(
    "save", "number path variable",
    doc="Write the snapshot `name` to `file` in the folder `path`, and give what commit_checkpoint needs to know of "
        "it. `layout` says what the variables are called, and which pieces of what they are. `variable` is one of "
        "them: the copies are where it is.",
    infer=_infer_save, attrs={"name": "str", "file": "str", "layout": "str"}, reference=_WRITES_FILES, effects="write",
    runs="host",
)  # fmt: skip


def _infer_commit(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    path, step, metrics, *records = operands
    _expect(path, _TEXT, "the path")
    _expect(step, _NUMBER, "the step")
    for text in (metrics, *records):
        _expect(text, _TEXT, "metrics and records")
    if not records:
        raise fail("there is nothing that was saved.")
    return []


commit_checkpoint = define(
    "commit_checkpoint", "path step metrics *records",
    doc="Make the files that were saved into the folder `path` a checkpoint: from here on it is complete.",
    infer=_infer_commit, reference=_WRITES_FILES, effects="write", runs="host",
)  # fmt: skip


def _infer_restore(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect(operands[0], _TEXT, "the path")
    if attrs["rows"] and len(attrs["rows"]) != 3:
        raise fail(f"the rows are a begin, an end and a stride, got {list(attrs['rows'])}.")
    return [TensorType(tuple(attrs["shape"]), attrs["dtype"])]


restore = define(
    "restore", "path",
    doc="A tensor of the checkpoint in the folder `path`, or some of its rows, from begin to end by stride.",
    infer=_infer_restore, attrs={"tensor": "str", "shape": "ints", "dtype": "dtype", "rows": "ints"},
    defaults={"rows": ()}, reference=_WRITES_FILES, effects="read", runs="host",
)  # fmt: skip
