"""Losses. Each gives one number per example, so that weights and means are the caller's; only `mse` and `l2` sum.

    loss = tw.mean(tw.nn.softmax_cross_entropy(logits, labels))
"""

from __future__ import annotations

from thalweg.dialects.location import user_frame
from thalweg.frontend import array as xp
from thalweg.frontend.eager import array_function
from thalweg.frontend.tensor import ArrayLike, Tensor


@array_function
def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Tensor:
    """-log softmax(logits)[label], from logits so that it neither overflows nor loses precision.

    Args:
        logits: float[…, classes].
        labels: classes as int[…], or probabilities as float[…, classes].

    Returns:
        float[…]. A class out of range gives NaN.

    Raises:
        ValueError: the shapes do not fit.
    """
    logits, labels = xp.asarray(logits), xp.asarray(labels)
    if not labels.dtype.is_integer:
        _expect_shape("softmax_cross_entropy", "probabilities", labels, logits.shape)
        return -xp.sum(labels * xp.log_softmax(logits), axis=-1)
    _expect_shape("softmax_cross_entropy", "integer labels", labels, logits.shape[:-1])
    classes = logits.shape[-1]
    # A comparison fuses with the softmax around it; a gather would make its gradient a scatter.
    at_label = xp.expand_dims(labels, axis=-1) == xp.arange(classes, dtype=labels.dtype)
    chosen = xp.sum(xp.where(at_label, logits, 0), axis=-1)
    loss = xp.logsumexp(logits, axis=-1) - chosen
    return xp.where((labels >= 0) & (labels < classes), loss, float("nan"))


@array_function
def sigmoid_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Tensor:
    """Cross entropy of independent yes-or-no labels, element by element: labels in [0, 1] of the logits' shape.

    max(x, 0) - x * label + log(1 + exp(-|x|)): the logarithm of the sigmoid without overflow.
    """
    x, z = xp.asarray(logits), xp.asarray(labels)
    _expect_shape("sigmoid_cross_entropy", "labels", z, x.shape)
    return xp.maximum(x, 0) - x * xp.astype(z, x.dtype) + xp.log1p(xp.exp(-xp.abs(x)))


@array_function
def mse(predictions: ArrayLike, targets: ArrayLike) -> Tensor:
    """The mean of (prediction - target)² over all elements: float[]."""
    predictions, targets = xp.asarray(predictions), xp.asarray(targets)
    _expect_shape("mse", "targets", targets, predictions.shape)
    return xp.mean(xp.square(predictions - targets))


@array_function
def huber(predictions: ArrayLike, targets: ArrayLike, delta: float = 1.0) -> Tensor:
    """Quadratic up to an error of `delta` and linear beyond, element by element. Huber (1964)."""
    predictions, targets = xp.asarray(predictions), xp.asarray(targets)
    _expect_shape("huber", "targets", targets, predictions.shape)
    error = xp.abs(predictions - targets)
    small = xp.minimum(error, delta)
    return xp.multiply(small, error - 0.5 * small)


@array_function
def hinge(logits: ArrayLike, labels: ArrayLike) -> Tensor:
    """max(0, 1 - label * logit) with labels -1 and 1, element by element."""
    logits, labels = xp.asarray(logits), xp.asarray(labels)
    _expect_shape("hinge", "labels", labels, logits.shape)
    return xp.maximum(1 - xp.astype(labels, logits.dtype) * logits, 0)


@array_function
def l2(x: ArrayLike) -> Tensor:
    """Half the sum of squares: float[], a weight penalty whose gradient is x."""
    return 0.5 * xp.sum(xp.square(x))


def _expect_shape(loss: str, what: str, value: Tensor, wanted: tuple[int, ...]) -> None:
    # Broadcasting (n,) against (n, 1) would train on an n x n table of errors without a word.
    if tuple(value.shape) != tuple(wanted):
        raise ValueError(
            f"{user_frame()} {loss}: {what} must have shape {tuple(wanted)}, got {tuple(value.shape)}. "
            "Reshape one of the two."
        )
