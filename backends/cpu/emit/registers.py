"""The register tile of a convolution: as many rows and vectors as cost the least for each sum."""

from __future__ import annotations

from collections.abc import Iterator

from thalweg.backends.cpu.machine import Machine

MOST_ROWS = 16
FAR_BYTES = 24 << 10  # of a panel: more is read from the second cache


def register_tile(run: int, vectors: int, machine: Machine, depth: int, spare: int = 0) -> tuple[int, int]:
    """(rows, vectors) of the cheapest tile, for `run` rows at one distance, and so many vectors of columns; `spare`
    registers are left alone."""
    _, tall, wide = min(register_tiles(run, vectors, machine, depth, spare), default=(0.0, 0, 1))
    return -tall, wide


def register_tiles(
    run: int, vectors: int, machine: Machine, depth: int, spare: int = 0
) -> Iterator[tuple[float, int, int]]:
    """(cycles, -rows, vectors) of all tiles.

    A tile takes max(products / 2, loads / 2, latency) cycles for each of `depth` summed elements, more where its panel
    is not in the first cache, and some for addresses and for loading and storing its sums. Rows and columns that are
    left over make smaller tiles. Nine rows of three vectors spill.
    """
    for wide in range(1, min(vectors, machine.widest) + 1):
        far = depth * wide * machine.vector_bits // 8 > FAR_BYTES
        for tall in range(1, min(run, machine.tallest(wide, max(spare, int(wide == 3))), MOST_ROWS) + 1):
            cycles = 0.0
            for rows, times in ((tall, run // tall), (run % tall, 1)):
                for v, panels in ((wide, vectors // wide), (vectors % wide, 1)):
                    if rows and v and times and panels:
                        inner = max(rows * v / 2, (rows + v) / 2, 4.0) + far * (0.2 * v + 0.25 * rows) + 0.5
                        cycles += times * panels * (depth * inner + 2 * rows * v + 40)
            yield cycles, -tall, wide
