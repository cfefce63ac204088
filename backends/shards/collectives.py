"""Values that go from device to device, as ops: `tw.collective`, which the GPU backend makes a step of.

    gather     [s…] -> [devices, s…]           everyone has everyone's
    exchange   [devices, s…] -> [devices, s…]   row j goes to device j, and lies there at the row of who sent it
    add, …     [s…] -> [s…]                     NCCL's all-reduce, where there is NCCL

Sums without NCCL are made of the first two and an ordinary reduction, so that every device adds up in the same order,
and all have the same bits: small ones gather all parts; of large ones each device sums a piece, which is then gathered.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.stablehlo.expressions import Array, constant, create, i64_array, tensor
from thalweg.dialects.mlir import ir

OP = "tw.collective"
_OF_NCCL, _NOT_OF_NCCL = {"add", "multiply", "maximum", "minimum"}, {"i1", "i16", "ui16"}
LARGE = 16_384  # elements from which on each device sums a piece


def collective(kind: str, x: Array, shape: tuple[int, ...]) -> Array:
    """The op, at the current insertion point."""
    made = ir.Operation.create(OP, [tensor(shape, x.element)], [x.value], {"kind": ir.StringAttr.get(kind)})
    return Array(made.results[0])


def kind_of(operation: ir.Operation) -> str:
    """Which collective an op is."""
    return str(ir.StringAttr(operation.attributes["kind"]).value)


def gathered(x: Array, axis: int, devices: int) -> Array:
    """The whole of a value that is split along an axis."""
    parts = collective("gather", x, (devices, *x.shape))
    order = [*range(1, axis + 1), 0, *range(axis + 1, x.rank + 1)]
    shape = (*x.shape[:axis], devices * x.shape[axis], *x.shape[axis + 1 :])
    return parts.transpose(*order).reshape(*shape)


def combined(x: Array, by: str, devices: int, nccl: bool) -> Array:
    """Every device's value combined, on every device.

    Args:
        by: a StableHLO op: "add", "maximum", …
    """
    size = math.prod(x.shape)
    if not size:
        return x
    if nccl and by in _OF_NCCL and x.element not in _NOT_OF_NCCL:
        return collective(by, x, x.shape)
    if size < LARGE:
        return _reduced(collective("gather", x, (devices, *x.shape)), by)
    piece = -(-size // devices)
    flat = x.reshape(size)
    if piece * devices > size:
        flat = flat.pad(constant(0, x.element), [0], [piece * devices - size])
    own = _reduced(collective("exchange", flat.reshape(devices, piece), (devices, piece)), by)
    whole = collective("gather", own, (devices, piece)).reshape(devices * piece)
    return whole.slice((0, size)).reshape(*x.shape)


def _reduced(parts: Array, by: str) -> Array:
    """The rows combined, the first one first: a chain, whose order no one changes."""
    rows = [parts.narrow(0, k, k + 1).reshape(*parts.shape[1:]) for k in range(parts.shape[0])]
    total = rows[0]
    for row in rows[1:]:
        total = create(by, total.value.type, [total, row])
    return total


def own_part(value: ir.Value, axis: int, devices: int, index: int) -> tuple[Array, bool]:
    """A device's part of a value that all have, and whether it depends on which device it is."""
    x = Array(value)
    size = x.shape[axis] // devices
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    owner = value.owner
    if not isinstance(owner, ir.Block):
        if owner.name == "stablehlo.constant":
            dense = ir.DenseElementsAttr(owner.attributes["value"])
            if dense.is_splat:
                kind = tensor(shape, x.element)
                same = ir.DenseElementsAttr.get_splat(kind, dense.get_splat_value())
                return create("constant", kind, [], {"value": same}), False
        if owner.name == "stablehlo.broadcast_in_dim":
            source, dims = Array(owner.operands[0]), integers(owner, "broadcast_dimensions", [])
            if axis not in dims or source.shape[dims.index(axis)] == 1:
                attributes = {"broadcast_dimensions": i64_array(dims)}
                return create("broadcast_in_dim", tensor(shape, x.element), [source], attributes), False
    return x.narrow(axis, index * size, (index + 1) * size), True
