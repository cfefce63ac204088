"""Dropout. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014)."""

from __future__ import annotations

from typing import Any

from thalweg.dialects.location import user_frame
from thalweg.frontend import array as xp
from thalweg.frontend import random
from thalweg.frontend.eager import array_function
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import ArrayLike, Tensor


@array_function
def dropout(x: ArrayLike, rate: float, key: ArrayLike) -> Tensor:
    """Zero with probability `rate`, else x / (1 - rate), so that the mean stays.

    Args:
        key: says which elements: the same key, the same elements (see `tw.random`).

    Raises:
        ValueError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"{user_frame()} dropout: rate must be in [0, 1), got {rate}.")
    values = xp.asarray(x)
    if rate == 0:
        return values
    kept = random.bernoulli(1 - rate, values.shape, key=key)
    return xp.where(kept, values / (1 - rate), 0)


class Dropout(Module):
    """`dropout` in training, nothing otherwise.

    Args:
        seed: of the layer's own generator, or a generator to share. Its state advances with every call in training,
            also inside a compiled program.
    """

    def __init__(self, rate: float, seed: int | random.Generator = 0) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"{user_frame()} Dropout: rate must be in [0, 1), got {rate}.")
        self.rate = rate
        self.generator = seed if isinstance(seed, random.Generator) else random.Generator(seed)

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        return dropout(x, self.rate, self.generator.key()) if training else xp.asarray(x)

    def describe(self) -> str:
        return str(self.rate)
