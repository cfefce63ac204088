"""Optimisers that give each element its own rate, from the gradients it has seen."""

from __future__ import annotations

import math
from typing import Any

from thalweg.dialects.types import float32, float64
from thalweg.frontend import array as xp
from thalweg.frontend.optim.base import Optimizer, Rate
from thalweg.frontend.tensor import Tensor


class AdaGrad(Optimizer):
    """total += gradient²;  value -= rate * gradient / (sqrt(total) + epsilon).

    Duchi, Hazan and Singer, "Adaptive subgradient methods" (2011).
    """

    def __init__(self, rate: Rate = 0.01, *, initial: float = 0.1, epsilon: float = 1e-10) -> None:
        super().__init__(rate, total=initial)
        self.epsilon = epsilon

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        (total,) = slots
        total = total + xp.square(gradient)
        return value - rate * gradient / (xp.sqrt(total) + self.epsilon), total


class AdaDelta(Optimizer):
    """Steps as large as earlier ones were: change = gradient * sqrt(changes + epsilon) / sqrt(squares + epsilon).

    `squares` and `changes` are moving means of gradient² and change². Zeiler, "ADADELTA" (2012), where rate is 1.
    """

    def __init__(self, rate: Rate = 1.0, *, decay: float = 0.95, epsilon: float = 1e-6) -> None:
        super().__init__(rate, squares=0.0, changes=0.0)
        self.decay, self.epsilon = decay, epsilon

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        squares, changes = slots
        squares = self.decay * squares + (1 - self.decay) * xp.square(gradient)
        change = gradient * xp.sqrt(changes + self.epsilon) / xp.sqrt(squares + self.epsilon)
        changes = self.decay * changes + (1 - self.decay) * xp.square(change)
        return value - rate * change, squares, changes


class RMSProp(Optimizer):
    """squares = moving mean of gradient²;  velocity = momentum * velocity + gradient / (sqrt(squares) + epsilon).

    value -= rate * velocity. Tieleman and Hinton, "Lecture 6.5" (2012), with momentum after Graves (2013).
    """

    def __init__(self, rate: Rate = 1e-3, *, decay: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7) -> None:
        super().__init__(rate, squares=0.0, **({"velocity": 0.0} if momentum else {}))
        self.decay, self.momentum, self.epsilon = decay, momentum, epsilon

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        squares = self.decay * slots[0] + (1 - self.decay) * xp.square(gradient)
        change = gradient / (xp.sqrt(squares) + self.epsilon)
        if self.momentum == 0:
            return value - rate * change, squares
        velocity = self.momentum * slots[1] + change
        return value - rate * velocity, squares, velocity


class Adam(Optimizer):
    """Moving means of gradient and gradient², each divided by what it lacks for having started at zero.

        m = beta1 * m + (1 - beta1) * gradient;  v = beta2 * v + (1 - beta2) * gradient²
        value -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon),  t = 1, 2, …

    Kingma and Ba, "Adam" (2015). With sparse gradients, m and v of rows that were not looked up stay as they are.
    """

    def __init__(
        self, rate: Rate = 1e-3, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(rate, mean=0.0, squares=0.0)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        mean, squares = slots
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        squares = self.beta2 * squares + (1 - self.beta2) * xp.square(gradient)
        wide = value.dtype if value.dtype == float64 else float32  # 0.999 is 1 in half precision
        time = xp.astype(step + 1, wide)
        first, second = _correction(self.beta1, time), xp.sqrt(_correction(self.beta2, time))
        # The same as (m / first) / (sqrt(v) / second + epsilon), with the scalars taken together.
        scale = rate * xp.astype(second / first, value.dtype)
        return value - scale * mean / (xp.sqrt(squares) + self.epsilon * xp.astype(second, value.dtype)), mean, squares


def _correction(beta: float, time: Tensor) -> Tensor:
    """1 - beta^time, exact also where that is nearly 0."""
    return -xp.expm1(time * math.log(beta)) if beta > 0 else xp.ones_like(time)


class AdamW(Adam):
    """Adam, and value -= rate * decay * value beside it, not through the gradient.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    def __init__(
        self,
        rate: Rate = 1e-3,
        *,
        decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(rate, beta1=beta1, beta2=beta2, epsilon=epsilon)
        self.decay = decay

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        decayed = value - rate * self.decay * value
        return super().rule(gradient, decayed, *slots, rate=rate, step=step)
