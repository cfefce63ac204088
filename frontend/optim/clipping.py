"""Clipping of gradients, dense or sparse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from thalweg.frontend import array as xp
from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.optim.sparse import combine
from thalweg.frontend.tensor import Tensor

Gradient = Tensor | IndexedSlices


def clip_by_value(gradient: Gradient, low: float, high: float) -> Gradient:
    """Every element brought into [low, high]."""
    gradient = _summed(gradient)
    return _with_values(gradient, xp.clip(_values(gradient), low, high))


def clip_by_norm(gradient: Gradient, norm: float) -> Gradient:
    """Scaled down to an L2 norm of at most `norm`."""
    gradient = _summed(gradient)
    return _with_values(gradient, _values(gradient) * _factor(xp.sqrt(_squares(gradient)), norm))


def clip_by_global_norm(gradients: Sequence[Gradient], norm: float) -> tuple[list[Gradient], Tensor]:
    """All gradients scaled by one factor, so that their common L2 norm is at most `norm`; and what it was before.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013). A norm that is not
    finite makes all gradients NaN: it would otherwise hide.
    """
    summed = [_summed(g) for g in gradients]
    before = global_norm(summed)
    factor = _factor(before, norm)
    return [_with_values(g, _values(g) * xp.astype(factor, _values(g).dtype)) for g in summed], before


def global_norm(gradients: Sequence[Gradient]) -> Tensor:
    """The L2 norm of all gradients together: float[].

    Raises:
        ValueError: there are none.
    """
    if not gradients:
        raise ValueError("global_norm: no gradients were given.")
    squares = [_squares(_summed(g)) for g in gradients]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return xp.sqrt(total)


def _factor(size: Tensor, norm: float) -> Tensor:
    return norm / xp.maximum(size, norm)


def _summed(gradient: Gradient) -> Gradient:
    """A sparse gradient may name a row twice; only the sum of its parts has a norm."""
    return combine(gradient) if isinstance(gradient, IndexedSlices) else gradient


def _values(gradient: Gradient) -> Tensor:
    return gradient.values if isinstance(gradient, IndexedSlices) else gradient


def _with_values(gradient: Gradient, values: Tensor) -> Gradient:
    return dataclasses.replace(gradient, values=values) if isinstance(gradient, IndexedSlices) else values


def _squares(gradient: Gradient) -> Tensor:
    return xp.sum(xp.square(_values(gradient)))
