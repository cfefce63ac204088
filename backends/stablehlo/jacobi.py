"""Symmetric eigenvalues and singular values by Jacobi rotations, as StableHLO loops.

Rows are paired as in a round-robin tournament: the rows of the upper half play those of the lower half, all pairs at
once, then all rows but the first move one seat on; after n - 1 rounds all have met and sit where they began. One round
is a few operations on whole halves, so that a sweep costs O(n³). Arrays are [batch, rows, columns] of f32 or f64.
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.backends.stablehlo.expressions import Array, concatenate, constant, elementwise, for_loop, iota, sort
from thalweg.backends.stablehlo.factorize import householder_product, householder_qr

Halves = tuple[Array, Array]

# Convergence is quadratic: these reach the precision of the type with room to spare.
_SWEEPS = {"f32": 10, "f64": 14}
_PRECISION = {"f32": 2.0**-24, "f64": 2.0**-53}


def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (ascending, [batch, n]) and eigenvectors (columns, [batch, n, n]) of symmetric matrices."""
    batch, n, _ = a.shape
    padded = _pad_to_even(_pad_to_even(a, 1), 2)
    size = padded.shape[1]

    def play(_: Array, carried: list[Array]) -> list[Array]:
        matrix, vectors = carried
        (top, bottom), half = _halves(matrix, 1), size // 2
        first, second, cross = _diagonal(top, 0), _diagonal(bottom, half), _diagonal(top, half)
        cosine, sine = _rotation(first, second, cross)
        turned = concatenate(_seats(*_rotate(top, bottom, cosine, sine, 1), 1), 1)
        left, right = _halves(turned, 2)
        # The columns are rotated by the same angles, before their seats change.
        columns = _seats(*_rotate(left, right, cosine, sine, 2), 2)
        moved = _seats(*_rotate(*_halves(vectors, 1), cosine, sine, 1), 1)
        return [concatenate(columns, 2), concatenate(moved, 1)]

    matrix, vectors = _sweeps(play, [padded, _identity(batch, size, a.element)], size)
    values = _diagonal(matrix, 0).narrow(1, 0, n)
    vectors = vectors.narrow(1, 0, n).narrow(2, 0, n)
    values, order = sort([values, iota(1, values.shape)], 1, "LT")
    return values, _rows(vectors, order).transpose(0, 2, 1)


def svd(a: Array, full: bool) -> tuple[Array, Array, Array]:
    """Singular values (descending), left vectors (columns) and right vectors (rows): a = u · diag(s) · v.

    Args:
        full: whether u and v are square.
    """
    batch, rows, columns = a.shape
    if rows < columns:
        values, u, v = svd(a.transpose(0, 2, 1), full)
        return values, v.transpose(0, 2, 1), u.transpose(0, 2, 1)
    lines = _pad_to_even(a.transpose(0, 2, 1), 1)
    size = lines.shape[1]

    def play(_: Array, carried: list[Array]) -> list[Array]:
        lines, vectors = carried
        top, bottom = _halves(lines, 1)
        cosine, sine = _rotation((top * top).sum([2]), (bottom * bottom).sum([2]), (top * bottom).sum([2]))
        moved = [_seats(*_rotate(*_halves(x, 1), cosine, sine, 1), 1) for x in (lines, vectors)]
        return [concatenate(halves, 1) for halves in moved]

    lines, vectors = _sweeps(play, [lines, _identity(batch, size, a.element)], size)
    lines = lines.narrow(1, 0, columns)
    vectors = vectors.narrow(1, 0, columns).narrow(2, 0, columns)
    lengths = elementwise("sqrt", (lines * lines).sum([2]))
    values, order = sort([lengths, iota(1, lengths.shape)], 1, "GT")
    scale = values.equals(0).select(values.like(1), values).spread((batch, columns, rows), (0, 1))
    left = (_rows(lines, order) / scale).transpose(0, 2, 1)
    return values, _completed(left, rows if full else columns), _rows(vectors, order)


def _completed(columns: Array, count: int) -> Array:
    """Orthonormal columns, the first ones as given: zero ones (of singular value 0) are filled in, others added."""
    batch, rows, given = columns.shape
    packed, scales = householder_qr(columns)
    signs = _diagonal(packed, 0) < 0
    if count > given:
        padding = constant(0, columns.element, (batch, rows, count - given))
        packed = concatenate([packed, padding], 2)
        signs = concatenate([signs, constant(0, "i1", (batch, count - given))], 1)
    basis = householder_product(packed, scales)
    return signs.spread(basis.shape, (0, 2)).select(-basis, basis)


def _sweeps(play: Callable[[Array, list[Array]], list[Array]], start: list[Array], size: int) -> list[Array]:
    return for_loop(_SWEEPS[start[0].element] * (size - 1), start, play)


def _rotation(first: Array, second: Array, cross: Array) -> Halves:
    """cos and sin of the angles that make [[first, cross], [cross, second]] diagonal; 1 and 0 where it is already.

    What is diagonal to the precision of the type is left alone: rotations in vain would only add rounding errors.
    """
    first_root, second_root = (elementwise("sqrt", elementwise("abs", a)) for a in (first, second))
    done = elementwise("abs", cross).compare("LE", first_root * second_root * _PRECISION[cross.element])
    tau = (second - first) / done.select(cross.like(1), cross * 2)
    size = elementwise("abs", tau)
    # For large tau its square may overflow: then tan is 1/(2 tau).
    root = (size > 1e10).select(size, elementwise("sqrt", tau * tau + 1))
    tangent = (tau < 0).select(tau.like(-1), tau.like(1)) / (size + root)
    tangent = done.select(tangent.like(0), tangent)
    cosine = 1.0 / elementwise("sqrt", tangent * tangent + 1)
    return cosine, cosine * tangent


def _rotate(top: Array, bottom: Array, cosine: Array, sine: Array, dim: int) -> Halves:
    """(c·x - s·y, s·x + c·y), written so that rounding does not stretch the vectors little by little."""
    s, t = (a.spread(top.shape, (0, dim)) for a in (sine, sine / (cosine + 1)))
    return top - s * (bottom + t * top), bottom + s * (top - t * bottom)


def _halves(a: Array, dim: int) -> Halves:
    half = a.shape[dim] // 2
    return a.narrow(dim, 0, half), a.narrow(dim, half, 2 * half)


def _seats(top: Array, bottom: Array, dim: int) -> Halves:
    """All but the first of the upper half move on one seat: the upper half to the right, the lower to the left."""
    n = top.shape[dim]
    if n == 1:
        return top, bottom
    upper = [top.narrow(dim, 0, 1), bottom.narrow(dim, 0, 1), top.narrow(dim, 1, n - 1)]
    lower = [bottom.narrow(dim, 1, n), top.narrow(dim, n - 1, n)]
    return concatenate(upper if n > 2 else upper[:2], dim), concatenate(lower, dim)


def _pad_to_even(a: Array, dim: int) -> Array:
    if a.shape[dim] % 2 == 0:
        return a
    shape = [1 if d == dim else n for d, n in enumerate(a.shape)]
    return concatenate([a, constant(0, a.element, shape)], dim)


def _identity(batch: int, n: int, element: str) -> Array:
    shape = (batch, n, n)
    return iota(1, shape).equals(iota(2, shape)).convert(element)


def _diagonal(a: Array, offset: int) -> Array:
    """The elements a[b, i, i + offset] as [batch, rows]; rows without one give 0."""
    return (iota(1, a.shape) + offset).equals(iota(2, a.shape)).select(a, 0).sum([2 if a.shape[1] <= a.shape[2] else 1])


def _rows(a: Array, order: Array) -> Array:
    """Rows of every matrix in the order [batch, rows], by a product with a permutation matrix."""
    batch, n = order.shape
    shape = (batch, n, n)
    chosen = order.spread(shape, (0, 1)).equals(iota(2, shape)).convert(a.element)
    return chosen.dot(a, (2, 1), batch=1)
