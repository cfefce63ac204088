"""Depthwise convolutions as reductions over windows: every channel has a window of its own, so nothing is multiplied
by tiles.

    before: %y = tw.depthwise(%x, %w), stride 2
    after:  %y = window f32 (b, i, j, c, ki, kj): sum of %x(b, 2 i + ki - 1, 2 j + kj - 1, c) * %w(ki, kj, c)
"""

from __future__ import annotations

from itertools import count

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, ScalarOp, Value
from thalweg.backends.cpu.staged import make_room


def depthwise_as_windows(graph: Graph) -> bool:
    """Rewrite a graph and its regions in place; was anything changed? `users` is stale afterwards."""
    if not any(_has_depthwise(value) for value in graph.values):
        return False
    make_room(graph)
    _rewrite(graph)
    return True


def _has_depthwise(value: Value) -> bool:
    inside = (v for region in value.regions for v in region.values)
    return value.op_name == "tw.depthwise" or any(map(_has_depthwise, inside))


def _rewrite(graph: Graph) -> None:
    values = []
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            _rewrite(region)
        if value.op_name == "tw.depthwise":
            values.append(_as_window(value))
        values.append(value)
    graph.values = values


def _as_window(value: Value) -> Value:
    """The sums' start; `value` becomes the window."""
    assert value.op is not None
    image, weight = value.operands[:2]
    window = weight.shape[:-1]
    strides, dilations, low = (
        integers(value.op, name, [default] * len(window))
        for name, default in (("strides", 1), ("dilations", 1), ("low", 0))
    )
    channel, first = len(value.shape) - 1, len(value.shape)
    dims = [Affine(((d, 1),)) for d in range(len(value.shape) + len(window))]
    moved = [
        Affine(((d, stride), (k, dilation)), -before)
        for d, k, stride, dilation, before in zip(count(1), count(first), strides, dilations, low, strict=False)
    ]
    maps = ((dims[0], *moved, dims[channel]), (*dims[first:], dims[channel]), tuple(dims[:first]))
    element = value.element
    ops = (
        ScalarOp("arith.mulf", (0, 1), (3,), (element,)),
        ScalarOp("arith.addf", (2, 3), (4,), (element,)),
    )
    reductions = frozenset(range(first, first + len(window)))
    body = Body((element,) * 3, ops, (4,))
    value.generic = Generic((*value.shape, *window), reductions, 2, maps, body)
    start = Value(value.id - 1, "constant", value.shape, element, splat="0.0")
    value.kind, value.operands, value.peers = "window", (image, weight, start), (value,)
    return start
