"""The interpreter: a `tw` module runs op by op on NumPy, each op by the `reference` of its row.

A function is read once into steps (rows, decoded attributes, slots for values), then run any number of times. Control
ops run their regions in the same table of slots, which is right because a region is never entered twice at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.attributes import array_type, attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.diagnostics import ExecutionError, did_you_mean
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Unsupported
from thalweg.dialects.ops.indexing import SCATTER_MODES
from thalweg.dialects.types import TensorType, Type

Array: TypeAlias = np.ndarray[Any, Any]
Values: TypeAlias = Sequence[Any]
Observer = Callable[[ir.Operation, Values, Sequence[Array]], None]


def run(
    module: ir.Module,
    inputs: Sequence[Array],
    variables: dict[str, Array] | None = None,
    function: str = "main",
    observer: Observer | None = None,
) -> list[Array]:
    """Run a function of a verified `tw` module on NumPy arrays.

    Args:
        inputs: one array per argument of the function, of exactly its shape and dtype.
        variables: value of each variable by name; assignments replace the entries of this very dict.
        observer: called as `observer(operation, operands, results)` after every op, inner ones of regions included;
            the arrays are those of the run itself, the operand that is a variable is its name.

    Raises:
        ExecutionError: inputs or variables do not fit, or an op cannot run (`vjp` before `differentiate`).

    Example:
        >>> run(module, [np.ones((2, 3), np.float32)])[0].shape
        (2, 3)
    """
    return Interpreter(module, function)(inputs, variables, observer)


@dataclass(frozen=True)
class _Body:
    """A block, ready to run: slots of its arguments, its ops, slots of what it yields."""

    arguments: tuple[int, ...]
    steps: tuple[_Step, ...]
    yields: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """An op, ready to run."""

    operation: ir.Operation
    row: OpDef
    attrs: dict[str, Any]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[Type, ...]  # of the results
    regions: tuple[_Body, ...]


class Interpreter:
    """A function of a module, ready to be run many times.

    Raises:
        ExecutionError: the module has no such function, or holds an op that NumPy cannot run.
    """

    def __init__(self, module: ir.Module, function: str = "main") -> None:
        block = _function(module, function).regions[0].blocks[0]
        self._module = module  # keeps the operations of the steps alive
        self._slots: dict[ir.Value, int] = {}
        self.inputs: tuple[Type, ...] = tuple(type_of(a) for a in block.arguments)
        self._body = self._read(block)

    def __call__(
        self, inputs: Sequence[Array], variables: dict[str, Array] | None = None, observer: Observer | None = None
    ) -> list[Array]:
        """Run it; see `run`."""
        arrays = [np.asarray(x) for x in inputs]
        if len(arrays) != len(self.inputs):
            raise ExecutionError(f"the program takes {len(self.inputs)} inputs, got {len(arrays)}.")
        for index, (array, wanted) in enumerate(zip(arrays, self.inputs, strict=True)):
            _check(array, wanted, f"input {index}")
        machine = _Machine([None] * len(self._slots), {} if variables is None else variables, observer)
        with np.errstate(all="ignore"):
            return list(machine.run(self._body, arrays))

    def _slot(self, value: ir.Value) -> int:
        return self._slots.setdefault(value, len(self._slots))

    def _read(self, block: ir.Block) -> _Body:
        arguments = tuple(self._slot(a) for a in block.arguments)
        steps: list[_Step] = []
        for view in block.operations:
            operation = view.operation
            operands = tuple(self._slot(o) for o in operation.operands)
            if operation.name in ("tw.yield", "func.return"):
                return _Body(arguments, tuple(steps), operands)
            row = row_of(operation)
            problem = _why_not(row)
            if row is None or problem:
                place = _place(operation)
                raise ExecutionError(f"{place}the reference interpreter cannot run {operation.name}{problem}")
            results = tuple(self._slot(r) for r in operation.results)
            types = tuple(type_of(r) for r in operation.results)
            regions = tuple(self._read(r.blocks[0]) for r in operation.regions)
            steps.append(_Step(operation, row, attributes_of(row, operation), operands, results, types, regions))
        raise ExecutionError("a block does not end in tw.yield or func.return. Verify the module first.")


def _function(module: ir.Module, name: str) -> ir.Operation:
    known = {
        ir.StringAttr(view.operation.attributes["sym_name"]).value: view.operation
        for view in module.body.operations
        if view.operation.name == "func.func"
    }
    if name not in known:
        names = ", ".join(known) or "none"
        raise ExecutionError(f"the module has no function '{name}'{did_you_mean(name, known) or '.'} It has {names}.")
    return known[name]


def _why_not(row: OpDef | None) -> str:
    """The end of the sentence 'cannot run …'; empty for an op that runs."""
    if row is None:
        return ": it is not an op of the tw dialect."
    if row.name in ("vjp", "pullback"):
        return " before it is expanded. Run the pass 'differentiate' first."
    if isinstance(row.reference, Unsupported) and row.name not in _STATEFUL:
        return f": {row.reference.why}."
    return ""


def _place(operation: ir.Operation) -> str:
    where = where_of(operation.location)
    return f"{where} " if where else ""


def _check(array: Array, wanted: Type, what: str) -> None:
    found = array_type(array)
    if found != wanted:
        raise ExecutionError(f"{what} must be {wanted}, got {found}. Convert or reshape it.")


class _Machine:
    """One run: the value in each slot, and the variables."""

    def __init__(self, slots: list[Any], variables: dict[str, Array], observer: Observer | None) -> None:
        self.slots = slots
        self.variables = variables
        self.observer = observer

    def run(self, body: _Body, arguments: Values) -> Values:
        """Run a block on its arguments; what it yields."""
        slots = self.slots
        for slot, value in zip(body.arguments, arguments, strict=True):
            slots[slot] = value
        for step in body.steps:
            operands = [slots[o] for o in step.operands]
            results = self._step(step, operands)
            for slot, value in zip(step.results, results, strict=True):
                slots[slot] = value
            if self.observer is not None:
                self.observer(step.operation, operands, results)
        return [slots[y] for y in body.yields]

    def _step(self, step: _Step, operands: Values) -> Values:
        stateful = _STATEFUL.get(step.row.name)
        if stateful is not None:
            return stateful(self, step, operands)
        reference = step.row.reference
        assert not isinstance(reference, Unsupported)
        try:
            found = reference(*operands, **step.attrs)
        except Exception as error:
            raise ExecutionError(f"{_place(step.operation)}{step.row.name}: the reference failed: {error}") from error
        results = [np.asarray(x) for x in (found if isinstance(found, tuple | list) else (found,))]
        for result, wanted in zip(results, step.types, strict=True):
            assert isinstance(wanted, TensorType)
            if result.shape != wanted.shape or result.dtype != wanted.dtype.numpy:
                _check(result, wanted, f"{_place(step.operation)}{step.row.name}: the reference's result")
        return results


def _cond(machine: _Machine, step: _Step, operands: Values) -> Values:
    on_true, on_false = step.regions
    return machine.run(on_true if bool(operands[0]) else on_false, ())


def _while(machine: _Machine, step: _Step, operands: Values) -> Values:
    condition, body = step.regions
    state = operands
    while bool(machine.run(condition, state)[0]):
        state = machine.run(body, state)
    return state


def _scan(machine: _Machine, step: _Step, operands: Values) -> Values:
    carried, length = step.attrs["carried"], step.attrs["length"]
    carry, rows = operands[:carried], operands[carried:]
    stacked = [np.zeros(t.shape, t.dtype.numpy) for t in step.types[carried:] if isinstance(t, TensorType)]
    for i in reversed(range(length)) if step.attrs["reverse"] else range(length):
        values = machine.run(step.regions[0], [*carry, *(x[i, ...] for x in rows)])
        carry = values[:carried]
        for whole, row in zip(stacked, values[carried:], strict=True):
            whole[i] = row
    return [*carry, *stacked]


def _region(machine: _Machine, step: _Step, operands: Values) -> Values:
    """`call` and `checkpoint`: the region on the operands."""
    return machine.run(step.regions[0], operands)


def _custom_gradient(machine: _Machine, step: _Step, operands: Values) -> Values:
    """The results pass through; the region is for `differentiate` alone."""
    return operands[step.attrs["inputs"] :]


def _variable_handle(machine: _Machine, step: _Step, operands: Values) -> Values:
    """A handle is the variable's name; its value is looked up when read."""
    name = step.attrs["name"]
    if name not in machine.variables:
        known = machine.variables
        raise ExecutionError(
            f"{_place(step.operation)}no value for the variable '{name}'{did_you_mean(name, known) or '.'} "
            f"Given are {', '.join(known) or 'none'}."
        )
    wanted = TensorType(tuple(step.attrs["shape"]), step.attrs["dtype"])
    _check(np.asarray(machine.variables[name]), wanted, f"variable '{name}'")
    return [name]


def _read(machine: _Machine, step: _Step, operands: Values) -> Values:
    # A copy: the caller may own the buffer and update it in place.
    return [np.array(machine.variables[operands[0]])]


def _assign(update: Callable[[Array, Array], Array]) -> Callable[[_Machine, _Step, Values], Values]:
    def assign(machine: _Machine, step: _Step, operands: Values) -> Values:
        name, value = operands
        machine.variables[name] = np.asarray(update(machine.variables[name], value)).astype(value.dtype)
        return []

    return assign


def _scatter_update(machine: _Machine, step: _Step, operands: Values) -> Values:
    name, indices, rows = operands
    table, combine = np.array(machine.variables[name]), SCATTER_MODES[step.attrs["mode"]]
    for index, row in zip(indices.reshape(-1), rows.reshape(-1, *table.shape[1:]), strict=True):
        if 0 <= index < table.shape[0]:
            table[index] = combine(table[index], row)
    machine.variables[name] = table
    return []


def _lookup(machine: _Machine, step: _Step, operands: Values) -> Values:
    table, ids = machine.variables[operands[0]], operands[1]
    return [table[np.clip(ids, 0, len(table) - 1) if step.attrs["clamp"] else ids]]


# What a NumPy function of the operands cannot be: ops with regions, and ops on variables.
_STATEFUL: dict[str, Callable[[_Machine, _Step, Values], Values]] = {
    "cond": _cond,
    "while": _while,
    "scan": _scan,
    "call": _region,
    "checkpoint": _region,
    "custom_gradient": _custom_gradient,
    "variable_handle": _variable_handle,
    "read": _read,
    "assign": _assign(lambda old, new: new),
    "assign_add": _assign(lambda old, new: old + new),
    "assign_sub": _assign(lambda old, new: old - new),
    "scatter_update": _scatter_update,
    "lookup": _lookup,
    "update_rows": _scatter_update,
}
