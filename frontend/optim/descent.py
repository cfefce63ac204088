"""Gradient descent, plain and with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.optim.base import Optimizer, Rate
from thalweg.frontend.optim.sparse import add_rows, combine
from thalweg.frontend.ragged import from_data
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.variable import Variable


class SGD(Optimizer):
    """value -= rate * gradient."""

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        return (value - rate * gradient,)

    def apply_rows(self, gradient: IndexedSlices, state: list[Variable], scalars: Mapping[str, Any]) -> list[Any]:
        # The rule is linear: duplicates add up in the scatter, and nothing needs to be read or sorted.
        if from_data(gradient.indices):
            gradient = combine(gradient)  # for the sake of its size
        return [add_rows(state[0], gradient.indices, -scalars["rate"] * gradient.values)]


class Momentum(Optimizer):
    """velocity = momentum * velocity + gradient;  value -= rate * velocity.

    Polyak, "Some methods of speeding up the convergence of iteration methods" (1964).
    """

    def __init__(self, rate: Rate, momentum: float = 0.9) -> None:
        super().__init__(rate, velocity=0.0)
        self.momentum = momentum

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        (velocity,) = slots
        velocity = self.momentum * velocity + gradient
        return value - rate * velocity, velocity


class Nesterov(Momentum):
    """velocity = momentum * velocity + gradient;  value -= rate * (gradient + momentum * velocity).

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), with the gradient
    taken at the value that the variable holds.
    """

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        (velocity,) = slots
        velocity = self.momentum * velocity + gradient
        return value - rate * (gradient + self.momentum * velocity), velocity
