"""Scatter: windows of the updates are combined into the operand's own buffer, at places that the indices hold.

For each index vector the window's begin is computed once; elements that fall outside are skipped, one by one, as
StableHLO says. Index vectors are taken in order, so that the result does not depend on threads where windows overlap.
Where the window's last dimension runs along a row of the operand (embedding tables), rows are combined as vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.nest import item_bytes
from thalweg.backends.cpu.emit.scalar import Num, evaluate, from_storage, lanes_type, to_storage
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Body, Value
from thalweg.backends.cpu.kernel import Kernel, function, memref_type, storage_type
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir, stablehlo


@dataclass(frozen=True)
class Dimensions:
    """The dimension numbers of a scatter, and what follows from them."""

    window: tuple[int, ...]  # dimensions of the updates that run inside a window
    inserted: tuple[int, ...]  # dimensions of the operand that a window lacks
    batching: tuple[int, ...]  # dimensions of the operand that run with `index_batching`
    index_batching: tuple[int, ...]  # dimensions of the indices
    indexed: tuple[int, ...]  # dimensions of the operand that component k of an index vector addresses
    vector_dim: int  # dimension of the indices that holds the components

    @staticmethod
    def of(operation: ir.Operation) -> Dimensions:
        numbers = stablehlo.ScatterDimensionNumbers(operation.attributes["scatter_dimension_numbers"])
        return Dimensions(
            tuple(numbers.update_window_dims),
            tuple(numbers.inserted_window_dims),
            tuple(numbers.input_batching_dims),
            tuple(numbers.scatter_indices_batching_dims),
            tuple(numbers.scattered_dims_to_operand_dims),
            numbers.index_vector_dim,
        )

    def window_of(self, rank: int) -> list[int]:
        """The operand's dimensions that a window has, in the order of `window`."""
        return [d for d in range(rank) if d not in self.inserted and d not in self.batching]


@register("stablehlo.scatter")
def scatter(group: Group, name: str, options: CpuOptions) -> Kernel:
    """All results of a `stablehlo.scatter`, one for each operand, in place."""
    root = group.root
    assert root.op is not None
    count = len(root.peers)
    operands, indices, updates = root.operands[:count], root.operands[count], root.operands[count + 1 :]
    index_type = ir.RankedTensorType(root.op.operands[count].type).element_type
    writer = _Scatter(Dimensions.of(root.op), region_body(root.op), operands, indices, updates, options)
    writer.signed = not str(index_type).startswith("u")
    writer.write()
    named = [("%indices", indices), *((f"%up{k}", value) for k, value in enumerate(updates))]
    results = [(f"%out{k}", value) for k, value in enumerate(root.peers)]
    source = function(name, named, results, writer.text())
    return Kernel(name, source, (indices, *updates), root.peers, updates=tuple(enumerate(operands)))


class _Scatter:
    """Writes one scatter; `%out…` hold the operands' contents."""

    def __init__(
        self,
        dims: Dimensions,
        body: Body,
        operands: Sequence[Value],
        indices: Value,
        updates: Sequence[Value],
        options: CpuOptions,
    ) -> None:
        self.dims, self.body = dims, body
        self.operands, self.indices, self.updates = operands, indices, updates
        self.shape = operands[0].shape
        self.update_shape = updates[0].shape
        self.window = dims.window_of(len(self.shape))
        self.signed = True
        self.w = ScopedWriter()
        target = machine(options)
        self.lanes = min(target.lanes(v.element) for v in operands)
        wide = all(item_bytes(v.element) >= 4 for v in operands)  # narrower ones have masks on few processors
        self.masks = target.has_avx512 and wide

    def text(self) -> str:
        return self.w.text()

    def write(self) -> None:
        w = self.w
        batch_dims = [d for d in range(len(self.update_shape)) if d not in self.dims.window]
        batch = [self.update_shape[d] for d in batch_dims]
        if not math.prod(self.update_shape) or not math.prod(self.shape):
            return
        with w.for_("%lo", "%hi", 1), w.for_(0, math.prod(batch), 1) as flat:
            place = [w.ssa(i) for i in w.delinearize(flat, batch)]
            start = self._start(place)
            with self._inside([d for d in range(len(self.shape)) if d not in self.window], start):
                self._window(dict(zip(batch_dims, place, strict=True)), start)

    def _start(self, place: Sequence[str]) -> list[str | int]:
        """Where in the operand the window of a batch index begins."""
        w, dims = self.w, self.dims
        start: list[str | int] = [0] * len(self.shape)
        for component, dim in enumerate(dims.indexed):
            at = list(place)
            if dims.vector_dim < len(self.indices.shape):
                at.insert(dims.vector_dim, w.index(component))
            raw = w.op(f"memref.load %indices[{', '.join(at)}] : {memref_type(self.indices)}")
            cast = "index_cast" if self.signed else "index_castui"
            start[dim] = w.op(f"arith.{cast} {raw} : {storage_type(self.indices.element)} to index")
        for dim, index_dim in zip(dims.batching, dims.index_batching, strict=True):
            start[dim] = place[index_dim - (index_dim > dims.vector_dim)]
        return start

    def _inside(self, dims: Sequence[int], at: Sequence[str | int]) -> AbstractContextManager[None]:
        """A branch taken where these coordinates lie in the operand; no branch where they cannot be outside."""
        w = self.w
        checks = [
            # Unsigned, so that one comparison catches negative coordinates, too.
            w.op(f"arith.cmpi ult, {at[dim]}, {w.index(self.shape[dim])} : index")
            for dim in dims
            if dim in self.dims.indexed
        ]
        if not checks:
            return nullcontext()
        return w.branch(reduce(lambda a, b: w.op(f"arith.andi {a}, {b} : i1"), checks))

    def _window(self, place: dict[int, str], start: Sequence[str | int]) -> None:
        """Loops over the window, the last dimension as vectors where it is contiguous on both sides."""
        pairs = list(zip(self.dims.window, self.window, strict=True))  # (dimension of updates, of operand)
        row = pairs[-1] if pairs and self._is_row(*pairs[-1]) else None
        self._loops(pairs[: len(pairs) - (row is not None)], place, list(start), row)

    def _is_row(self, update_dim: int, dim: int) -> bool:
        last = update_dim == len(self.update_shape) - 1 and dim == len(self.shape) - 1
        long = self.update_shape[update_dim] >= (2 if self.masks else self.lanes)
        return last and dim not in self.dims.indexed and long

    def _loops(
        self, pairs: list[tuple[int, int]], place: dict[int, str], at: list[str | int], row: tuple[int, int] | None
    ) -> None:
        w = self.w
        if pairs:
            (update_dim, dim), *rest = pairs
            with w.for_(0, self.update_shape[update_dim], 1) as i:
                moved = list(at)
                moved[dim] = w.add(at[dim], i)
                self._loops(rest, {**place, update_dim: i}, moved, row)
            return
        with self._inside(self.window, at):
            if row is None:
                self._combine(place, at, 1)
                return
            update_dim, dim = row
            extent = self.update_shape[update_dim]
            whole = extent // self.lanes * self.lanes
            last = self.lanes if self.masks else 1
            for lower, upper, lanes in ((0, whole, self.lanes), (whole, extent, last)):
                if lower < upper:
                    left = w.hoisted(f"arith.constant {upper - lower} : index") if lanes > upper - lower else ""
                    mask = left and w.hoisted(f"vector.create_mask {left} : vector<{lanes}xi1>", "mask")
                    with w.for_(lower, upper, lanes) as i:
                        moved = list(at)
                        moved[dim] = i
                        self._combine({**place, update_dim: i}, moved, lanes, mask)

    def _combine(self, place: dict[int, str], at: Sequence[str | int], lanes: int, mask: str = "") -> None:
        """The region, on one element or on (the first lanes of) a vector of a row: read the operand, read the update,
        write.
        """
        w = self.w
        target = ", ".join(w.ssa(i) for i in at)
        source = ", ".join(place[d] for d in range(len(self.update_shape)))
        used = {i for op in self.body.ops for i in op.operands} | set(self.body.yields)
        arguments = []
        for k, value in enumerate((*self.operands, *self.updates)):
            buffer, index = (f"%out{k}", target) if k < len(self.operands) else (f"%up{k - len(self.operands)}", source)
            unused = Num("", value.element, lanes)
            arguments.append(self._load(value, buffer, index, lanes, mask) if k in used else unused)
        for k, number in enumerate(evaluate(w, self.body, arguments)):
            value = self.operands[k]
            raw = to_storage(w, number)
            kind = memref_type(value)
            if lanes == 1:
                w.emit(f"memref.store {raw}, %out{k}[{target}] : {kind}")
            else:
                vector = lanes_type(storage_type(value.element), lanes)
                where = f"%out{k}[{target}]"
                if mask:
                    w.emit(f"vector.maskedstore {where}, {mask}, {raw} : {kind}, vector<{lanes}xi1>, {vector}")
                else:
                    w.emit(f"vector.store {raw}, {where} : {kind}, {vector}")

    def _load(self, value: Value, buffer: str, index: str, lanes: int, mask: str) -> Num:
        w, kind = self.w, memref_type(value)
        if lanes == 1:
            raw = w.ordered(f"memref.load {buffer}[{index}] : {kind}")
        elif mask:
            vector = lanes_type(storage_type(value.element), lanes)
            nothing = w.hoisted(f"arith.constant dense<{'0.0' if value.element[0] in 'fb' else '0'}> : {vector}")
            types = f"{kind}, vector<{lanes}xi1>, {vector} into {vector}"
            raw = w.ordered(f"vector.maskedload {buffer}[{index}], {mask}, {nothing} : {types}")
        else:
            raw = w.ordered(f"vector.load {buffer}[{index}] : {kind}, {lanes_type(storage_type(value.element), lanes)}")
        return from_storage(w, raw, value.element, lanes)
