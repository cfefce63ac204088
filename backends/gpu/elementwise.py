"""Elementwise kernels: one program for each tile of the results.

Results of one shape are computed together. The tile is a run of elements in memory order; where an operand is read
along another axis than the results are written (a transpose), it is a square over both, so that reads and writes both
touch neighbouring addresses.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.gpu.configurations import FLAT_TILES, FlatTile, Tile
from thalweg.backends.gpu.fused import Fused, Place
from thalweg.backends.gpu.index import ZERO, Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.tiles import axis, counter, flat_block, is_wide
from thalweg.backends.gpu.writer import Writer

SIDE = 32  # of a square tile


def elementwise(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a group without heavy values."""
    shape = group.stores[0].shape
    crossed = _crossed_dimension(group, shape)
    return _flat(group, name, shape, tile) if crossed is None else _square(group, name, shape, crossed)


def _write(fused: Fused, group: Group, place: Place, address: Index) -> None:
    stores = [value for value in group.stores if value.size]
    numbers = [fused.get(value, place) for value in stores]
    for position, (value, number) in enumerate(zip(stores, numbers, strict=True)):
        fused.store(f"out{position}", value, address, number)


def flat_tiles(group: Group, options: GpuOptions) -> list[Tile]:
    """The tiles that such a kernel may have; square ones have no others."""
    shape = group.stores[0].shape
    large = group.stores[0].size >= 1 << 16
    return list(FLAT_TILES) if large and _crossed_dimension(group, shape) is None else []


def _flat(group: Group, name: str, shape: Sequence[int], tile: Tile | None) -> TritonKernel:
    size = group.stores[0].size
    block, warps = (tile.block, tile.warps) if isinstance(tile, FlatTile) else (flat_block(size), 4)
    w, masks = Writer(), dict[str, str]()
    i = axis(w, masks, "i", "tl.program_id(0) * BLOCK", size, block, "BLOCK", is_wide(group))
    fused = Fused(w, group, masks)
    _write(fused, group, coordinates(i, shape), i)
    return finish(fused, group, name, -(-size // block), [("BLOCK", block)], warps)


def _square(group: Group, name: str, shape: Sequence[int], crossed: int) -> TritonKernel:
    """Tiles over the last dimension and the one that an operand's neighbours lie along."""
    w, masks = Writer(), dict[str, str]()
    rows, cols = shape[crossed], shape[-1]
    row_tiles, col_tiles = -(-rows // SIDE), -(-cols // SIDE)
    others = [n for d, n in enumerate(shape[:-1]) if d != crossed]
    count = group.stores[0].size // (rows * cols)
    w.emit("tile = tl.program_id(0)" + (f" % {row_tiles * col_tiles}" if count > 1 else ""))
    row = axis(w, masks, "row", f"tile // {col_tiles} * SIDE", rows, SIDE, "SIDE", is_wide(group), "[:, None]")
    col = axis(w, masks, "col", f"tile % {col_tiles} * SIDE", cols, SIDE, "SIDE", False, "[None, :]")
    rest = counter(w, "rest", f"tl.program_id(0) // {row_tiles * col_tiles}", count)
    outer = list(coordinates(rest, others))
    place = tuple(col if d == len(shape) - 1 else row if d == crossed else outer.pop(0) for d in range(len(shape)))
    fused = Fused(w, group, masks)
    _write(fused, group, place, linear(place, shape))
    return finish(fused, group, name, count * row_tiles * col_tiles, [("SIDE", SIDE)], 4)


def _crossed_dimension(group: Group, shape: Sequence[int]) -> int | None:
    """The dimension of the results along which most elements of an operand lie side by side, unless it is the last."""
    if len(shape) < 2 or shape[-1] == 1:
        return None
    dims = [Symbol(f"d{number}", extent, frozenset((f"d{number}",))) for number, extent in enumerate(shape)]
    probe = Fused(Writer(), group, {})
    _write(probe, group, tuple(map(of, dims)), ZERO)
    for _, address in probe.loads:
        if address.factor(dims[-1]) > 1:
            for number, dim in enumerate(dims[:-1]):
                if address.factor(dim) == 1 and dim.extent > 1:
                    return number
    return None
