"""Kernels of stacks."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.plan import Value
from thalweg.runtime.stacks import Stack


@kernel("stack")
def stack(call: Call) -> Sequence[Value]:
    attrs = call.attrs
    return [Stack(attrs["length"], tuple(attrs["shape"]), attrs["dtype"].numpy)]


@kernel("stack_write")
def stack_write(call: Call) -> Sequence[Value]:
    rows, index, row = call.inputs
    rows.write(int(index), row)
    return [rows]


@kernel("stack_read")
def stack_read(call: Call) -> Sequence[Value]:
    rows, index = call.inputs
    return [rows.read(int(index), call.attrs["last"])]


@kernel("stack_all")
def stack_all(call: Call) -> Sequence[Value]:
    return [call.inputs[0].all()]
