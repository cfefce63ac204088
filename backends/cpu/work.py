"""What a kernel has to do, whatever its code looks like: operations on numbers, and bytes to read and to write.

Counted as `dialects/cost.py` counts for ops: one operation for each pair of elements, `exp` one, a multiply-add two; an
element that several results need counts once. Bytes are those that pass between the kernel and its buffers if each is
read and written once. Sorts, scatters and factorisations count as bytes only.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from thalweg.backends.cpu.attention import Attention
from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.graph import BYTES, Generic, Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.plan import nbytes
from thalweg.backends.cpu.program import storage

_FREE = ("arith.constant", "linalg.index", "arith.ext", "arith.trunc", "arith.sitofp", "arith.uitofp", "arith.fpto",
         "arith.index_cast", "arith.bitcast")

_CONVOLUTIONS = ("tw.spread", "tw.depthwise", "tw.depthwise_transposed", "tw.depthwise_weights", "tw.small_groups",
                 "tw.small_groups_weights")


@dataclass(frozen=True)
class Work:
    """Operations of one launch, those of products by the element type that is multiplied, and bytes.

    Example:
        >>> work_of(kernel)                      # tanh(x @ w), f32[8,16] @ f32[16,4]
        Work(products={'f32': 1024}, others=32, bytes=896)
    """

    products: dict[str, int]
    others: int
    bytes: int

    @property
    def flops(self) -> int:
        return sum(self.products.values()) + self.others


def work_of(kernel: Kernel) -> Work:
    """What one launch of a kernel has to do: what lies between its operands and its results."""
    outside = {storage(operand) for operand in kernel.operands}
    needed: dict[Value, int] = {value: value.size for value in kernel.results}
    order = [(-value.id, value) for value in needed]
    read: dict[Value, int] = defaultdict(int)
    products: dict[str, int] = defaultdict(int)
    others, counted = 0, set[int]()
    heapq.heapify(order)
    while order:
        value = heapq.heappop(order)[1]
        own, multiplied = _operations(value, needed[value])
        if id(value.peers or value) not in counted:  # the results of one op are computed together
            counted.add(id(value.peers or value))
            products[multiplied] += own if multiplied else 0
            others += 0 if multiplied else own
        for operand, elements in _reads(value, needed[value]):
            if storage(operand) in outside:
                read[storage(operand)] += elements
            elif operand.kind not in ("constant", "empty"):
                if operand not in needed:
                    heapq.heappush(order, (-operand.id, operand))
                needed[operand] = min(operand.size, needed.get(operand, 0) + elements)
    moved = sum(min(elements, value.size) * BYTES[value.element] for value, elements in read.items())
    return Work({k: n for k, n in products.items() if n}, others, moved + _written(kernel))


def _written(kernel: Kernel) -> int:
    """Bytes of results. One that is an old value with something put into it is written where that goes."""
    updated = {number for number, _ in kernel.updates}
    return sum(_put(value) if number in updated else nbytes(value) for number, value in enumerate(kernel.results))


def _put(value: Value) -> int:
    sources = value.operands[1:] if value.kind == "insert" or value.op_name == "stablehlo.scatter" else value.operands
    return min(nbytes(value), sum(map(nbytes, sources)))


def _operations(value: Value, elements: int) -> tuple[int, str]:
    """Operations for so many elements of a value, and the type that is multiplied if it is a sum of products."""
    if value.attention is not None:
        return _of_attention(value.attention), value.attention.scores[0].value.operands[0].element
    if value.op_name in _CONVOLUTIONS or value.op_name == "tw.packed_product":
        return 2 * _own_products(value), value.operands[0].element
    generic = value.generic
    if generic is None:
        return 0, ""
    of_all = math.prod(generic.extents) * _in_body(generic)
    if value.kind in ("contract", "convolution"):
        return of_all, value.operands[0].element
    return of_all * elements // max(value.size, 1), ""


def _in_body(generic: Generic) -> int:
    return sum(not op.name.startswith(_FREE) for op in generic.body.ops)


def _own_products(value: Value) -> int:
    """Products of the backend's own ops: each place with each element of the window."""
    left, right = value.operands[:2]
    if value.op_name == "tw.packed_product":
        assert value.op is not None
        return math.prod(integers(value.op, "extents", ()))
    if value.op_name == "tw.spread":  # places of the operand or of the result, whichever there are fewer of
        return right.size * min(left.size // left.shape[-1], value.size // value.shape[-1])
    if value.op_name.endswith("_weights"):  # [slices, *window, channels] from images and cotangents
        return math.prod(value.shape[1:-1]) * right.size
    places = left if value.op_name.endswith("_transposed") else value
    return math.prod(right.shape[:-1]) * places.size


def _of_attention(attention: Attention) -> int:
    """Products of scores and of what uses them, and what is done to each score: where they are visible."""
    rows, columns = attention.extents[-2:]
    shown = rows * columns
    if attention.visible is not None:
        shown = sum(min(columns, max(0, row + attention.visible + 1)) for row in range(rows))
    scores = math.prod(attention.extents[:-2]) * shown
    each = sum(2 * product.features for product in (*attention.scores, *attention.products))
    each += sum(_in_body(v.generic) for v in (*attention.members, *attention.reductions) if v.generic is not None)
    return scores * each


def _reads(value: Value, elements: int) -> Iterator[tuple[Value, int]]:
    """The operands of a value, with how many of their elements so many of its own need at most."""
    generic = value.generic
    if value.kind == "slice":
        yield value.operands[0], elements
    elif value.kind == "insert":
        kept, put = value.operands[:2]
        yield kept, max(0, value.size - put.size)
        yield put, put.size
    elif generic is not None and value.kind in ("map", "reduce"):
        domain = math.prod(generic.extents) * elements // max(value.size, 1)
        for operand in value.operands:
            yield operand, min(operand.size, domain)
    else:
        for operand in value.operands:
            yield operand, elements if value.kind == "reshape" else operand.size
