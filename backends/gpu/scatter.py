"""Scatter: windows of the updates are combined into the operand's own buffer, at places that the indices hold.

* Whole rows (embedding tables: a window lacks every dimension that is addressed). One program for each update. The
  first update of a row does the work of all that follow for the same row, in order: the sum is the same each time,
  without atomics. With `GpuOptions(deterministic=False)`, additions are atomic instead.
* Other windows may overlap in part. One program takes the updates in order; one for each where no two overlap.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.scatter import Dimensions
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import ZERO, Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num, convert_index
from thalweg.backends.gpu.tiles import axis, counter, is_wide, power_of_two, quotient
from thalweg.backends.gpu.writer import Writer
from thalweg.dialects.mlir import ir

BLOCK = 1024  # elements of a window that a program holds
SCAN = 1024  # indices that a program looks at together
_ATOMIC = {"arith.addf": ("f32", "f64"), "arith.addi": ("i32", "i64")}


def scatter(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.scatter`: all of its results, in place."""
    return _Scatter(replace(group, stores=list(group.root.peers)), name, options).kernel()


class _Scatter:
    def __init__(self, group: Group, name: str, options: GpuOptions) -> None:
        self.group, self.name, self.root = group, name, group.root
        operation, count = self.root.op, len(self.root.peers)
        assert operation is not None
        self.dims = Dimensions.of(operation)
        self.operands, self.indices = self.root.operands[:count], self.root.operands[count]
        self.updates = self.root.operands[count + 1 :]
        self.body = region_body(operation)
        index_type = ir.RankedTensorType(operation.operands[count].type).element_type
        self.signed = not str(index_type).startswith("u")
        self.shape, self.update_shape = self.root.shape, self.updates[0].shape
        self.window = self.dims.window_of(len(self.shape))  # the operand's dimensions, as those of `dims.window`
        self.batch_dims = [d for d in range(len(self.update_shape)) if d not in self.dims.window]
        self.batch = [self.update_shape[d] for d in self.batch_dims]
        self.extents = [self.update_shape[d] for d in self.dims.window]
        self.count, self.size = math.prod(self.batch), math.prod(self.extents)
        unique = operation.attributes.get("unique_indices")
        self.unique = self.count == 1 or (unique is not None and ir.BoolAttr(unique).value)
        self.rows = not set(self.window) & set(self.dims.indexed)
        self.atomic = not options.deterministic and self._adds()
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def _adds(self) -> bool:
        ops = self.body.ops
        known = len(self.updates) == 1 and len(ops) == 1 and set(ops[0].operands) == {0, 1}
        return known and self.root.element in _ATOMIC.get(ops[0].name, ())

    def kernel(self) -> TritonKernel:
        w = self.w
        block = min(BLOCK, power_of_two(self.size))
        constants = [("BLOCK", block)]
        blocks = -(-self.size // block)
        if self.unique or self.atomic or self.rows:
            update = counter(w, "update", quotient("tl.program_id(0)", blocks), self.count)
            start = f"tl.program_id(0){f' % {blocks}' if self.count > 1 else ''} * BLOCK" if blocks > 1 else ""
            at = axis(w, self.masks, "at", start, self.size, block, "BLOCK", is_wide(self.group))
            self.fused.comment(self.root)
            if self.unique or self.atomic:
                self._one(update, at)
            else:
                constants.append(("SCAN", min(SCAN, power_of_two(self.count))))
                self._first_of_row(update, at)
            grid = self.count * blocks
        else:
            self._in_order(blocks, block)
            grid = 1
        return finish(
            self.fused, self.group, self.name, grid, constants, 4, updates=tuple(enumerate(self.operands))
        )

    # Places.

    def _start(self, update: Index) -> tuple[list[Index], Num | None]:
        """Where in the operand the window of an update begins, and whether that is inside along what it lacks."""
        w, dims = self.w, self.dims
        place = list(coordinates(update, self.batch))
        start: list[Index] = [ZERO] * len(self.shape)
        checks, axes = [], frozenset[str]()
        for component, dim in enumerate(dims.indexed):
            at = list(place)
            if dims.vector_dim < len(self.indices.shape):
                at.insert(dims.vector_dim, Index((), component))
            number = self.fused.get(self.indices, tuple(at))
            text = convert_index(number, self.signed, is_wide(self.group))
            name = w.assign(text, "begin") if not text.isidentifier() else text
            start[dim] = of(Symbol(name, self.shape[dim], number.axes))
            if dim not in self.window:
                checks.append(f"({name} >= 0) & ({name} < {self.shape[dim]})")
                axes |= number.axes
        for dim, index_dim in zip(dims.batching, dims.index_batching, strict=True):
            start[dim] = place[index_dim - (index_dim > dims.vector_dim)]
        return start, Num(w.assign(" & ".join(checks), "inside"), "i1", axes) if checks else None

    def _places(self, update: Index, at: Index, start: list[Index]) -> tuple[Place, Place, Num | None]:
        """An element of a window in the updates and in the operand, and whether it lies in the operand."""
        inner = coordinates(at, self.extents)
        source = [ZERO] * len(self.update_shape)
        for dim, index in zip(self.batch_dims, coordinates(update, self.batch), strict=True):
            source[dim] = index
        target = list(start)
        checks, axes = [], frozenset[str]()
        for update_dim, dim, index in zip(self.dims.window, self.window, inner, strict=True):
            source[update_dim] = index
            target[dim] = target[dim] + index
            if dim in self.dims.indexed:
                text = self.w.index(target[dim])
                text = text if text.isidentifier() else self.w.assign(text, "there")
                checks.append(f"({text} >= 0) & ({text} < {self.shape[dim]})")
                axes |= target[dim].axes
        inside = Num(self.w.assign(" & ".join(checks), "inside"), "i1", axes) if checks else None
        return tuple(source), tuple(target), inside

    # Combining.

    def _combined(self, before: list[Num], source: Place) -> list[Num]:
        """The operands' elements with those of the updates."""
        found = self.fused.evaluate(self.body, [*before, *(self.fused.get(value, source) for value in self.updates)])
        if found is None:
            raise not_yet(self.root, "its region")
        return found

    def _read(self, target: Place) -> list[Num]:
        """What is in the results' buffers; the last guards hold there, too."""
        found = []
        used = {i for op in self.body.ops for i in op.operands} | set(self.body.yields)
        for number, value in enumerate(self.operands):
            if number in used:
                address = linear(target, self.shape)
                found.append(self.fused.loaded(value, self.fused.load_from(f"out{number}", address), address.axes))
            else:
                found.append(Num("", value.element))
        return found

    def _write(self, target: Place, numbers: list[Num]) -> None:
        for number, (value, found) in enumerate(zip(self.root.peers, numbers, strict=True)):
            self.fused.store(f"out{number}", value, linear(target, self.shape), found)

    def _one(self, update: Index, at: Index) -> None:
        """One update that overlaps with no other, or that is added by an atomic operation."""
        start, known = self._start(update)
        source, target, inside = self._places(update, at, start)
        with self.fused.guarded(known), self.fused.guarded(inside):
            if self.atomic:
                self.fused.comment(self.root)
                added = self.fused.get(self.updates[0], source)
                self.fused.add_atomically("out0", self.root, linear(target, self.shape), added)
            else:
                self._write(target, self._combined(self._read(target), source))

    def _in_order(self, blocks: int, block: int) -> None:
        """All updates by one program, one after the other."""
        w = self.w
        self.fused.comment(self.root)
        with w.scope(f"for update in range(0, {self.count}):"):
            update = of(Symbol("update", self.count)) if self.count > 1 else ZERO
            start, known = self._start(update)
            with w.scope(f"for start in range(0, {self.size}, BLOCK):"):
                at = axis(w, self.masks, "at", "start", self.size, block, "BLOCK", is_wide(self.group))
                source, target, inside = self._places(update, at, start)
                with self.fused.guarded(known), self.fused.guarded(inside):
                    self._write(target, self._combined(self._read(target), source))
            w.emit("tl.debug_barrier()  # the next update sees what this one wrote")

    def _row(self, update: Index) -> tuple[str, Num | None]:
        """The position of an update's row in the operand; updates of one row have the same."""
        start, known = self._start(update)
        return self.w.index(linear(start, self.shape)), known

    def _same(self, row: str) -> tuple[str, str]:
        """A tile of updates, from `start` on: their numbers, and which of them are for a row."""
        block = min(SCAN, power_of_two(self.count))
        other = axis(self.w, self.masks, "other", "start", self.count, block, "SCAN")
        text, (there, known) = self.w.index(other), self._row(other)
        checks = [known.text] if known else []
        checks += [self.masks[a] for a in sorted(other.axes) if a in self.masks]
        return text, " & ".join([f"({there} == {row})", *checks])

    def _first_of_row(self, update: Index, at: Index) -> None:
        """The update's row, if no earlier update has the same: all updates of it, in order."""
        w, count = self.w, self.count
        row, known = self._row(update)
        row = w.assign(row, "row")
        w.emit("earlier = tl.full([], 0, tl.int32)")
        with w.scope("for start in range(0, update, SCAN):"):
            text, same = self._same(row)
            w.emit(f"earlier += tl.sum(({same} & ({text} < update)).to(tl.int32))")
        w.emit(f"mine = {f'(earlier == 0) & {known.text}' if known else 'earlier == 0'}")
        with self.fused.guarded(Num("mine", "i1")):
            start, _ = self._start(update)
            source, target, _ = self._places(update, at, start)
            before = self._combined(self._read(target), source)
            sums = [replace(n, text=w.assign(n.text, "total"), atom=True, constant=False) for n in before]
        end = f"tl.where(mine, {count}, 0)"
        with w.scope(f"for start in range(update // SCAN * SCAN, {end}, SCAN):"):
            text, same = self._same(row)
            w.emit(f"same = {same} & ({text} > update)")
            with w.scope("for _ in range(0, tl.sum(same.to(tl.int32))):"):
                w.emit(f"following = tl.min(tl.where(same, {text}, {count}))")
                w.emit(f"same = same & ({text} != following)")
                source, _, _ = self._places(of(Symbol("following", count)), at, start)
                for total, after in zip(sums, self._combined(sums, source), strict=True):
                    w.emit(f"{total.text} = {after.text}")
        with self.fused.guarded(Num("mine", "i1")):
            self._write(target, sums)
