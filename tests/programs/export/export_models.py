"""Models that are exported by several tests, and the numbers that every target must give."""

from __future__ import annotations

import numpy as np

import thalweg as tw

STEPS = 5


class Digits:
    """An MLP of 24 inputs and 5 classes: infers batches of any size, trains batches of 16."""

    def __init__(self) -> None:
        shapes = {"w1": (24, 33), "b1": (33,), "w2": (33, 5), "b2": (5,)}
        rng = np.random.default_rng(1)
        self.weights = [tw.Variable(rng.normal(size=s).astype(np.float32) * 0.2, name=n) for n, s in shapes.items()]
        self.infer = tw.function(lambda x: tw.nn.softmax(self.logits(x)))
        self.train_step = tw.function(self.step)

    def logits(self, x):
        w1, b1, w2, b2 = self.weights
        return tw.tanh(x @ w1 + b1) @ w2 + b2

    def step(self, x, y):
        loss, gradients = tw.value_and_grad(
            lambda: tw.mean(tw.nn.softmax_cross_entropy(self.logits(x), y)), wrt=self.weights
        )()
        for w, g in zip(self.weights, gradients, strict=True):
            w.assign_sub(0.3 * g)
        return {"loss": loss, "largest": tw.max(tw.abs(gradients[0]))}

    def signatures(self):
        return {
            "infer": (self.infer, [tw.spec((None, 24))]),
            "train_step": (self.train_step, [tw.spec((16, 24)), tw.spec((16,), tw.int32)]),
        }


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Inputs that every language makes in the same way: x[i] = (i % 17 - 8) / 8, y[i] = i % 5."""
    return ((np.arange(16 * 24) % 17 - 8) / 8).astype(np.float32).reshape(16, 24), (np.arange(16) % 5).astype(np.int32)


def expected() -> list[float]:
    """The first and last probability of 11 rows; then the loss of each training step; then the same probabilities."""
    model, (x, y) = Digits(), inputs()
    numbers = []
    for turn in range(2):
        found = np.asarray(model.infer(x[:11]))
        numbers += [float(found[0, 0]), float(found[10, 4])]
        if turn == 0:
            numbers += [float(model.train_step(x, y)["loss"]) for _ in range(STEPS)]
    return numbers
