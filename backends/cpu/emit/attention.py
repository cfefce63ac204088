"""Kernels of attention: the scores of a block of rows at a time, which stay in the second cache (attention.py).

    for each block of rows:
        sweep 0, for each panel of columns:   scores = q kᵀ;   maximum
        sweep 1, for each panel of columns:   e^(score - maximum), sum;   result += … v
        result / sum

Memory is a block's rows of scores for each thread, whatever the number of rows. Sums along rows (gradients of keys
and values) are kept for one index of the outer axes, which is then one piece of work; others are pieces of a block.
The maximum is that of the whole row, so that no sum is ever scaled again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thalweg.backends.cpu.attention import Attention, work
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.attention_sweeps import Sweep, plan_sweeps
from thalweg.backends.cpu.emit.attention_tiles import (
    Factors,
    Memory,
    Shape,
    Side,
    copy_rows,
    fill,
    load,
    multiply,
    pack_columns,
    store,
    times,
    write_rows,
    zero,
)
from thalweg.backends.cpu.emit.attention_triangle import columns_until, rows_since
from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scalar import Num, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.scores import Product

PANEL = 64  # columns that are worked on together, so that they stay in the first cache
BLOCK = 48  # rows of a block, at most: they stay in the first cache with a panel of columns
STRIPS = 1 << 19  # bytes that the strips of a block may take
_NANOSECONDS_PER_PRODUCT = 0.012


@register("attention")
def attention(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of the results of an attention that are read."""
    return _AttentionKernel(group, name, machine(options)).kernel()


class _AttentionKernel:
    def __init__(self, group: Group, name: str, target: Machine) -> None:
        self.name, self.stores = name, group.stores
        root = group.root
        assert root.attention is not None
        self.spec: Attention = root.attention
        self.current = dict(zip(self.spec.operands, root.operands, strict=True))
        spec = self.spec
        names = {value: f"%out{k}" for k, value in enumerate(self.stores)}
        peers = root.peers if not spec.joined else (*root.peers[:1] * len(spec.products), *root.peers[1:])
        results = zip([*(p.value for p in spec.products), *spec.kept], peers, strict=True)
        self.outputs = {value: names[peer] for value, peer in results if peer in names}
        self.products = [p for p in spec.products if p.value in self.outputs]
        self.plan = plan_sweeps(spec, self.products, [v for v in spec.kept if v in self.outputs])
        self.w = ScopedWriter()
        self.w.has_avx512 = target.has_avx512
        lanes = target.lanes("f32")
        self.shape = Shape(lanes, 6, 4 if target.registers >= 32 else 2)
        self.fused = Fused(self.w, spec.members, lanes)
        *self.outer_extents, self.rows, self.columns = spec.extents
        self.panel = min(PANEL, -(-self.columns // lanes) * lanes)
        self.width = -(-self.columns // self.panel) * self.panel  # columns of a strip
        self.pitch = self.width + lanes  # from row to row: a power of two would put all rows into few sets of the cache
        self.block = self._block_rows()
        self.blocks = -(-self.rows // self.block)
        self.scratch = 0
        self.by_rows = [p for p in self.products if p.sums(spec.row)]
        self.by_columns = [p for p in self.products if not p.sums(spec.row)]
        self.outer: list[Index] = []
        self._allocate()

    def _block_rows(self) -> int:
        """Rows of a block: all blocks about the same, of whole tiles, as far as the cache has room."""
        most = max(self.shape.rows, min(BLOCK, STRIPS // (4 * self.pitch * max(1, self.plan.strips))))
        if self.rows <= most:
            return self.rows
        even = -(-self.rows // -(-self.rows // most))
        return -(-even // self.shape.rows) * self.shape.rows

    # Memory.

    def _room(self, elements: int) -> Memory:
        """A part of the scratch."""
        at = self.w.index(self.scratch)
        self.scratch += -(-elements * 4 // 64) * 64
        view = f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to memref<{elements}xf32>"
        return Memory(self.w.unique(view, "room"), elements)

    def _padded(self, features: int) -> int:
        return -(-features // self.shape.lanes) * self.shape.lanes

    def _allocate(self) -> None:
        lanes, sweeps = self.shape.lanes, self.plan.sweeps
        self.strips = [self._room(self.block * self.pitch) for _ in range(self.plan.strips)]
        self.packed = {p.value: self._room(self.width * p.features) for p in sweeps[0].scores}
        self.sums: dict[Value, Memory] = {}
        self.copies: dict[Value, Memory] = {}  # of what scores are multiplied with: its vectors straddle no cache lines
        for p in self.products:
            wide = self._padded(p.features)
            rows = self.width if p in self.by_rows else self.block
            self.sums[p.value] = self._room(rows * wide)
            self.copies[p.value] = self._room((self.block if p in self.by_rows else self.columns) * wide)
        reductions = [v for sweep in sweeps for v in sweep.reductions]
        self.partial = {v: self._room(self.block * lanes) for v in reductions}
        self.reduced = {v: self._room(self.block) for v in reductions}

    def _flat(self, name: str, value: Value) -> Memory:
        dims = ", ".join(map(str, range(len(value.shape))))
        shaped = f"memref<{'x'.join(map(str, value.shape))}xf32>"
        flat = f"memref<{value.size}xf32>"
        view = self.w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {shaped} into {flat}", "flat")
        return Memory(view, value.size)

    def _side(self, product: Product, position: int) -> Side:
        """An operand of a product; its result for position 2."""
        value, generic = product.value, product.value.generic
        assert generic is not None
        operand = value if position == 2 else value.operands[position]
        name = self.outputs[value] if position == 2 else self.fused.buffer(operand)
        memory = self._flat(name, operand)
        return Side(memory, generic.maps[position], operand.shape, product.axes, len(self.spec.extents))

    def _beside(self, product: Product) -> Side:
        """The operand of a product that holds no scores."""
        assert product.scores is not None
        return self._side(product, 1 - product.scores)

    # The kernel.

    def kernel(self) -> Kernel:
        w = self.w
        outer = math.prod(self.outer_extents)
        tiles = outer if self.by_rows else outer * self.blocks
        with w.for_("%lo", "%hi", 1) as tile:
            if self.by_rows:
                self.outer = self.fused.at.delinear(Index(tile), self.outer_extents)
                self._pack()
                self._clear(self.by_rows if self.blocks > 1 else ())
                if self.blocks == 1:
                    self._block(0)
                else:
                    with w.for_(0, self.blocks, 1) as block:
                        self._block(block)
                self._write_by_rows()
            else:
                self._one_block(tile)
        body = w.text().replace("SCRATCH", str(self.scratch))
        operands = [(ssa, value) for value, ssa in self.fused.buffers.items()]
        results = [(f"%out{k}", value) for k, value in enumerate(self.stores)]
        text = function(self.name, operands, results, body, ("%scratch", self.scratch))
        return Kernel(
            self.name,
            text,
            tuple(self.current.get(value, value) for value in self.fused.buffers),
            tuple(self.stores),
            tiles,
            self.scratch,
            nanoseconds=work(self.spec) * _NANOSECONDS_PER_PRODUCT,
        )

    def _one_block(self, tile: str) -> None:
        """A piece of work that is one block; columns are packed for the first one of each outer index."""
        w = self.w
        index, block = self.fused.at.divide(Index(tile), self.blocks)
        self.outer = self.fused.at.delinear(index, self.outer_extents)
        first = w.op(f"arith.cmpi eq, {tile}, %lo : index")
        if self.blocks == 1:
            self._pack()
        else:
            starts = w.op(f"arith.cmpi eq, {w.ssa(block.base)}, {w.index(0)} : index")
            with w.branch(w.op(f"arith.ori {first}, {starts} : i1")):
                self._pack()
        self._block(block.base)

    def _pack(self) -> None:
        """Columns of what makes scores, and what is multiplied with scores, as the inner loops read them."""
        w, spec = self.w, self.spec
        for product in self.plan.sweeps[0].scores:
            side = self._side(product, self._column_side(product))
            pack_columns(
                w, self.shape, side.at(w, self.outer), side.steps[spec.column], side.feature, self.columns,
                product.features, self.packed[product.value], self.panel, product.scale,
            )  # fmt: skip
        for product in self.by_columns:
            side, wide = self._beside(product), self._padded(product.features)
            copy_rows(
                w, self.shape, side.at(w, self.outer), side.steps[spec.column], side.feature, self.columns,
                product.features, self.copies[product.value], wide,
            )  # fmt: skip

    def _column_side(self, product: Product) -> int:
        """Which operand of a product that makes scores is read along columns."""
        generic = product.value.generic
        assert generic is not None
        return int(any(product.axes[d] == self.spec.column for e in generic.maps[1] for d, _ in e.terms))

    def _block(self, block: str | int) -> None:
        w = self.w
        self.start = w.mul(block, self.block)
        self.count = self._rows_of_block()
        for value, memory in self.partial.items():
            neutral = widen(w, _combiner(value).neutral(w, self.shape.lanes), self.shape.lanes)
            fill(w, self.shape, memory, memory.size, neutral.name)
        self._clear(self.by_columns if self.width > self.panel else ())
        panels = self._panels()
        finished: list[Value] = []
        for sweep in self.plan.sweeps:
            self._copy_block(sweep, finished)
            with w.for_(0, panels, 1) as panel:
                self._panel(sweep, panel, finished)
            self._finish(sweep)
            finished += sweep.reductions
        for product in self.by_columns:
            side, wide = self._side(product, 2), self._padded(product.features)
            write_rows(
                w, self.shape, self.sums[product.value], wide, self.count, product.features,
                side.at(w, self.outer).at(w, (self.start, side.steps[self.spec.row])), side.steps[self.spec.row],
                side.feature, self._finishing(product, finished),
            )  # fmt: skip

    def _clear(self, products: Sequence[Product]) -> None:
        """Sums that are added up from several panels or blocks start from nothing; others are stored at once."""
        for product in products:
            memory = self.sums[product.value]
            fill(self.w, self.shape, memory, memory.size, zero(self.w, self.shape))

    def _rows_of_block(self) -> str | int:
        if self.rows % self.block == 0:
            return self.block
        return self.w.minimum(self.block, self.w.sub(self.rows, self.start))

    def _panels(self) -> str | int:
        """How many panels of columns count for the rows of this block."""
        whole = self.width // self.panel
        if self.spec.visible is None:
            return whole
        end = self.w.add(self.start, self.block + self.spec.visible + self.panel - 1)
        if isinstance(end, int):
            return min(whole, end // self.panel)
        return self.w.minimum(whole, self.w.op(f"arith.divui {end}, {self.w.index(self.panel)} : index"))

    def _copy_block(self, sweep: Sweep, finished: Sequence[Value]) -> None:
        """Rows of this block of what is summed along rows, as the inner loop wants them."""
        for product in sweep.products:
            if product in self.by_rows:
                side, row = self._beside(product), self._beside(product).steps[self.spec.row]
                copy_rows(
                    self.w, self.shape, side.at(self.w, self.outer).at(self.w, (self.start, row)), row, side.feature,
                    self.count, product.features, self.copies[product.value], self._padded(product.features),
                    self._factor(product, finished),
                )  # fmt: skip

    def _factor(self, product: Product, finished: Sequence[Value]) -> Callable[[str | int, str], str] | None:
        """What becomes of a vector of a product's row."""
        if product.factor is None:
            return None
        name, value = product.factor

        def change(row: str | int, vector: str) -> str:
            self._define_reduced(row, finished)
            number = widen(self.w, self.fused.get(value, self._place(value, row)), self.shape.lanes)
            return self.w.op(f"{name} {vector}, {number.name} : {self.shape.kind}")

        return change

    def _finishing(self, product: Product, finished: Sequence[Value]) -> Callable[[str | int, str], str]:
        """What becomes of a vector of a finished row of a product."""
        factor = self._factor(product, finished)

        def change(row: str | int, vector: str) -> str:
            return times(self.w, self.shape, factor(row, vector) if factor else vector, product.scale)

        return change

    # Panels.

    def _panel(self, sweep: Sweep, panel: str, finished: Sequence[Value]) -> None:
        """Everything of a sweep for one panel."""
        w, spec = self.w, self.spec
        first = w.mul(panel, self.panel)
        for product in sweep.scores:
            side = self._side(product, 1 - self._column_side(product))
            row = side.steps[spec.row]
            left = side.at(w, self.outer).at(w, (self.start, row))
            right = self.packed[product.value].at(w, (first, product.features))
            factors = Factors(left, row, side.feature, right, self.panel, self.panel)
            strip = self.strips[sweep.at_hand[product.value]].at(w, (first, 1))
            multiply(w, self.shape, factors, self.count, self._most(), product.features, strip, self.pitch, False)
        self._elementwise(sweep, first, finished)
        for product in sweep.products:
            self._use(product, self.strips[sweep.strip(product)].at(w, (first, 1)), first)

    def _most(self) -> int:
        """Rows of the last block, which may be no multiple of what a tile takes; or of any."""
        return self.rows % self.block or self.block

    def _use(self, product: Product, scores: Memory, first: str | int) -> None:
        """Add what a panel of scores gives to the sums of a product."""
        w, start, visible = self.w, self.start, self.spec.visible
        wide, other, sums = self._padded(product.features), self.copies[product.value], self.sums[product.value]
        if product in self.by_rows:
            factors, out = Factors(scores, 1, self.pitch, other, wide, wide), sums.at(w, (first, wide))
            rows = self.count if visible is None else rows_since(w, start, first, self.count, visible)
            multiply(w, self.shape, factors, self.panel, self.panel, rows, out, wide, self.blocks > 1)
            return
        factors = Factors(scores, self.pitch, 1, other.at(w, (first, wide)), wide, wide)
        count = self.panel if self.columns % self.panel == 0 else w.minimum(self.panel, w.sub(self.columns, first))
        columns = count if visible is None else columns_until(w, start, first, count, visible)
        multiply(w, self.shape, factors, self.count, self._most(), columns, sums, wide, self.width > self.panel)

    # Elementwise work.

    def _place(self, value: Value, row: str | int, column: Index | None = None) -> Place:
        """Where a value is read for a row of this block (and a column)."""
        spec = self.spec
        at = [*self.outer, Index(self.w.add(self.start, row)), column or Index(0)]
        return tuple(Index(0) if axis is None else at[axis] for axis in spec.axes[value])

    def _elementwise(self, sweep: Sweep, first: str | int, finished: Sequence[Value]) -> None:
        w = self.w
        tail = self.columns % self.panel

        def rows(width: int) -> None:
            with w.for_(0, self.count, 1) as row:
                self._row(sweep, row, first, width, finished)

        if not sweep.reductions and not sweep.stored:
            return
        if not tail:
            rows(self.panel)
            return
        last = w.op(f"arith.cmpi uge, {w.ssa(w.add(first, self.panel))}, {w.index(self.columns + 1)} : index")
        with w.scope(f"scf.if {last}", fence=True):
            rows(tail)
        with w.scope("else", fence=True):
            rows(self.panel)

    def _row(self, sweep: Sweep, row: str, first: str | int, width: int, finished: Sequence[Value]) -> None:
        """One row of a panel: `width` columns from `first` on."""
        w, fused, lanes = self.w, self.fused, self.shape.lanes
        self._define_reduced(row, finished)
        nothing = zero(w, self.shape)
        parts: dict[Value, list[Num]] = {value: [] for value in sweep.reductions}
        for offset in range(0, width, lanes):
            column = Index(w.add(first, offset), 1)
            fused.limit(min(lanes, width - offset))
            for value, strip in sweep.at_hand.items():
                where = self.strips[strip].at(w, (row, self.pitch), (first, 1), (offset, 1))
                fused.define(value, self._place(value, row, column), Num(load(w, self.shape, where), "f32", lanes))
            for value in sweep.reductions:
                combiner = _combiner(value)
                number = widen(w, self._contribution(value, combiner, row, column), lanes)
                parts[value].append(combiner.masked(w, number, fused.mask))
            numbers = [widen(w, fused.get(v, self._place(v, row, column)), lanes) for v in sweep.stored]
            for number, strip in zip(numbers, sweep.stored.values(), strict=True):
                store(w, self.shape, self.strips[strip].at(w, (row, self.pitch), (first, 1), (offset, 1)), number.name)
            fused.limit(0)
        for offset in range(-(-width // lanes) * lanes, self.panel, lanes):  # no garbage is multiplied: it may be slow
            for strip in sweep.stored.values():
                store(w, self.shape, self.strips[strip].at(w, (row, self.pitch), (first, 1), (offset, 1)), nothing)
        for value, found in parts.items():
            combiner, where = _combiner(value), self.partial[value].at(w, (row, lanes))
            total = found[0]
            for number in found[1:]:
                total = combiner.combine(w, total, number)
            running = Num(load(w, self.shape, where), "f32", lanes)
            store(w, self.shape, where, combiner.combine(w, running, total).name)

    def _contribution(self, value: Value, combiner: Combiner, row: str, column: Index) -> Num:
        generic = value.generic
        assert generic is not None
        dims = self.fused.loops(value, self._place(value, row))
        for dim in generic.reductions:
            dims[dim] = column if generic.extents[dim] != 1 else Index(0)
        return self.fused.body(value, dims, body=combiner.contribution)[0]

    def _define_reduced(self, row: str | int, finished: Sequence[Value]) -> None:
        """Make the reductions that have ended known for a row."""
        for value in finished:
            memory = self.reduced[value].at(self.w, (row, 1))
            number = self.w.ordered(f"memref.load {memory.name}[{self.w.ssa(memory.base)}] : {memory.memref}")
            self.fused.define(value, self._place(value, row), Num(number, "f32"))

    def _finish(self, sweep: Sweep) -> None:
        """The reductions of a sweep, from their vectors."""
        w = self.w
        if not sweep.reductions:
            return
        with w.for_(0, self.count, 1) as row:
            for value in sweep.reductions:
                combiner = _combiner(value)
                where = self.partial[value].at(w, (row, self.shape.lanes))
                vector = Num(load(w, self.shape, where), "f32", self.shape.lanes)
                initial = self.fused.get(value.operands[1], self._place(value, row))
                number = combiner.combine(w, initial, combiner.horizontal(w, vector))
                memory = self.reduced[value].at(w, (row, 1))
                w.emit(f"memref.store {number.name}, {memory.name}[{w.ssa(memory.base)}] : {memory.memref}")
                if value in self.outputs:
                    self.fused.store(value, self.outputs[value], self._place(value, row), number)

    def _write_by_rows(self) -> None:
        w, shape = self.w, self.shape
        for product in self.by_rows:
            side, sums, scale = self._side(product, 2), self.sums[product.value], product.scale
            wide = self._padded(product.features)

            def change(_: str | int, vector: str, scale: float = scale) -> str:
                return times(w, shape, vector, scale)

            write_rows(
                w, shape, sums, wide, self.columns, product.features, side.at(w, self.outer),
                side.steps[self.spec.column], side.feature, change,
            )  # fmt: skip


def _combiner(value: Value) -> Combiner:
    combiner = combiner_of(value)
    assert combiner is not None
    return combiner
