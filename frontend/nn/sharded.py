"""Layers over sharded variables: embeddings and softmaxes too large for one device, or too busy.

Work is done where the weights are: an embedding's ids go to the shards and rows come back; a softmax's inputs go there
and a few numbers per example come back, forward and backward alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.dialects.types import int32
from thalweg.frontend import array as xp
from thalweg.frontend.initializers import Initializer, normal, zeros
from thalweg.frontend.nn.module import Module
from thalweg.frontend.nn.sampling import sampled_loss
from thalweg.frontend.sharding import Devices, ShardedVariable, Strategy, beside
from thalweg.frontend.tensor import ArrayLike, Tensor


class ShardedEmbedding(Module):
    """Rows of a sharded table by number: int[…] -> float[…, features].

    Args:
        count, features: of the table.
        rng: by default the same numbers in every run.
        shards, devices, strategy, init: see `tw.ShardedVariable`.

    Example:
        >>> embedding = tw.nn.ShardedEmbedding(1_000_000, 32, shards=2, devices="/job:ps")
        >>> opt.apply(zip(tw.grad(loss, wrt=embedding.trainable)(), embedding.trainable))     # sparse
    """

    def __init__(
        self,
        count: int,
        features: int,
        rng: np.random.Generator | None = None,
        *,
        shards: int,
        devices: Devices = None,
        strategy: Strategy = "mod",
        init: Initializer | None = None,
        name: str = "embedding",
    ) -> None:
        self.table = ShardedVariable(
            (count, features), shards, devices=devices, init=init or normal(features**-0.5), rng=rng, strategy=strategy,
            name=f"{name}/table",
        )  # fmt: skip

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        return self.table.lookup(x)

    def describe(self) -> str:
        count, features = self.table.shape
        return f"{count} x {features}, shards={len(self.table.shards)}"


class ShardedSoftmax(Module):
    """The last layer of a classifier with very many classes: weights and bias are sharded by class.

    Args:
        features: of the inputs.
        classes: how many; numbered from the most frequent one on, if `sampled_loss` is used.
        rng, shards, devices, init: see `tw.ShardedVariable`. Neighbouring classes are on one shard.

    Example:
        >>> output = tw.nn.ShardedSoftmax(512, 40_000, shards=2, devices="/job:ps")
        >>> loss = tw.mean(output.loss(hidden, words))
        >>> loss = tw.mean(output.sampled_loss(hidden, words, key, samples=512))
    """

    def __init__(
        self,
        features: int,
        classes: int,
        rng: np.random.Generator | None = None,
        *,
        shards: int,
        devices: Devices = None,
        init: Initializer | None = None,
        name: str = "softmax",
    ) -> None:
        self.weight = ShardedVariable(
            (classes, features), shards, devices=devices, init=init or normal(features**-0.5), rng=rng, strategy="div",
            name=f"{name}/weight",
        )  # fmt: skip
        self.bias = ShardedVariable(
            (classes,), shards, devices=devices, init=zeros, strategy="div", name=f"{name}/bias"
        )

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        """All logits: float[batch, features] -> float[batch, classes]."""
        return xp.concat(self._logits(xp.asarray(x)), axis=-1)

    def loss(self, inputs: ArrayLike, labels: ArrayLike) -> Tensor:
        """Cross entropy among all classes: float[batch].

        Each shard multiplies, and sends per example its largest logit, the sum of exponentials, and the logit of the
        label if it has it.
        """
        labels = xp.astype(xp.asarray(labels), int32)
        largest, sums, true = [], [], []
        for shard, logits in zip(self.weight.shards, self._logits(xp.asarray(inputs)), strict=True):
            assert shard.part is not None
            with beside(shard):
                top = xp.stop_gradient(xp.max(logits, axis=-1))
                largest.append(top)
                sums.append(xp.sum(xp.exp(logits - xp.expand_dims(top, axis=-1)), axis=-1))
                true.append(_logit_of(labels, logits, shard.part.rows))
        top = xp.max(xp.stack(largest), axis=0)
        total = xp.sum(xp.stack(sums) * xp.exp(xp.stack(largest) - top), axis=0)
        return xp.log(total) + top - xp.sum(xp.stack(true), axis=0)

    def sampled_loss(
        self, inputs: ArrayLike, labels: ArrayLike, key: ArrayLike, *, samples: int, remove_hits: bool = True
    ) -> Tensor:
        """Cross entropy among the true class and `samples` drawn ones, see `tw.nn.sampled_softmax`: float[batch]. Only
        their rows leave the shards, and only these have gradients."""
        return sampled_loss(self.weight, self.bias, inputs, labels, key, samples, remove_hits)

    def _logits(self, inputs: Tensor) -> list[Tensor]:
        """The logits of each shard's classes, computed there."""
        found = []
        for weight, bias in zip(self.weight.shards, self.bias.shards, strict=True):
            with beside(weight):
                found.append(xp.matmul(inputs, xp.matrix_transpose(xp.asarray(weight))) + bias)
        return found

    def describe(self) -> str:
        classes, features = self.weight.shape
        return f"{features} -> {classes}, shards={len(self.weight.shards)}"


def _logit_of(labels: Tensor, logits: Tensor, rows: range) -> Tensor:
    """The label's logit where the label is among these rows, 0 elsewhere."""
    local = xp.expand_dims(xp.clip(labels - rows.start, 0, len(rows) - 1), axis=-1)
    found = xp.take_along_axis(logits, local, axis=-1)[..., 0]
    return xp.where((labels >= rows.start) & (labels < rows.stop), found, xp.zeros_like(found))
