"""Other ways to cut a product, or a convolution, than the models' (blocking.py, convolve.py, correlate.py): those that
differ in one thing, and are not hopeless.

Whatever is taken, each result is the sum of the same products in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from thalweg.backends.cpu.emit import blocking, convolve, correlate, registers
from thalweg.backends.cpu.emit.blocking import Schedule, ceil_div
from thalweg.backends.cpu.emit.nest import Contraction, Nest, accumulator, item_bytes
from thalweg.backends.cpu.emit.sliding import Sliding
from thalweg.backends.cpu.machine import Machine

TILES = 6  # register tiles that are tried, the cheapest
DEARER = 1.3  # times what the cheapest takes by the model: more is hopeless
SHORTEST = 32  # summed elements in a pass
MOST_UNROLLED = 4


def near(nest: Nest, machine: Machine, threads: int) -> Callable[[Schedule], Iterator[Schedule]]:
    """What gives the schedules that differ little from one.

    Sums with the lanes along them (`dot`) have no other: they add up in another order.
    """

    def around(schedule: Schedule) -> Iterator[Schedule]:
        if schedule.dot:
            return
        for rows, vectors in _tiles(nest, schedule, machine, threads):
            yield replace(schedule, rows=rows, vectors=vectors)
        yield from (*_packings(nest, schedule, machine), *_shares(nest, schedule, machine), *_rounds(nest, schedule))

    return around


def _depth(nest: Nest, schedule: Schedule) -> int:
    """Summed elements of a pass."""
    if schedule.within:
        return schedule.block * schedule.within * math.prod(axis.extent for axis in nest.sums[2:])
    return schedule.block * (nest.sum_count // max(1, nest.sums[0].extent)) if nest.sums else 1


def _tiles(nest: Nest, schedule: Schedule, machine: Machine, threads: int) -> list[tuple[int, int]]:
    """(rows, vectors) of register tiles."""
    wide = ceil_div(max(nest.lane.extent, 1), schedule.lanes)
    if nest.row_count == 1:
        return [(1, v) for v in (1, 2, 3, 4, 6, 8, 12, 16) if v <= min(wide, machine.tallest(1))]
    return _cheapest(blocking.register_tiles(nest, wide, _depth(nest, schedule), machine, threads))


def _cheapest(tiles: Iterable[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """(rows, vectors) of the register tiles that are not hopeless, from (cycles, -rows, vectors)."""
    found = sorted(tiles)
    return [(-tall, vectors) for cycles, tall, vectors in found[:TILES] if cycles <= DEARER * found[0][0]]


def _packings(nest: Nest, schedule: Schedule, machine: Machine) -> Iterator[Schedule]:
    """Other operands packed, tiles walked in the other order."""
    if nest.lane.lhs != 0:  # nothing is shared by rows
        return
    dtype = accumulator(nest.out.dtype)
    row_tiles, panels = ceil_div(nest.row_count, schedule.rows), ceil_div(nest.lane.extent, schedule.width)
    by_panels = schedule.order == "panels"
    contiguous = nest.lane.rhs in (0, 1) and nest.rhs.dtype == dtype
    shared = _depth(nest, schedule) * nest.lane.extent * item_bytes(dtype)
    if panels > 1 and row_tiles > 1 and (not by_panels or nest.batch_count == 1):
        yield replace(schedule, pack_lhs=not schedule.pack_lhs)
    if by_panels and row_tiles > 1 and (contiguous or not schedule.pack_rhs):
        yield replace(schedule, pack_rhs=not schedule.pack_rhs, group=1)
    if by_panels and row_tiles > 1 and contiguous and shared <= machine.second_cache:
        yield replace(schedule, order="rows", pack_rhs=False, group=1, splits=1, fetch=False)
    if not by_panels:
        pack_lhs = schedule.pack_lhs and nest.batch_count == 1
        yield replace(schedule, order="panels", pack_lhs=pack_lhs)
        yield replace(schedule, order="panels", pack_lhs=pack_lhs, pack_rhs=True)


def _shares(nest: Nest, schedule: Schedule, machine: Machine) -> Iterator[Schedule]:
    """More or fewer tiles, more or fewer panels packed at a time."""
    if schedule.order == "rows":
        return
    row_tiles, panels = ceil_div(nest.row_count, schedule.rows), ceil_div(nest.lane.extent, schedule.width)
    for splits in (schedule.splits // 2, schedule.splits * 2):
        if 0 < splits <= row_tiles:
            yield replace(schedule, splits=splits)
    panel = _depth(nest, schedule) * schedule.width * item_bytes(accumulator(nest.out.dtype))
    for group in (schedule.group // 2, schedule.group * 2):
        if schedule.pack_rhs and 0 < group <= panels and (group - 1) * panel <= machine.second_cache:
            yield replace(schedule, group=group)


def _rounds(nest: Nest, schedule: Schedule) -> Iterator[Schedule]:
    """Longer and shorter passes over the sum, and rounds of its innermost loop."""
    outer = nest.sums[0].extent if nest.sums else 1
    passes = ceil_div(outer, schedule.block)
    for count in () if schedule.within else (passes // 2, passes * 2):  # several of both would change the order
        other = replace(schedule, block=ceil_div(outer, max(count, 1)))
        if count and _depth(nest, other) >= SHORTEST:
            yield other
    for unroll in (schedule.unroll // 2, schedule.unroll * 2):
        if 0 < unroll <= min(MOST_UNROLLED, nest.sum_count):
            yield replace(schedule, unroll=unroll)


def near_convolution(
    form: Sliding, spec: Contraction, machine: Machine
) -> Callable[[convolve.Plan], Iterator[convolve.Plan]]:
    """What gives the plans of a convolution that differ little from one."""
    lanes, lines = machine.lanes(spec.out.dtype), form.slides[0].kept.extent
    wide, depth = ceil_div(form.lane.extent, lanes), _window(form) * form.channels.extent
    line = depth * lanes * item_bytes(spec.out.dtype)  # bytes of a vector of weights
    run = form.slides[-1].kept.extent

    def around(plan: convolve.Plan) -> Iterator[convolve.Plan]:
        for rows, vectors in _cheapest(registers.register_tiles(run, wide, machine, depth)):
            if ceil_div(wide, vectors) * vectors * line <= convolve.WEIGHTS_BYTES:
                yield replace(plan, rows=rows, vectors=vectors)
        if len(form.slides) > 1:
            yield from (replace(plan, lines=some) for some in _halves(plan.lines, lines))

    return around


def near_correlation(
    form: Sliding, spec: Contraction, machine: Machine, threads: int
) -> Callable[[correlate.Plan], Iterator[correlate.Plan]]:
    """What gives the plans of a weight gradient that differ little from one."""
    wide = ceil_div(form.lane.extent, machine.lanes(spec.out.dtype))

    def around(plan: correlate.Plan) -> Iterator[correlate.Plan]:
        for tile in _cheapest(registers.register_tiles(plan.run, wide, machine, correlate.PLACES, spare=1)):
            other = correlate.plan(form, spec, machine, threads, tile)
            if other is not None:
                yield other
        yield from (replace(plan, lines=some) for some in _halves(plan.lines, form.slides[0].summed.extent))

    return around


def _window(form: Sliding) -> int:
    return math.prod(slide.summed.extent for slide in form.slides)


def _halves(count: int, total: int) -> Iterator[int]:
    """Half and twice as many of a total at a time, in pieces of about the same size."""
    pieces = ceil_div(total, count)
    for others in (pieces // 2, pieces * 2):
        if 0 < others <= total:
            yield ceil_div(total, others)
