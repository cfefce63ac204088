"""Values that are made from nothing: constants and what is computed from constants alone.

They have no operand that could be dead or belong to an iteration. Inside a lowered branch or loop they are therefore
either made again right beside each compiled op that takes them, which costs nothing once it is fused, or made once at
the top level and brought in like any other value.
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.dialects.build import row_of
from thalweg.dialects.mlir import ir
from thalweg.passes.dataflow.emission import put_on
from thalweg.passes.dependences import device_of
from thalweg.passes.rewriting import bodies, captures, copy_operation, definition, inside, operations

# What `cluster` does again wherever it is used.
_SPREADING = frozenset({"constant", "broadcast", "reshape", "convert", "iota"})


class FreeValues:
    """The free values of a function.

    Args:
        block: the function's body.
        stays: whether an op with regions remains one.
    """

    def __init__(self, block: ir.Block, stays: Callable[[ir.Operation], bool]) -> None:
        self._block = block
        self._stays = stays
        self._free: dict[ir.Value, bool] = {}
        self._at_top: dict[tuple[ir.Value, str], ir.Value] = {}

    def __contains__(self, value: ir.Value) -> bool:
        known = self._free.get(value)
        if known is None:
            made_by = definition(value)
            known = self._free[value] = made_by is not None and self._is_free(made_by)
        return known

    def _is_free(self, operation: ir.Operation) -> bool:
        if not all(_is_pure(inner) for inner in inside(operation)) or operation.name == "tw.variable_handle":
            return False
        if not all(operand in self for operand in operation.operands):
            return False
        return not operation.regions or (
            self._stays(operation) and all(captured in self for captured in captures(*bodies(operation)))
        )

    def spreads(self, value: ir.Value) -> bool:
        """It is cheap enough to be made again wherever it is used."""
        made_by = definition(value)
        if value not in self or made_by is None:
            return False
        return made_by.name.removeprefix("tw.") in _SPREADING and all(self.spreads(o) for o in made_by.operands)

    def beside(self, value: ir.Value, user: ir.Operation) -> ir.Value:
        """A copy right before the op that takes it, on its device."""
        with ir.InsertionPoint(user):
            return self._copy(value, device_of(user))

    def at_top(self, value: ir.Value, device: str) -> ir.Value:
        """A copy at the top level."""
        key = value, device
        if key not in self._at_top:
            with ir.InsertionPoint(operations(self._block)[0]):
                self._at_top[key] = self._copy(value, device)
        return self._at_top[key]

    def _copy(self, value: ir.Value, device: str) -> ir.Value:
        made_by = definition(value)
        assert made_by is not None
        taken = dict.fromkeys([*made_by.operands, *captures(*bodies(made_by))])
        mapping = {operand: self._copy(operand, device) for operand in taken}
        copied = copy_operation(made_by, mapping)
        for inner in inside(copied):
            put_on(inner, device)
        self._free.update((result, True) for result in copied.results)
        result: ir.Value = mapping[value]
        return result


def _is_pure(operation: ir.Operation) -> bool:
    row = row_of(operation)
    return row is not None and row.runs == "compiled" and row.effects == "pure"
