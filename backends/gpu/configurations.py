"""The sizes of tiles: for each kind of kernel a list to choose from, and a rule that chooses one.

The rules are estimates; none has been timed. `tuning.py` compiles and times the others, where there is a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.float8 import FORMATS
from thalweg.backends.gpu.options import GpuOptions

SMALLEST = 16  # side of what tensor cores multiply


@dataclass(frozen=True)
class _Chip:
    """How many programs of large tiles run at once, and how many bytes of shared memory each may use."""

    processors: int
    shared: int


_H100 = _Chip(132, 232448)  # what a chip that is not known is taken for
_CHIPS = {
    "sm_80": _Chip(108, 166912),
    "sm_86": _Chip(84, 101376),
    "sm_89": _Chip(128, 101376),
    "sm_90": _H100,
    "sm_100": _Chip(148, 232448),
    "gfx942": _Chip(304, 65536),
}


@dataclass(frozen=True)
class MatmulTile:
    """BM x BN sums of a program, BK products at a time.

    Args:
        share: of the peak that such tiles are expected to reach where they fill the chip.
    """

    m: int
    n: int
    k: int
    warps: int
    stages: int
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}w{self.warps}s{self.stages}"


@dataclass(frozen=True)
class FlatTile:
    """A run of elements of a program."""

    block: int
    warps: int

    def __str__(self) -> str:
        return f"{self.block}w{self.warps}"


@dataclass(frozen=True)
class RowTile:
    """Rows of a program: so many elements at a time.

    Args:
        tile: elements of a tile of several rows.
        at_once: elements of the longest row that a program holds.
    """

    tile: int
    at_once: int
    warps: int

    def __str__(self) -> str:
        return f"{self.tile}of{self.at_once}w{self.warps}"


Tile = MatmulTile | FlatTile | RowTile
FLAT_TILES = tuple(FlatTile(block, warps) for block in (512, 1024, 2048, 4096) for warps in (4, 8))
ROW_TILES = tuple(RowTile(tile, at_once, warps) for tile in (1024, 2048, 4096) for at_once in (4096, 8192, 16384)
                  for warps in (4, 8, 16))  # fmt: skip
_ATTENTION = tuple(MatmulTile(m, n, 0, warps, stages) for m in (32, 64, 128) for n in (32, 64, 128)
                   for warps in (4, 8) for stages in (1, 2))  # fmt: skip


def _both_ways(*rows: tuple[int, int, int, int, int, float]) -> tuple[MatmulTile, ...]:
    """Tiles, and those that are no squares the other way round, too."""
    tiles = [MatmulTile(*row) for row in rows]
    return tuple(t for tile in tiles for t in dict.fromkeys((tile, replace(tile, m=tile.n, n=tile.m))))


# For elements of 16 bits or less, multiplied by tensor cores.
_NARROW = _both_ways(
    (128, 256, 64, 8, 3, 1.0),
    (128, 128, 64, 8, 3, 0.9),
    (128, 64, 64, 4, 4, 0.75),
    (64, 64, 64, 4, 4, 0.6),
    (64, 32, 64, 4, 4, 0.4),
    (32, 32, 64, 4, 4, 0.3),
    (16, 64, 128, 4, 4, 0.25),
    (16, 16, 128, 2, 4, 0.1),
)
# For floats of 8 bits, twice as many at a time; beside the sums there are those of one tile (contraction.py), so that
# 256 columns would be too many for the registers.
_EIGHT_BITS = tuple(replace(tile, k=2 * tile.k) for tile in _NARROW if tile.n < 256)
# For f32: tf32 on tensor cores, or multiplied exactly, number by number.
_TF32 = _both_ways(
    (128, 128, 32, 8, 3, 1.0),
    (128, 64, 32, 4, 3, 0.85),
    (64, 64, 32, 4, 3, 0.7),
    (32, 64, 32, 4, 3, 0.45),
    (32, 32, 32, 4, 3, 0.3),
    (16, 32, 64, 4, 3, 0.2),
    (16, 16, 64, 2, 3, 0.1),
)
_EXACT = _both_ways(
    (128, 64, 16, 8, 3, 1.0),
    (64, 64, 16, 4, 3, 0.9),
    (64, 64, 32, 4, 2, 0.85),
    (32, 64, 32, 4, 2, 0.6),
    (32, 32, 32, 4, 2, 0.4),
    (16, 32, 32, 4, 2, 0.25),
    (16, 16, 32, 2, 2, 0.15),
)
_WIDE = _both_ways((32, 32, 16, 4, 2, 1.0), (16, 16, 16, 4, 2, 0.5))  # f64


def processors(options: GpuOptions) -> int:
    """How many programs of large tiles run at once."""
    return _CHIPS.get(options.chip, _H100).processors


def matmul_tiles(element: str, m: int, n: int, k: int, options: GpuOptions) -> Iterator[MatmulTile]:
    """The tiles that fit a product of these sizes, each once: none is twice as large as it along any side."""
    seen = set[str]()
    lists = {"f64": _WIDE, "f32": _TF32 if options.tf32 else _EXACT}
    if options.multiplies_float8:
        lists |= dict.fromkeys(FORMATS, _EIGHT_BITS)
    limits = [max(SMALLEST, 1 << max(size - 1, 0).bit_length()) for size in (m, n, k)]
    if element == "i8" or element in FORMATS:  # 32 bytes at least
        limits[2] = max(32, limits[2])
    for tile in lists.get(element, _NARROW):
        if tile.m <= limits[0] and tile.n <= limits[1]:
            depth, width = min(tile.k, limits[2]), {"f64": 8, "f32": 4, **dict.fromkeys(FORMATS, 1)}.get(element, 2)
            stages = min(tile.stages, 2) if options.vendor == "hip" else tile.stages
            while stages > 1 and stages * (tile.m + tile.n) * depth * width > shared(options):
                stages -= 1
            fitted = replace(tile, k=depth, stages=stages)
            if str(fitted) not in seen:
                seen.add(str(fitted))
                yield fitted


def shared(options: GpuOptions) -> int:
    """Bytes of shared memory that a program may use."""
    return _CHIPS.get(options.chip, _H100).shared


def matmul_tile(element: str, batch: int, m: int, n: int, k: int, options: GpuOptions) -> MatmulTile:
    """The tile that is expected to be fastest: it fills the chip, then is as large as possible."""
    together = processors(options)

    def cost(tile: MatmulTile) -> float:
        programs = batch * -(-m // tile.m) * -(-n // tile.n)
        return -(-programs // together) * tile.m * tile.n / tile.share

    return min(matmul_tiles(element, m, n, k, options), key=cost)


def attention_tile(features: int, narrow: bool, options: GpuOptions) -> MatmulTile:
    """Rows and columns of scores that a program computes together: fewer, the more features a row has.

    Args:
        narrow: operands are of 16 bits.
    """
    if features > 128 or shared(options) <= 65536:
        return MatmulTile(32, 32, 0, 4, 1)
    most = 128 if narrow else 64 if options.tf32 else 0
    if features <= most and shared(options) > 166912:
        return MatmulTile(128, 64, 0, 8, 2)
    return MatmulTile(64, 64 if features <= 64 else 32, 0, 4, 2 if narrow else 1)


def attention_tiles(features: int, options: GpuOptions) -> list[MatmulTile]:
    """What may be tried instead of `attention_tile`."""
    most = shared(options)
    return [t for t in _ATTENTION if t.stages * 4 * features * (t.m + 3 * t.n) <= most]
