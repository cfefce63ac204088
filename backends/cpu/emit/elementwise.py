"""Elementwise kernels: maps of any depth, with broadcasts, transposes, slices and gathers inside, and several
results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.merging import merged_from
from thalweg.backends.cpu.emit.scalar import register_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import ScalarOp, Value
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

VECTOR_BYTES = 64  # one AVX-512 register; LLVM splits it where registers are narrower
MAX_LANES = 32
FLAT_TILE = 64  # vectors in a unit of work
ROWS_TILE = 8192  # elements up to which rows form a unit of work
BLOCK = 16  # rows that a transposing kernel walks together

_BYTES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "i16": 2, "i8": 1, "i1": 1, "index": 8}


@register("map", "reshape", "slice", "constant", "scalar")
def elementwise(group: Group, name: str, options: CpuOptions) -> Kernel:
    """One loop over the elements of the results, which all have one shape but for dimensions of one.

    What an insert puts into a box of its target has that shape; the box is written in the target's buffer.
    """
    stores = group.stores
    puts = [_puts(value, group.members) for value in stores]
    boxes = {k: put for k, put in enumerate(puts) if stores[k].kind == "insert"}
    sources = [source for put in puts for _, source in put]
    lanes = lanes_for([value for value in group.members if value.kind != "insert"], sources)
    shape = sources[0].shape
    flat = not boxes and is_flat(group)
    w = ScopedWriter()
    target = machine(options)
    w.has_avx512, w.has_fma = target.has_avx512, target.has_fma
    fused = Fused(w, group.members, lanes, stores[0].size if flat else 0)
    results = [f"%out{k}" for k in range(len(stores))]
    places: dict[int, Place] = {}

    def at(place: Place) -> None:
        def fit(other: Sequence[int]) -> Place:
            return place if flat else _fitted(place, shape, other)

        numbers = [[fused.get(source, fit(source.shape)) for _, source in put] for put in puts]
        for result, put, found in zip(results, puts, numbers, strict=True):
            for (value, source), number in zip(put, found, strict=True):
                where = fit(source.shape) if value is source else fused.box(value, fit(value.operands[1].shape))
                fused.store(value, result, where, number)
        places[fused.phase] = place
        fused.phase += 1

    first = len(shape) if flat or boxes else merged_from(group.members, shape, lanes)
    rows = (*shape[:first], math.prod(shape[first:])) if first < len(shape) else shape

    def at_row(place: Place) -> None:
        at((*place[:first], *fused.at.delinear(place[first], shape[first:])) if first < len(shape) else place)

    if flat:
        tiles = _flat_loop(fused, stores[0].size, at)
    elif not boxes and (across := transposed_dim(group)) is not None:
        tiles = _loop_blocks(fused, rows, across, at_row)
    else:
        tiles = loop_rows(fused, rows, at_row)
    updates = tuple((k, put[0][0].operands[0]) for k, put in boxes.items())
    pairs = tuple(pair for pair in inplace_pairs(fused, stores, places) if pair[0] not in boxes)
    kept = tuple((k, value) for k, value in updates if value.kind != "empty")
    return finish(name, w, fused, stores, results, tiles, updates=kept, inplace=pairs)


def _puts(value: Value, members: Collection[Value]) -> list[tuple[Value, Value]]:
    """What is written for a result: itself; of inserts into each other all that are in the kernel, first one first, and
    what each puts into its box."""
    if value.kind != "insert":
        return [(value, value)]
    found: list[tuple[Value, Value]] = []
    while value.kind == "insert" and (value in members or not found):
        found.append((value, _unpadded(value.operands[1])))
        value = value.operands[0]
    return found[::-1]


def _unpadded(value: Value) -> Value:
    """A value before reshapes that only add or drop dimensions of one."""
    while value.kind == "reshape" and _long(value.shape) == _long(value.operands[0].shape):
        value = value.operands[0]
    return value


def _long(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)


def _fitted(place: Place, shape: Sequence[int], other: Sequence[int]) -> Place:
    """A place of a tensor in one that has other dimensions of one."""
    if tuple(shape) == tuple(other):
        return place
    long = iter([index for index, extent in zip(place, shape, strict=True) if extent != 1])
    return tuple(Index(0) if extent == 1 else next(long) for extent in other)


def finish(
    name: str,
    w: ScopedWriter,
    fused: Fused,
    stores: Sequence[Value],
    results: Sequence[str],
    tiles: int,
    updates: tuple[tuple[int, Value], ...] = (),
    inplace: tuple[tuple[int, int], ...] = (),
) -> Kernel:
    """The kernel of what was written with `w` and read through `fused`."""
    operands = [(ssa, fused.memory(value)[0]) for value, ssa in fused.buffers.items()]
    outputs = [(ssa, fused.memory(value)[0]) for ssa, value in zip(results, stores, strict=True)]
    source = function(name, operands, outputs, w.text())
    types = tuple(kind for _, kind in (*operands, *outputs))
    return Kernel(name, source, tuple(fused.buffers), tuple(stores), tiles, 0, updates, inplace, types)


def inplace_pairs(
    fused: Fused, stores: Sequence[Value], places: Sequence[Place] | Mapping[int, Place]
) -> tuple[tuple[int, int], ...]:
    """Results that may take an operand's buffer: the operand is only read at the element that is written next.

    `places` are where the results are stored, by the phase of the kernel.
    """
    by_phase = places if isinstance(places, Mapping) else dict(enumerate(places))
    elsewhere = {value for value, place, phase in fused.loads if place != by_phase.get(phase)}
    pairs = []
    for result, store in enumerate(stores):
        for position, operand in enumerate(fused.buffers):
            if operand not in elsewhere and fused.memory(operand) == fused.memory(store):
                pairs.append((result, position))
    return tuple(pairs)


def lanes_for(members: Collection[Value], stores: Sequence[Value]) -> int:
    """Numbers per vector: what fits a register in the widest type; 1 where a body branches or there is one element."""
    if max(value.size for value in stores) == 1 or any(_branches(value) for value in members):
        return 1
    elements = {register_type(v.element) for v in (*members, *stores) if v.element != "index"}
    return min(MAX_LANES, VECTOR_BYTES // max(_BYTES[element] for element in elements))


def _branches(value: Value) -> bool:
    return value.generic is not None and any(op.regions for op in value.generic.body.ops)


def is_flat(group: Group) -> bool:
    """Can every tensor be walked in row-major order, all elements alike?"""
    size = group.stores[0].size
    if size == 1:
        return False

    def flat(value: Value) -> bool:
        if value not in group.members or value.size == 1:
            return True
        if value.kind != "map":
            return value.kind in ("reshape", "constant")
        generic = value.generic
        assert generic is not None
        if any(_positional(op) for op in generic.body.ops):
            return False
        identity = tuple(range(len(generic.extents)))
        return (
            all(
                operand.size == 1 or (operand.size == size and tuple(e.dim for e in map_) == identity)
                for operand, map_ in zip(value.operands, generic.maps, strict=False)
            )
            and tuple(e.dim for e in generic.result_maps[0]) == identity
        )

    return all(flat(value) for value in group.members if value.size == size or value.size == 1) and all(
        value.size in (1, size) for value in group.members
    )


def _positional(op: ScalarOp) -> bool:
    return op.dim is not None or op.tensor is not None or bool(op.regions)


# Loops over results.


def _flat_loop(fused: Fused, size: int, at: Callable[[Place], None]) -> int:
    """`at` for every vector of a row-major tensor; the number of tiles."""
    w, lanes = fused.w, fused.lanes
    main = size - size % lanes
    tile = lanes * FLAT_TILE
    tiles = -(-size // tile)
    if main:
        start = w.mul("%lo", tile)
        stop = w.minimum(w.mul("%hi", tile), main)
        with w.for_(start, stop, lanes) as i:
            at((Index(i, 1),))
    if main < size:
        last = w.op(f"arith.cmpi eq, %hi, {w.index(tiles)} : index")
        with w.branch(last):
            at_tail(fused, size - main, lambda: at((Index(main, 1),)))
    return tiles


def loop_rows(fused: Fused, shape: Sequence[int], at: Callable[[Place], None]) -> int:
    """`at` for every vector of a tensor, row by row along its last dimension; the number of tiles."""
    w, lanes = fused.w, fused.lanes
    if not any(extent != 1 for extent in shape):
        at((Index(0),) * len(shape))
        return 1
    along = max(d for d, extent in enumerate(shape) if extent != 1)
    if math.prod(shape[:along]) == 1:
        tile = lanes * FLAT_TILE
        return _row(fused, shape, along, [Index(0)] * len(shape), at, tile)
    first = inner_loops(shape, along)

    def level(place: list[Index]) -> None:
        d = len(place)
        if d == along:
            _row(fused, shape, along, [*place, *[Index(0)] * (len(shape) - d)], at, 0)
        elif shape[d] == 1:
            level([*place, Index(0)])
        else:
            with w.for_(0, shape[d], 1) as i:
                level([*place, Index(i)])

    with w.for_("%lo", "%hi", 1) as tile_number:
        level(fused.at.delinear(Index(tile_number), shape[:first]))
    return math.prod(shape[:first])


def inner_loops(shape: Sequence[int], along: int) -> int:
    """The first dimension that is a loop inside a tile, where dimension `along` is walked in vectors.

    Tiles are the places on the dimensions before it, which cost a division each: tiles of short rows are many rows.
    """
    first = along
    while first > 1 and math.prod(shape[first - 1 :]) <= ROWS_TILE:
        first -= 1
    return first


def transposed_dim(group: Group) -> int | None:
    """The dimension of the results along which a transposed operand lies in memory, None where there is no such
    operand.
    """
    shape = group.stores[0].shape
    for value in group.members:
        generic = value.generic
        if value.kind != "map" or value.shape != shape or generic is None or len(shape) < 2:
            continue
        dims = [e.dim for e in generic.result_maps[value.result_index]]
        for operand, map_ in zip(value.operands, generic.input_maps, strict=False):
            places = [e.dim for e in map_ if e.dim is not None and generic.extents[e.dim] > 1]
            if operand.size > 1 and len(places) > 1 and dims[-1] in places[:-1] and places[-1] in dims[:-1]:
                return dims.index(places[-1])
    return None


def _loop_blocks(fused: Fused, shape: Sequence[int], across: int, at: Callable[[Place], None]) -> int:
    """Like `loop_rows`, with dimension `across` innermost in blocks: what one vector gathers, the next ones find in
    the cache.

    The last dimension runs in vectors, `BLOCK` rows of `across` at a time; a tile is a piece of it.
    """
    w, lanes = fused.w, fused.lanes
    blocks, piece = -(-shape[across] // BLOCK), lanes * FLAT_TILE
    pieces = -(-shape[-1] // piece)
    outer = [pieces if d == len(shape) - 1 else blocks if d == across else extent for d, extent in enumerate(shape)]
    main = shape[-1] - shape[-1] % lanes
    with w.for_("%lo", "%hi", 1) as tile:
        corner = fused.at.delinear(Index(tile), outer)
        first = w.mul(corner[across].base, BLOCK)
        last = w.minimum(w.add(first, BLOCK), shape[across])
        begin = w.mul(corner[-1].base, piece)

        def column(index: Index) -> None:
            with w.for_(first, last, 1) as row:
                place = list(corner)
                place[across], place[-1] = Index(row), index
                at(tuple(place))

        if main:
            with w.for_(begin, w.minimum(w.add(begin, piece), main), lanes) as j:
                column(Index(j, 1 if lanes > 1 else 0, multiple=lanes))
        if main < shape[-1]:
            end = w.op(f"arith.cmpi eq, {w.ssa(corner[-1].base)}, {w.index(pieces - 1)} : index")
            with w.branch(end):
                at_tail(fused, shape[-1] - main, lambda: column(Index(main, 1)))
    return math.prod(outer)


def _row(
    fused: Fused, shape: Sequence[int], along: int, row: list[Index], at: Callable[[Place], None], tile: int
) -> int:
    """`at` for the vectors of one row; where `tile` is given the row itself is cut into tiles of that many elements."""
    w, lanes, extent = fused.w, fused.lanes, shape[along]
    main = extent - extent % lanes

    def place(index: Index) -> Place:
        return tuple(index if d == along else other for d, other in enumerate(row))

    tiles = -(-extent // tile) if tile else 1
    if main:
        start = w.mul("%lo", tile) if tile else 0
        stop = w.minimum(w.mul("%hi", tile), main) if tile else main
        with w.for_(start, stop, lanes) as j:
            at(place(Index(j, 1 if lanes > 1 else 0, multiple=lanes)))
    if main < extent:
        last = w.op(f"arith.cmpi eq, %hi, {w.index(tiles)} : index") if tile else w.hoisted("arith.constant true")
        with w.branch(last):
            at_tail(fused, extent - main, lambda: at(place(Index(main, 1))))
    return tiles


def row_between(fused: Fused, start: int, stop: int, at: Callable[[Index], None]) -> None:
    """`at` for the vectors of the elements [start, stop) of a row, the last one masked."""
    w, lanes = fused.w, fused.lanes
    main = stop - (stop - start) % lanes
    if main - start > lanes:
        with w.for_(start, main, lanes) as j:
            at(Index(j, 1 if lanes > 1 else 0))
    elif main > start:
        at(Index(start, 1 if lanes > 1 else 0))
    if main < stop:
        with w.branch(w.hoisted("arith.constant true")):
            at_tail(fused, stop - main, lambda: at(Index(main, 1)))


def at_tail(fused: Fused, count: int, body: Callable[[], None]) -> None:
    """Run `body` with loads and stores limited to the first `count` lanes."""
    fused.limit(count)
    body()
    fused.limit(0)
