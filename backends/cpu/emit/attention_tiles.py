"""The inner loops of attention: products of a block's rows with a panel of columns, and how columns are packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.control import Index, sum_loops
from thalweg.backends.cpu.emit.indexing import Index as LaneIndex
from thalweg.backends.cpu.emit.nest import strides
from thalweg.backends.cpu.emit.packing import transpose
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Map
from thalweg.backends.cpu.scores import Axes

UNROLL = 2  # summed elements in each round of the innermost loop


@dataclass(frozen=True)
class Memory:
    """A flat buffer of f32, from an element on."""

    name: str
    size: int
    base: Index = 0

    @property
    def memref(self) -> str:
        return f"memref<{self.size}xf32>"

    def at(self, w: ScopedWriter, *terms: tuple[Index, int]) -> Memory:
        """The same buffer from `base` + sum(index * step) on."""
        return Memory(self.name, self.size, w.linear(self.base, terms))


class Side:
    """How an operand or result of a product lies in memory: elements between neighbours along each axis."""

    def __init__(self, memory: Memory, map_: Map, shape: Sequence[int], axes: Axes, count: int) -> None:
        offset, self.steps = 0, [0] * (count + 1)  # the last one of the features
        for expression, step in zip(map_, strides(tuple(shape)), strict=True):
            offset += expression.constant * step
            for dim, factor in expression.terms:
                axis = axes[dim]
                if axis is not None:
                    self.steps[axis] += factor * step
        self.memory = Memory(memory.name, memory.size, offset)

    @property
    def feature(self) -> int:
        return self.steps[-1]

    def at(self, w: ScopedWriter, outer: Sequence[LaneIndex]) -> Memory:
        """The part for an index of the outer axes."""
        return self.memory.at(w, *((index.base, step) for index, step in zip(outer, self.steps, strict=False)))


@dataclass(frozen=True)
class Shape:
    """Of register tiles: `lanes` numbers a vector, up to `rows` rows by `vectors` vectors."""

    lanes: int
    rows: int
    vectors: int

    @property
    def kind(self) -> str:
        return f"vector<{self.lanes}xf32>"


def load(w: ScopedWriter, shape: Shape, where: Memory, used: int | None = None) -> str:
    """A vector; of `used` lanes only where given, the others are zero."""
    at = f"{where.name}[{w.ssa(where.base)}]"
    if used is None or used >= shape.lanes:
        return w.ordered(f"vector.load {at} : {where.memref}, {shape.kind}")
    mask = w.hoisted(f"vector.constant_mask [{used}] : vector<{shape.lanes}xi1>", "mask")
    types = f"{where.memref}, vector<{shape.lanes}xi1>, {shape.kind} into {shape.kind}"
    return w.ordered(f"vector.maskedload {at}, {mask}, {zero(w, shape)} : {types}")


def store(w: ScopedWriter, shape: Shape, where: Memory, vector: str, used: int | None = None) -> None:
    """Store a vector, or its first `used` lanes."""
    at = f"{where.name}[{w.ssa(where.base)}]"
    if used is None or used >= shape.lanes:
        w.emit(f"vector.store {vector}, {at} : {where.memref}, {shape.kind}")
        return
    mask = w.hoisted(f"vector.constant_mask [{used}] : vector<{shape.lanes}xi1>", "mask")
    w.emit(f"vector.maskedstore {at}, {mask}, {vector} : {where.memref}, vector<{shape.lanes}xi1>, {shape.kind}")


def zero(w: ScopedWriter, shape: Shape) -> str:
    return w.hoisted(f"arith.constant dense<0.0> : {shape.kind}", "zero")


def broadcast(w: ScopedWriter, shape: Shape, where: Memory) -> str:
    """One number in all lanes."""
    scalar = w.ordered(f"memref.load {where.name}[{w.ssa(where.base)}] : {where.memref}")
    return w.op(f"vector.broadcast {scalar} : f32 to {shape.kind}")


@dataclass(frozen=True)
class Factors:
    """The two sides of a product: number (row, sum) of `left`, vector (sum, column) of `right`.

    Args:
        row: elements of `left` from row to row; `left_sum` and `right_sum`: from one summed position to the next.
        columns: of the last vector of `right` only so many lanes may be read, where they are not a multiple of lanes.
    """

    left: Memory
    row: int
    left_sum: int
    right: Memory
    right_sum: int
    columns: int


# Of a tile, by its first row and its height: the first summed position that counts, and how many do.
Span = Callable[[Index, int], tuple[Index, Index]]


def multiply(
    w: ScopedWriter, shape: Shape, factors: Factors, rows: Index, most: int, count: Index | Span, out: Memory,
    step: int, adds: bool,
) -> None:  # fmt: skip
    """out[row * step + column] (+)= sum of left[row, sum] * right[sum, column], for `rows` rows.

    Args:
        rows: of which there are at most `most`; where it is not known, it is a multiple of `shape.rows`, or `most`.
        count: of what is summed; may differ from tile to tile.
        adds: to what is there already.
    """
    lanes = shape.lanes
    total = -(-factors.columns // lanes)
    groups = -(-total // shape.vectors)
    widths = [total // groups + (k < total % groups) for k in range(groups)]

    def tile(row: Index, height: int) -> None:
        first = 0
        begin, used = count(row, height) if callable(count) else (0, count)
        left, right = (begin, factors.left_sum), (begin, factors.right_sum)
        part = replace(factors, left=factors.left.at(w, left), right=factors.right.at(w, right))
        for width in widths:
            place = out.at(w, (row, step), (first, lanes))
            _tile(w, shape, part, row, height, first, width, used, place, step, adds)
            first += width

    whole = shape.rows
    if isinstance(rows, int):
        main = rows - rows % whole
        if main == whole:
            tile(0, whole)
        elif main:
            with w.for_(0, main, whole) as row:
                tile(row, whole)
        if rows % whole:
            tile(main, rows % whole)
        return
    rest = most % whole
    full = w.sub(rows, w.op(f"arith.remui {rows}, {w.index(whole)} : index"))
    with w.for_(0, full, whole) as row:
        tile(row, whole)
    if rest:
        with w.branch(w.op(f"arith.cmpi ult, {full}, {rows} : index")):
            tile(full, rest)


def _tile(
    w: ScopedWriter, shape: Shape, factors: Factors, row: Index, height: int, first: int, width: int, count: Index,
    out: Memory, step: int, adds: bool,
) -> None:  # fmt: skip
    """One register tile."""
    lanes = shape.lanes
    places = [out.at(w, (r, step), (v, lanes)) for r in range(height) for v in range(width)]
    sums = [load(w, shape, place) for place in places] if adds else [zero(w, shape)] * len(places)
    left, right = factors.left.at(w, (row, factors.row)), factors.right.at(w, (first, lanes))

    def body(indices: list[Index], carried: list[str]) -> list[str]:
        (index,) = indices
        here, there = left.at(w, (index, factors.left_sum)), right.at(w, (index, factors.right_sum))
        vectors = [load(w, shape, there.at(w, (v, lanes)), factors.columns - (first + v) * lanes) for v in range(width)]
        following = list(carried)
        for r in range(height):
            number = broadcast(w, shape, here.at(w, (r, factors.row)))
            for v, vector in enumerate(vectors):
                at = r * width + v
                following[at] = add_product(w, shape, number, vector, following[at])
        return following

    totals = sum_loops(w, [count], body, sums, shape.kind, UNROLL)
    for place, total in zip(places, totals, strict=True):
        store(w, shape, place, total)


def add_product(w: ScopedWriter, shape: Shape, a: str, b: str, c: str) -> str:
    """c + a * b, in one instruction where there is one."""
    both = w.op(f"arith.mulf {a}, {b} fastmath<contract> : {shape.kind}")
    return w.op(f"arith.addf {c}, {both} fastmath<contract> : {shape.kind}")


def times(w: ScopedWriter, shape: Shape, vector: str, scale: float) -> str:
    """A vector times a number."""
    if scale == 1.0:
        return vector
    number = w.hoisted(f"arith.constant dense<{scale:.17e}> : {shape.kind}", "scale")
    return w.op(f"arith.mulf {vector}, {number} fastmath<contract> : {shape.kind}")


def pack_columns(
    w: ScopedWriter, shape: Shape, source: Memory, column: int, feature: int, columns: int, features: int, to: Memory,
    panel: int, scale: float = 1.0,
) -> None:  # fmt: skip
    """Columns in panels of `panel`: number (column, feature) goes to [column // panel][feature][column % panel].

    Panels are whole: columns past the last one repeat it, or are zero.
    """
    lanes = shape.lanes
    if column == 1:
        _copy_panels(w, shape, source, feature, columns, features, to, panel, scale)
        return

    def at(j: Index, d: Index) -> Memory:
        """Where a column's features go."""
        whole = w.op(f"arith.divui {w.ssa(j)}, {w.index(panel)} : index")
        inside = w.sub(j, w.mul(whole, panel))
        return to.at(w, (whole, panel * features), (inside, 1), (d, panel))

    def block(j: Index, first: Index, used: int) -> None:
        vectors = []
        for n in range(lanes):
            place = w.minimum(w.add(j, n), columns - 1)
            vectors.append(_lane(w, shape, source.at(w, (place, column), (first, feature)), feature, used))
        for n, vector in enumerate(transpose(w, vectors, shape.kind)[:used]):
            store(w, shape, at(j, w.add(first, n)), times(w, shape, vector, scale))

    with w.for_(0, -(-columns // panel) * panel, lanes) as j:
        main = features - features % lanes
        if main:
            with w.for_(0, main, lanes) as d:
                block(j, d, lanes)
        if features % lanes:
            block(j, main, features % lanes)


def _lane(w: ScopedWriter, shape: Shape, where: Memory, step: int, used: int) -> str:
    """`used` numbers that lie `step` apart, as a vector."""
    if step == 1:
        return load(w, shape, where, used)
    steps = ", ".join(str(step * k) for k in range(shape.lanes))
    places = w.hoisted(f"arith.constant dense<[{steps}]> : vector<{shape.lanes}xi64>", "at")
    mask = w.hoisted(f"vector.constant_mask [{used}] : vector<{shape.lanes}xi1>", "mask")
    types = f"{where.memref}, vector<{shape.lanes}xi64>, vector<{shape.lanes}xi1>, {shape.kind} into {shape.kind}"
    return w.ordered(f"vector.gather {where.name}[{w.ssa(where.base)}][{places}], {mask}, {zero(w, shape)} : {types}")


def _copy_panels(
    w: ScopedWriter, shape: Shape, source: Memory, feature: int, columns: int, features: int, to: Memory, panel: int,
    scale: float,
) -> None:  # fmt: skip
    """`pack_columns` where columns lie side by side already."""
    lanes = shape.lanes

    def vector(d: Index, j: Index, used: int) -> None:
        whole = w.op(f"arith.divui {w.ssa(j)}, {w.index(panel)} : index")
        inside = w.sub(j, w.mul(whole, panel))
        value = times(w, shape, load(w, shape, source.at(w, (d, feature), (j, 1)), used), scale)
        store(w, shape, to.at(w, (whole, panel * features), (inside, 1), (d, panel)), value)

    with w.for_(0, features, 1) as d:
        main = columns - columns % lanes
        if main:
            with w.for_(0, main, lanes) as j:
                vector(d, j, lanes)
        if columns % lanes:
            vector(d, main, columns % lanes)
        for past in range(-(-columns // lanes) * lanes, -(-columns // panel) * panel, lanes):
            place = to.at(w, (past // panel, panel * features), (past % panel, 1), (d, panel))
            store(w, shape, place, zero(w, shape))


def copy_rows(
    w: ScopedWriter, shape: Shape, source: Memory, row: int, feature: int, rows: Index, features: int, to: Memory,
    step: int, change: Callable[[Index, str], str] | None = None,
) -> None:  # fmt: skip
    """Rows of features side by side, `step` apart: number (row, feature) goes to [row][feature].

    Args:
        change: what becomes of a vector of a row.
    """
    lanes = shape.lanes
    with w.for_(0, rows, 1) as r:
        for first in range(0, features, lanes):
            used = min(lanes, features - first)
            vector = _lane(w, shape, source.at(w, (r, row), (first, feature)), feature, used)
            vector = change(r, vector) if change else vector
            store(w, shape, to.at(w, (r, step), (first, 1)), vector)


def write_rows(
    w: ScopedWriter, shape: Shape, source: Memory, step: int, rows: Index, features: int, to: Memory, row: int,
    feature: int, change: Callable[[Index, str], str] | None = None,
) -> None:  # fmt: skip
    """The inverse of `copy_rows`: number (row, feature) of [row][feature] goes where the result has it."""
    lanes = shape.lanes
    with w.for_(0, rows, 1) as r:
        for first in range(0, features, lanes):
            used = min(lanes, features - first)
            vector = load(w, shape, source.at(w, (r, step), (first, 1)))
            vector = change(r, vector) if change else vector
            where = to.at(w, (r, row), (first, feature))
            if feature == 1:
                store(w, shape, where, vector, used)
                continue
            for n in range(used):
                number = w.op(f"vector.extract {vector}[{n}] : f32 from {shape.kind}")
                place = where.at(w, (n, feature))
                w.emit(f"memref.store {number}, {place.name}[{w.ssa(place.base)}] : {place.memref}")


def fill(w: ScopedWriter, shape: Shape, to: Memory, count: int, value: str) -> None:
    """`count` numbers, a multiple of lanes, all the same vector."""
    with w.for_(0, count, shape.lanes) as i:
        store(w, shape, to.at(w, (i, 1)), value)
