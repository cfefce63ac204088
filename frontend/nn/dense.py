"""Affine layers and embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.frontend import array as xp
from thalweg.frontend import initializers
from thalweg.frontend.initializers import Initializer
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.variable import Variable


class Dense(Module):
    """x @ weight + bias, then the activation: float[…, inputs] -> float[…, outputs].

    Args:
        rng: draws the initial weight; the caller owns it.
        init: of the weight [inputs, outputs]; the bias [outputs] starts at zero.

    Example:
        >>> layer = Dense(784, 256, np.random.default_rng(0), activation=tw.nn.relu)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: np.random.Generator,
        *,
        activation: Callable[[Any], Tensor] | None = None,
        bias: bool = True,
        init: Initializer = initializers.glorot_uniform,
        name: str = "dense",
    ) -> None:
        self.weight = Variable(init((inputs, outputs), rng), name=f"{name}/weight")
        self.bias = Variable(initializers.zeros((outputs,)), name=f"{name}/bias") if bias else None
        self.activation = activation

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        y = xp.matmul(x, self.weight)
        if self.bias is not None:
            y = y + self.bias
        return y if self.activation is None else self.activation(y)

    def describe(self) -> str:
        inputs, outputs = self.weight.shape
        return f"{inputs} -> {outputs}"


class Embedding(Module):
    """Rows of a table by number: int[…] -> float[…, features].

    The gradient with respect to `table` is sparse, indices and rows: a step costs by the rows it looks up, not by the
    rows there are.
    """

    def __init__(
        self,
        count: int,
        features: int,
        rng: np.random.Generator,
        *,
        init: Initializer | None = None,
        name: str = "embedding",
    ) -> None:
        init = init or initializers.normal(features**-0.5)
        self.table = Variable(init((count, features), rng), name=f"{name}/table")

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        return xp.take(self.table, x, axis=0)

    def describe(self) -> str:
        count, features = self.table.shape
        return f"{count} x {features}"
