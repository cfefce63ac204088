"""What a program costs, op by op: arithmetic operations and bytes moved, from types and attributes alone.

An arithmetic operation is one on a pair of elements, whatever it takes on a machine: `exp` counts one, a multiply-add
two. Bytes are what an op must read and write if nothing is fused: a bound for the unfused program, a yardstick for the
compiled one. Ops inside a `scan` count once per row; inside a `while` once per iteration, since their number is not
known; of a `cond`, both branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import Attrs, OpDef
from thalweg.dialects.types import TensorType

Types = Sequence[TensorType]
Rule = Callable[[Types, Types, Attrs], int]  # operands, results, attributes


@dataclass(frozen=True)
class Cost:
    """The cost of one op: `flops` and `bytes` of one execution, `times` it runs in its loops."""

    operation: ir.Operation
    name: str
    where: Where | None
    flops: int
    bytes: int
    times: int
    per_iteration: bool  # inside a `while`: what stands here is for one iteration

    @property
    def total_flops(self) -> int:
        return self.flops * self.times

    @property
    def total_bytes(self) -> int:
        return self.bytes * self.times


def costs(module: ir.Module) -> list[Cost]:
    """The cost of every op of the module, in order; ops of other dialects cost nothing here.

    Example:
        >>> [(c.name, c.flops) for c in costs(module)]       # f32[8,16] @ f32[16,4]
        [('dot_general', 1024)]
    """
    return [cost for view in module.body.operations for cost in _inside(view.operation, 1, False)]


def _inside(operation: ir.Operation, times: int, per_iteration: bool) -> Iterator[Cost]:
    for region in operation.regions:
        for block in region.blocks:
            for view in block.operations:
                inner = view.operation
                row = row_of(inner)
                if row is None:
                    continue
                attrs = attributes_of(row, inner)
                if inner.regions:
                    repeats = attrs["length"] if row.name == "scan" else 1
                    yield from _inside(inner, times * repeats, per_iteration or row.name == "while")
                else:
                    yield _cost(row, inner, attrs, times, per_iteration)


def _cost(row: OpDef, operation: ir.Operation, attrs: Attrs, times: int, per_iteration: bool) -> Cost:
    operands = [t for t in map(type_of, operation.operands) if isinstance(t, TensorType)]
    results = [t for t in map(type_of, operation.results) if isinstance(t, TensorType)]
    flops, moved = flops_and_bytes(row, operands, results, attrs)
    return Cost(operation, row.name, where_of(operation.location), flops, moved, times, per_iteration)


def flops_and_bytes(row: OpDef, operands: Types, results: Types, attrs: Attrs) -> tuple[int, int]:
    """The two numbers for one execution of an op without regions, from its tensor operands and results."""
    flops = _FLOPS.get(row.name) or _FLOPS_OF_FAMILY.get(row.family, _none)
    return flops(operands, results, attrs), _BYTES.get(row.name, _everything)(operands, results, attrs)


def _none(operands: Types, results: Types, attrs: Attrs) -> int:
    return 0


def _per_result(operands: Types, results: Types, attrs: Attrs) -> int:
    return sum(t.size for t in results)


def _per_operand(operands: Types, results: Types, attrs: Attrs) -> int:
    return operands[0].size


def _dot(operands: Types, results: Types, attrs: Attrs) -> int:
    contracted: int = math.prod(operands[0].shape[d] for d in attrs["lhs_contract"])
    return 2 * results[0].size * contracted


def _conv(operands: Types, results: Types, attrs: Attrs) -> int:
    kernel = operands[1]
    out_channels: int = kernel.shape[attrs["rhs_spec"][0]]
    return 2 * results[0].size * (kernel.size // max(out_channels, 1))


def _window(operands: Types, results: Types, attrs: Attrs) -> int:
    window: int = math.prod(attrs["window"])
    return results[0].size * window


def _window_gradient(operands: Types, results: Types, attrs: Attrs) -> int:
    window: int = math.prod(attrs["window"])
    return operands[1].size * window


def _sort(operands: Types, results: Types, attrs: Attrs) -> int:
    x = operands[0]
    extent: int = x.shape[attrs["axis"]] if "axis" in attrs else x.shape[-1]
    return x.size * max(math.ceil(math.log2(max(extent, 1))), 1)


def _threefry(operands: Types, results: Types, attrs: Attrs) -> int:
    # 20 rounds of 3 integer operations and 5 key injections, for two words of 32 bits
    return sum(math.ceil(t.nbytes / 8) * 80 for t in results)


def _combined(operands: Types, results: Types, attrs: Attrs) -> int:
    """Scatter: one operation per update, none for `set`."""
    return 0 if attrs["mode"] == "set" else operands[-1].size


_FLOPS_OF_FAMILY: Mapping[str, Rule] = {
    "elementwise": _per_result,
    "special": _per_result,
    "reduce": _per_operand,
    "window": _window,
    "sort": _sort,
    "random": _threefry,
}
_FLOPS: Mapping[str, Rule] = {
    "dot_general": _dot,
    "conv_general": _conv,
    "max_pool_grad": _window_gradient,
    "scatter": _combined,
    "scatter_update": _combined,
    "assign_add": _per_operand,
    "assign_sub": _per_operand,
    **dict.fromkeys(("bitcast", "stop_gradient", "barrier"), _none),
}


def _everything(operands: Types, results: Types, attrs: Attrs) -> int:
    return sum(t.nbytes for t in (*operands, *results))


def _touched(operands: Types, results: Types, attrs: Attrs) -> int:
    """Reads only what it returns, and the indices that say where."""
    return 2 * results[0].nbytes + sum(t.nbytes for t in operands[1:])


def _updated(operands: Types, results: Types, attrs: Attrs) -> int:
    """Works in place: reads the rest of the operands, reads and writes as much again of the first."""
    return 3 * operands[-1].nbytes + sum(t.nbytes for t in operands[1:-1])


def _update_slice(operands: Types, results: Types, attrs: Attrs) -> int:
    return 2 * operands[1].nbytes


def _read_modify_write(operands: Types, results: Types, attrs: Attrs) -> int:
    return 3 * operands[0].nbytes


_BYTES: Mapping[str, Rule] = {
    # no data moves: another view of the same buffer, or a name for it
    **dict.fromkeys(("reshape", "bitcast", "stop_gradient", "barrier", "constant", "read", "variable_handle", "yield"),
                    _none),
    **dict.fromkeys(("slice", "dynamic_slice", "gather", "take_rows"), _touched),
    **dict.fromkeys(("scatter", "scatter_update"), _updated),
    **dict.fromkeys(("assign_add", "assign_sub"), _read_modify_write),
    "dynamic_update_slice": _update_slice,
}
