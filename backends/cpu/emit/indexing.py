"""Index arithmetic on places that may differ from lane to lane of a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.backends.cpu.emit.writer import Writer
from thalweg.backends.cpu.graph import Affine


@dataclass(frozen=True)
class Index:
    """The place that each lane reads along one dimension.

    Lane k reads at `base + k * step`, or, where `vector` is set, at element k of that `vector<lanes x index>`.

    Args:
        multiple: what `base` is known to be a multiple of.
        part: what this is the quotient or the remainder of, so that both can be put together again.
    """

    base: str | int = 0
    step: int = 0
    vector: str = ""
    multiple: int = field(default=1, compare=False)
    part: Part | None = field(default=None, compare=False)

    @property
    def is_line(self) -> bool:
        """Whether lanes differ by a step."""
        return bool(self.step) and not self.vector

    @property
    def divides(self) -> int:
        """What `base` is a multiple of: 0 of everything."""
        return abs(self.base) if isinstance(self.base, int) else self.multiple

    @property
    def uniform(self) -> bool:
        """Do all lanes read at the same place?"""
        return not self.step and not self.vector


@dataclass(frozen=True)
class Part:
    """Of what an index is the quotient by `divisor`, or the remainder."""

    whole: Index
    divisor: int
    is_quotient: bool


class Indexer:
    """Arithmetic on `Index` values for vectors of `lanes`, written with `w`.

    Args:
        divided_as: the integers in which vectors are divided; narrow ones, where all places fit, take a fraction.
    """

    def __init__(self, w: Writer, lanes: int, divided_as: str = "index") -> None:
        self.w = w
        self.lanes = lanes
        self.divided_as = divided_as

    def vector(self, index: Index) -> str:
        """The SSA vector of an index."""
        if index.vector:
            return index.vector
        kind = f"vector<{self.lanes}xindex>"
        base = self.w.op(f"vector.broadcast {self.w.ssa(index.base)} : index to {kind}")
        if not index.step:
            return base
        steps = ", ".join(str(k * index.step) for k in range(self.lanes))
        offsets = self.w.hoisted(f"arith.constant dense<[{steps}]> : {kind}", "lanes")
        return offsets if index.base == 0 else self.w.op(f"arith.addi {base}, {offsets} : {kind}")

    def line(self, index: Index, element: str) -> str:
        """The SSA vector of an index that `is_line`, as integers of another type, which may be narrower."""
        kind = f"vector<{self.lanes}x{element}>"
        start = self.w.op(f"arith.index_cast {self.w.ssa(index.base)} : index to {element}")
        base = self.w.op(f"vector.broadcast {start} : {element} to {kind}")
        steps = ", ".join(str(k * index.step) for k in range(self.lanes))
        offsets = self.w.hoisted(f"arith.constant dense<[{steps}]> : {kind}", "lanes")
        return self.w.op(f"arith.addi {base}, {offsets} : {kind}")

    def _vectors(self, name: str, left: Index, right: Index) -> Index:
        kind = f"vector<{self.lanes}xindex>"
        return Index(vector=self.w.op(f"arith.{name} {self.vector(left)}, {self.vector(right)} : {kind}"))

    def add(self, left: Index, right: Index) -> Index:
        if left.vector or right.vector:
            if right == Index(0):
                return left
            return right if left == Index(0) else self._vectors("addi", left, right)
        multiple = math.gcd(left.divides, right.divides)
        return Index(self.w.add(left.base, right.base), left.step + right.step, multiple=multiple)

    def sub(self, left: Index, right: Index) -> Index:
        if left.vector or right.vector:
            return left if right == Index(0) else self._vectors("subi", left, right)
        return Index(self.w.sub(left.base, right.base), left.step - right.step)

    def scale(self, index: Index, factor: int) -> Index:
        if factor == 1:
            return index
        if index.vector:
            return self._vectors("muli", index, Index(factor))
        return Index(self.w.mul(index.base, factor), index.step * factor, multiple=index.divides * abs(factor))

    def divide(self, index: Index, divisor: int) -> tuple[Index, Index]:
        """Quotient and remainder of a non-negative index by a constant."""
        if divisor == 1:
            return index, Index(0)
        if self._stays(index, divisor):
            quotient, rest = self.divide(Index(index.base), divisor)
            return quotient, Index(rest.base, index.step, multiple=self.lanes)
        if not index.uniform:
            whole, part = self._divide_vector(index, divisor)
            return (
                Index(vector=whole, part=Part(index, divisor, True)),
                Index(vector=part, part=Part(index, divisor, False)),
            )
        if isinstance(index.base, int):
            return Index(index.base // divisor), Index(index.base % divisor)
        by = self.w.index(divisor)
        times = self.w.op(f"arith.divui {index.base}, {by} : index")
        return Index(times), Index(self.w.op(f"arith.remui {index.base}, {by} : index"))

    def _stays(self, index: Index, divisor: int) -> bool:
        """Have all lanes of a line the same quotient, because vectors begin at multiples of their length?"""
        if not index.is_line or index.step != 1 or divisor % self.lanes:
            return False
        return index.divides % self.lanes == 0

    def _divide_vector(self, index: Index, divisor: int) -> tuple[str, str]:
        kind, own = (f"vector<{self.lanes}x{element}>" for element in (self.divided_as, "index"))
        if kind == own:
            numbers = self.vector(index)
        elif index.is_line:
            numbers = self.line(index, self.divided_as)
        else:
            numbers = self.w.op(f"arith.index_cast {self.vector(index)} : {own} to {kind}")
        by = self.w.hoisted(f"arith.constant dense<{divisor}> : {kind}", "by")
        quotient = self.w.op(f"arith.divui {numbers}, {by} : {kind}")
        back = self.w.op(f"arith.muli {quotient}, {by} : {kind}")
        rest = self.w.op(f"arith.subi {numbers}, {back} : {kind}")
        if kind == own:
            return quotient, rest
        names = [self.w.op(f"arith.index_cast {name} : {kind} to {own}") for name in (quotient, rest)]
        return names[0], names[1]

    def affine(self, expression: Affine, dims: Sequence[Index]) -> Index:
        """An affine expression at a point of the loops."""
        if expression.dim is not None:
            return dims[expression.dim]
        total = Index(expression.constant)
        for dim, factor in expression.terms:
            total = self.add(self.scale(dims[dim], factor), total)
        return total

    def linear(self, index: Sequence[Index], extents: Sequence[int]) -> Index:
        """The row-major position of an element. A quotient and its remainder are what they came from."""
        uniform, varying = Index(0), Index(0)
        for place, extent in zip(index, extents, strict=True):
            if extent == 1:
                continue
            uniform = self.scale(uniform, extent)
            whole = _joined(varying, place, extent)
            if whole is not None:
                varying = whole
            elif place.uniform:
                uniform, varying = self.add(uniform, place), self.scale(varying, extent)
            else:
                varying = self.add(self.scale(varying, extent), place)
        return self.add(uniform, varying)

    def delinear(self, position: Index, extents: Sequence[int]) -> list[Index]:
        """The coordinates of a row-major position; inverse of `linear`."""
        places: list[Index] = []
        remaining = [extent for extent in extents if extent != 1]
        for extent in reversed(extents):
            if extent == 1:
                places.append(Index(0))
                continue
            remaining.pop()
            if not remaining:
                places.append(position)
                position = Index(0)
            else:
                position, place = self.divide(position, extent)
                places.append(place)
        return places[::-1]

    def reshape(self, index: Sequence[Index], target: Sequence[int], source: Sequence[int]) -> list[Index]:
        """Where the element at `index` of a tensor of shape `target` lies in shape `source` (same row-major order).

        Dimensions are matched in groups of equal size, so that (2, 3, 8) -> (6, 8) leaves the last one alone.
        """
        groups = matching_groups(target, source)
        places: list[Index] = []
        for group_target, group_source in groups:
            inner = [index[d] for d in group_target]
            position = self.linear(inner, [target[d] for d in group_target])
            places += self.delinear(position, [source[d] for d in group_source])
        return places


def _joined(high: Index, low: Index, extent: int) -> Index | None:
    """Of what `high` is the quotient by `extent`, and `low` the remainder."""
    one, other = high.part, low.part
    if one is None or other is None or not one.is_quotient or other.is_quotient:
        return None
    return one.whole if one.divisor == other.divisor == extent and one.whole == other.whole else None


def matching_groups(target: Sequence[int], source: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Dimensions of two shapes of the same size, cut into the smallest groups with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    t = s = 0
    while t < len(target) or s < len(source):
        left, right = [], []
        a = b = 1
        if t < len(target):
            left, a, t = [t], target[t], t + 1
        if s < len(source):
            right, b, s = [s], source[s], s + 1
        while a != b:
            if (a < b and t < len(target)) or s >= len(source):
                left.append(t)
                a, t = a * target[t], t + 1
            else:
                right.append(s)
                b, s = b * source[s], s + 1
        groups.append((left, right))
    return groups
