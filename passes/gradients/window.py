"""Rules of sliding windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import shape, window
from thalweg.dialects.ops.checks import dilated
from thalweg.dialects.ops.elementwise import add, and_, equal, neg, not_, or_, select
from thalweg.dialects.ops.reduce import identity_element
from thalweg.passes.gradients.elementwise import where
from thalweg.passes.gradients.rules import vjp
from thalweg.passes.gradients.shape import zero
from thalweg.passes.rewriting import array, full_like

V: TypeAlias = ir.Value
Ints = Sequence[int]


@vjp(window.reduce_window_sum)
def _(g: V, x: V, *, window: Ints, strides: Ints, pad_low: Ints, dilations: Ints) -> tuple[V]:
    """Each element collects the cotangents of the windows over it: a windowed sum over g spread out by the strides."""
    return (_spread_sum(g, x, window, strides, pad_low, dilations or (1,) * len(window)),)


def _spread_sum(g: V, x: V, sizes: Ints, strides: Ints, pad_low: Ints, dilations: Ints) -> V:
    if tensor_type_of(g).size == 0:
        return full_like(x, 0)
    reach = [dilated(w, d) for w, d in zip(sizes, dilations, strict=True)]
    low = [r - 1 - lo for r, lo in zip(reach, pad_low, strict=True)]
    spread = [dilated(m, s) for m, s in zip(tensor_type_of(g).shape, strides, strict=True)]
    high = [n + r - 1 - m - lo for n, r, m, lo in zip(tensor_type_of(x).shape, reach, spread, low, strict=True)]
    padded = shape.pad(g, zero(g), low=low, high=high, interior=[s - 1 for s in strides])
    none = (0,) * len(reach)
    return window.reduce_window_sum(
        padded, window=sizes, strides=(1,) * len(reach), pad_low=none, pad_high=none, dilations=dilations
    )


class _Places:
    """The places of a window, each as the elements of x that stand there, one for each window."""

    def __init__(self, x: V, sizes: Ints, strides: Ints, pad_low: Ints, pad_high: Ints, dilations: Ints) -> None:
        self.x, self.strides, self.sizes, self.dilations = x, strides, sizes, dilations
        self.pad_low, self.pad_high = pad_low, pad_high

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(np.ndindex(*self.sizes))

    def _start(self, place: Ints) -> list[int]:
        return [p * d for p, d in zip(place, self.dilations, strict=True)]

    def padded(self, x: V, filling: Any) -> V:
        value = array(filling, tensor_type_of(x).dtype)
        return shape.pad(x, value, low=self.pad_low, high=self.pad_high, interior=(0,) * len(self.sizes))

    def read(self, padded: V, place: Ints, extents: Ints) -> V:
        """The elements at `place` of each of `extents` windows."""
        start = self._start(place)
        limit = [b + (m - 1) * s + 1 for b, m, s in zip(start, extents, self.strides, strict=True)]
        return shape.slice(padded, start=start, limit=limit, strides=self.strides)

    def write(self, values: V, place: Ints) -> V:
        """Zeros of x's shape with the values at `place` of their windows."""
        type_, extents = tensor_type_of(self.x), tensor_type_of(values).shape
        low = [b - lo for b, lo in zip(self._start(place), self.pad_low, strict=True)]
        spread = [dilated(m, s) for m, s in zip(extents, self.strides, strict=True)]
        high = [n - b - m for n, b, m in zip(type_.shape, low, spread, strict=True)]
        return shape.pad(values, zero(values), low=low, high=high, interior=[s - 1 for s in self.strides])


def _extreme(row: OpDef, name: str) -> None:
    """The cotangent goes to the first of the largest (smallest) elements of a window."""

    @vjp(row)
    def _(
        g: V, x: V, *, y: V, window: Ints, strides: Ints, pad_low: Ints, pad_high: Ints, dilations: Ints
    ) -> tuple[V]:
        if tensor_type_of(g).size == 0:
            return (full_like(x, 0),)
        if set(dilations) <= {1}:
            geometry = {"window": window, "strides": strides, "pad_low": pad_low, "pad_high": pad_high}
            return (_pool_grad(x if name == "max" else neg(x), g, geometry),)
        places = _Places(x, window, strides, pad_low, pad_high, dilations)
        parts = [places.write(where(hit, g), place) for place, hit in _first_hits(places, x, y, name)]
        total = parts[0]
        for part in parts[1:]:
            total = add(total, part)
        return (total,)


def _pool_grad(x: V, g: V, geometry: dict[str, Ints]) -> V:
    return window.max_pool_grad(x, g, **geometry)


def _first_hits(places: _Places, x: V, y: V, name: str) -> Iterator[tuple[tuple[int, ...], V]]:
    """For each place of the window, in which windows the first extreme element stands there."""
    extents = tensor_type_of(y).shape
    padded = places.padded(x, identity_element(name, tensor_type_of(x).dtype))
    found: V | None = None
    for place in places:
        hit = equal(places.read(padded, place, extents), y)
        yield place, hit if found is None else and_(hit, not_(found))
        found = hit if found is None else or_(found, hit)


_extreme(window.reduce_window_max, "max")
_extreme(window.reduce_window_min, "min")


@vjp(window.max_pool_grad)
def _(
    g: V, x: V, cotangent: V, *, window: Ints, strides: Ints, pad_low: Ints, pad_high: Ints
) -> Sequence[Any]:
    """Linear in the cotangent: g is read where the largest element of each window stands. Constant in x."""

    def wrt_cotangent() -> V:
        if tensor_type_of(cotangent).size == 0:
            return full_like(cotangent, 0)
        ones = (1,) * len(window)
        places = _Places(x, window, strides, pad_low, pad_high, ones)
        pooled = _pooled(x, window, strides, pad_low, pad_high)
        padded = places.padded(g, 0)
        total = full_like(cotangent, 0)
        for place, hit in _first_hits(places, x, pooled, "max"):
            total = select(hit, places.read(padded, place, tensor_type_of(cotangent).shape), total)
        return total

    return None, wrt_cotangent


def _pooled(x: V, sizes: Ints, strides: Ints, pad_low: Ints, pad_high: Ints) -> V:
    return window.reduce_window_max(x, window=sizes, strides=strides, pad_low=pad_low, pad_high=pad_high)
