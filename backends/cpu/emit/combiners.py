"""Associative combiners of reductions: what lets a reduction run in several accumulators and in vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.scalar import Num, apply, constant, lanes_type, register_type, select, widen
from thalweg.backends.cpu.emit.writer import Writer
from thalweg.backends.cpu.graph import Body, ScalarOp, Value

# op -> (kind of vector.reduction, neutral element: a number, or which end of the type's range)
_COMBINERS = {
    "arith.addf": ("add", "0.0"),
    "arith.addi": ("add", "0"),
    "arith.mulf": ("mul", "1.0"),
    "arith.muli": ("mul", "1"),
    "arith.maximumf": ("maximumf", "lowest"),
    "arith.minimumf": ("minimumf", "highest"),
    "arith.maxsi": ("maxsi", "lowest"),
    "arith.minsi": ("minsi", "highest"),
    "arith.maxui": ("maxui", "0"),
    "arith.minui": ("minui", "ones"),
    "arith.andi": ("and", "ones"),
    "arith.ori": ("or", "0"),
    "arith.xori": ("xor", "0"),
}
_EXTREMES = {"arith.maximumf": "ogt", "arith.minimumf": "olt"}
# Of e4m3fn, which has none, the largest number.
_INFINITY = {"f64": "7FF0000000000000", "f32": "7F800000", "f16": "7C00", "bf16": "7F80", "f8E4M3FN": "7E",
             "f8E5M2": "7C"}
_MINUS_INFINITY = {"f64": "FFF0000000000000", "f32": "FF800000", "f16": "FC00", "bf16": "FF80", "f8E4M3FN": "FE",
                   "f8E5M2": "FC"}


def combines(name: str) -> bool:
    """Is an op associative, with a neutral element that is known here?"""
    return name in _COMBINERS


@dataclass(frozen=True)
class Combiner:
    """running = op(running, contribution), where `contribution` is a body that yields what one element adds."""

    op: ScalarOp
    element: str
    contribution: Body

    @property
    def neutral_text(self) -> str:
        """The neutral element, as the text of a constant."""
        text = _COMBINERS[self.op.name][1]
        if self.element == "i1":
            return "true" if text in ("ones", "highest") else "false"
        if text == "ones":
            return "-1"
        return self._end(text) if text in ("lowest", "highest") else text

    def neutral(self, w: Writer, lanes: int) -> Num:
        """The vector of neutral elements."""
        return constant(w, self.neutral_text, self.element, lanes)

    def _end(self, which: str) -> str:
        if self.element in _INFINITY:
            return "0x" + (_MINUS_INFINITY if which == "lowest" else _INFINITY)[self.element]
        bits = int(self.element[1:])
        return str(-(1 << (bits - 1)) if which == "lowest" else (1 << (bits - 1)) - 1)

    def combine(self, w: Writer, running: Num, contribution: Num) -> Num:
        if self.op.name in _EXTREMES:
            return self._extreme(w, running, contribution)
        return apply(w, self.op, [running, contribution])[0]

    def _extreme(self, w: Writer, running: Num, contribution: Num) -> Num:
        """The larger (or smaller) of two numbers, NaN if there is one; either of two zeros. `arith.maximumf`, which
        tells zeros apart, takes twice the instructions."""
        lanes = max(running.lanes, contribution.lanes)
        running, contribution = widen(w, running, lanes), widen(w, contribution, lanes)
        kind = running.type
        name, other = running.name, contribution.name
        first = w.op(f"arith.cmpf {_EXTREMES[self.op.name]}, {name}, {other} : {kind}")
        best = select(w, first, name, other, kind, lanes)  # `other`, where either is NaN
        # This way round it is a masked `vmaxps`; asked for `uno`, LLVM joins the two conditions and loses the maximum.
        defined = w.op(f"arith.cmpf ord, {name}, {name} : {kind}")
        return Num(select(w, defined, best, name, kind, lanes), self.element, lanes)

    def masked(self, w: Writer, contribution: Num, mask: str) -> Num:
        """The contribution where the mask is set, the neutral element elsewhere."""
        if not mask:
            return contribution
        lanes = contribution.lanes
        neutral = self.neutral(w, lanes)
        name = select(w, mask, contribution.name, neutral.name, contribution.type, lanes)
        return Num(name, self.element, lanes)

    def horizontal(self, w: Writer, vector: Num) -> Num:
        """All lanes of a vector combined."""
        if vector.lanes == 1:
            return vector
        if self.op.name in _EXTREMES:
            return self._folded(w, vector)
        register = register_type(self.element)
        kind = _COMBINERS[self.op.name][0]
        source = lanes_type(register, vector.lanes)
        return Num(w.op(f"vector.reduction <{kind}>, {vector.name} : {source} into {register}"), self.element)

    def _folded(self, w: Writer, vector: Num) -> Num:
        """All lanes combined by folding the vector in half until one lane is left."""
        register = register_type(self.element)
        while vector.lanes > 1:
            half = vector.lanes // 2
            kind, places = lanes_type(register, vector.lanes), [range(half), range(half, 2 * half)]
            if half == 1:
                halves = [w.op(f"vector.extract {vector.name}[{k}] : {register} from {kind}") for k in (0, 1)]
            else:
                halves = [
                    w.op(f"vector.shuffle {vector.name}, {vector.name} [{', '.join(map(str, p))}] : {kind}, {kind}")
                    for p in places
                ]
            low, high = (Num(name, self.element, half) for name in halves)
            vector = self.combine(w, low, high)
        return vector


def combiner_of(value: Value) -> Combiner | None:
    """The combiner of a reduction with one result, or None where its body is not of the form op(running,
    f(elements)).
    """
    generic = value.generic
    assert generic is not None
    body = generic.body
    if len(generic.result_maps) != 1 or not body.ops:
        return None
    last, running = body.ops[-1], generic.inputs
    if last.name not in _COMBINERS or last.results != body.yields or last.operands.count(running) != 1:
        return None
    earlier = body.ops[:-1]
    if any(running in op.operands or op.regions for op in earlier):
        return None
    (other,) = (index for index in last.operands if index != running)
    return Combiner(replace(last, operands=(0, 1)), value.element, Body(body.arguments, earlier, (other,)))
