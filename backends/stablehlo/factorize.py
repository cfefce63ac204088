"""Matrix factorisations as StableHLO loops: LU, QR, symmetric eigenvalues, singular values.

Matrices come as f32 or f64 arrays [batch, rows, columns]. Each step works on the whole array, with masks in the place
of sub-matrices: slower than LAPACK, but one program for every matrix of the batch and for every backend.
"""

from __future__ import annotations

from thalweg.backends.stablehlo.expressions import Array, constant, elementwise, for_loop, iota


class _Places:
    """Row and column numbers of an array [batch, rows, columns]."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.rows = iota(1, shape)
        self.columns = iota(2, shape)

    def column(self, a: Array, k: Array) -> Array:
        """Column k of every matrix, [batch, rows]."""
        return self.columns.equals(k.spread(self.shape, ())).select(a, 0).sum([2])

    def row(self, a: Array, k: Array) -> Array:
        """Row k of every matrix, [batch, columns]; k may differ within the batch."""
        return self.rows.equals(k.spread(self.shape, (0,)[: k.rank])).select(a, 0).sum([1])

    def down(self, column: Array) -> Array:
        """[batch, rows] over all columns."""
        return column.spread(self.shape, (0, 1))

    def across(self, row: Array) -> Array:
        """[batch, columns] over all rows."""
        return row.spread(self.shape, (0, 2))


def lu(a: Array) -> tuple[Array, Array]:
    """P a = L U by Gaussian elimination with partial pivoting.

    Returns:
        L (unit diagonal, not stored) and U in one array, and the pivots i32[batch, min(rows, columns)]: row k was
        swapped with row pivots[k].
    """
    batch, rows, columns = a.shape
    steps = min(rows, columns)
    places = _Places(a.shape)
    numbers = iota(1, (batch, rows))

    def step(k: Array, carried: list[Array]) -> list[Array]:
        matrix, pivots = carried
        here = k.spread((batch, rows), ())
        candidates = (numbers >= here).select(elementwise("abs", places.column(matrix, k)), -1)
        largest = candidates.reduce("maximum", -1, [1]).spread((batch, rows), (0,))
        pivot = elementwise(
            "minimum",
            *_pair(candidates.equals(largest).select(numbers, rows - 1).reduce("minimum", rows - 1, [1]), rows - 1),
        )
        upper, lower = places.row(matrix, k), places.row(matrix, pivot)
        at, with_ = places.rows.equals(k.spread(a.shape, ())), places.rows.equals(pivot.spread(a.shape, (0,)))
        matrix = at.select(places.across(lower), with_.select(places.across(upper), matrix))
        column = places.column(matrix, k)
        divisor = numbers.equals(here).select(column, 0).sum([1]).spread((batch, rows), (0,))
        multipliers = divisor.equals(0).select(column, column / divisor)
        below = places.rows > k.spread(a.shape, ())
        right = places.columns > k.spread(a.shape, ())
        left = places.columns.equals(k.spread(a.shape, ()))
        matrix = (below & left).select(places.down(multipliers), matrix)
        matrix = (below & right).select(matrix - places.down(multipliers) * places.across(lower), matrix)
        return [
            matrix,
            iota(1, pivots.shape).equals(k.spread(pivots.shape, ())).select(pivot.spread(pivots.shape, (0,)), pivots),
        ]

    matrix, pivots = for_loop(steps, [a, constant(0, "i32", (batch, steps))], step)
    return matrix, pivots


def _pair(a: Array, number: int) -> tuple[Array, Array]:
    return a, a.like(number)


def householder_qr(a: Array) -> tuple[Array, Array]:
    """a = Q R with Q a product of reflections I - t v v'.

    Returns:
        R on and above the diagonal and v (whose leading 1 is not stored) below it in one array; the scales t,
        [batch, steps].
    """
    batch, rows, columns = a.shape
    steps = min(rows, columns)
    places = _Places(a.shape)
    numbers = iota(1, (batch, rows))

    def step(k: Array, carried: list[Array]) -> list[Array]:
        matrix, scales = carried
        here = k.spread((batch, rows), ())
        column = places.column(matrix, k)
        head = numbers.equals(here).select(column, 0).sum([1])
        tail = (numbers > here).select(column, 0)
        rest = (tail * tail).sum([1])
        norm = elementwise("sqrt", head * head + rest)
        trivial = rest.equals(0)
        beta = trivial.select(head, (head > 0).select(-norm, norm))
        scale = trivial.select(head.like(0), (beta - head) / beta)
        divisor = trivial.select(head.like(1), head - beta)
        vector = numbers.equals(here).select(tail.like(1), tail / divisor.spread(tail.shape, (0,)))
        products = (places.down(vector) * matrix).sum([1])
        updated = matrix - places.down(vector) * places.across(scale.spread(products.shape, (0,)) * products)
        below = places.rows > k.spread(a.shape, ())
        on = places.rows.equals(k.spread(a.shape, ()))
        left = places.columns.equals(k.spread(a.shape, ()))
        right = places.columns > k.spread(a.shape, ())
        matrix = right.select(updated, matrix)
        matrix = (left & on).select(beta.spread(a.shape, (0,)), (left & below).select(places.down(vector), matrix))
        return [
            matrix,
            iota(1, scales.shape).equals(k.spread(scales.shape, ())).select(scale.spread(scales.shape, (0,)), scales),
        ]

    matrix, scales = for_loop(steps, [a, constant(0, a.element, (batch, steps))], step)
    return matrix, scales


def householder_product(a: Array, scales: Array) -> Array:
    """The first columns of Q = H0 H1 … out of the vectors below the diagonal of `a` [batch, rows, columns]."""
    batch, rows, _ = a.shape
    steps = scales.shape[1]
    places = _Places(a.shape)
    numbers = iota(1, (batch, rows))
    identity = places.rows.equals(places.columns).convert(a.element)

    def step(i: Array, carried: list[Array]) -> list[Array]:
        (product,) = carried
        k = (steps - 1) - i
        here = k.spread((batch, rows), ())
        vector = (numbers > here).select(places.column(a, k), numbers.equals(here).convert(a.element))
        scale = iota(1, scales.shape).equals(k.spread(scales.shape, ())).select(scales, 0).sum([1])
        products = (places.down(vector) * product).sum([1])
        return [product - places.down(vector) * places.across(scale.spread(products.shape, (0,)) * products)]

    return for_loop(steps, [identity], step)[0]
