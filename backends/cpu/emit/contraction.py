"""Kernels for sums of products: matrix products of any orientation, rank and batch, convolutions, and their gradients.

value -> contraction (loops with strides) -> nest (roles of the loops) -> schedule (tiles, order, packing) -> text
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from thalweg.backends.cpu.costs import own_cost
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.alternatives import near
from thalweg.backends.cpu.emit.blocking import Schedule, choose, in_panels
from thalweg.backends.cpu.emit.decision import Decision
from thalweg.backends.cpu.emit.elementwise import finish, inplace_pairs, loop_rows
from thalweg.backends.cpu.emit.finishing import Element, Epilogue
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.grouped import grouped
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.nest import Axis, Buffer, Contraction, accumulator, classify, item_bytes, strides
from thalweg.backends.cpu.emit.nest import in_panels as nest_in_panels
from thalweg.backends.cpu.emit.scalar import Num, apply
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.slide import slid
from thalweg.backends.cpu.emit.tiled import tiled
from thalweg.backends.cpu.emit.tiling import Tiling
from thalweg.backends.cpu.graph import Map, ScalarOp, Value
from thalweg.backends.cpu.kernel import Kernel, function, storage_type
from thalweg.backends.cpu.machine import Machine, features_of, machine
from thalweg.backends.cpu.options import CpuOptions

LIGHT = 8  # instructions that may be written for each register: a bias, a residual, a bounded activation
_NANOSECONDS_PER_PRODUCT = 0.015
_NANOSECONDS_PER_BYTE = 0.015  # read once, as in matrix-vector products


@dataclass(frozen=True)
class Generated:
    """The body of a kernel, with `%lo`, `%hi` and, where `scratch` is not 0, `%scratch` free in it.

    `setup`: every call packs an operand as a whole.
    """

    body: str
    tiles: int
    scratch: int
    setup: bool


def generate(
    spec: Contraction,
    target: Machine,
    epilogue: Epilogue | None = None,
    threads: int = 1,
    schedule: Schedule | None = None,
    writer: ScopedWriter | None = None,
    decision: Decision | None = None,
    light: bool = False,
) -> Generated:
    """The code that computes `spec`. Extents must be positive.

    Args:
        epilogue: writes what becomes of each vector of sums, with `writer`; None stores it in `spec.out`.
        schedule: overrides the one chosen for the machine; `decision`: may do so.
        light: is the epilogue a few instructions?
    """
    w = writer or ScopedWriter()
    packed = spec.lhs.panel or spec.rhs.panel
    nest = classify(spec, target.lanes(spec.accumulate), epilogue is None and not packed)
    if packed:
        ways = near(replace(nest, lane=replace(nest.lane, rhs=1)), target, threads)
        usual = in_panels(nest, target, threads)
        assert usual.width == packed, f"panels of {packed} columns are read as if of {usual.width}"
        schedule = (decision or Decision()).take(
            usual, lambda s: (other for other in ways(s) if other.width == packed and not other.pack_rhs)
        )
        nest = nest_in_panels(nest)
    elif schedule is None:
        schedule = (decision or Decision()).take(choose(nest, target, threads), near(nest, target, threads))
    tiling = Tiling(w, nest, schedule, epilogue, light)
    tiling.run()
    text = w.text().replace("SCRATCH", str(tiling.scratch))
    return Generated(text, tiling.tiles, tiling.scratch, tiling.packed_lhs is not None and tiling.by_panels)


def describe(value: Value, lhs: str, rhs: str, out: str) -> Contraction:
    """The loops and strides of a contract or convolution value, whose operands and result are in the named buffers."""
    generic = value.generic
    assert generic is not None
    names, signed = (lhs, rhs), _signedness(value)
    buffers, steps = [], []
    for operand, map_, name, sign in zip(value.operands[:2], generic.input_maps, names, signed, strict=True):
        panels = operand.panels
        offset, moves = flat_strides(map_, panels.shape if panels else operand.shape, len(generic.extents))
        width = panels.width if panels else 0
        buffers.append(Buffer(name, operand.shape, storage_type(operand.element), offset, sign, width))
        steps.append(moves)
    dims = {d: (position, step) for position, e in enumerate(generic.result_maps[0]) for d, step in e.terms}
    axes = tuple(Axis(n, steps[0][d], steps[1][d], *dims.get(d, ())) for d, n in enumerate(generic.extents))
    result = Buffer(out, value.shape, storage_type(value.element))
    return Contraction(axes, buffers[0], buffers[1], result, logical=value.element == "i1")


def flat_strides(map_: Map, shape: tuple[int, ...], loops: int) -> tuple[int, list[int]]:
    """(element read at loop indices 0, elements moved by each loop) of an affine map into a row-major buffer."""
    offset, moves = 0, [0] * loops
    for expression, step in zip(map_, strides(shape), strict=True):
        offset += expression.constant * step
        for dim, factor in expression.terms:
            moves[dim] += factor * step
    return offset, moves


def _signedness(value: Value) -> list[bool]:
    """Whether each operand is widened as signed: its extension in the body, signed where there is none."""
    assert value.generic is not None
    unsigned = {i for op in value.generic.body.ops if op.name == "arith.extui" for i in op.operands}
    return [False if value.element == "i1" else k not in unsigned for k in range(2)]


@register("contract", "convolution", epilogue=True)
def emit(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a contraction, with the elementwise values that follow it in its epilogue."""
    root, stores = group.root, group.stores
    lhs, rhs, initial = root.operands[:3]
    target, w = machine(options), ScopedWriter()
    w.rounds_bfloat16, w.has_avx512 = "avx512bf16" in features_of(options), target.has_avx512
    fused = Fused(w, group.members, target.lanes(accumulator(storage_type(root.element))))
    finishing = _Finishing(fused, group, [f"%out{k}" for k in range(len(stores))])
    if 0 in (lhs.size, rhs.size):  # nothing to add up
        tiles = loop_rows(fused, root.shape, lambda place: finishing.store(place, fused.get(initial, place)))
        return finish(name, w, fused, stores, finishing.names, tiles)
    spec = describe(root, fused.buffer(lhs), fused.buffer(rhs), finishing.names[0])
    plain = stores == [root] and root.element != "i1" and _is_zero(initial)
    epilogue = None if plain else finishing.element
    threads, light = options.worker_count(), is_light(group)
    narrow = tiled(w, spec, options, finishing.element, _as_it_is(group)) or grouped(w, spec, options, epilogue)
    if narrow is not None:
        text = w.text().replace("SCRATCH", str(narrow.scratch))
        code = Generated(text, narrow.tiles, narrow.scratch, narrow.copies)
    elif (made := slid(w, root, spec, target, threads, epilogue, group.decision, light)) is not None:
        code = Generated(w.text().replace("SCRATCH", str(made.scratch)), made.tiles, made.scratch, made.setup)
    else:
        code = generate(spec, target, epilogue, threads, None, w, group.decision, light)
    scratch = ("%scratch", code.scratch) if code.scratch else None
    operands = [(ssa, value) for value, ssa in fused.buffers.items()]
    text = function(name, operands, list(zip(finishing.names, stores, strict=True)), code.body, scratch)
    pairs = inplace_pairs(fused, stores, finishing.places)
    boxes = {k: value.operands[0] for k, value in enumerate(stores) if value.kind == "insert"}
    safe = tuple((result, k) for result, k in pairs if operands[k][1] not in (lhs, rhs) and result not in boxes)
    return Kernel(
        name,
        text,
        tuple(fused.buffers),
        tuple(stores),
        code.tiles,
        code.scratch,
        updates=tuple((k, target) for k, target in boxes.items() if target.kind != "empty"),
        inplace=safe,
        nanoseconds=_nanoseconds(spec),
        setup=code.setup,
    )


def is_light(group: Group) -> bool:
    """Are the elementwise values that follow a contraction a few instructions?"""
    return sum(own_cost(value) for value in group.members if value is not group.root) <= LIGHT


def _nanoseconds(spec: Contraction) -> float:
    """An estimate for one thread: multiplying, or reading the operands where that takes longer."""
    touched = sum(buffer.size * item_bytes(buffer.dtype) for buffer in (spec.lhs, spec.rhs))
    products = math.prod(axis.extent for axis in spec.axes)
    return max(products * _NANOSECONDS_PER_PRODUCT, touched * _NANOSECONDS_PER_BYTE)


@dataclass
class _Finishing:
    """Turns finished sums into the values that a group stores."""

    fused: Fused
    group: Group
    names: list[str]  # of the results' buffers
    places: list[Place] = field(default_factory=list)  # where results were stored

    def element(self, element: Element) -> None:
        """The epilogue."""
        self.fused.mask = element.mask
        place = tuple(Index(p, 1 if d == element.dim else 0) for d, p in enumerate(element.place))
        initial, number = self.group.root.operands[2], element.number
        if not _is_zero(initial):
            number = _plus(self.fused.w, self.fused.get(initial, place), number)
        self.store(place, number)
        self.fused.mask = ""

    def store(self, place: Place, number: Num) -> None:
        """Compute and store everything at a place of the result, where the root is `number`."""
        fused = self.fused
        fused.define(self.group.root, place, number)
        sources = [value.operands[1] if value.kind == "insert" else value for value in self.group.stores]
        numbers = [fused.get(value, place) for value in sources]
        for value, name, stored in zip(self.group.stores, self.names, numbers, strict=True):
            fused.store(value, name, fused.box(value, place) if value.kind == "insert" else place, stored)
        self.places.append(place)
        fused.phase += 1


def _is_zero(value: Value) -> bool:
    """Do the sums start from nothing?"""
    if value.splat is None or value.element == "i1":
        return value.splat == "false"
    return not value.splat.startswith("0x") and float(value.splat) == 0


def _as_it_is(group: Group) -> str:
    """The element type of what a group stores, if that is its sums alone, as they are or rounded; else nothing."""
    (stored, *others), root = group.stores, group.root
    if others or root.element == "i1" or not _is_zero(root.operands[2]):
        return ""
    generic = stored.generic
    if stored is root:
        return storage_type(root.element)
    if stored.kind != "map" or generic is None or stored.operands != (root,) or stored.shape != root.shape:
        return ""
    ops, same_place = generic.body.ops, generic.input_maps == generic.result_maps
    rounds = len(ops) == 1 and ops[0].name == "arith.truncf" and generic.body.yields == ops[0].results
    return stored.element if rounds and same_place else ""


def _plus(w: ScopedWriter, a: Num, b: Num) -> Num:
    name = "arith.ori" if a.element == "i1" else "arith.addi" if a.element[0] == "i" else "arith.addf"
    return apply(w, ScalarOp(name, (0, 1), (2,), (a.element,)), [a, b])[0]
