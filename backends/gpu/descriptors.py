"""Matrix products whose operands come by tensor descriptors: the chip's copy engine fetches whole tiles (sm_90 on).

As many programs as the chip runs at once stay, and take one tile of results after the other. For operands of 16 bits,
or floats of 8 where the chip multiplies those, that lie as plain matrices, either way round; everything else is
computed by pointers (contraction.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.configurations import Tile, processors
from thalweg.backends.gpu.contraction import Axis, Contraction, contraction, multiplies_tiles
from thalweg.backends.gpu.index import ZERO, Symbol, affine, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import VIRTUAL, GpuOptions
from thalweg.backends.gpu.tiles import is_wide


def matmul(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a contraction: by descriptors where they are asked for and fit, else by pointers."""
    asked = options.descriptors if options.descriptors is not None else options.chip != VIRTUAL
    if asked and _has_engine(options) and multiplies_tiles(group.root) and not is_wide(group):
        by_descriptors = _Described(group, name, options, tile)
        if by_descriptors.fits and (options.descriptors or by_descriptors.is_large):
            return by_descriptors.kernel()
    return contraction(group, name, options, tile)


def _has_engine(options: GpuOptions) -> bool:
    """Does the chip copy tiles by descriptors?"""
    return options.chip == VIRTUAL or (options.vendor == "cuda" and int(options.chip[3:]) >= 90)


@dataclass(frozen=True)
class _Matrix:
    """An operand as a matrix: which axis runs down it, and the distance of its rows in elements."""

    value: Value
    down: Axis
    across: Axis
    stride: int


class _Described(Contraction):
    """The kernel with descriptors, where `fits`."""

    def __init__(self, group: Group, name: str, options: GpuOptions, tile: Tile | None) -> None:
        super().__init__(group, name, options, tile)
        self.a, self.b = self._matrix(self.left, self.m), self._matrix(self.right, self.n)

    @property
    def fits(self) -> bool:
        return self.a is not None and self.b is not None and self.batch.size == 1

    @property
    def is_large(self) -> bool:
        """Are there enough tiles, and enough to add up in each, for what it takes to describe operands?"""
        busy = 2 * self.m.tiles * self.n.tiles >= processors(self.options)
        return busy and min(self.tile.m, self.tile.n) >= 64 and self.k.size >= 8 * self.tile.k

    def _matrix(self, number: int, own: Axis) -> _Matrix | None:
        """An operand whose elements lie along its own axis and k as those of a matrix; None for others."""
        value = self.root.operands[number]
        of_16_bits = value.element in ("f16", "bf16")
        if not (of_16_bits or self.of_8_bits) or any(self.windowed) or value in self.fused.members:
            return None
        aligned = 8 if of_16_bits else 16  # the engine takes rows at multiples of 16 bytes
        along, k = (Symbol(axis.name, axis.size) for axis in (own, self.k))
        places = own.places(of(along), ZERO) | self.k.places(of(k), ZERO)
        every = [places.get(d, ZERO) for d in range(len(self.generic.extents))]
        address = linear(tuple(affine(e, every) for e in self.generic.maps[number]), value.shape)
        if {symbol for symbol, _ in address.terms} != {along, k} or address.constant:
            return None
        rows, columns = address.factor(along), address.factor(k)
        if columns == 1 and rows % aligned == 0:
            return _Matrix(value, own, self.k, rows)
        if rows == 1 and columns % aligned == 0:
            return _Matrix(value, self.k, own, columns)
        return None

    def kernel(self) -> TritonKernel:
        w, rows, cols = self.w, self.m.tiles, self.n.tiles
        assert self.a is not None and self.b is not None
        self.read_as_multiplied()
        programs = min(rows * cols, processors(self.options))
        self._describe("a", self.a)
        self._describe("b", self.b)
        if programs == rows * cols:
            w.emit("tile = tl.program_id(0)")
            self._compute(rows, cols)
        else:  # flattened: a tile's operands are fetched while the results of the one before are stored
            with w.scope(f"for tile in tl.range(tl.program_id(0), {rows * cols}, {programs}, flatten=True):"):
                self._compute(rows, cols)
        return self.finished(programs)

    def _compute(self, rows: int, cols: int) -> None:
        """A tile of results."""
        w = self.w
        assert self.a is not None and self.b is not None
        self.place_tile(rows, cols)
        w.emit("acc = tl.zeros([BM, BN], tl.float32)")
        with w.scope(f"for start in range(0, {self.k.size}, BK):"):
            w.emit(f"a = {self._tile_of('a', self.a, 'tile_m', self.a.down is self.m)}")
            w.emit(f"b = {self._tile_of('b', self.b, 'tile_n', self.b.down is self.k)}")
            self.multiply("a", "b")
        m_axes, places = self.across(self.m, "tile_m", False, "[:, None]")
        n_axes, n_places = self.across(self.n, "tile_n", False, "[None, :]")
        self.store(places | n_places, m_axes | n_axes)

    def _describe(self, name: str, matrix: _Matrix) -> None:
        shape = f"[{matrix.down.size}, {matrix.across.size}]"
        block = f"[{matrix.down.constant}, {matrix.across.constant}]"
        pointer = self.pointers.get(matrix.value) or self.fused.pointer(matrix.value)
        self.w.emit(f"{name}_rows = tl.make_tensor_descriptor({pointer}, {shape}, [{matrix.stride}, 1], {block})")

    def _tile_of(self, name: str, matrix: _Matrix, tile: str, upright: bool) -> str:
        """A tile as `tl.dot` takes it; the engine fills what lies outside of the matrix with 0."""
        own = matrix.down if matrix.across is self.k else matrix.across
        at = {own.name: f"{tile} * {own.constant}", self.k.name: "start"}
        text = f"{name}_rows.load([{at[matrix.down.name]}, {at[matrix.across.name]}])"
        return text if upright else f"{text}.T"
