"""Cholesky factors and triangular systems of large matrices, by blocks: most of the work is products of matrices.

    before: L = cholesky A : [n, n]
    after:  for each block of columns:     L11 = cholesky A11        64 x 64, one program (triangles.py)
                                           L21 = A21 / L11'          a triangular system of 64
                                           A22 -= L21 L21'           a product of matrices

    before: X = solve T X = B
    after:  for each block of rows:        X1 = solve T11 X1 = B1
                                           B2 -= T21 X1

Batches of matrices are factored beside each other.
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.backends.stablehlo.expressions import Array, clone_module, concatenate, constant
from thalweg.dialects.mlir import ir

SIDE = 64  # of the blocks, and of the largest matrices that one program holds


def block_matrices(module: ir.Module) -> ir.Module:
    """A copy of a StableHLO module without factors and systems of large matrices, or the module. Call with the context
    entered."""
    if not _found(module):
        return module
    copy = clone_module(module)
    for operation, rewrite in _found(copy):
        with ir.InsertionPoint(operation), operation.location:
            found = rewrite(operation)
        operation.results[0].replace_all_uses_with(found.value)
        operation.erase()
    return copy


def _found(module: ir.Module) -> list[tuple[ir.Operation, Callable[[ir.Operation], Array]]]:
    rewrites = {"stablehlo.cholesky": _cholesky, "stablehlo.triangular_solve": _solve}
    found: list[tuple[ir.Operation, Callable[[ir.Operation], Array]]] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name in rewrites and Array(operation.operands[0]).shape[-1] > SIDE:
            found.append((operation.operation, rewrites[operation.name]))
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + SIDE, size)) for start in range(0, size, SIDE)]


def _cholesky(operation: ir.Operation) -> Array:
    a, lower = Array(operation.operands[0]), ir.BoolAttr(operation.attributes["lower"]).value
    last = [*range(a.rank - 2), a.rank - 1, a.rank - 2]
    factor = _lower_factor(a if lower else a.transpose(*last))
    return factor if lower else factor.transpose(*last)


def _lower_factor(a: Array) -> Array:
    """Of a symmetric matrix, of which the lower triangle is read."""
    batch, n = a.rank - 2, a.shape[-1]
    rows, columns = batch, batch + 1
    nothing, panels, rest = constant(0, a.element), [], a  # `rest` is what is still to be factored
    for start, end in _blocks(n):
        width = end - start
        left = rest.narrow(columns, 0, width)
        panel = _factor(left.narrow(rows, 0, width))
        if end < n:
            below = _system(panel, left.narrow(rows, width, n - start), left_side=False, lower=True, transposed=True)
            product = below.dot(below, (columns, columns), batch)
            rest = rest.narrow(rows, width, n - start).narrow(columns, width, n - start) - product
            panel = concatenate([panel, below], rows)
        above = [start if d == rows else 0 for d in range(a.rank)]
        panels.append(panel.pad(nothing, above, [0] * a.rank) if start else panel)
    return concatenate(panels, columns)


def _factor(a: Array) -> Array:
    attributes = {"lower": ir.BoolAttr.get(True)}
    return Array(ir.Operation.create("stablehlo.cholesky", [a.value.type], [a.value], attributes).results[0])


def _solve(operation: ir.Operation) -> Array:
    a, b = (Array(operand) for operand in operation.operands)
    left, lower, transposed, unit = sides_of(operation)
    batch, n = a.rank - 2, a.shape[-1]
    flip = transposed == left  # whether the triangle that multiplies columns of unknowns is the transpose of a
    along = batch if left else batch + 1  # where the unknowns are in b
    solved: dict[int, Array] = {}
    start, end = 0, n  # of what is still to be solved; `rest` is that part of b
    rest, blocks = b, _blocks(n)
    for first, last in blocks if lower != flip else reversed(blocks):
        own = a.narrow(batch, first, last).narrow(batch + 1, first, last)
        part = rest.narrow(along, first - start, last - start)
        x = solved[first] = _system(own, part, left, lower, transposed, unit)
        start, end = (last, end) if lower != flip else (start, first)
        if start == end:
            break
        kept = rest.narrow(along, *((last - first, last - first + end - start) if lower != flip else (0, end)))
        known, wanted = (first, last), (start, end)
        across, down = (wanted, known) if flip else (known, wanted)
        factor = a.narrow(batch, *down).narrow(batch + 1, *across)
        summed = batch if flip else batch + 1
        product = factor.dot(x, (summed, along), batch) if left else x.dot(factor, (along, summed), batch)
        rest = kept - product
    return concatenate([solved[first] for first, _ in blocks], along)


def _system(a: Array, b: Array, left_side: bool, lower: bool, transposed: bool, unit: bool = False) -> Array:
    attributes = {
        "left_side": ir.BoolAttr.get(left_side),
        "lower": ir.BoolAttr.get(lower),
        "unit_diagonal": ir.BoolAttr.get(unit),
        "transpose_a": ir.Attribute.parse(f"#stablehlo<transpose {'TRANSPOSE' if transposed else 'NO_TRANSPOSE'}>"),
    }
    made = ir.Operation.create("stablehlo.triangular_solve", [b.value.type], [a.value, b.value], attributes)
    return Array(made.results[0])


def sides_of(operation: ir.Operation) -> tuple[bool, bool, bool, bool]:
    """Of a triangular system: is the triangle on the left, lower, transposed, has it ones on its diagonal?"""
    left, lower, unit = (
        bool(ir.BoolAttr(operation.attributes[name]).value) for name in ("left_side", "lower", "unit_diagonal")
    )
    return left, lower, "NO_TRANSPOSE" not in str(operation.attributes["transpose_a"]), unit
