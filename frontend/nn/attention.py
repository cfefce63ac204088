"""Attention. Vaswani et al., "Attention is all you need" (2017)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thalweg.dialects.location import user_frame
from thalweg.frontend import array as xp
from thalweg.frontend import initializers
from thalweg.frontend.dtypes import finfo
from thalweg.frontend.eager import array_function
from thalweg.frontend.initializers import Initializer
from thalweg.frontend.nn.dense import Dense
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import ArrayLike, Tensor


@array_function
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    causal: bool = False,
    mask: ArrayLike = None,
    bias: ArrayLike = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(query keyᵀ * scale + bias) value, with softmax over the keys.

    Compiled, the scores of all queries with all keys are never in memory together, nor are their gradients; those of a
    causal mask are not all computed.

    Args:
        query: float[…, queries, features].
        key: float[…, keys, features].
        value: float[…, keys, features'].
        causal: query i sees the keys up to i only, counted from the end where there are more keys than queries.
        mask: bool that broadcasts to [… , queries, keys], true where a query may see a key.
        bias: float that broadcasts to [… , queries, keys].
        scale: 1 / sqrt(features) if None.

    Returns:
        float[…, queries, features']. A query that sees no key gets the mean of all values.

    Example:
        >>> y = tw.nn.attention(q, k, v, causal=True)       # [batch, heads, time, features]
    """
    query, key = xp.asarray(query), xp.asarray(key)
    queries, keys = query.shape[-2], key.shape[-2]
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = xp.matmul(query * factor, xp.matrix_transpose(key))
    if bias is not None:
        scores = scores + bias
    if causal:
        # Compared from two ranges in the program: a table would be a constant of queries x keys.
        last_seen = xp.expand_dims(xp.arange(queries, dtype="int32"), axis=1) + (keys - queries)
        before = xp.arange(keys, dtype="int32") <= last_seen
        mask = before if mask is None else xp.logical_and(mask, before)
    if mask is not None:
        least = max(-1e30, finfo(scores.dtype).min / 2)  # finite: no NaN in empty rows
        scores = xp.where(mask, scores, least)
    return xp.matmul(xp.softmax(scores), value)


class MultiHeadAttention(Module):
    """Attention of `heads` parts of the features: float[batch, time, features] -> the same.

    Args:
        features: of input and output; `heads` must divide it.
        causal: no position sees a later one.

    Example:
        >>> layer = MultiHeadAttention(256, 4, rng, causal=True)
        >>> y = layer(x)                                    # self-attention
        >>> y = layer(x, context=encoded)                   # keys and values from elsewhere
    """

    def __init__(
        self,
        features: int,
        heads: int,
        rng: np.random.Generator,
        *,
        causal: bool = False,
        bias: bool = True,
        init: Initializer = initializers.glorot_uniform,
        name: str = "attention",
    ) -> None:
        if features % heads:
            raise ValueError(f"{user_frame()} MultiHeadAttention: {heads} heads do not divide {features} features.")
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.output = (
            Dense(features, features, rng, bias=bias, init=init, name=f"{name}/{part}")
            for part in ("query", "key", "value", "output")
        )

    def __call__(self, x: Any, *, context: Any = None, mask: Any = None, training: bool = False) -> Tensor:
        x = xp.asarray(x)
        context = x if context is None else context
        query, key, value = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        seen = attention(query, key, value, causal=self.causal, mask=mask)
        return self.output(xp.reshape(xp.permute_dims(seen, (0, 2, 1, 3)), x.shape))

    def _split(self, x: Tensor) -> Tensor:
        """[batch, time, features] -> [batch, heads, time, features / heads]."""
        batch, time, features = x.shape
        return xp.permute_dims(xp.reshape(x, (batch, time, self.heads, features // self.heads)), (0, 2, 1, 3))

    def describe(self) -> str:
        return f"{self.query.weight.shape[0]}, {self.heads} heads"
