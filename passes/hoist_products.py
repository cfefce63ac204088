"""Products that need only a row of what a scan walks, or that only become rows of its results, taken out of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, elementwise, shape
from thalweg.dialects.ops.contraction import dot_general, free_dimensions
from thalweg.dialects.types import float32, float64
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import (
    add_arguments,
    block_of,
    bodies,
    body_of,
    definition,
    functions,
    operations,
    recreate,
    replace,
    set_yields,
    yields,
)

MOST_ROWS = 256  # of a product in a loop: one of more rows is as fast there
LEAST_SUM = 8  # elements of a sum: shorter ones are sooner computed than stored and loaded
MOST_BYTES = 1 << 28  # of the results of all iterations
WIDER = 8  # how much larger a factor may be than the result that it is stacked for


@dataclass(frozen=True)
class HoistProducts(Pass):
    """Compute what a scan multiplies by one matrix for all rows at once: before it, or after it.

    Before it where the factor is a row of what is scanned, after it where the product is only stacked. A product of
    rows and state side by side is the sum of two, of which one goes; one whose result is cut in parts, of which some
    are only stacked, is several. The loop is left with what really depends on its last iteration: half of the work of
    a recurrent network, whose other half becomes products of many rows.

    Before:
        %hs = "tw.scan"(%h, %xs) ({ ^bb0(%a, %x): %j = "tw.concatenate"(%x, %a)  %z = "tw.dot_general"(%j, %w)
                                    %b = "tw.tanh"(%z)  "tw.yield"(%b, %b) })
    After:
        %u = "tw.slice"(%w)  %v = "tw.slice"(%w)  %ps = "tw.dot_general"(%xs, %u)
        %hs = "tw.scan"(%h, %ps) ({ ^bb0(%a, %p): %q = "tw.dot_general"(%a, %v)  %z = "tw.add"(%p, %q)
                                    %b = "tw.tanh"(%z)  "tw.yield"(%b, %b) })
    """

    name: ClassVar[str] = "hoist-products"

    def run(self, module: ir.Module) -> bool:
        return any([_hoist_block(block) for block in functions(module)])


def _hoist_block(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _hoist_block(inner)
        if operation.name == control.scan.mlir_name:
            changed |= _Scan(operation).hoist()
    return changed


@dataclass(frozen=True)
class _Product:
    """A product of something in a loop, operand `which`, and a matrix from outside."""

    operation: ir.Operation
    which: int

    @property
    def factor(self) -> ir.Value:
        return self.operation.operands[self.which]

    @property
    def matrix(self) -> ir.Value:
        return self.operation.operands[1 - self.which]

    def summed(self, side: int) -> tuple[int, ...]:
        """The summed dimensions of an operand."""
        attrs = attributes_of(dot_general, self.operation)
        return tuple(attrs["rhs_contract" if side else "lhs_contract"])

    def free(self, side: int) -> tuple[int, ...]:
        """The other dimensions of an operand."""
        return free_dimensions(tensor_type_of(self.operation.operands[side]).rank, (), self.summed(side))

    def of(self, factor: ir.Value, matrix: ir.Value) -> ir.Value:
        """The product of others, at the insertion point."""
        both = (matrix, factor) if self.which else (factor, matrix)
        made: ir.Value = dot_general(*both, **attributes_of(dot_general, self.operation))
        return made

    def of_all(self, rows: ir.Value) -> ir.Value:
        """The products of all rows, at the insertion point."""
        inner = [d + 1 for d in self.summed(self.which)]
        dtype = attributes_of(dot_general, self.operation)["dtype"]
        outer = self.summed(1 - self.which)
        made: ir.Value = dot_general(rows, self.matrix, lhs_contract=inner, rhs_contract=outer, dtype=dtype)
        return made


class _Scan:
    """A scan while products leave it."""

    def __init__(self, scan: ir.Operation) -> None:
        attrs = attributes_of(control.scan, scan)
        self.scan, self.body = scan, body_of(scan)
        self.carried, self.length = attrs["carried"], attrs["length"]

    def hoist(self) -> bool:
        if self.length < 2:
            return False
        for product in self._products():
            self._split_joined(product)
        for product in self._products():
            self._split_cut(product)
        products = self._products()
        before = [p for p in products if self._is_row(p.factor)]
        after = [p for p in products if not self._is_row(p.factor) and self._goes_after(p)]
        if not before and not after:
            return False
        if before:
            self._move_before(before)
        if after:
            self._move_after(after)
        return True

    def _is_row(self, value: ir.Value) -> bool:
        return value in list(self.body.arguments)[self.carried :]

    def _is_outside(self, value: ir.Value) -> bool:
        return bool(block_of(value) != self.body)

    def _products(self) -> list[_Product]:
        """The products that could leave, if their factors or their users let them."""
        return [p for o in operations(self.body) if (p := self._product(o)) is not None and self._pays(p)]

    def _product(self, operation: ir.Operation) -> _Product | None:
        if operation.name != dot_general.mlir_name:
            return None
        outside = [self._is_outside(operand) for operand in operation.operands]
        if outside[0] == outside[1] or attributes_of(dot_general, operation)["lhs_batch"]:
            return None
        product = _Product(operation, outside.index(False))
        # The products of all rows have the factor's dimensions first.
        in_order = product.which == 0 or not product.free(0) or not product.free(1)
        return product if in_order else None

    def _pays(self, product: _Product) -> bool:
        result, factor = tensor_type_of(product.operation.results[0]), tensor_type_of(product.factor)
        total = math.prod(factor.shape[d] for d in product.summed(product.which))
        few = factor.size <= MOST_ROWS * max(total, 1)
        wide = result.dtype in (float32, float64)
        return few and wide and total >= LEAST_SUM and self.length * result.nbytes <= MOST_BYTES

    # Products in parts.

    def _split_joined(self, product: _Product) -> None:
        """A product of rows and others side by side is a product of the rows and one of the others, added."""
        joined = definition(product.factor)
        if joined is None or joined.name != shape.concatenate.mlir_name:
            return
        axis = attributes_of(shape.concatenate, joined)["axis"]
        runs = [(row, list(run)) for row, run in itertools.groupby(joined.operands, self._is_row)]
        rows = [run for row, run in runs if row]
        hoisted = all(len(run) == 1 and tensor_type_of(run[0]).shape[axis] >= LEAST_SUM for run in rows)
        if axis not in product.summed(product.which) or not rows or len(runs) < 2 or not hoisted:
            return
        along = product.summed(1 - product.which)[product.summed(product.which).index(axis)]
        parts, first = [], 0
        with ir.InsertionPoint(product.operation), product.operation.location:
            for _, run in runs:
                last = first + sum(tensor_type_of(v).shape[axis] for v in run)
                factor = run[0] if len(run) == 1 else shape.concatenate(*run, axis=axis)
                parts.append(product.of(factor, self._cut(product.matrix, along, first, last)))
                first = last
            total = parts[0]
            for part in parts[1:]:
                total = elementwise.add(total, part)
        replace(product.operation, [total])

    def _split_cut(self, product: _Product) -> None:
        """A product that is only read in parts, of which some are only stacked, is a product for each part."""
        (result,) = product.operation.results
        parts = [_part(use.owner.operation) for use in result.uses]
        cuts = [part for part in parts if part is not None]
        dims = {cut.dim for cut in cuts}
        goes = any(self._only_stacked(cut.whole) and self._fits(product.factor, cut.whole) for cut in cuts)
        if len(cuts) < max(len(parts), 2) or len(dims) != 1 or not goes:
            return
        where = dims.pop() - (len(product.free(0)) if product.which == 0 else 0)
        columns = product.free(1 - product.which)
        if where not in range(len(columns)) or sum(c.last - c.first for c in cuts) > tensor_type_of(result).shape[
            cuts[0].dim
        ]:
            return
        for cut in cuts:
            with ir.InsertionPoint(cut.operation), cut.operation.location:
                matrix = self._cut(product.matrix, columns[where], cut.first, cut.last)
                replace(cut.operation, [product.of(product.factor, matrix)])
        product.operation.erase()

    def _cut(self, matrix: ir.Value, dim: int, first: int, last: int) -> ir.Value:
        """Part of a matrix, cut before the scan."""
        type_ = tensor_type_of(matrix)
        start, limit = [0] * type_.rank, list(type_.shape)
        start[dim], limit[dim] = first, last
        with ir.InsertionPoint(self.scan):
            made: ir.Value = shape.slice(matrix, start=start, limit=limit, strides=[1] * type_.rank)
        return made

    # Products that leave.

    def _only_stacked(self, value: ir.Value) -> bool:
        last = operations(self.body)[-1]
        uses = list(value.uses)
        return bool(uses) and all(u.owner.operation == last and u.operand_number >= self.carried for u in uses)

    def _goes_after(self, product: _Product) -> bool:
        (result,) = product.operation.results
        return self._only_stacked(result) and self._fits(product.factor, result)

    def _fits(self, factor: ir.Value, result: ir.Value) -> bool:
        """Is a factor stacked already, or not much larger than what is stacked now?"""
        small = tensor_type_of(factor).size <= WIDER * tensor_type_of(result).size
        return small or factor in yields(self.body)[self.carried :]

    def _move_before(self, products: Sequence[_Product]) -> None:
        rows = dict(zip(self.body.arguments, self.scan.operands, strict=True))
        wholes = []
        for product in products:
            with ir.InsertionPoint(self.scan), product.operation.location:
                wholes.append(product.of_all(rows[product.factor]))
        results = [product.operation.results[0] for product in products]
        for product, row in zip(products, add_arguments(self.body, results), strict=True):
            replace(product.operation, [row])
        self._rebuild([*self.scan.operands, *wholes], range(len(self.scan.results)))

    def _move_after(self, products: Sequence[_Product]) -> None:
        ends = yields(self.body)
        going = {product.operation.results[0]: product for product in products}
        kept = [i for i, end in enumerate(ends) if i < self.carried or end not in going]
        stacked = list(dict.fromkeys([ends[i] for i in kept if i >= self.carried]))
        new = [v for v in dict.fromkeys(p.factor for p in products) if v not in stacked]
        set_yields(self.body, [*(ends[i] for i in kept), *new])
        old = self.scan
        gone = [(i, going[end]) for i, end in enumerate(ends) if i >= self.carried and end in going]
        self._rebuild(list(old.operands), kept, erase=False)
        results = list(self.scan.results)
        whole = {ends[i]: results[position] for position, i in enumerate(kept) if i >= self.carried}
        whole.update(zip(new, results[len(kept) :], strict=True))
        with ir.InsertionPoint.after(self.scan):
            for index, product in gone:
                with product.operation.location:
                    old.results[index].replace_all_uses_with(product.of_all(whole[product.factor]))
        old.erase()
        for product in products:
            product.operation.erase()

    def _rebuild(self, operands: Sequence[ir.Value], kept: Sequence[int], erase: bool = True) -> None:
        """The scan with other operands and stacked values; its results `kept` are the first of the new one."""
        old, self.scan = self.scan, recreate(self.scan, operands)
        self.body = body_of(self.scan)
        for index, result in zip(kept, self.scan.results, strict=False):
            old.results[index].replace_all_uses_with(result)
        if erase:
            old.erase()


@dataclass(frozen=True)
class _Part:
    """A slice of a product: elements [first, last) of one dimension, all of the others."""

    operation: ir.Operation
    dim: int
    first: int
    last: int

    @property
    def whole(self) -> ir.Value:
        return self.operation.results[0]


def _part(operation: ir.Operation) -> _Part | None:
    if operation.name != shape.slice.mlir_name:
        return None
    attrs, extents = attributes_of(shape.slice, operation), tensor_type_of(operation.operands[0]).shape
    bounds = list(zip(attrs["start"], attrs["limit"], strict=True))
    cut = [d for d, (first, last) in enumerate(bounds) if (first, last) != (0, extents[d])]
    if len(cut) != 1 or any(step != 1 for step in attrs["strides"]):
        return None
    return _Part(operation, cut[0], *bounds[cut[0]])
