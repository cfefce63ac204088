"""Where a matrix of scores comes from: the values behind a contraction that uses scores up (attention.py).

    contract(exp(contract(%q, %k) * 0.1 - %m) / %l, %v)
             └── contractions that make scores, reductions along columns, and what is elementwise in between

Dimensions are told apart by where they go, as axes of the scores: outer ones, rows, columns. Each value in between is
known with the axis of each of its dimensions, so that broadcasts, transposes and dimensions of extent 1 do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Generic, Value

Axes = tuple[int | None, ...]  # of each dimension: a number into the extents of the scores, None for extent 1

LEAST = 16  # rows or columns below which a matrix of scores is not worth the trouble
MOST_FEATURES = 512
DEEPEST = 200
_NARROW = ("bf16", "f16")
MOST_VALUES = 200  # looked at for one matrix of scores, or long programs take a time that grows with their square


@dataclass(frozen=True)
class Product:
    """A contraction that makes scores, or uses them up.

    Args:
        value: the contraction; its generic has a loop for each axis and one for the features.
        axes: of each loop of it: an axis, `features`, or None for extent 1.
        features: extent of the features.
        scores: which operand holds scores; None where the contraction makes them.
        operand: for one that uses scores: the scores, without `factor`.
        factor: (an op, 'arith.mulf' or 'arith.divf', and a value per row): applied to each row's scores before the
            contraction, or, just as well, to the row of the result or of the other operand.
        scale: the contraction is meant so many times.
    """

    value: Value
    axes: Axes
    features: int
    scores: int | None = None
    operand: Value | None = None
    factor: tuple[str, Value] | None = None
    scale: float = 1.0

    def sums(self, axis: int) -> bool:
        """Is it a sum along an axis?"""
        generic = self.value.generic
        assert generic is not None
        return any(a == axis and d in generic.reductions for d, a in enumerate(self.axes))


@dataclass
class Sink:
    """A contraction over scores, with everything that its scores are computed from."""

    product: Product
    tree: Tree


def sink_of(value: Value, own: set[Value], narrow: bool = False) -> Sink | None:
    """A contraction that uses scores up, with where they come from; None for any other.

    Args:
        own: values of the graph that is looked at, which its regions and what is around it are not.
        narrow: scores may be rounded to 16 bits.
    """
    for position in (0, 1):
        scores = value.operands[position]
        fits = scores.element in ("f32", *(_NARROW if narrow else ())) and value.element == "f32"
        if scores.kind == "map" and fits and scores in own:
            tree = Tree(scores, own, narrow)
            product = tree.ok and tree.using(value, position)
            if product:
                return Sink(product, tree)
    return None


class Tree:
    """The values behind a matrix of scores: contractions, reductions, and what is elementwise in between."""

    def __init__(self, root: Value, own: set[Value], narrow: bool) -> None:
        self.own = own
        self.elements = ("f32", "i1", *(_NARROW if narrow else ()))
        sizes = [extent for extent in root.shape if extent != 1]
        self.count = len(sizes)
        self.axes: dict[Value, Axes] = {}
        self.heavy: dict[Value, bool] = {}  # does a value depend on a score? for all that were looked at
        self.contractions: dict[Value, Axes] = {}  # of their loops
        self.reductions: list[Value] = []
        self.column: int | None = None
        self.ok = False
        if self.count < 2:
            return
        found = iter(range(self.count))
        axes = tuple(None if extent == 1 else next(found) for extent in root.shape)
        try:
            fits = self._visit(root, axes, 0) and bool(self.reductions) and bool(self.contractions)
        except _Unfit:
            return
        self.ok = fits and any(map(_is_exponential, self.axes)) and self._set_row(root)

    def _set_row(self, root: Value) -> bool:
        """Number the axes: outer ones first, then rows, then columns."""
        column = self.column
        if column is None:
            return False
        apart = None
        for value, loops in self.contractions.items():
            reads = [_axes_read(value, k, loops) for k in (0, 1)]
            if (column in reads[0]) == (column in reads[1]):
                return False
            rows = reads[column in reads[0]] - reads[column not in reads[0]] - {None}
            apart = rows if apart is None else apart & rows
        rows_ = {axis for axis in apart or () if axis is not None and axis < self.count}
        if not rows_:
            return False
        row = max(rows_)
        order = [a for a in range(self.count) if a not in (row, column)] + [row, column]
        new: dict[int | None, int | None] = {old: position for position, old in enumerate(order)}
        new.update({None: None, self.count: self.count})
        sizes = [extent for extent in root.shape if extent != 1]
        self.extents = tuple(sizes[a] for a in order)
        self.axes = {value: tuple(new[a] for a in axes) for value, axes in self.axes.items()}
        self.contractions = {value: tuple(new[a] for a in axes) for value, axes in self.contractions.items()}
        return min(self.extents[-2:]) >= LEAST

    def _visit(self, value: Value, axes: Axes, depth: int) -> bool:
        """Look at a value whose dimensions are these axes; does it depend on a score?

        Raises:
            _Unfit: it does, in a way that does not fit.
        """
        known = self.heavy.get(value)
        if known is not None:
            if self.axes.get(value, axes) != axes and known:
                raise _Unfit
            return known
        if len(self.heavy) >= MOST_VALUES:
            raise _Unfit
        heavy = False
        if value.kind == "constant" and value.splat is not None:
            return False
        if value in self.own and depth < DEEPEST:
            if value.kind == "contract" and self._covers(axes):
                heavy = self._contraction(value, axes)
            elif value.kind == "reduce":
                heavy = self._reduction(value, axes, depth)
            elif value.kind == "map" and value.generic is not None:
                heavy = self._map(value, value.generic, axes, depth)
            elif value.kind == "reshape":
                heavy = self._reshape(value, axes, depth)
        self.heavy[value] = heavy
        if heavy:
            if value.element not in self.elements:
                raise _Unfit
            self.axes[value] = axes
        return heavy

    def _covers(self, axes: Axes) -> bool:
        return {a for a in axes if a is not None} == set(range(self.count))

    def _contraction(self, value: Value, axes: Axes) -> bool:
        loops = _loop_axes(value, axes, self.count)
        if loops is None or value.element != "f32" or not _is_zero(value.operands[2]):
            return False
        if any(operand.element not in self.elements for operand in value.operands[:2]):
            return False
        self.contractions[value] = loops
        return True

    def _reduction(self, value: Value, axes: Axes, depth: int) -> bool:
        generic = value.generic
        assert generic is not None
        missing = set(range(self.count)) - {a for a in axes if a is not None}
        reduced = [d for d in generic.reductions if generic.extents[d] != 1]
        if len(missing) != 1 or len(reduced) != 1 or generic.inputs != 1 or combiner_of(value) is None:
            return False
        (column,) = missing
        loops = _map_loops(generic, value, axes)
        if loops is None or self.column not in (None, column):
            return False
        loops[reduced[0]] = column
        inside = _operand_axes(generic, 0, value.operands[0], loops)
        if inside is None or not self._visit(value.operands[0], inside, depth + 1):
            return False
        if not self._covers(inside) or value.operands[1].splat is None or generic.captures or generic.scalars:
            raise _Unfit
        self.column = column
        self.reductions.append(value)
        return True

    def _map(self, value: Value, generic: Generic, axes: Axes, depth: int) -> bool:
        loops = _map_loops(generic, value, axes)
        if loops is None:
            return False
        heavy = False
        for k, operand in enumerate(value.operands):
            places = _operand_axes(generic, k, operand, loops) if k < generic.inputs else None
            if places is not None:
                heavy |= self._visit(operand, places, depth + 1)
        if heavy:
            for k, operand in enumerate(value.operands):
                if k >= generic.inputs and self._mentions(operand):
                    raise _Unfit
                if k < generic.inputs and self.heavy.get(operand) and _operand_axes(generic, k, operand, loops) is None:
                    raise _Unfit
            if any(op.regions for op in generic.body.ops):
                raise _Unfit
        return heavy

    def _mentions(self, value: Value) -> bool:
        return bool(self.heavy.get(value))

    def _reshape(self, value: Value, axes: Axes, depth: int) -> bool:
        """Dimensions of extent 1 come and go."""
        (source,) = value.operands
        if [n for n in source.shape if n != 1] != [n for n in value.shape if n != 1]:
            return False
        rest = iter(a for a, n in zip(axes, value.shape, strict=True) if n != 1)
        return self._visit(source, tuple(None if n == 1 else next(rest) for n in source.shape), depth + 1)

    def using(self, value: Value, position: int) -> Product | None:
        """`value` as a product that sums its scores' rows or columns; None where it does something else."""
        scores, generic = value.operands[position], value.generic
        assert generic is not None
        if not _is_zero(value.operands[2]) or value.operands[1 - position] in self.axes:
            return None
        loops: list[int | None] = [None] * len(generic.extents)
        for expression, axis in zip(generic.maps[position], self.axes[scores], strict=True):
            if axis is not None:
                if expression.dim is None:
                    return None
                loops[expression.dim] = axis
        features = [d for d, n in enumerate(generic.extents) if n != 1 and loops[d] is None]
        reduced = [d for d in generic.reductions if generic.extents[d] != 1]
        if len(features) != 1 or len(reduced) != 1 or features[0] in reduced:
            return None
        loops[features[0]] = self.count
        row, column = self.count - 2, self.count - 1
        other = _axes_read(value, 1 - position, tuple(loops))
        summed = loops[reduced[0]]
        if summed not in (row, column) or row + column - summed in other or summed not in other:
            return None
        extent = generic.extents[features[0]]
        if extent > MOST_FEATURES:
            return None
        inner, factor = self._peeled(scores)
        return Product(value, tuple(loops), extent, position, inner, factor)

    def _peeled(self, scores: Value) -> tuple[Value, tuple[str, Value] | None]:
        """Scores without the number per row that they are multiplied with or divided by."""
        generic = scores.generic
        if scores.kind != "map" or generic is None or generic.inputs != 2 or len(generic.body.ops) != 1:
            return scores, None
        (op,) = generic.body.ops
        if op.name not in ("arith.mulf", "arith.divf") or sorted(op.operands) != [0, 1]:
            return scores, None
        for k in (0,) if op.name == "arith.divf" else (0, 1):
            inner, factor = scores.operands[op.operands[k]], self._source(scores.operands[op.operands[1 - k]])
            axes = self.axes.get(factor)
            per_row = axes is not None and self.count - 1 not in axes
            if per_row and inner.kind == "map" and inner in self.axes and self._covers(self.axes[inner]):
                return inner, (op.name, factor)
        return scores, None

    def _source(self, value: Value) -> Value:
        """What a value is a broadcast of."""
        while value.kind == "map" and value.generic is not None and value in self.axes:
            if value.generic.body.ops or value.generic.body.yields != (0,) or value.generic.inputs != 1:
                break
            value = value.operands[0]
        return value


def _is_exponential(value: Value) -> bool:
    """Without one it is no softmax: normalised rows of a dense layer, whose width is not worth taking apart."""
    return (
        value.kind == "map" and value.generic is not None and any(o.name == "math.exp" for o in value.generic.body.ops)
    )


class _Unfit(Exception):
    """What was looked at is no matrix of scores as this module knows them."""


def _is_zero(value: Value) -> bool:
    return value.splat is not None and not value.splat.startswith("0x") and float(value.splat) == 0


def _map_loops(generic: Generic, value: Value, axes: Axes) -> dict[int, int] | None:
    """The axis that each loop walks, from the axes of the result's dimensions."""
    loops: dict[int, int] = {}
    for expression, axis in zip(generic.result_maps[value.result_index], axes, strict=True):
        if axis is not None:
            if expression.dim is None:
                return None
            loops[expression.dim] = axis
    return loops


def _operand_axes(generic: Generic, k: int, operand: Value, loops: dict[int, int]) -> Axes | None:
    """The axes of an operand's dimensions; None where one of them is read in another way."""
    found: list[int | None] = []
    for expression, extent in zip(generic.maps[k], operand.shape, strict=True):
        axis = loops.get(expression.dim) if expression.dim is not None else None
        if extent != 1 and axis is None:
            return None
        found.append(axis if extent != 1 else None)
    return tuple(found)


def _loop_axes(value: Value, axes: Axes, features: int) -> Axes | None:
    """The axis of each loop of a contraction that makes scores; None where it has not one loop over features."""
    generic = value.generic
    assert generic is not None
    found = _map_loops(generic, value, axes)
    if found is None:
        return None
    loops: list[int | None] = [found.get(d) for d in range(len(generic.extents))]
    reduced = [d for d in generic.reductions if generic.extents[d] != 1]
    if len(reduced) != 1 or generic.extents[reduced[0]] > MOST_FEATURES:
        return None
    loops[reduced[0]] = features
    return tuple(loops)


def _axes_read(value: Value, position: int, loops: Axes) -> set[int | None]:
    """The axes that an operand of a contraction is read along."""
    generic = value.generic
    assert generic is not None
    return {loops[d] for e in generic.maps[position] for d, _ in e.terms}
