"""Tile sizes, loop order and packing of a contraction, from its shape and the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from thalweg.backends.cpu.emit.nest import Nest, accumulator, item_bytes
from thalweg.backends.cpu.machine import Machine

FIRST_SHARE = 0.75  # of the first cache that a panel of the shared operand may take: the rest is for the other two
SECOND_SHARE = 0.5  # of the second cache that panels packed at a time may take
KEPT_SHARE = 0.16  # of the second cache that rows may take to be there still for the next panel
SUM_BLOCK = 1024  # summed elements per pass over the accumulators
STRIDED_BLOCK = 512  # the same where rows are packed too: what both take has to stay in the second cache
FAR_BYTES = 1024
UNEVEN = 4000.0  # cycles that a tile of packed rows loses where the last panel is narrower
SPLIT_ROWS = 64  # fewer rows are not worth packing a panel for
FEW_PAGES = 64  # summed elements, each on another page, that are read in turn where an operand comes from far
PANEL_PASS = 512  # summed elements of a panel that few rows are multiplied by at a time
FEW_ROWS = 128  # up to here the other operand is read so seldom that reading it is what takes time
VERY_FEW_ROWS = 24  # up to here it is not worth packing either
SHARED_ROWS = 512  # up to here threads do better to share the columns than to share the rows and pack all columns each
OWN_ROWS = 512  # for each thread: from here on what it wrote itself is worth more than a matrix packed by all together
FETCH_ROWS = 6  # from here on there is time to ask for the next panel: the processor's own guesses do for fewer
FAR_PANELS = 8  # that are packed at a time where the matrix comes from far: longer pieces of its rows are read
FAR_PANELS_ROWS = 48  # from here on: fewer rows ask for the next panel meanwhile
FETCH_TILES = 7  # of rows, each of which asks for all of it
FETCHED_ROWS = 56  # up to here that counts
DEEP_BYTES = 32 << 10  # of a panel in each of the passes that it is done with in turn
DEEP_ROWS = 256  # up to here, and
DEEP_SUM = 1024  # from here on, panels that lie so are done with one by one
PIECE_ROWS = 2048  # that are dealt out at a time, about
MOST_ROWS = 16  # of a tile: more rows at one stride evict each other from the first cache
SHORT_SUM = 20  # up to here writing the result is what takes time, which is best done row by row
MANY_ROWS = 96  # from here on copying a panel costs less than reading it where its vectors straddle cache lines


@dataclass(frozen=True)
class Schedule:
    """How a nest is run.

    Args:
        rows, vectors: the register tile; a vector has `lanes` lanes.
        order: "panels": each tile packs one panel of columns and walks all rows; "rows": each tile is `rows` rows and
            walks all columns.
        pack_lhs, pack_rhs: copy that operand into the order of use.
        block: iterations of the outermost summed axis per pass; `within`: of the next one, where it is cut too.
        dot: lanes run along the sum instead of the columns.
        splits: with order "panels", pieces that the rows are cut into, each a tile of its own that packs for itself.
        group: panels that are packed at a time, before the rows walk them all.
        unroll: summed elements in each round of the innermost loop.
        fetch: ask for the next panel while one is multiplied by.
        deep: each panel is done with, in all its passes, before the next one.
    """

    rows: int
    vectors: int
    lanes: int
    order: Literal["panels", "rows"]
    pack_lhs: bool
    pack_rhs: bool
    block: int
    dot: bool = False
    splits: int = 1
    group: int = 1
    unroll: int = 1
    fetch: bool = False
    within: int = 0
    deep: bool = False

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def choose(nest: Nest, machine: Machine, threads: int = 1, packed: bool = False) -> Schedule:
    """The schedule of `nest`. `packed`: the shared operand will lie in panels as wide as this schedule's."""
    dtype = accumulator(nest.out.dtype)
    lanes, item = machine.lanes(dtype), item_bytes(dtype)
    step = abs(nest.sums[-1].lhs) * item if nest.rows and nest.sums and nest.rows[-1].lhs == 1 else 0
    strided = step >= FAR_BYTES  # each summed element of lhs is on another page, or nearly
    block = _sum_block(nest, STRIDED_BLOCK if strided and nest.row_count >= SPLIT_ROWS else 2 * SUM_BLOCK)
    if _is_dot(nest):
        return Schedule(1, 1, lanes, "panels", pack_lhs=False, pack_rhs=False, block=block, dot=True)
    depth = block * (nest.sum_count // max(1, nest.sums[0].extent)) if nest.sums else 1
    shared = depth * nest.lane.extent * item  # bytes of rhs that every tile of rows reads
    block_bytes = machine.second_cache // 2  # of the shared operand
    wide = ceil_div(max(nest.lane.extent, 1), lanes)
    scattered = nest.lane.rhs == 1 and item >= 4 and nest.rhs.dtype == dtype
    nested = len(nest.sums) == 2 and block == 1  # a window's lines, and what lies side by side in each
    within = 0
    pages = 0  # summed elements at a time, so that few pages are read in turn
    if nest.row_count == 1:
        # Nothing is read twice: wide panels.
        rows, vectors = 1, min(wide, machine.tallest(1), 16, max(4, wide // (2 * threads)))
        pages = FEW_PAGES if scattered and not packed and len(nest.sums) == 1 and depth > 2 * FEW_PAGES else 0
    else:
        far = shared > block_bytes // 2 and nest.row_count <= FEW_ROWS and (nested or len(nest.sums) == 1)
        pages = _pass(nest, depth, packed) if far and (packed or scattered) else 0
        rows, vectors = _register_tile(nest, wide, pages or depth, machine, threads, alone=packed)
    if pages:
        depth = ceil_div(depth, ceil_div(depth, pages))
        block, within = (1, depth) if nested else (depth, 0)
    panels, row_tiles = ceil_div(wide, vectors), ceil_div(nest.row_count, rows)
    contiguous = nest.lane.rhs in (0, 1) and nest.rhs.dtype == dtype
    few_panels = threads > 1 and panels * nest.batch_count < 4 * threads
    # Threads that share rows that lie apart pack their own as a whole, if these are no matrices of a batch.
    in_rows = nest.batch_count > 1 if strided else few_panels
    small = contiguous and shared <= block_bytes // 2
    # Each thread packs a small operand as a whole, and has rows of its own.
    dealt = small and few_panels and not strided and _has_rows_for(nest, threads)
    short = contiguous and nest.sum_count <= SHORT_SUM and not (strided or packed)
    by_rows = nest.lane.lhs != 0 or (row_tiles > 1 and small and (in_rows or short) and not dealt)
    rereads = shared > block_bytes // 4 and nest.row_count > VERY_FEW_ROWS
    packing_pays = not contiguous or rereads or (nest.row_count >= MANY_ROWS and item >= 4 and panels > 1)
    gains = nest.lane.lhs == 0 and panels > 1 and row_tiles > 1  # a packed lhs is read more than once
    pack_lhs = gains and (by_rows or not small or nest.batch_count == 1) and (strided or nest.lhs.dtype != dtype)
    own = not strided and shared < 2 * machine.second_cache and _has_own_rows(nest, threads)
    splits = 1 if by_rows else _splits(nest, threads, panels, row_tiles, pack_lhs, own)
    if dealt:
        splits = threads * ceil_div(nest.row_count, threads * PIECE_ROWS)
    elif pages and panels <= 4 * threads and nest.row_count >= threads * SPLIT_ROWS:
        splits = threads  # panels of the result would share cache lines in every pass
    pack_rhs = dealt or (not by_rows and row_tiles > 1 and packing_pays)
    aside = pack_rhs and not dealt and pages > 0 and nest.row_count >= FAR_PANELS_ROWS
    far_away = pages > 0 and shared > machine.second_cache and not aside
    group = panels if dealt else 1
    if aside:
        group = ceil_div(panels, ceil_div(panels, FAR_PANELS))
    elif pack_rhs and not dealt:
        share = SECOND_SHARE / 2 if pack_lhs else SECOND_SHARE  # packed rows pass through the cache, too
        group = _group(nest.row_count * depth * item, panels, depth * vectors * lanes * item, machine, share)
    return Schedule(
        rows,
        vectors,
        lanes,
        "rows" if by_rows else "panels",
        pack_lhs=pack_lhs,
        pack_rhs=pack_rhs,
        block=block,
        splits=splits,
        group=group,
        unroll=machine.unroll,
        fetch=far_away and nest.row_count >= FETCH_ROWS and row_tiles <= FETCH_TILES,
        within=within,
    )


def _pass(nest: Nest, depth: int, packed: bool) -> int:
    """Summed elements that a panel from far is read at a time, where the sum has many more; 0 for all."""
    if packed:
        return PANEL_PASS if depth > PANEL_PASS else 0
    if depth <= (2 if len(nest.sums) == 1 else 4) * FEW_PAGES:
        return 0
    return FEW_PAGES if nest.row_count <= VERY_FEW_ROWS else 2 * FEW_PAGES


def in_panels(nest: Nest, machine: Machine, threads: int = 1) -> Schedule:
    """The schedule of `nest` where its shared operand lies in panels, which are as wide as this one's. The nest may be
    that of the operand as it lay before."""
    in_rows = replace(nest, lane=replace(nest.lane, rhs=1))
    chosen = choose(in_rows, machine, threads, packed=True)
    # Other matrices were read since the last call: the next panel comes from far.
    fetch = nest.row_count >= FETCH_ROWS and chosen.order == "panels"
    splits = chosen.splits
    if threads > 1 and chosen.order == "panels" and not chosen.pack_lhs and nest.batch_count == 1:
        # The part of the rows that a thread wrote is still in its caches, and there is time to read all panels.
        splits = threads if nest.row_count >= threads * SPLIT_ROWS else splits
    chosen = replace(chosen, pack_rhs=False, group=1, fetch=fetch, splits=splits)
    return _deep(nest, chosen) if fetch and not chosen.pack_lhs and nest.batch_count == 1 else chosen


def _deep(nest: Nest, schedule: Schedule) -> Schedule:
    """The schedule of panels, each in passes of what stays in the first cache, where a panel is long, and rows are so
    few that their sums travel little: cache lines that come from farther have more of the buffers for misses then."""
    if not 1 <= len(nest.sums) <= 2 or nest.row_count > DEEP_ROWS or nest.sum_count < DEEP_SUM:
        return schedule
    inner = nest.sums[-1].extent
    most = DEEP_BYTES // (schedule.width * item_bytes(nest.out.dtype))
    if inner <= most:
        return schedule
    within = ceil_div(inner, ceil_div(inner, most))
    block, within = (within, 0) if len(nest.sums) == 1 else (1, within)
    return replace(schedule, block=block, within=within, deep=True)


def _splits(nest: Nest, threads: int, panels: int, row_tiles: int, pack_lhs: bool, own: bool) -> int:
    """Into how many pieces the rows are cut. `own`: threads do well to have rows of their own."""
    units = panels * nest.batch_count
    if pack_lhs and row_tiles >= 4 * threads and nest.batch_count % threads:
        return threads  # each packs its own rows
    by_panels = nest.row_count <= SHARED_ROWS and units % threads == 0  # each packs its own panels
    if threads > 1 and units < 4 * threads and not (pack_lhs or by_panels):
        return min(ceil_div(4 * threads, units), max(1, nest.row_count // SPLIT_ROWS))
    return threads if own else 1


def _has_own_rows(nest: Nest, threads: int) -> bool:
    """Are there rows enough for each thread to walk those that it wrote, in its caches still, and no others?"""
    alone = nest.lane.lhs == 0 and nest.batch_count == 1
    return alone and threads > 1 and nest.row_count >= max(threads * OWN_ROWS, nest.lane.extent // 2)


def _has_rows_for(nest: Nest, threads: int) -> bool:
    """Are there rows enough for threads that pack all columns each?"""
    return nest.lane.lhs == 0 and nest.batch_count == 1 and nest.row_count >= threads * MANY_ROWS


def _group(rows: int, panels: int, panel: int, machine: Machine, share: float) -> int:
    """How many panels to pack at a time: one where the rows stay in the second cache, else what takes a share of it.
    `rows`, `panel`: bytes."""
    if rows <= KEPT_SHARE * machine.second_cache:
        return 1
    most = max(1, int(share * machine.second_cache) // panel)
    return ceil_div(panels, ceil_div(panels, most))


def _is_dot(nest: Nest) -> bool:
    """Whether both operands run along the sum, and packing would cost more than it saves."""
    if not nest.sums or nest.lane.rhs == 1:
        return False
    inner = nest.sums[-1]
    return inner.lhs == 1 and inner.rhs == 1 and nest.row_count <= 8 and inner.extent >= 8


def panel_vectors(nest: Nest, machine: Machine, threads: int) -> int:
    """Vectors of each panel, where the columns are cut into panels for good: all are equally wide."""
    vectors = ceil_div(nest.lane.extent, machine.lanes(accumulator(nest.out.dtype)))
    return _register_tile(nest, vectors, nest.sum_count, machine, threads, even=True)[1]


def _register_tile(
    nest: Nest, vectors: int, depth: int, machine: Machine, threads: int, even: bool = False, alone: bool = False
) -> tuple[int, int]:
    """(rows, vectors) with the fewest cycles. `alone`: a thread that has fewer panels than another waits for it, unless
    there are rows to share."""
    every = register_tiles(nest, vectors, depth, machine, threads, even)
    if alone and threads > 1 and nest.row_count < 2 * SPLIT_ROWS:
        every = ((cycles * _awaited(vectors, wide, threads), tall, wide) for cycles, tall, wide in every)
    _, tall, wide = min(every, default=(0.0, -1, 1))
    return -tall, wide


def _awaited(vectors: int, wide: int, threads: int) -> float:
    """How much longer the thread with most panels takes than if all columns could be shared evenly, of few panels."""
    panels = ceil_div(vectors, wide)
    return 1.0 if panels >= 4 * threads else max(1.0, ceil_div(panels, threads) * threads * wide / vectors)


def register_tiles(
    nest: Nest, vectors: int, depth: int, machine: Machine, threads: int, even: bool = False
) -> Iterator[tuple[float, int, int]]:
    """(cycles, -rows, vectors) of all register tiles: two fused multiply-adds and two loads a cycle, latency four.

    What was measured beyond that: a load takes 0.6 cycles; where a panel does not stay in the first cache, each vector
    costs 0.3 more, and each row 0.12. Outside of the loop over `depth` summed elements the sums are stored, and
    addresses are computed: one for the tile, or, where its rows do not all lie at one stride, one for each row.
    """
    row_bytes = vectors * machine.vector_bits // 8
    packed = nest.row_count >= SPLIT_ROWS and depth * row_bytes > 2 * machine.first_cache
    awaited = nest.row_count <= 8 and nest.sum_count * row_bytes > machine.second_cache
    adjacent = bool(nest.rows) and nest.rows[-1].lhs == 1
    side_by_side = adjacent and nest.row_run % 8 == 0
    # Transposing keeps constants in registers, and LLVM loads rows that lie side by side early.
    spare = 0 if nest.lane.rhs in (0, 1) and not adjacent else 1
    for wide in range(1, min(vectors, machine.widest) + 1):
        if even and vectors % wide:
            continue
        for tall in range(1, min(nest.row_count, machine.tallest(wide, spare), MOST_ROWS) + 1):
            if side_by_side and not machine.has_avx512 and tall not in (4, 8, 16):
                continue  # rows that lie side by side are packed as vectors, with AVX-512 as a part of one
            full, rest = divmod(nest.row_count, tall)
            cycles = full * _cycles(nest, vectors, depth, machine, tall, wide)
            if rest:  # a tile of another height is code of its own, which nothing has warmed up
                cycles += 1.25 * _cycles(nest, vectors, depth, machine, rest, wide)
            if packed or awaited:  # each summed element of a panel is at another place
                cycles += 6.0 * depth * ceil_div(vectors, wide)
            if side_by_side and vectors % wide:
                cycles += UNEVEN * full
            panels = ceil_div(vectors, wide) * nest.batch_count
            # Enough panels are dealt out, and the thread with most of them is awaited; packed rows are cut instead.
            if threads > 1 and panels >= 4 * threads and not side_by_side:
                cycles *= ceil_div(panels, threads) * threads * wide / (vectors * nest.batch_count)
            yield cycles, -tall, wide


def _cycles(nest: Nest, vectors: int, depth: int, machine: Machine, tall: int, wide: int) -> float:
    """Of all columns of a tile of `tall` rows, in panels of `wide` vectors."""
    full, rest = divmod(vectors, wide)
    straight = len(nest.rows) <= 1 or nest.row_run % tall == 0 or whole_lines(nest, tall)
    addresses = 40 if straight else (20 if len(nest.rows) > 1 else 3) * tall + 40
    cycles = 0.0
    for count, v in ((full, wide), (1, rest)):
        if count and v:
            far = depth * v * machine.vector_bits // 8 > FIRST_SHARE * machine.first_cache
            inner = max(tall * v / 2, 0.6 * (tall + v), 4.0) + far * (0.3 * v + 0.12 * tall) + 0.5
            inner += 0.15 * max(0, tall - 9)
            again = nest.row_count <= VERY_FEW_ROWS or (depth <= 2 * FEW_PAGES and nest.row_count <= FETCHED_ROWS)
            inner += 0.5 * v if again else 0.0  # each tile of rows reads the panel, or asks for the next one
            inner += 0.0 if straight else machine.apart * tall
            cycles += count * (depth * inner + tall * v + addresses)
    return cycles


def whole_lines(nest: Nest, rows: int) -> bool:
    """Is each tile of so many rows some whole lines of an image? Where they lie is known then but for the first."""
    return len(nest.rows) == 2 and rows % nest.row_run == 0


def _sum_block(nest: Nest, most: int) -> int:
    """Iterations of the outermost summed axis per pass, in passes of equal size; one where `most` elements are summed
    or fewer."""
    if not nest.sums:
        return 1
    outer = nest.sums[0].extent
    inner = nest.sum_count // max(1, outer)
    if nest.row_count * nest.lane.extent <= 1 or nest.sum_count <= most or nest.row_count == 1:
        return max(1, outer)
    passes = ceil_div(outer, max(1, min(SUM_BLOCK, most) // inner))
    return ceil_div(outer, passes)
