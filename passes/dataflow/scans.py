"""Scans that span devices: a loop that reads rows and writes rows.

The rows that a scan stacks go to a stack on the device that makes them. If what is stacked is only taken apart again by
other scans, as residuals of gradients are, those read from the stack and the tensor is never made: the rows need not be
in memory all at once, and each is dropped when it has been read.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, dataflow, elementwise
from thalweg.dialects.types import int32
from thalweg.passes.dataflow.emission import device_of_value, relocated
from thalweg.passes.dependences import device_of
from thalweg.passes.lower_scan import lower_scan
from thalweg.passes.rewriting import array, body_of, copy, definition, has_one_use, operations, yields
from thalweg.passes.rows import row


def scan_to_loop(operation: ir.Operation) -> Sequence[ir.Value]:
    """What stands for the results of a scan, made at the insertion point."""
    if attributes_of(control.scan, operation)["length"] < 2:
        return lower_scan(operation)
    return _Scan(operation).lower()


class _Scan:
    def __init__(self, operation: ir.Operation) -> None:
        attrs = attributes_of(control.scan, operation)
        self.length, self.reverse = attrs["length"], attrs["reverse"]
        self.parallel = attrs["parallel_iterations"]
        self.carried: int = attrs["carried"]
        self.device, self.body, self.operands = device_of(operation), body_of(operation), list(operation.operands)
        self.ends = yields(self.body)

    def lower(self) -> list[ir.Value]:
        """The loop: a counter, the carry, a stack for each result with rows."""
        made = [self._new_stack(end) for end in self.ends[self.carried :]]
        start = [array(self.length - 1 if self.reverse else 0, int32), *self.operands[: self.carried], *made]
        types = [type_of(v) for v in start]
        results = build_with_regions(
            control.while_, start, {"parallel_iterations": self.parallel}, [types, types], [self._goes_on, self._step]
        )
        return [*results[1 : 1 + self.carried], *map(self._all, results[1 + self.carried :])]

    def _goes_on(self, index: ir.Value, *_: ir.Value) -> list[ir.Value]:
        if self.reverse:
            return [elementwise.greater_equal(index, array(0, int32))]
        return [elementwise.less(index, array(self.length, int32))]

    def _step(self, index: ir.Value, *values: ir.Value) -> list[ir.Value]:
        carry, stacks = values[: self.carried], values[self.carried :]
        rows = [self._row(number, index) for number in range(self.carried, len(self.operands))]
        ends = copy(self.body, [*carry, *rows])
        written = [
            self._on(self._device(old), dataflow.stack_write, stack, index, end)
            for stack, end, old in zip(stacks, ends[self.carried :], self.ends[self.carried :], strict=True)
        ]
        following = elementwise.add(index, array(-1 if self.reverse else 1, int32))
        return [following, *ends[: self.carried], *written]

    def _row(self, number: int, index: ir.Value) -> ir.Value:
        whole, argument = self.operands[number], self.body.arguments[number]
        made_by = definition(whole)
        if made_by is None or made_by.name != "tw.stack_all":
            user = next(iter(argument.uses), None)
            device = device_of(user.owner.operation) if user is not None else ""
            with relocated(ir.Location.current, device or self.device):
                return row(whole, index)
        stack, last = made_by.operands[0], has_one_use(whole)
        return self._on(device_of(made_by), dataflow.stack_read, stack, index, last=last)

    def _device(self, end: ir.Value) -> str:
        """Where a row is made; a row that is a value of the carry, where that value is made."""
        for argument, again in zip(self.body.arguments, self.ends[: self.carried], strict=False):
            if end == argument and again != argument:
                return device_of_value(again, self.device)
        inside = definition(end)
        return device_of(inside) if inside is not None and inside in operations(self.body) else self.device

    def _new_stack(self, end: ir.Value) -> ir.Value:
        type_ = tensor_type_of(end)
        return self._on(
            self._device(end), dataflow.stack, length=self.length, shape=type_.shape, dtype=type_.dtype
        )

    def _all(self, stack: ir.Value) -> ir.Value:
        """The tensor of all rows, in case that somebody needs it."""
        index = ir.OpResult(stack).result_number - 1 - self.carried
        device = self._device(self.ends[self.carried + index])
        return self._on(device, dataflow.stack_all, stack, length=self.length)

    def _on(self, device: str, row_: object, *operands: ir.Value, **attrs: object) -> ir.Value:
        with relocated(ir.Location.current, device or self.device):
            made: ir.Value = row_(*operands, **attrs)  # type: ignore[operator]
        return made
