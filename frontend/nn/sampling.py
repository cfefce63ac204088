"""Losses over a great many classes, from the true one and a random few.

A step with a full softmax over 40,000 words multiplies with all of the weights; one that draws 512 of them does 78
times less. Each logit is corrected by how probable it was to draw its class, which makes the full softmax the limit.
"""

from __future__ import annotations

import math
from typing import Any

from thalweg.dialects.location import user_frame
from thalweg.dialects.types import float32, int32
from thalweg.frontend import array as xp
from thalweg.frontend import random
from thalweg.frontend.eager import array_function
from thalweg.frontend.nn.losses import sigmoid_cross_entropy
from thalweg.frontend.sharding import ShardedVariable
from thalweg.frontend.tensor import ArrayLike, Tensor

_NEVER = -1e30  # a logit without weight; finite, because infinities less infinities are NaN


@array_function
def log_uniform(key: ArrayLike, samples: int, classes: int) -> Tensor:
    """int32[samples] classes drawn with replacement, class k with probability log((k+2) / (k+1)) / log(classes+1).

    Right for words numbered from the most frequent on: their frequencies fall about like that (Zipf's law).
    """
    power = random.uniform((samples,), key=key) * math.log(classes + 1)
    return xp.clip(xp.astype(xp.exp(power), int32) - 1, 0, classes - 1)


@array_function
def log_uniform_probability(labels: ArrayLike, samples: int, classes: int) -> Tensor:
    """How probable it is that a class is among `samples` drawn by `log_uniform`: float32 of the labels' shape."""
    k = xp.astype(xp.asarray(labels), float32)
    of_one_draw = xp.log1p(1 / (k + 1)) / math.log(classes + 1)
    return -xp.expm1(samples * xp.log1p(-of_one_draw))


@array_function
def sampled_softmax(
    weight: ArrayLike,
    bias: ArrayLike,
    inputs: ArrayLike,
    labels: ArrayLike,
    key: ArrayLike,
    *,
    samples: int,
    remove_hits: bool = True,
) -> Tensor:
    """Softmax cross entropy among the true class and `samples` drawn ones. For training; evaluate with all classes.

    Args:
        weight: float[classes, features], one row per class: the rows that are needed are looked up, so that the
            gradient is sparse.
        bias: float[classes].
        inputs: float[batch, features].
        labels: int[batch], numbered from the most frequent class on (see `log_uniform`).
        key: says which classes are drawn: another one for every step (see `tw.random`).
        remove_hits: leave drawn classes out for the examples whose true class they are.

    Returns:
        float[batch].

    Jean et al., "On using very large target vocabulary for neural machine translation" (2015).
    """
    return sampled_loss(weight, bias, inputs, labels, key, samples, remove_hits)


def sampled_loss(
    weight: Any, bias: Any, inputs: ArrayLike, labels: ArrayLike, key: ArrayLike, samples: int, remove_hits: bool
) -> Tensor:
    """`sampled_softmax`, also for weights that are sharded."""
    true, drawn, hits = _sampled_logits(weight, bias, inputs, labels, key, samples)
    if remove_hits:
        drawn = xp.where(hits, _NEVER, drawn)
    all_logits = xp.concat([xp.expand_dims(true, axis=1), drawn], axis=1)
    return xp.logsumexp(all_logits, axis=1) - true


@array_function
def nce(
    weight: ArrayLike,
    bias: ArrayLike,
    inputs: ArrayLike,
    labels: ArrayLike,
    key: ArrayLike,
    *,
    samples: int,
) -> Tensor:
    """Noise-contrastive estimation: tell the true class from `samples` drawn ones, each a yes-or-no question.

    Arguments and result as for `sampled_softmax`. Gutmann and Hyvärinen (2010); Mnih and Teh (2012).
    """
    true, drawn, _ = _sampled_logits(weight, bias, inputs, labels, key, samples)
    no = sigmoid_cross_entropy(drawn, xp.zeros_like(drawn))
    return sigmoid_cross_entropy(true, xp.ones_like(true)) + xp.sum(no, axis=1)


def _sampled_logits(
    weight: Any,
    bias: Any,
    inputs: ArrayLike,
    labels: ArrayLike,
    key: ArrayLike,
    samples: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the true class [batch] and the drawn ones [batch, samples], corrected; where the two are the same."""
    inputs, labels = xp.asarray(inputs), xp.asarray(labels)
    classes, batch = weight.shape[0], labels.shape[0]
    if inputs.shape[:-1] != labels.shape or len(labels.shape) != 1:
        raise ValueError(
            f"{user_frame()} inputs must be [batch, features] and labels [batch], got "
            f"{tuple(inputs.shape)} and {tuple(labels.shape)}."
        )
    drawn = xp.astype(log_uniform(key, samples, classes), labels.dtype)
    # One look-up for both: the gradient of a table that is looked up twice would be a sum of two sparse ones.
    both = xp.concat([labels, drawn])
    correction = xp.astype(xp.log(log_uniform_probability(both, samples, classes)), inputs.dtype)
    rows, offsets = _rows(weight, both), _rows(bias, both) - correction
    true = xp.sum(inputs * rows[:batch], axis=1) + offsets[:batch]
    logits = xp.matmul(inputs, xp.matrix_transpose(rows[batch:])) + offsets[batch:]
    return true, xp.where(_seen_before(drawn), _NEVER, logits), xp.expand_dims(labels, axis=1) == drawn


def _rows(table: Any, ids: Tensor) -> Tensor:
    return table.lookup(ids) if isinstance(table, ShardedVariable) else xp.take(table, ids, axis=0)


def _seen_before(drawn: Tensor) -> Tensor:
    """bool[samples]: the drawn classes are a set, of which a class that is drawn again is no new member."""
    places = xp.arange(drawn.shape[0])
    earlier = xp.expand_dims(places, axis=1) > places
    return xp.any(earlier & (xp.expand_dims(drawn, axis=1) == drawn), axis=1)
