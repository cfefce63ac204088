"""In which order a block of scores is computed: sweeps over its columns, with a reduction's end between each two.

    softmax(q kᵀ) v    sweep 0: scores = q kᵀ, maximum        sweep 1: e^(score - maximum), sum, times v
    its gradient       sweep 0: scores, e^…, times dO, dO vᵀ, a sum of their products      sweep 1: dS, times k, times q

What a later sweep needs, and what contractions read, waits in strips: a block's rows, whole, in the second cache.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from thalweg.backends.cpu.attention import Attention
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.scores import Product


@dataclass
class Sweep:
    """One walk over the columns of a block.

    Args:
        scores: contractions that are computed first, into their strips.
        at_hand: the strip of each value that is there before the elementwise work.
        stored: the strip of each value that the elementwise work leaves; it may take one of a value at hand.
        reductions: that run along.
        products: contractions whose scores are there after the elementwise work.
    """

    scores: list[Product] = field(default_factory=list)
    at_hand: dict[Value, int] = field(default_factory=dict)
    stored: dict[Value, int] = field(default_factory=dict)
    reductions: list[Value] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)

    def strip(self, product: Product) -> int:
        """The strip that holds the scores of a product of this sweep."""
        assert product.operand is not None
        return self.stored[product.operand] if product.operand in self.stored else self.at_hand[product.operand]


@dataclass(frozen=True)
class Sweeps:
    """All of a kernel's, and how many strips they use."""

    sweeps: list[Sweep]
    strips: int


class _Planner:
    def __init__(self, spec: Attention, products: Collection[Product], kept: Collection[Value]) -> None:
        self.spec, self.products = spec, products
        self.levels: dict[Value, int] = {}
        self.of_scores: dict[Value, bool] = {}
        self.needed: set[Value] = set()
        pending = [*kept, *(p.operand for p in products if p.operand), *(p.factor[1] for p in products if p.factor)]
        while pending:
            value = pending.pop()
            if value in spec.members and value not in self.needed:
                self.needed.add(value)
                pending += () if value.kind == "contract" else value.operands

    def level(self, value: Value) -> int:
        """In which sweep a value can be computed: how many reductions must have ended before."""
        if value not in self.spec.members or value.kind == "contract":
            return 0
        if value not in self.levels:
            inside = max((self.level(operand) for operand in value.operands), default=0)
            self.levels[value] = inside + (value.kind == "reduce")
        return self.levels[value]

    def is_of_scores(self, value: Value) -> bool:
        """Does a value differ from column to column because of the scores, so that it costs something to compute?"""
        if value not in self.spec.members or value.kind == "reduce":
            return False
        if value not in self.of_scores:
            found = value.kind == "contract" or any(self.is_of_scores(o) for o in value.operands)
            self.of_scores[value] = found
        return self.of_scores[value]

    def when(self, product: Product) -> int:
        """In which sweep a product can be added up. A factor of its rows must be known before rows are summed."""
        assert product.operand is not None
        early = product.factor is not None and product.sums(self.spec.row)
        return max(self.level(product.operand), self.level(product.factor[1]) if product.factor and early else 0)

    def plan(self) -> Sweeps:
        reductions = [v for v in self.spec.reductions if v in self.needed]
        last = max(
            [self.level(v) - 1 for v in reductions] + [self.level(p.operand) for p in self.products if p.operand]
        )
        sweeps = [Sweep() for _ in range(last + 1)]
        sweeps[0].scores = [p for p in self.spec.scores if p.value in self.needed]
        held = {product.value: k for k, product in enumerate(sweeps[0].scores)}
        strips = len(held)
        for number, sweep in enumerate(sweeps):
            sweep.reductions = [v for v in reductions if self.level(v) == number + 1]
            sweep.products = [p for p in self.products if self.when(p) == number]
            sweep.at_hand = held
            wanted = dict.fromkeys(p.operand for p in sweep.products if p.operand)
            wanted.update(dict.fromkeys(self._later(number)))
            free = [strip for value, strip in held.items() if value not in wanted]
            for value in wanted:
                if value not in held:
                    sweep.stored[value] = free.pop() if free else strips
                    strips = max(strips, sweep.stored[value] + 1)
            held = {v: sweep.stored.get(v, held.get(v, -1)) for v in self._later(number)}
        return Sweeps(sweeps, strips)

    def _later(self, number: int) -> list[Value]:
        """What sweeps after this one read of what this one and those before have computed."""
        found: dict[Value, None] = {}
        for value in sorted(self.needed, key=lambda v: v.id):
            if value.kind != "contract" and self.level(value) - (value.kind == "reduce") > number:
                for operand in value.operands:
                    if self.is_of_scores(operand) and self.level(operand) <= number:
                        found[operand] = None
        for product in self.products:
            if product.operand and self.when(product) > number >= self.level(product.operand):
                found[product.operand] = None
        return list(found)


def plan_sweeps(spec: Attention, products: Collection[Product], kept: Collection[Value]) -> Sweeps:
    """The sweeps that compute some of the products of `spec`, and some of the reductions that it keeps."""
    return _Planner(spec, products, kept).plan()
