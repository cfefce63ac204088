"""Shadow runs: the program runs once more in the interpreter, and what every op computed is looked at on the way.

Compiled code is not touched, so looking does not change the numbers that it gives. A `tw` module runs in the
interpreter; `execute` puts something else in its place, such as `probe.replayer` for StableHLO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from thalweg.backends.reference.interpreter import Array, Interpreter, Observer, Values
from thalweg.dialects.attributes import array_type
from thalweg.dialects.build import row_of
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType

Execute: TypeAlias = Callable[[Sequence[Array], dict[str, Array], Observer], Sequence[Array]]


@dataclass(frozen=True)
class Summary:
    """What is to be known of an array at a glance; extremes and mean are of the finite elements."""

    type: TensorType
    minimum: float
    maximum: float
    mean: float
    nans: int
    infinities: int

    @staticmethod
    def of(array: Array) -> Summary:
        """The summary of an array of any dtype."""
        kind = array_type(array)
        wide = array.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        low, high, mean = (finite.min(), finite.max(), finite.mean()) if finite.size else (np.nan,) * 3
        nans, infinities = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
        return Summary(kind, float(low), float(high), float(mean), nans, infinities)

    def merge(self, later: Summary) -> Summary:
        """Of both: what an op in a loop computed over all its executions (the mean is that of the latest)."""
        return replace(
            later,
            minimum=float(np.fmin(self.minimum, later.minimum)),
            maximum=float(np.fmax(self.maximum, later.maximum)),
            nans=self.nans + later.nans,
            infinities=self.infinities + later.infinities,
        )

    def __str__(self) -> str:
        empty = np.isnan(self.minimum)
        inside = "without finite elements" if empty else f"in [{self.minimum:.4g}, {self.maximum:.4g}]"
        odd = [f"{n} {word}" for n, word in ((self.nans, "NaN"), (self.infinities, "infinite")) if n]
        return f"{self.type} {inside}" + (f", {' and '.join(odd)}" if odd else "")


@dataclass(frozen=True)
class Record:
    """What one op computed, over all its executions."""

    operation: ir.Operation
    where: Where | None
    executions: int
    results: tuple[Summary, ...]


def trace_values(
    module: ir.Module,
    inputs: Sequence[Array],
    variables: dict[str, Array] | None = None,
    execute: Execute | None = None,
) -> list[Record]:
    """A record for every op that ran, in the order of its first execution.

    Example:
        >>> [(r.operation.name, str(r.results[0])) for r in trace_values(module, [x])]
        [('tw.exp', 'f32[3] in [1, 7.389]')]
    """
    records: dict[ir.Operation, Record] = {}

    def observe(operation: ir.Operation, operands: Values, results: Sequence[Array]) -> None:
        found = tuple(Summary.of(r) for r in results if isinstance(r, np.ndarray))
        seen = records.get(operation)
        if seen is None:
            records[operation] = Record(operation, where_of(operation.location), 1, found)
        else:
            merged = tuple(old.merge(new) for old, new in zip(seen.results, found, strict=True))
            records[operation] = replace(seen, executions=seen.executions + 1, results=merged)

    (execute or Interpreter(module))(inputs, _copied(variables), observe)
    return list(records.values())


def values_where(
    module: ir.Module,
    inputs: Sequence[Array],
    wanted: Callable[[ir.Operation], bool],
    variables: dict[str, Array] | None = None,
    execute: Execute | None = None,
) -> list[tuple[ir.Operation, tuple[Array, ...]]]:
    """The results of every execution of the ops that are `wanted`, in the order in which they ran."""
    kept: list[tuple[ir.Operation, tuple[Array, ...]]] = []

    def observe(operation: ir.Operation, operands: Values, results: Sequence[Array]) -> None:
        if wanted(operation):
            kept.append((operation, tuple(r for r in results if isinstance(r, np.ndarray))))

    (execute or Interpreter(module))(inputs, _copied(variables), observe)
    return kept


@dataclass(frozen=True)
class Origin:
    """Where a NaN (or an infinity, where these are looked for) came into being: an op none of whose operands held one,
    or an input or variable that came with it."""

    what: str  # 'log', "input 0", "variable 'w'"
    where: Where | None
    result: Summary
    operands: tuple[str, ...]  # each told in words
    execution: int  # of the op, from 1; 0 for an input or a variable
    reaches_result: bool = False  # a NaN that stems from it is in an output or a variable, not masked on the way

    def __str__(self) -> str:
        kind, count = ("NaN", self.result.nans) if self.result.nans else ("infinity", self.result.infinities)
        share = f"{count} of the {self.result.type.size} elements of {self.result.type}"
        if self.execution == 0:
            return f"{self.what} holds {kind} from the start: {share}."
        place = f"{self.where} " if self.where else ""
        turn = f" (in its execution {self.execution})" if self.execution > 1 else ""
        given = f" from {'; '.join(self.operands)}" if self.operands else ""
        return f"{place}{self.what} made the first {kind}{turn}: {share}{given}."


def first_nan(
    module: ir.Module,
    inputs: Sequence[Array],
    variables: dict[str, Array] | None = None,
    execute: Execute | None = None,
    infinities: bool = False,
) -> Origin | None:
    """The op that made the first NaN among those that reached an output or a variable; None if none did.

    NaN that a `select` masks out does not count. `variables` are left as they are. With `infinities` these count like
    NaN, but for those that were written as constants: what they were made of counts.

    Example:
        >>> print(first_nan(module, [np.float32([-1, 1])]))
        model.py:7: in loss(): log made the first NaN: 1 of the 2 elements of f32[2] from x, f32[2] in [-1, 1].
    """
    found = nan_origins(module, inputs, variables, execute, infinities)
    return next((o for o in found if o.reaches_result), None)


def nan_origins(
    module: ir.Module,
    inputs: Sequence[Array],
    variables: dict[str, Array] | None = None,
    execute: Execute | None = None,
    infinities: bool = False,
) -> list[Origin]:
    """Everything that made a NaN out of none, in the order of execution, whether it reached a result or not."""
    arrays, state = [np.asarray(x) for x in inputs], _copied(variables)
    bad = has_non_finite if infinities else has_nan
    tracker = _NanTracker(arrays, state, bad)
    outputs = (execute or Interpreter(module))(arrays, state, tracker.observe)
    reaching = {tracker.number_of(o) for o in outputs if bad(o)}
    reaching |= {tracker.number_of_variable(name, value) for name, value in state.items() if bad(value)}
    return [replace(o, reaches_result=number in reaching) for number, o in enumerate(tracker.origins)]


class _NanTracker:
    """Follows NaN through a run: which origin the NaN in an array stems from.

    Arrays are told apart by identity, which holds across region boundaries: block arguments and results of control ops
    are the very arrays that were passed and yielded. Only arrays with NaN are remembered (and so kept alive).
    """

    def __init__(self, inputs: Sequence[Array], variables: dict[str, Array], bad: Callable[[Array], bool]) -> None:
        self._bad = bad
        self.origins: list[Origin] = []
        self._makers: list[ir.Operation | None] = []  # of each origin
        self._holders: dict[int, tuple[Array, int]] = {}
        self._variables: dict[str, int] = {}
        self._assigned: dict[str, ir.Operation] = {}  # the latest op that wrote the variable
        self._executions: dict[ir.Operation, int] = {}
        for index, array in enumerate(inputs):
            if bad(array):
                self._hold(array, self._new(f"input {index}", array))
        for name, array in variables.items():
            if bad(array):
                self._variables[name] = self._new(f"variable '{name}'", array)

    def observe(self, operation: ir.Operation, operands: Values, results: Sequence[Array]) -> None:
        """Note which results hold NaN, and since when."""
        self._executions[operation] = self._executions.get(operation, 0) + 1
        row = row_of(operation)
        if row is not None and row.effects == "write":
            self._write(operation, operands[0], operands[-1])
        if operation.name == "tw.constant" and not any(map(has_nan, results)):
            return  # somebody wrote an infinity
        for result in results:
            if isinstance(result, np.ndarray) and self._bad(result) and id(result) not in self._holders:
                self._hold(result, self._stems_from(operation, operands, result))

    def number_of(self, array: Array | None) -> int | None:
        """The number of the origin of an array's NaN; a view has that of its base."""
        while array is not None:
            if id(array) in self._holders:
                return self._holders[id(array)][1]
            array = array.base if isinstance(array.base, np.ndarray) else None
        return None

    def number_of_variable(self, name: str, value: Array) -> int:
        """The same of a variable's NaN. One that no value brought was made by the update itself (inf - inf)."""
        if name not in self._variables:
            self._variables[name] = self._new(f"the update of variable '{name}'", value, self._assigned[name])
        return self._variables[name]

    def _hold(self, array: Array, number: int) -> None:
        self._holders[id(array)] = (array, number)
        if isinstance(array.base, np.ndarray):
            self._holders.setdefault(id(array.base), (array.base, number))

    def _write(self, operation: ir.Operation, name: str, value: Array) -> None:
        self._assigned[name] = operation
        number = self.number_of(value) if self._bad(value) else None
        if number is not None:
            self._variables[name] = number
        elif operation.name == "tw.assign":
            self._variables.pop(name, None)

    def _stems_from(self, operation: ir.Operation, operands: Values, result: Array) -> int:
        if operation.name == "tw.read":
            return self.number_of_variable(operands[0], result)
        known = [self.number_of(x) for x in operands if isinstance(x, np.ndarray) and self._bad(x)]
        numbers = [n for n in known if n is not None]
        if len(operation.regions):  # what a scan stacks is a new array, its rows came from inside
            numbers += [n for n, maker in enumerate(self._makers) if maker is not None and _is_inside(maker, operation)]
        if numbers:
            return min(numbers)
        told = tuple(_tell(value, x) for value, x in zip(operation.operands, operands, strict=True))
        return self._new(operation.name.removeprefix("tw."), result, operation, told)

    def _new(
        self, what: str, array: Array, operation: ir.Operation | None = None, operands: tuple[str, ...] = ()
    ) -> int:
        where = where_of(operation.location) if operation is not None else None
        execution = self._executions[operation] if operation is not None else 0
        self.origins.append(Origin(what, where, Summary.of(array), operands, execution))
        self._makers.append(operation)
        return len(self.origins) - 1


def _is_inside(operation: ir.Operation, outer: ir.Operation) -> bool:
    parent = operation.parent
    while parent is not None:
        if parent.operation == outer:
            return True
        parent = parent.operation.parent
    return False


def _tell(value: ir.Value, array: Array) -> str:
    """An operand in words: what made it, where, and what is in it."""
    owner = value.owner
    if isinstance(owner, ir.Block):
        return f"argument {ir.BlockArgument(value).arg_number} ({Summary.of(array)})"
    where = where_of(owner.location)
    place = f" at {where.file}:{where.line}" if where else ""
    return f"{owner.name.removeprefix('tw.')}{place} ({Summary.of(array)})"


def has_nan(array: Array) -> bool:
    return array_type(array).dtype.is_floating and bool(np.isnan(array).any())


def has_non_finite(array: Array) -> bool:
    return array_type(array).dtype.is_floating and not np.isfinite(array).all()


def _copied(variables: dict[str, Array] | None) -> dict[str, Array]:
    """A dictionary of their own for the shadow's assignments; the interpreter never writes into an array."""
    return dict(variables or {})
