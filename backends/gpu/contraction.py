"""Matrix products: any contraction, with what is computed elementwise from its result.

Loops of the contraction fall into four classes by who reads them: batch (both operands and the result), m and n (one
operand and the result), k (both operands). Each class is one axis, whatever its number of dimensions. A program
computes a tile of BM x BN sums, BK products at a time, in f32.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.fused import Fused, not_yet
from thalweg.backends.gpu.index import ZERO, Index, Symbol, affine, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num
from thalweg.backends.gpu.tiles import axis, counter, is_wide, power_of_two
from thalweg.backends.gpu.writer import Writer

SMALLEST = 16  # side of what tensor cores multiply
GROUP = 8  # rows of tiles that are computed one after the other, so that they find their operands in the cache


def contraction(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a group whose root is a contraction."""
    return _Contraction(group, name, options).kernel()


class _Contraction:
    def __init__(self, group: Group, name: str, options: GpuOptions) -> None:
        self.group, self.name, self.options, self.root = group, name, options, group.root
        assert self.root.generic is not None
        self.generic = self.root.generic
        self._check()
        first, second, result = (self._loops_of(k) for k in range(3))
        self.left, self.right = 0, 1
        self.m = [d for d in result if d in first and d not in second]
        self.n = [d for d in result if d in second and d not in first]
        if self.m and result[-1] == self.m[-1]:  # the result's neighbours are to lie along n
            self.left, self.right, self.m, self.n = 1, 0, self.n, self.m
        self.batch = [d for d in result if d in first and d in second]
        self.k = sorted(self.generic.reductions)
        self.sizes = {c: math.prod(self.generic.extents[d] for d in getattr(self, c)) for c in ("batch", "m", "n", "k")}
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def _check(self) -> None:
        elements = {operand.element for operand in self.root.operands[:2]}
        if len(elements) > 1 or not elements <= {"f32", "f16", "bf16", "f64"}:
            raise not_yet(self.root, f"a product of {' and '.join(sorted(elements))}")
        if self.root.element == "f64" and elements != {"f64"}:
            raise not_yet(self.root, "a product that is summed in f64")
        initial = self.root.operands[self.generic.inputs]
        if initial.splat is None or float(initial.splat) != 0:
            raise not_yet(self.root, "a product that is added to")

    def _loops_of(self, number: int) -> list[int]:
        return [e.dim for e in self.generic.maps[number] if e.dim is not None]

    def _block(self, size: int, largest: int) -> int:
        return min(largest, max(SMALLEST, power_of_two(size)))

    def kernel(self) -> TritonKernel:
        w, (m, n) = self.w, (self.sizes["m"], self.sizes["n"])
        narrow = self.root.operands[0].element in ("f16", "bf16")
        largest = 128 if narrow else 64
        bm, bn = self._block(m, largest), self._block(n, largest)
        bk = self._block(self.sizes["k"], 64 if narrow else 32)
        rows, cols = -(-m // bm), -(-n // bn)
        batch = self._tile(rows, cols)
        wide = is_wide(self.group)
        m_at = axis(w, self.masks, "m", "tile_m * BM", m, bm, "BM", wide, "[:, None]")
        n_at = axis(w, self.masks, "n", "tile_n * BN", n, bn, "BN", wide, "[None, :]")
        acc = "tl.float64" if self.root.element == "f64" else "tl.float32"
        w.emit(f"acc = tl.full([BM, BN], 0, {acc})")
        with w.scope(f"for start in range(0, {self.sizes['k']}, BK):"):
            self._step(batch, m_at, n_at, bk)
        self._store(batch, m_at, n_at)
        grid = self.sizes["batch"] * rows * cols
        warps = 8 if bm * bn >= 128 * 128 else 4
        return finish(self.fused, self.group, self.name, grid, [("BM", bm), ("BN", bn), ("BK", bk)], warps, 3)

    def _tile(self, rows: int, cols: int) -> Index:
        """Which tile a program computes."""
        w = self.w
        tiles = rows * cols
        batch = counter(w, "batch", f"tl.program_id(0) // {tiles}".replace(" // 1", ""), self.sizes["batch"])
        if tiles == 1:
            w.emit("tile_m, tile_n = 0, 0")
            return batch
        w.emit(f"tile = tl.program_id(0) % {tiles}" if batch.terms else "tile = tl.program_id(0)")
        if rows > 1 and cols > 1:
            w.emit(f"first = tile // {GROUP * cols} * {GROUP}  # {GROUP} rows of tiles at a time, column by column")
            w.emit(f"height = tl.minimum({rows} - first, {GROUP})")
            w.emit(f"tile_m = first + tile % {GROUP * cols} % height")
            w.emit(f"tile_n = tile % {GROUP * cols} // height")
        else:
            w.emit(f"tile_m, tile_n = {'0, tile' if rows == 1 else 'tile, 0'}")
        return batch

    def _places(self, batch: Index, m: Index, n: Index, k: Index) -> list[Index]:
        """The loop indices at positions along the four axes."""
        loops = [ZERO] * len(self.generic.extents)
        for dims, position in ((self.batch, batch), (self.m, m), (self.n, n), (self.k, k)):
            for dim, index in zip(dims, coordinates(position, [self.generic.extents[d] for d in dims]), strict=True):
                loops[dim] = index
        return loops

    def _step(self, batch: Index, m: Index, n: Index, bk: int) -> None:
        """BK products of every sum."""
        w, size = self.w, self.sizes["k"]
        w.emit("k = start + tl.arange(0, BK)")
        across, down = (of(Symbol(f"k[{s}]", size, frozenset((f"k[{s}]",)))) for s in ("None, :", ":, None"))
        if size % bk:
            w.emit(f"k_ok = k < {size}")
            self.masks.update({"k[None, :]": "k_ok[None, :]", "k[:, None]": "k_ok[:, None]"})
        a = w.assign(self._operand(self.left, self._places(batch, m, n, across), m.axes | across.axes), "a")
        b = w.assign(self._operand(self.right, self._places(batch, m, n, down), down.axes | n.axes), "b")
        precision = f', input_precision="{self.options.precision}"' if self.root.operands[0].element == "f32" else ""
        kind = ", out_dtype=tl.float64" if self.root.element == "f64" else ""
        self.fused.comment(self.root)
        w.emit(f"acc = tl.dot({a}, {b}, acc{precision}{kind})")

    def _operand(self, number: int, loops: list[Index], axes: frozenset[str]) -> str:
        """An operand's tile, as it lies in memory."""
        value = self.root.operands[number]
        place = tuple(affine(expression, loops) for expression in self.generic.maps[number])
        return self.fused.read(value, linear(_at(value, place), value.shape), axes)

    def _store(self, batch: Index, m: Index, n: Index) -> None:
        """What is computed from the sums."""
        loops = self._places(batch, m, n, ZERO)
        place = tuple(affine(expression, loops) for expression in self.generic.result_maps[0])
        axes = m.axes | n.axes
        self.fused.define(self.root, place, Num("acc", self.root.element, axes))
        stores = [value for value in self.group.stores if value.size]
        numbers = [self.fused.get(value, place) for value in stores]
        for position, (value, number) in enumerate(zip(stores, numbers, strict=True)):
            address = linear(_at(value, place), value.shape)
            self.fused.store(f"out{position}", value, address, number)


def _at(value: Value, place: tuple[Index, ...]) -> tuple[Index, ...]:
    """Dimensions of extent 1 are at 0."""
    return tuple(ZERO if extent == 1 else index for index, extent in zip(place, value.shape, strict=True))
