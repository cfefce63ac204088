"""Matrix products: any contraction or convolution, with what is computed elementwise from its result.

Loops of the contraction fall into four classes by who reads them: batch (both operands and the result), m and n (one
operand and the result), k (both operands). Each class is one axis, whatever its number of dimensions. A program
computes a tile of BM x BN sums, BK products at a time, in f32. Operands may be computed as they are loaded
(prologues.py); sums may be parts, added atomically to those of other programs (splits.py).

A convolution is the same: m are the places of the result, n its channels, k the window's places and the channels that
are summed. Nothing is copied: the operand's tile is read through the window, and is 0 where the window reaches over
the border. The gradient with respect to the weights sums over the result's places instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu import float8
from thalweg.backends.gpu.configurations import MatmulTile, Tile, matmul_tile, matmul_tiles
from thalweg.backends.gpu.fused import Fused, Place
from thalweg.backends.gpu.index import ZERO, Index, Symbol, affine, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.loops import loops, may_leave
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num, as_read, as_stored
from thalweg.backends.gpu.tiles import axis, counter, counter_in, is_wide, quotient
from thalweg.backends.gpu.writer import Writer

GROUP = 8  # rows of tiles that are computed one after the other, so that they find their operands in the cache
_ACCUMULATOR = {"f64": "tl.float64", "i32": "tl.int32"}


def contraction(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a group whose root is a contraction or a convolution."""
    if multiplies_tiles(group.root):
        return Contraction(group, name, options, tile).kernel()
    return loops(group, name, options)


def multiplies_tiles(root: Value) -> bool:
    """Does `tl.dot` compute a contraction? It does for floats of one type, or all of 8 bits, and for i8 that is summed
    in i32."""
    assert root.generic is not None
    elements = {operand.element for operand in root.operands[:2]}
    initial = root.operands[root.generic.inputs]
    if elements <= float8.SHORT.keys():
        elements = {"bf16"}  # as which they are multiplied, unless the chip has their format
    if len(elements) > 1 or initial.splat is None or float(initial.splat) != 0:
        return False
    (element,) = elements
    if element == "i8":
        return root.element == "i32" and any(op.name == "arith.extsi" for op in root.generic.body.ops)
    return (element in ("f32", "f16", "bf16") and root.element != "f64") or (element, root.element) == ("f64", "f64")


def contraction_tiles(group: Group, options: GpuOptions) -> list[Tile]:
    """The tiles that such a kernel may have."""
    if not multiplies_tiles(group.root):
        return []
    _, m, n, k = sizes_of(group.root)
    return list(matmul_tiles(group.root.operands[0].element, m, n, k, options))


@dataclass(frozen=True)
class Classes:
    """The loops of a contraction, by who reads them; `left` is the operand that m comes from."""

    batch: list[int]
    m: list[int]
    n: list[int]
    k: list[int]
    left: int


def classes_of(root: Value) -> Classes:
    """Sort a contraction's loops."""
    generic = root.generic
    assert generic is not None
    first, second, result = ([d for e in map_ for d, _ in e.terms] for map_ in generic.maps)
    m = [d for d in result if d in first and d not in second]
    n = [d for d in result if d not in m and (d not in first or d not in second)]
    batch = [*parts_of(root), *(d for d in result if d in first and d in second)]
    k = sorted(generic.reductions)
    last = next((d for d in reversed(result) if generic.extents[d] > 1), None)
    if last in m:  # the result's neighbours are to lie along n
        return Classes(batch, n, m, k, 1)
    return Classes(batch, m, n, k, 0)


def parts_of(root: Value) -> list[int]:
    """The loops that count parts of sums that are added atomically (splits.py): neither reduced nor of the result."""
    generic = root.generic
    assert generic is not None
    result = {d for e in generic.maps[2] for d, _ in e.terms}
    return [d for d, n in enumerate(generic.extents) if n > 1 and d not in generic.reductions and d not in result]


def sizes_of(root: Value) -> tuple[int, int, int, int]:
    """Extents of batch, m, n and k."""
    assert root.generic is not None
    extents, c = root.generic.extents, classes_of(root)
    batch, m, n, k = (math.prod(extents[d] for d in dims) for dims in (c.batch, c.m, c.n, c.k))
    return batch, m, n, k


class Axis:
    """Loops of one class as an axis of tiles.

    Where a whole number of tiles lies in the last loop, all others are the same in a tile.

    Args:
        dims: the loops, outermost first.
    """

    def __init__(self, name: str, dims: list[int], extents: tuple[int, ...], block: int, constant: str) -> None:
        self.name, self.dims, self.block, self.constant = name, dims, block, constant
        self.extents = [extents[d] for d in dims]
        self.size = math.prod(self.extents)
        self.stepped = len(dims) > 1 and self.extents[-1] % block == 0 and math.prod(self.extents[:-1]) > 1

    @property
    def tiles(self) -> int:
        return -(-self.size // self.block)

    @property
    def inner(self) -> int:
        """Tiles of the last loop, where they divide it."""
        return self.extents[-1] // self.block

    def places(self, position: Index, outer: Index) -> dict[int, Index]:
        """The loops' indices: at a position of the whole axis, or (`stepped`) of the last loop."""
        if self.stepped:
            found = [*coordinates(outer, self.extents[:-1]), position]
        else:
            found = list(coordinates(position, self.extents))
        return dict(zip(self.dims, found, strict=True))


class Contraction:
    """Writes one kernel."""

    def __init__(self, group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> None:
        self.group, self.name, self.options, self.root = group, name, options, group.root
        assert self.root.generic is not None
        self.generic = self.root.generic
        c = classes_of(self.root)
        self.left, self.right = c.left, 1 - c.left
        usual = matmul_tile(self.root.operands[0].element, *sizes_of(self.root), options)
        self.tile = tile if isinstance(tile, MatmulTile) else usual
        extents = self.generic.extents
        self.m = Axis("m", c.m, extents, self.tile.m, "BM")
        self.n = Axis("n", c.n, extents, self.tile.n, "BN")
        self.k = Axis("k", c.k, extents, self.tile.k, "BK")
        self.batch = Axis("batch", c.batch, extents, 1, "")
        self.windowed = [may_leave(self.root, number) for number in (0, 1)]
        if not any(self.windowed):
            self.m.stepped = self.n.stepped = self.k.stepped = False
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)
        self.pointers: dict[Value, str] = {}

    def kernel(self) -> TritonKernel:
        w = self.w
        self.read_as_multiplied()
        rows, cols = self.m.tiles, self.n.tiles
        batch = self._tile(rows, cols)
        wide = is_wide(self.group)
        places = dict(zip(self.batch.dims, coordinates(batch, self.batch.extents), strict=True))
        m_axes, m_places = self.across(self.m, "tile_m", wide, "[:, None]")
        n_axes, n_places = self.across(self.n, "tile_n", wide, "[None, :]")
        places.update(m_places | n_places)
        self._divide_before(places)
        self._load_before(places)
        w.emit(f"acc = tl.zeros([BM, BN], {_ACCUMULATOR.get(self.root.element, 'tl.float32')})")
        if self.k.stepped:
            with w.scope(f"for step in range(0, {self.k.tiles}):"):
                self._step(places, m_axes, n_axes)
        else:
            with w.scope(f"for start in range(0, {self.k.size}, BK):"):
                self._step(places, m_axes, n_axes)
        self.store(places, m_axes | n_axes)
        return self.finished(self.batch.size * rows * cols)

    def finished(self, grid: int) -> TritonKernel:
        """The kernel, once its body is written."""
        tile = self.tile
        constants = [("BM", tile.m), ("BN", tile.n), ("BK", tile.k)]
        updates = [(0, self.root.operands[self.generic.inputs + 1])] if parts_of(self.root) else []
        return finish(
            self.fused, self.group, self.name, grid, constants, tile.warps, tile.stages, updates=updates
        )

    def _tile(self, rows: int, cols: int) -> Index:
        """Which tile a program computes."""
        w = self.w
        tiles = rows * cols
        batch = counter(w, "batch", quotient("tl.program_id(0)", tiles), self.batch.size)
        number = f"tl.program_id(0) % {tiles}" if batch.terms else "tl.program_id(0)"
        if rows > 1 and cols > 1:
            w.emit(f"tile = {number}")
            self.place_tile(rows, cols)
        elif tiles > 1:
            w.emit(f"{'tile_m' if rows > 1 else 'tile_n'} = {number}")
        return batch

    def place_tile(self, rows: int, cols: int) -> None:
        """The row and the column of a tile from its number."""
        w = self.w
        if rows == 1 or cols == 1:
            w.emit(f"tile_m, tile_n = {'0, tile' if rows == 1 else 'tile, 0'}")
            return
        w.emit(f"first = tile // {GROUP * cols} * {GROUP}  # {GROUP} rows of tiles at a time, column by column")
        height = "height" if rows % GROUP else str(GROUP)
        if rows % GROUP:
            w.emit(f"height = tl.minimum({rows} - first, {GROUP})")
        w.emit(f"tile_m = first + tile % {GROUP * cols} % {height}")
        w.emit(f"tile_n = tile % {GROUP * cols} // {height}")

    def across(self, along: Axis, tile: str, wide: bool, spread: str) -> tuple[frozenset[str], dict[int, Index]]:
        """The positions of a tile along m or n: their axes, and the loops' indices."""
        w = self.w
        if not along.stepped:
            start = f"{tile} * {along.constant}" if along.tiles > 1 else ""
            position = axis(
                w, self.masks, along.name, start, along.size, along.block, along.constant, wide, spread
            )
            return position.axes, along.places(position, ZERO)
        outer = counter(w, f"{along.name}_outer", quotient(f"{tile}", along.inner), along.tiles)
        start = f"{tile} % {along.inner} * {along.constant}" if along.inner > 1 else ""
        last = along.extents[-1]
        position = axis(w, self.masks, along.name, start, last, along.block, along.constant, wide, spread)
        return position.axes, along.places(position, outer)

    def _step(self, places: dict[int, Index], m_axes: frozenset[str], n_axes: frozenset[str]) -> None:
        """BK products of every sum."""
        w, k = self.w, self.k
        outer = ZERO
        if k.stepped:
            inner = f" // {k.inner}" if k.inner > 1 else ""
            outer = counter_in("step", k.tiles) if not inner else counter(w, "tap", f"step{inner}", k.tiles // k.inner)
            w.emit(f"k = step % {k.inner} * BK + tl.arange(0, BK)" if inner else "k = tl.arange(0, BK)")
        elif is_wide(self.group):
            w.emit("k = (start + tl.arange(0, BK)).to(tl.int64)")
        else:
            w.emit("k = start + tl.arange(0, BK)")
        size = k.extents[-1] if k.stepped else k.size
        across, down = (of(Symbol(f"k[{s}]", size, frozenset((f"k[{s}]",)))) for s in ("None, :", ":, None"))
        if not k.stepped and size % self.tile.k:
            w.emit(f"k_ok = k < {size}")
            self.masks.update({"k[None, :]": "k_ok[None, :]", "k[:, None]": "k_ok[:, None]"})
        a = w.assign(self._operand(self.left, places | k.places(across, outer), m_axes | across.axes), "a")
        b = w.assign(self._operand(self.right, places | k.places(down, outer), down.axes | n_axes), "b")
        self.multiply(a, b)

    @property
    def of_8_bits(self) -> bool:
        """Are floats of 8 bits multiplied as they are?"""
        return self.options.multiplies_float8 and self.root.operands[0].element in float8.SHORT

    def read_as_multiplied(self) -> None:
        """Give the buffers of such operands, bytes in memory, their type, so that tiles go as they are."""
        for value in dict.fromkeys(self.root.operands[:2]):
            if self.of_8_bits and value not in self.fused.members:
                pointer, kind = self.fused.pointer(value), float8.MULTIPLIED[value.element]
                text = f"{pointer}.to(tl.pointer_type({kind}), bitcast=True)"
                self.pointers[value] = self.w.assign(text, f"{pointer}_{float8.SHORT[value.element]}")

    def multiply(self, a: str, b: str) -> None:
        """Add the products of two tiles."""
        precision = f', input_precision="{self.options.precision}"' if self.root.operands[0].element == "f32" else ""
        if self.of_8_bits:  # sm_90's tensor cores keep 14 bits of sums: those of more than a tile are made in f32
            precision = ", max_num_imprecise_acc=BK"
        kind = {"f64": ", out_dtype=tl.float64", "i32": ", out_dtype=tl.int32"}.get(self.root.element, "")
        self.fused.comment(self.root)
        self.w.emit(f"acc = tl.dot({a}, {b}, acc{precision}{kind})")

    def _operand(self, number: int, places: dict[int, Index], axes: frozenset[str]) -> str:
        """An operand's tile, as it lies in memory."""
        value = self.root.operands[number]
        every = [places.get(d, ZERO) for d in range(len(self.generic.extents))]
        place = tuple(affine(expression, every) for expression in self.generic.maps[number])
        inside = self.fused.inside(place, [0] * len(place), value.shape) if self.windowed[number] else None
        with self.fused.guarded(inside):
            if value in self.fused.members:
                return self._computed(value, _at(value, place), axes, number == self.left)
            address = linear(_at(value, place), value.shape)
            text = self.fused.read(value, address, axes, self.pointers.get(value, ""))
            if value.element in float8.SHORT and not self.of_8_bits:
                return f"{as_read(self.w, text, value.element)}.to(tl.bfloat16)"
            return text

    def _divide_before(self, places: dict[int, Index]) -> None:
        """Rows and columns of images are divided up before the loop: they are the same in all of it."""
        known = {symbol for index in places.values() for symbol in index.symbols}
        steps = {d: of(Symbol(f"k{d}", self.generic.extents[d])) for d in self.k.dims}
        every = [{**places, **steps}.get(d, ZERO) for d in range(len(self.generic.extents))]
        for number, value in enumerate(self.root.operands[:2]):
            if value in self.fused.members:
                continue
            place = tuple(affine(e, every) for e in self.generic.maps[number])
            leaves = [i for i, n in zip(place, value.shape, strict=True) if i.minimum < 0 or i.maximum >= n]
            for index in (*leaves, linear(_at(value, place), value.shape)):
                for symbol, _ in index.terms:
                    if symbol.source is not None and of(symbol).symbols <= known:
                        self.w.index(of(symbol))

    def _load_before(self, places: dict[int, Index]) -> None:
        """What prologues read that is the same for all of k (a scale, the rows to gather) is loaded before the loop."""
        known = {symbol for index in places.values() for symbol in index.symbols}
        for number, value in enumerate(self.root.operands[:2]):
            if value not in self.fused.members:
                continue
            probe = Fused(Writer(), self.group, {})
            steps = {d: of(Symbol(f"k{d}", self.generic.extents[d])) for d in self.k.dims}
            every = [{**places, **steps}.get(d, ZERO) for d in range(len(self.generic.extents))]
            probe.get(value, _at(value, tuple(affine(e, every) for e in self.generic.maps[number])))
            for read, place in probe.found:
                if all(symbol in known for index in place for symbol in index.symbols):
                    self.fused.get(read, place)

    def _computed(self, value: Value, place: Place, axes: frozenset[str], left: bool) -> str:
        """A tile of an operand that is computed from what is loaded (prologues.py); beyond the end of k it is 0."""
        number = self.fused.get(value, place)
        text = as_stored(self.w, number, value.element)
        if value.element in float8.SHORT:
            as_type = f".to({float8.MULTIPLIED[value.element]}, bitcast=True)"
            text = f"{text}{as_type}" if self.of_8_bits else f"{number.method}.to(tl.bfloat16)"
        if number.constant or not number.axes >= axes:
            text = f"tl.broadcast_to({text}, [{'BM, BK' if left else 'BK, BN'}])"
        masks = [self.masks[axis] for axis in sorted(axes) if axis.startswith("k[") and axis in self.masks]
        zero = "0.0" if value.element.startswith(("f", "b")) else "0"
        return f"tl.where({masks[0]}, {text}, {zero})" if masks else text

    def store(self, places: dict[int, Index], axes: frozenset[str]) -> None:
        """What is computed from the sums."""
        every = [places.get(d, ZERO) for d in range(len(self.generic.extents))]
        place = tuple(affine(expression, every) for expression in self.generic.maps[2])
        number = Num("acc", self.root.element, axes)
        if parts_of(self.root):
            self.fused.add_atomically("out0", self.root, linear(_at(self.root, place), self.root.shape), number)
            return
        self.fused.define(self.root, place, number)
        stores = [value for value in self.group.stores if value.size]
        numbers = [self.fused.get(value, place) for value in stores]
        for position, (value, number) in enumerate(zip(stores, numbers, strict=True)):
            address = linear(_at(value, place), value.shape)
            self.fused.store(f"out{position}", value, address, number)


def _at(value: Value, place: Place) -> Place:
    """Dimensions of extent 1 are at 0."""
    return tuple(ZERO if extent == 1 else index for index, extent in zip(place, value.shape, strict=True))
