"""Matrices that are multiplied by again and again are laid out for that once (panels.py).

In every iteration of a loop: they are packed before it.

    before:  while { %r = contract %h, %w : f32[20,1024], f32[1024,2048] }           %w comes from outside
    after:   %p = pack %w : f32[64,1024,32]; while { %r = contract %h, %p }

In every call of a program, as weights are that it does not change: what is computed from those alone, up to the packed
matrix, is a program of its own, and the matrix an argument more. Whoever calls runs the first program whenever the
weights have changed (weights.py).

    before:  main(%x, %w) { %t = transpose %w; %r = contract %x, %t }                %w is steady
    after:   prepare(%x, %w) { %t = transpose %w; %p = pack %t; return %p }
             main(%x, %w, %p) { %r = contract %x, %p }

Reading a packed matrix in order is what makes products of few rows fast: they read it once for each few thousand
multiplications. Others, and convolutions, would copy it in every call.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit import convolve, tiled
from thalweg.backends.cpu.emit.blocking import FEW_ROWS, in_panels
from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.nest import Nest, classify, item_bytes
from thalweg.backends.cpu.emit.sliding import sliding
from thalweg.backends.cpu.graph import Graph, Value, renumber, tidy
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.panels import Panels

LEAST_BYTES = 1 << 16  # of a matrix in a loop: smaller ones stay in the first cache as they are
LEAST_STEADY_BYTES = 1 << 12  # of one that is packed once for all calls
_COMPUTED = ("map", "reshape", "slice", "insert", "reduce", "pack")  # kinds that are computed before the first call
_KNOWN = ("constant", "empty")


def hoist_packing(graph: Graph, options: CpuOptions) -> Graph:
    """Pack before the loops of a graph, and of those nested in it, what they multiply by; changes it in place."""
    if _hoist(graph, options):
        renumber(graph)
        tidy(graph)
    return graph


def _hoist(graph: Graph, options: CpuOptions) -> bool:
    """Whether anything was changed."""
    changed, values = False, []
    for value in graph.values:
        if value.regions and value is value.peers[0]:
            for region in value.regions:
                changed |= _hoist(region, options)
            if value.op_name == "stablehlo.while":
                values += _packs(value, options)
        values.append(value)
    changed |= len(values) > len(graph.values)
    graph.values = values
    return changed


def _packs(loop: Value, options: CpuOptions) -> list[Value]:
    """What the products of a loop read instead of matrices from outside, which they do from now on."""
    made: dict[tuple[Value, Panels], Value] = {}
    for region in loop.regions:
        inside = {*region.args, *region.values}
        for value in region.values:
            found = _product(value, options)
            if found is None or not 1 < found[1].row_count <= FEW_ROWS:
                continue
            which, nest = found
            if value.operands[which] in inside or _bytes(value.operands[which]) < LEAST_BYTES:
                continue
            panels = _panels(nest, options)
            _read_packed(value, which, made.setdefault((value.operands[which], panels), _pack(value, which, panels)))
    return list(made.values())


def _bytes(value: Value) -> int:
    return value.size * item_bytes(value.element)


def _product(value: Value, options: CpuOptions) -> tuple[int, Nest] | None:
    """The operand of a product that can be packed (0 or 1), and the product's loops."""
    if value.kind not in ("contract", "convolution") or value.element not in ("f32", "f64"):
        return None
    if any(operand.size == 0 or operand.panels for operand in value.operands[:2]):
        return None
    spec = describe(value, "%0", "%1", "%out")
    if tiled.fitting(spec, options) is not None:  # they pack for themselves
        return None
    nest = classify(spec, machine(options).lanes(value.element), False)
    lane = nest.lane
    plain = not nest.batch and lane.rhs != 0 and lane.lhs == 0 and bool(nest.sums)
    return (int(nest.rhs.name[1:]), nest) if plain and nest.rhs.dtype == nest.lhs.dtype == value.element else None


def _panels(nest: Nest, options: CpuOptions) -> Panels:
    """How a product reads its shared operand."""
    sums = tuple((axis.extent, axis.rhs) for axis in nest.sums)
    width = in_panels(nest, machine(options), options.worker_count()).width
    return Panels(nest.rhs.shape, nest.rhs.offset, nest.lane.rhs, nest.lane.extent, sums, width)


def _pack(value: Value, which: int, panels: Panels) -> Value:
    """Operand `which` of a product in panels."""
    source = value.operands[which]
    return Value(0, "pack", panels.packed, value.element, (source,), location=value.location, panels=panels)


def _read_packed(value: Value, which: int, packed: Value) -> None:
    value.operands = tuple(packed if k == which else operand for k, operand in enumerate(value.operands))


# What is steady from call to call.


@dataclass(frozen=True)
class Split:
    """A program in two.

    Args:
        main: the program, whose last arguments are what `prepare` gives.
        prepare: a program of the same arguments, without those.
        sources: the arguments that it reads.
    """

    main: Graph
    prepare: Graph
    sources: tuple[int, ...]


def split_steady(graph: Graph, steady: Collection[int], options: CpuOptions) -> Split | None:
    """Take out of a graph what lays out matrices that arguments `steady` alone decide; None where there are none.
    Changes the graph in place.
    """
    split = _Splitting(graph, steady, options)
    split.walk(graph)
    if not split.packs:
        return None
    copies: dict[Value, Value] = {}
    outputs = [_copied(packed, copies) for packed in split.packs]
    arguments = [copies.get(argument) or _alone(argument) for argument in graph.args]
    sources = tuple(number for number, argument in enumerate(graph.args) if argument in copies)
    values = [copy for copy in copies.values() if copy.kind != "arg"]
    prepare = Graph(arguments, values, outputs)
    graph.args += split.packs.values()
    for part in (prepare, graph):
        renumber(part)
        tidy(part)
    return Split(graph, prepare, sources)


class _Splitting:
    """Finds the products of a graph, and of those nested in it, whose matrices are steady, and lets them read arguments
    instead: `packs` tells which."""

    def __init__(self, graph: Graph, steady: Collection[int], options: CpuOptions) -> None:
        self.options = options
        self.packs: dict[Value, Value] = {}  # a matrix laid out, and the argument that stands for it
        self._made: dict[tuple[Value, Panels], Value] = {}
        self._steady = {argument: number in steady for number, argument in enumerate(graph.args)}

    def walk(self, graph: Graph) -> None:
        for value in graph.values:
            for region in value.regions if value.result_index == 0 else ():
                self.walk(region)
            for which, operand in enumerate(value.operands):
                if operand.kind == "pack" and self.is_steady(operand):
                    _read_packed(value, which, self._argument(operand))
            found = self._matrix(value)
            if found is not None:
                which, panels = found
                key = (value.operands[which], panels)
                packed = self._made.setdefault(key, _pack(value, which, panels))
                _read_packed(value, which, self._argument(packed))

    def _argument(self, packed: Value) -> Value:
        argument = Value(0, "arg", packed.shape, packed.element, location=packed.location, panels=packed.panels)
        return self.packs.setdefault(packed, argument)

    def _matrix(self, value: Value) -> tuple[int, Panels] | None:
        """The operand of a value that is to be packed, and how."""
        form = sliding(value)
        if form is not None and not any(operand.panels for operand in value.operands[:2]):
            spec, target = describe(value, "%0", "%1", "%out"), machine(self.options)
            panels = convolve.panels(form, spec, target, self.options.worker_count())
            if panels is not None:
                return (1, panels) if self._pays(value.operands[1]) else None
            if form.count > 1 or convolve.plan(form, spec, target, self.options.worker_count()) is not None:
                return None
        found = _product(value, self.options)
        # What one row is multiplied by is read once: in any order, as fast as it comes.
        if found is None or found[1].row_count == 1 or not self._pays(value.operands[found[0]]):
            return None
        return found[0], _panels(found[1], self.options)

    def _pays(self, operand: Value) -> bool:
        return _bytes(operand) >= LEAST_STEADY_BYTES and self.is_steady(operand)

    def is_steady(self, value: Value) -> bool:
        """Is a value the same in all calls between which the steady arguments are?"""
        pending = [value]
        while pending:  # what a value is computed from first: chains may be long
            top = pending[-1]
            computed = _is_computed(top)
            unknown = [operand for operand in top.operands if operand not in self._steady] if computed else []
            if top in self._steady or not unknown:
                steady = all(self._steady[operand] for operand in top.operands) if computed else top.kind in _KNOWN
                self._steady.setdefault(pending.pop(), steady)
            else:
                pending += unknown
        return self._steady[value]


def _is_computed(value: Value) -> bool:
    """Can a value be computed before the first call, if its operands can?"""
    return value.kind in _COMPUTED and len(value.peers) < 2 and all(isinstance(n, int) for n in value.offsets)


def _copied(value: Value, copies: dict[Value, Value]) -> Value:
    """A value for another graph, with all that it is computed from; operands come first in `copies`."""
    pending = [value]
    while pending:
        top = pending[-1]
        unknown = [operand for operand in top.operands if operand not in copies]
        if unknown and top not in copies:
            pending += unknown
            continue
        pending.pop()
        if top not in copies:
            copies[top] = _alone(top, tuple(copies[operand] for operand in top.operands))
    return copies[value]


def _alone(value: Value, operands: tuple[Value, ...] = ()) -> Value:
    """A copy that reads other operands and has no users."""
    return replace(value, operands=operands, users=[], peers=())
