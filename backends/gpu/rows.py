"""Row kernels: reductions with the same rows, and what is computed from them row by row (softmax, layernorm).

A program takes ROWS rows. Their elements are COLS at a time: all at once where they fit (every buffer is read once),
else in a loop for each reduction that depends on an earlier one, and one for the results.

    total = tl.sum(tl.where(col_ok, x, 0), axis=1, keep_dims=True)      # at once
    for start in range(0, n, COLS): acc += …                            # in a loop; then one tl.sum
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.emit.rows import RowSpace, row_space
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.configurations import ROW_TILES, RowTile, Tile
from thalweg.backends.gpu.fused import Fused, not_yet
from thalweg.backends.gpu.index import ZERO, Index, coordinates
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.loops import loops
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import REGISTER, Num, apply, literal
from thalweg.backends.gpu.tiles import axis, is_wide, power_of_two
from thalweg.backends.gpu.writer import Writer

AT_ONCE = 8192  # elements of a row that one program holds
LOOPED = 2048  # elements of a row that one iteration of a loop holds
TILE = 2048  # elements of a tile of several rows
LANES = 64  # rows of a tile whose neighbours in memory are rows


def rows(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a group whose root is a reduction."""
    space = row_space(group.root)
    if space is None:
        return loops(group, name, options)
    return Rows(group, name, space, tile if isinstance(tile, RowTile) else None).kernel()


def row_tiles(group: Group, options: GpuOptions) -> list[Tile]:
    """The tiles that such a kernel may have, one of those that make the same."""
    space = row_space(group.root)
    if space is None or space.style != "row":
        return []
    shapes: dict[tuple[int, int, int], Tile] = {}
    for tile in ROW_TILES:
        made = Rows(group, "", space, tile)
        shapes.setdefault((made.rows, made.cols, tile.warps), tile)
    return list(shapes.values())


class Rows:
    """Writes one kernel."""

    def __init__(self, group: Group, name: str, space: RowSpace, tile: RowTile | None) -> None:
        at_once, size = (tile.at_once, tile.tile) if tile else (AT_ONCE, TILE)
        self.warps = tile.warps if tile else 0
        self.group, self.name, self.space = group, name, space
        self.reductions = sorted((v for v in group.members if v.kind == "reduce"), key=lambda v: v.id)
        self.stores = [v for v in group.stores if v.size]
        self.count = math.prod(space.rows)
        widths = [*(width_of(v) for v in self.reductions), *(v.size // self.count for v in self.stores)]
        widest = power_of_two(max(widths))
        if space.style == "row":
            self.cols = widest if widest <= at_once else LOOPED
            self.rows = min(power_of_two(self.count), max(1, size // self.cols))
        else:
            self.rows = min(power_of_two(self.count), LANES)
            self.cols = min(widest, max(1, TILE // self.rows))
        self.looped = widest > self.cols
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)
        self.columns: dict[int, Index] = {}  # by width, where all are at hand at once

    def kernel(self) -> TritonKernel:
        start = "tl.program_id(0) * ROWS"
        self.row = axis(
            self.w, self.masks, "row", start, self.count, self.rows, "ROWS", is_wide(self.group), "[:, None]"
        )
        self.place = coordinates(self.row, self.space.rows)
        self.reduce()
        self._store()
        constants = [("ROWS", self.rows), ("COLS", self.cols)]
        warps = self.warps or (4 if self.rows * self.cols <= 4096 else 8)
        grid = -(-self.count // self.rows)
        return finish(self.fused, self.group, self.name, grid, constants, warps)

    def reduce(self) -> None:
        """All reductions, and what their results are."""
        if self.looped:
            for batch in self._batches():
                self._keep(batch)
                self._reduce_in_loop(batch)
            self._keep(())
        else:
            for value in self.reductions:
                self._reduce_at_once(value)

    # Places.

    def place_of(self, value: Value, col: Index) -> tuple[Index, ...]:
        """The place of a value at the row and at a column of its other dimensions."""
        positions = self.space.positions(value.shape)
        assert positions is not None
        others = iter(coordinates(col, [n for d, n in enumerate(value.shape) if d not in positions]))
        own = iter(self.place)
        return tuple(next(own) if d in positions else next(others) for d in range(len(value.shape)))

    def loops_at(self, value: Value, col: Index) -> list[Index]:
        """The loop indices of a reduction at the row and at a column of what it reduces."""
        generic = value.generic
        assert generic is not None
        loops = [ZERO] * len(generic.extents)
        for expression, index in zip(generic.result_maps[0], self.place_of(value, ZERO), strict=True):
            assert expression.dim is not None
            loops[expression.dim] = index
        reduced = sorted(generic.reductions)
        for dim, index in zip(reduced, coordinates(col, [generic.extents[d] for d in reduced]), strict=True):
            loops[dim] = index
        return loops

    def columns_from(self, width: int, start: str = "") -> Index:
        """The columns of a tile of this width; beyond `start` in a loop."""
        if width == 1:
            return ZERO
        known = self.columns.get(width)
        if known is not None and not start:
            return known
        column = axis(self.w, self.masks, "col", start, width, self.cols, "COLS", False, "[None, :]")
        self.columns[width] = column
        return column

    # Reductions.

    def _contribution(self, value: Value, col: Index) -> tuple[Combiner, Num]:
        """What an element adds; columns outside of the row add the neutral element."""
        combiner = combiner_of(value)
        assert combiner is not None
        (number,) = self.fused.body(value, self.loops_at(value, col), combiner.contribution)
        masks = [self.masks[a] for a in col.axes if a in self.masks]
        axes = number.axes | col.axes
        text = number.text
        if number.axes >= col.axes and not masks and not number.constant:
            return combiner, number
        inside = masks[0] if masks else "".join(f"{a} >= 0" for a in col.axes) or "True"
        neutral = neutral_of(combiner)
        text = f"tl.where({inside}, {number.method if number.constant else number.text}, {neutral.text})"
        return combiner, Num(text, value.element, axes)

    def _define(self, value: Value, text: str) -> None:
        """A reduction's result, with what it starts from."""
        name = _word(value)
        number = Num(self.w.assign(text, name), value.element, self.row.axes)
        combiner, initial = combiner_of(value), value.operands[value.generic.inputs] if value.generic else None
        assert combiner is not None and initial is not None
        if initial.splat is None or literal(initial.splat, value.element) != neutral_of(combiner):
            start = self.fused.get(initial, self.place_of(initial, ZERO))
            combined = apply(self.w, combiner.op, [number, start])
            assert combined is not None
            number = Num(self.w.assign(combined.text, name), value.element, self.row.axes)
        self.fused.define(value, self.place_of(value, ZERO), number)

    def _reduce_at_once(self, value: Value) -> None:
        col = self.columns_from(width_of(value))
        combiner, number = self._contribution(value, col)
        self._define(value, across(self.w, combiner, value, number.text) if col.axes else number.text)

    def _reduce_in_loop(self, batch: Sequence[Value]) -> None:
        """Reductions of one width that do not depend on each other, in one loop."""
        width = width_of(batch[0])
        names = []
        for value in batch:
            combiner = combiner_of(value)
            assert combiner is not None
            neutral = neutral_of(combiner).text
            if value.element == "i1":
                raise not_yet(value, "a reduction of long rows of bool")
            names.append(self.w.assign(f"tl.full([ROWS, COLS], {neutral}, {REGISTER[value.element]})", "acc"))
        with self.w.scope(f"for start in range(0, {width}, COLS):"):
            col = self.columns_from(width, "start")
            for value, name in zip(batch, names, strict=True):
                combiner, number = self._contribution(value, col)
                running = Num(name, value.element, self.row.axes | col.axes)
                combined = apply(self.w, combiner.op, [running, number])
                assert combined is not None
                self.w.emit(f"{name} = {combined.text}")
        for value, name in zip(batch, names, strict=True):
            combiner = combiner_of(value)
            assert combiner is not None
            self._define(value, across(self.w, combiner, value, name))

    def _batches(self) -> list[list[Value]]:
        """Reductions in order, cut where one depends on another of its batch, or has another width."""
        batches: list[list[Value]] = []
        for value in self.reductions:
            last = batches[-1] if batches else []
            if last and width_of(last[0]) == width_of(value) and not self._depends(value, last):
                last.append(value)
            else:
                batches.append([value])
        return batches

    def _keep(self, batch: Sequence[Value]) -> None:
        """Rows that are walked again are to stay in the cache; at the last time they need not."""
        wide = any(value.size > self.count for value in self.stores)
        again = wide or batch[-1] is not self.reductions[-1] if batch else False
        walked = sum(1 for _ in self._batches()) + wide > 1
        least = min(math.prod(value.generic.extents) for value in self.reductions if value.generic is not None)
        self.fused.eviction = ("evict_last" if again else "evict_first", least) if walked else ("", 0)

    def _depends(self, value: Value, on: Sequence[Value]) -> bool:
        pending, seen = list(value.operands), set[Value]()
        while pending:
            found = pending.pop()
            if found in on:
                return True
            if found in self.group.members and found not in seen:
                seen.add(found)
                pending += found.operands
        return False

    # Results.

    def _store(self) -> None:
        by_width: dict[int, list[tuple[int, Value]]] = {}
        for position, value in enumerate(self.stores):
            by_width.setdefault(value.size // self.count, []).append((position, value))
        for width, stores in sorted(by_width.items()):
            if self.looped and width > 1:
                with self.w.scope(f"for start in range(0, {width}, COLS):"):
                    self._store_tile(stores, width, self.columns_from(width, "start"))
            else:
                self._store_tile(stores, width, self.columns_from(width))

    def _store_tile(self, stores: Sequence[tuple[int, Value]], width: int, col: Index) -> None:
        numbers = [self.fused.get(value, self.place_of(value, col)) for _, value in stores]
        for (position, value), number in zip(stores, numbers, strict=True):
            self.fused.store(f"out{position}", value, self.row * width + col, number)


def across(w: Writer, combiner: Combiner, value: Value, tile: str) -> str:
    """The reduction of a tile's columns."""
    kind, element = combiner.op.name.partition(".")[2], value.element
    if element == "i1":
        call = "tl.max" if kind in ("ori", "maxui", "minsi") else "tl.min"
        if kind in ("addi", "xori", "muli"):
            raise not_yet(value, f"a reduction of bool by {kind}")
        return f"{call}(({tile}).to(tl.int32), axis=1, keep_dims=True) != 0"
    if kind in ("addf", "addi"):
        total = f"tl.sum({tile}, axis=1, keep_dims=True)"
        return f"{total}.to({REGISTER[element]})" if element in ("i16", "i8") else total
    if kind in ("maxsi", "minsi", "maxui", "minui"):
        pick, signed = {"max": "larger", "min": "smaller"}[kind[:3]], REGISTER[element]
        w.helpers[pick] = None
        if kind.endswith("si"):
            return f"tl.reduce({tile}, 1, {pick}, keep_dims=True)"
        bits = f"({tile}).to({signed.replace('int', 'uint')}, bitcast=True)"
        return f"tl.reduce({bits}, 1, {pick}, keep_dims=True).to({signed}, bitcast=True)"
    helper = {"mulf": "multiply", "muli": "multiply", "maximumf": "maximum", "minimumf": "minimum",
              "andi": "both", "ori": "either", "xori": "differ"}.get(kind)  # fmt: skip
    if helper is None:
        raise not_yet(value, f"a reduction of {element} by {kind}")
    w.helpers[helper] = None
    return f"tl.reduce({tile}, 1, {helper}, keep_dims=True)"


def width_of(value: Value) -> int:
    """How many elements of a row a reduction combines."""
    assert value.generic is not None
    return math.prod(value.generic.extents[d] for d in value.generic.reductions)


def _word(value: Value) -> str:
    """A name for a reduction's result."""
    assert value.generic is not None
    name = value.generic.body.ops[-1].name.partition(".")[2]
    return {"addf": "total", "addi": "total", "ori": "any_of", "andi": "all_of"}.get(
        name, {"max": "largest", "min": "smallest"}.get(name[:3], "result")
    )


def neutral_of(combiner: Combiner) -> Num:
    """The number that changes nothing, of the type that sums are held in."""
    op, element = combiner.op.name.partition(".")[2], combiner.element
    if element == "i1":
        return literal("true" if op in ("andi", "minui", "maxsi", "muli") else "false", element)
    if op in ("maximumf", "minimumf"):
        sign = "-" if op == "maximumf" else ""
        return Num(f'float("{sign}inf")', element, constant=True)
    bits = int(element[1:]) if element.startswith("i") else 0
    numbers = {"addf": "0.0", "addi": "0", "mulf": "1.0", "muli": "1", "andi": "-1", "ori": "0", "xori": "0",
               "maxui": "0", "minui": "-1", "maxsi": str(-(1 << max(bits - 1, 0))),
               "minsi": str((1 << max(bits - 1, 0)) - 1)}  # fmt: skip
    return literal(numbers[op], element)
