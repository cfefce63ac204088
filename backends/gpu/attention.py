"""Attention: matrices of scores that never are in memory (backends/cpu/attention.py finds them).

A program holds a block of rows and walks the columns, or (sums along rows: the gradients of keys and values) a block of
columns and walks the rows. Scores are computed for a tile, changed, reduced, and used up before the next.

    for start in range(0, columns, BN):
        scores = tl.dot(q, k)
        largest, before = maximum(largest, …), largest        # what was added up so far is scaled by
        scale = tl.exp(before - largest)                      # e^(old maximum - new maximum)
        total = total * scale + …
        acc = tl.dot(p, v, acc * scale)

Where sums do not scale with the maximum, the columns are walked once for each reduction that waits for another. Under a
causal mask, tiles that all rows see are walked first, without looking at the mask, and then those along the diagonal.

Scores that the program rounds to 16 bits are not rounded here: products take operands of 16 bits, all else is f32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.backends.cpu.attention import Attention
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.attention_sweeps import Sweep, plan_sweeps
from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.graph import ScalarOp, Value
from thalweg.backends.cpu.scores import Product
from thalweg.backends.gpu.attention_parts import behind, rescales
from thalweg.backends.gpu.attention_walks import Walks, names_of_operands, needed_members
from thalweg.backends.gpu.configurations import SMALLEST, MatmulTile, Tile, attention_tile, attention_tiles
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import ZERO, Index, Symbol, affine, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.rows import across, neutral_of
from thalweg.backends.gpu.scalar import MEMORY, Num, apply, as_stored
from thalweg.backends.gpu.tiles import counter, is_wide, power_of_two, quotient
from thalweg.backends.gpu.writer import Writer


def attention(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of the results of an attention that are read."""
    return _Attention(group, name, options, tile).kernel()


def tiles_of_attention(group: Group, options: GpuOptions) -> list[Tile]:
    """The tiles that such a kernel may have, one of those that make the same."""
    spec = group.root.attention
    assert spec is not None
    shapes: dict[tuple[int, ...], Tile] = {}
    for tile in attention_tiles(max(p.features for p in (*spec.scores, *spec.products)), options):
        shapes.setdefault((*_blocks(tile, spec), tile.warps, tile.stages), tile)
    return list(shapes.values())


def _blocks(tile: MatmulTile, spec: Attention) -> tuple[int, int]:
    """How many rows and columns a program computes together: no more than there are."""
    rows, columns = (max(SMALLEST, power_of_two(extent)) for extent in spec.extents[-2:])
    return min(tile.m, rows), min(tile.n, columns)


@dataclass
class _Run:
    """Rows, columns or features: a run of numbers, as the rows and as the columns of a tile."""

    down: Index = ZERO
    across: Index = ZERO
    masked: bool = False


class _Attention:
    def __init__(self, group: Group, name: str, options: GpuOptions, tile: Tile | None) -> None:
        self.group, self.name, self.options = group, name, options
        root = group.root
        assert root.attention is not None
        self.spec: Attention = root.attention
        spec = self.spec
        values = dict(zip([*(p.value for p in spec.products), *spec.kept], root.peers, strict=True))
        self.stores = [v for v in group.stores if v.size]
        self.outputs = {own: self.stores.index(made) for own, made in values.items() if made in self.stores}
        self.values = values
        self.products = [p for p in spec.products if p.value in self.outputs]
        self.over_columns = any(p.sums(spec.row) for p in self.products)  # do programs hold columns?
        self.w, self.masks = Writer(), dict[str, str]()
        self.w.rounds = False
        inside = Group(root, spec.members | (group.members - set(root.peers)), self.stores)
        names = dict(zip(spec.operands, root.operands, strict=False))  # further ones are read for prologues
        self.fused = Fused(self.w, inside, self.masks, names)
        self.inside = inside
        *self.outer_extents, self.row_count, self.column_count = spec.extents
        self.features = max([p.features for p in (*spec.scores, *spec.products)])
        narrow = all(o.element in ("f16", "bf16") for p in spec.scores for o in p.value.operands[:2])
        self.tile = tile if isinstance(tile, MatmulTile) else attention_tile(self.features, narrow, options)
        self.bm, self.bn = _blocks(self.tile, spec)
        self.blocks: dict[int, str] = {}  # of features, by their number: the constant's name
        self.axes: dict[int, _Run] = {}
        self.names = names_of_operands(spec, self._row_side)
        self.walks = Walks(spec, self.bm, self.bn)
        self.reduced: set[Value] = set()
        self.rows, self.columns = _Run(), _Run()

    def kernel(self) -> TritonKernel:
        w = self.w
        held, block = (self.column_count, self.bn) if self.over_columns else (self.row_count, self.bm)
        tiles, outer = -(-held // block), math.prod(self.outer_extents)
        index = counter(w, "outer", quotient("tl.program_id(0)", tiles), outer)
        self.outer = list(coordinates(index, self.outer_extents))
        w.emit("tile = tl.program_id(0)" + (f" % {tiles}" if outer > 1 else ""))
        for features in sorted({p.features for p in (*self.spec.scores, *self.spec.products)}):
            number = "" if len(self.axes) == 0 else str(len(self.axes) + 1)
            self.blocks[features] = f"BF{number}"
            size = max(SMALLEST, power_of_two(features))
            self.axes[features] = self._run(f"f{number}", "", features, f"BF{number}", size)
        if self.over_columns:
            self._columns()
        else:
            self._rows()
        sizes = [(constant, max(SMALLEST, power_of_two(n))) for n, constant in self.blocks.items()]
        constants = [("BM", self.bm), ("BN", self.bn), *sizes]
        return finish(self.fused, self.inside, self.name, outer * tiles, constants, self.tile.warps, self.tile.stages)

    # Programs that hold rows.

    def _rows(self) -> None:
        w, spec = self.w, self.spec
        self.rows = self._run("rows", "tile * BM + ", self.row_count, "BM", self.bm)
        plan = plan_sweeps(spec, self.products, [v for v in spec.kept if v in self.outputs])
        sweeps, online = self._merged(plan.sweeps)
        sums = {p.value: self._sum(p, "BM") for p in self.products}
        held: dict[Value, str] = {}
        wanted: list[Value] = [value for sweep in sweeps for value in sweep.reductions]
        wanted += [p.operand for p in self.products if p.operand]
        needed = needed_members(spec, [*wanted, *(p.factor[1] for p in self.products if p.factor)])
        walks = self.walks.over_columns(w)
        for sweep in sweeps:
            self._per_row(needed)
            contractions = self._needed(sweep)
            for product in contractions:
                if product.value not in held:
                    held[product.value] = self._operand(product, self._row_side(product.value), self.rows.down, False)
            running = {v: w.assign(f"tl.full([BM, 1], {self._neutral(v).text}, tl.float32)", self._word(v))
                       for v in sweep.reductions}  # fmt: skip
            for walk, all_seen in walks:
                with w.scope(f"for start in range({walk}, BN):"):
                    self.columns = self._run("cols", "start + ", self.column_count, "BN", self.bn)
                    if all_seen:
                        self.walks.see_all(self.fused, self._place)
                    for product in contractions:
                        self._score(product, held[product.value], None)
                    scale = self._reduce(sweep, running, online)
                    for product in sweep.products:
                        self._add(product, sums[product.value], scale)
            for value in sweep.reductions:
                self._finish(value, running[value])
        for product in self.products:
            axes = self.rows.down.axes | self.axes[product.features].across.axes
            number = self._with_factor(product, Num(sums[product.value], "f32", axes))
            self._write(product, number, self.rows.down)

    def _per_row(self, values: list[Value]) -> None:
        """Compute before a walk what is the same in all of it: what each row has of its own."""
        ready: set[Value] = set()
        for value in values:
            own = value in self.spec.axes and self.spec.column not in self.spec.axes[value]
            reads = value.operands if value in self.spec.members and value not in self.reduced else ()
            known = value.kind not in ("reduce", "contract") or value in self.reduced or not reads
            if value.splat is not None or (own and known and all(o in ready for o in reads)):
                ready.add(value)
                if own and value.splat is None and self.spec.row in self.spec.axes[value]:
                    self.fused.get(value, self._place(value))

    def _merged(self, sweeps: list[Sweep]) -> tuple[list[Sweep], Value | None]:
        """One sweep instead of the first two, where all that waits for the largest score can be scaled later; and that
        score."""
        first = sweeps[0]
        if len(sweeps) < 2 or len(first.reductions) != 1 or first.products:
            return sweeps, None
        (largest,) = first.reductions
        combiner = combiner_of(largest)
        assert combiner is not None
        scaled = [*sweeps[1].reductions, *(p.operand for p in sweeps[1].products if p.operand)]
        if combiner.op.name != "arith.maximumf" or not all(rescales(v, largest, self.spec) for v in scaled):
            return sweeps, None
        together = Sweep(first.scores, {}, {}, [largest, *sweeps[1].reductions], sweeps[1].products)
        return [together, *sweeps[2:]], largest

    def _reduce(self, sweep: Sweep, running: dict[Value, str], online: Value | None) -> str | None:
        """Add a tile of scores to the reductions; the factor for what was added up before."""
        w, scale = self.w, None
        for value in sweep.reductions:
            combiner, name = self._combiner(value), running[value]
            if scale is not None:
                w.emit(f"{name} = {name} * {scale}")
            tile = across(w, combiner, value, self._contribution(value, combiner))
            after = apply(w, combiner.op, [Num(name, "f32"), Num(tile, "f32")])
            assert after is not None
            if value is online:
                new = w.assign(after.text, "larger")
                # Of a row of which nothing counts so far, the largest score is -inf: nothing is to be scaled.
                base = w.assign(f'tl.where({new} == float("-inf"), 0.0, {new})', "base")
                scale = w.assign(f"tl.exp({name} - {base})", "scale")
                w.emit(f"{name} = {new}")
                self.fused.define(value, self._place(value), Num(base, "f32", self.rows.down.axes))
            else:
                w.emit(f"{name} = {after.text}")
        return scale

    def _finish(self, value: Value, name: str) -> None:
        """A reduction that has seen all columns."""
        initial = self.fused.get(value.operands[1], self._place(value))
        combiner = self._combiner(value)
        number = Num(name, "f32", self.rows.down.axes)
        if initial.text != self._neutral(value).text:
            found = apply(self.w, combiner.op, [number, initial])
            assert found is not None
            number = Num(self.w.assign(found.text, self._word(value)), "f32", self.rows.down.axes)
        self.reduced.add(value)
        self.fused.define(value, self._place(value), number)
        if value in self.outputs:
            made = self.values[value]
            address = linear(self._place(value), value.shape)
            self.fused.store(f"out{self.outputs[value]}", made, address, number)

    # Programs that hold columns.

    def _columns(self) -> None:
        w = self.w
        self.columns = self._run("cols", "tile * BN + ", self.column_count, "BN", self.bn)
        sums = {p.value: self._sum(p, "BN") for p in self.products}
        sweep = Sweep(products=self.products)
        contractions = self._needed(sweep)
        held = {p.value: self._operand(p, 1 - self._row_side(p.value), self.columns.across, True) for p in contractions}
        for walk, all_seen in self.walks.over_rows(w):
            with w.scope(f"for start in range({walk}, BM):"):
                self.rows = self._run("rows", "start + ", self.row_count, "BM", self.bm)
                if all_seen:
                    self.walks.see_all(self.fused, self._place)
                for product in contractions:
                    self._score(product, None, held[product.value])
                for product in self.products:
                    self._add(product, sums[product.value], None)
        for product in self.products:
            self._write(product, Num(sums[product.value], "f32"), self.columns.down)

    # What both do.

    def _run(self, name: str, start: str, extent: int, block: str, size: int) -> _Run:
        """The numbers from `start` on, as many as a block."""
        if start and is_wide(self.group):
            start = f"({start.removesuffix(' + ')}).to(tl.int64) + "
        self.w.emit(f"{name} = {start}tl.arange(0, {block})")
        down, across = (
            of(Symbol(f"{name}[{s}]", extent, frozenset((f"{name}[{s}]",)))) for s in (":, None", "None, :")
        )
        if extent % size:
            self.w.emit(f"{name}_ok = {name} < {extent}")
            self.masks.update({f"{name}[{s}]": f"{name}_ok[{s}]" for s in (":, None", "None, :")})
        return _Run(down, across, extent % size != 0)

    def _needed(self, sweep: Sweep) -> list[Product]:
        """The contractions whose scores a sweep reads."""
        read = [o for v in sweep.reductions for o in v.operands]
        read += [p.operand for p in sweep.products if p.operand]
        members = behind(read, self.spec)
        members |= behind([o for v in members for o in v.operands if v.kind == "reduce"], self.spec) if len(
            sweep.reductions) > 1 else set()  # fmt: skip
        return [p for p in self.spec.scores if p.value in members]

    def _row_side(self, value: Value) -> int:
        """Which operand of a contraction that makes scores is read along rows."""
        (product,) = [p for p in self.spec.scores if p.value is value]
        assert value.generic is not None
        return int(any(product.axes[d] == self.spec.row for e in value.generic.maps[1] for d, _ in e.terms))

    def _loops(self, product: Product, row: Index, column: Index, feature: Index) -> list[Index]:
        at = [*self.outer, row, column, feature]
        return [ZERO if axis is None else at[axis] for axis in product.axes]

    def _operand(self, product: Product, position: int, along: Index, features_down: bool) -> str:
        """A tile of an operand: rows or columns along one side, features along the other."""
        generic, f = product.value.generic, self.axes[product.features]
        assert generic is not None
        value = product.value.operands[position]
        name = self.names[value]
        feature = f.down if features_down else f.across
        place = tuple(affine(e, self._loops(product, along, along, feature)) for e in generic.maps[position])
        place = tuple(ZERO if n == 1 else index for index, n in zip(place, value.shape, strict=True))
        outside = self.fused.renamed.get(value, value)
        if outside in self.fused.members:  # computed from what is loaded (prologues.py); outside of the matrix it is 0
            text = as_stored(self.w, self.fused.get(outside, place), value.element)
            masks = [self.masks[axis] for axis in sorted(along.axes | feature.axes) if axis in self.masks]
            return self.w.assign(f"tl.where({' & '.join(masks)}, {text}, 0.0)" if masks else text, name)
        text = self.fused.read(value, linear(place, value.shape), along.axes | feature.axes)
        return self.w.assign(text, name)

    def _precision(self, product: Product) -> str:
        """How operands of 32 bits are multiplied."""
        wide = any(operand.element == "f32" for operand in product.value.operands[:2])
        return f', input_precision="{self.options.precision}"' if wide else ""

    def _times(self, product: Product) -> str:
        """What a contraction is multiplied with."""
        return "" if product.scale == 1 else f" * {product.scale!r}"

    def _score(self, product: Product, rows: str | None, columns: str | None) -> None:
        """A tile of scores, from what of its operands is held already."""
        position = self._row_side(product.value)
        rows = rows or self._operand(product, position, self.rows.down, False)
        columns = columns or self._operand(product, 1 - position, self.columns.across, True)
        self.fused.comment(product.value)
        name = self.w.assign(f"tl.dot({rows}, {columns}{self._precision(product)}){self._times(product)}", "scores")
        axes = self.rows.down.axes | self.columns.across.axes
        self.fused.define(product.value, self._place(product.value), Num(name, "f32", axes))

    def _place(self, value: Value) -> Place:
        """Where a member is computed."""
        at = [*self.outer, self.rows.down, self.columns.across]
        return tuple(ZERO if axis is None else at[axis] for axis in self.spec.axes[value])

    def _contribution(self, value: Value, combiner: Combiner) -> str:
        """What a tile adds to a reduction; columns outside add nothing."""
        generic = value.generic
        assert generic is not None
        loops = [ZERO] * len(generic.extents)
        for expression, index in zip(generic.result_maps[0], self._place(value), strict=True):
            if expression.dim is not None:
                loops[expression.dim] = index
        for dim in generic.reductions:
            if generic.extents[dim] != 1:
                loops[dim] = self.columns.across
        (number,) = self.fused.body(value, loops, combiner.contribution)
        return self._only_inside(number.text, self.columns, self._neutral(value).text, "None, :")

    def _only_inside(self, text: str, along: _Run, otherwise: str, spread: str) -> str:
        """A tile with another number where it reaches over the end."""
        if not along.masked:
            return text
        (axis,) = (along.across if spread == "None, :" else along.down).axes
        return self.w.assign(f"tl.where({self.masks[axis]}, {text}, {otherwise})", "p")

    def _sum(self, product: Product, block: str) -> str:
        return self.w.assign(f"tl.zeros([{block}, {self.blocks[product.features]}], tl.float32)", "acc")

    def _add(self, product: Product, name: str, scale: str | None) -> None:
        """Add what a tile of scores gives to a product."""
        w = self.w
        assert product.operand is not None and product.scores is not None
        place = self._place(product.operand)
        number = self.fused.get(product.operand, place)
        axes = self.rows.down.axes | self.columns.across.axes
        text = number.text if number.axes >= axes else f"tl.broadcast_to({number.method}, [BM, BN])"
        narrow = product.value.operands[1 - product.scores].element
        rounded = f".to({MEMORY[narrow]})" if narrow != "f32" else ""
        if product.sums(self.spec.row):
            if product.factor is not None:  # of the scores: the other operand stays as narrow as it is
                text = self._with_factor(product, Num(text, "f32", axes)).text
            text = self._only_inside(text, self.rows, "0.0", ":, None")
            other = self._operand(product, 1 - product.scores, self.rows.down, False)
            w.emit(f"{name} = tl.dot(tl.trans({text}){rounded}, {other}, {name}{self._precision(product)})")
            return
        text = self._only_inside(text, self.columns, "0.0", "None, :")
        other = self._operand(product, 1 - product.scores, self.columns.down, False)
        before = f"{name} * {scale}" if scale else name
        self.fused.comment(product.value)
        text = f"{text if text.isidentifier() else f'({text})'}{rounded}" if rounded else text
        w.emit(f"{name} = tl.dot({text}, {other}, {before}{self._precision(product)})")

    def _with_factor(self, product: Product, number: Num) -> Num:
        """A tile whose rows are multiplied or divided by the product's factor."""
        if product.factor is None:
            return number
        op, value = product.factor
        factor = self.fused.get(value, self._place(value))
        found = apply(self.w, ScalarOp(op, (0, 1), (2,), ("f32",)), [number, factor])
        assert found is not None
        return Num(self.w.assign(found.text, "t"), "f32", number.axes)

    def _write(self, product: Product, number: Num, along: Index) -> None:
        value, generic = self.values[product.value], product.value.generic
        assert generic is not None
        feature = self.axes[product.features].across
        place = tuple(affine(e, self._loops(product, along, along, feature)) for e in generic.maps[2])
        number = Num(f"{number.inner}{self._times(product)}", "f32", along.axes | feature.axes, atom=False)
        place, number = self._finished(value, place, number)
        place = tuple(ZERO if n == 1 else index for index, n in zip(place, value.shape, strict=True))
        self.fused.store(f"out{self.outputs[product.value]}", value, linear(place, value.shape), number)

    def _finished(self, value: Value, place: Place, number: Num) -> tuple[Place, Num]:
        """What becomes of a result (attention_results.py), and where that is stored."""
        if value.generic is None:
            return place, number
        loops = [ZERO] * len(value.generic.extents)
        for expression, index in zip(value.generic.input_maps[0], place, strict=True):
            assert expression.dim is not None
            loops[expression.dim] = index
        self.fused.comment(value)
        found = self.fused.evaluate(value.generic.body, [number])
        if found is None:
            raise not_yet(value, "what is computed from it")
        return tuple(affine(e, loops) for e in value.generic.result_maps[0]), found[0]

    def _combiner(self, value: Value) -> Combiner:
        combiner = combiner_of(value)
        if combiner is None:
            raise not_yet(value, "a reduction of scores")
        return combiner

    def _neutral(self, value: Value) -> Num:
        return neutral_of(self._combiner(value))

    def _word(self, value: Value) -> str:
        return {"arith.addf": "total", "arith.maximumf": "largest"}.get(self._combiner(value).op.name, "result")
