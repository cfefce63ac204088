"""Array functions over a placeholder with an open extent compute, bit for bit, what the static program does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thalweg as tw

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "while": lambda x: tw.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), (0, x))[1],
    "map": lambda x: tw.map(lambda r: r * 2.0 + tw.sum(r), x),
    "fold": lambda x: tw.fold(lambda c, r: c + r, tw.zeros((4,)), x),
    "checkpoint": lambda x: tw.grad(lambda v: tw.sum(tw.checkpoint(lambda u: tw.sin(u) * u)(v)))(x),
    "custom": lambda x: tw.grad(lambda v: tw.sum(tw.custom_gradient(lambda u: (u * u, lambda dy: dy * 3.0))(v)))(x),
    "einsum": lambda x: tw.einsum("ij,kj->ik", x, x),
    "sort": lambda x: tw.sort(x, axis=0),
    "argsort": lambda x: tw.argsort(x, axis=0),
    "cumsum": lambda x: tw.cumulative_sum(x, axis=0),
    "cummax": lambda x: tw.cumulative_max(x, axis=0),
    "onehot": lambda x: tw.one_hot(tw.argmax(x, axis=1), 4),
    "argmax0": lambda x: tw.argmax(x, axis=0),
    "tril": lambda x: tw.tril(x),
    "roll": lambda x: tw.roll(x, 1, axis=0),
    "rollall": lambda x: tw.roll(x, 3),
    "flip": lambda x: tw.flip(x, axis=0),
    "concat": lambda x: tw.concat([x, x, x], axis=0),
    "stack": lambda x: tw.stack([x, x], axis=0),
    "split": lambda x: tw.split(tw.concat([x, x], axis=0), 2, axis=0)[1],
    "repeat": lambda x: tw.repeat(x, 2, axis=0),
    "tile": lambda x: tw.tile(x, (2, 1)),
    "last": lambda x: x[-1],
    "first": lambda x: x[0],
    "step": lambda x: x[::2],
    "neg": lambda x: x[-2:],
    "ell": lambda x: x[..., None],
    "drop": lambda x: x[1:-1],
    "at": lambda x: x.at[0].set(7.0),
    "atadd": lambda x: x.at[:, 1].add(1.0),
    "idx": lambda x: x[tw.asarray([0, 1, 0])],
    "flat": lambda x: tw.reshape(x, -1),
    "mask": lambda x: tw.where(x > 0, x, 0.0),
    "std": lambda x: tw.std(x, axis=0, correction=1),
    "var": lambda x: tw.var(x),
    "lse": lambda x: tw.logsumexp(x, axis=0),
    "softmax0": lambda x: tw.softmax(x, axis=0),
    "prod": lambda x: tw.prod(x, axis=0),
    "diff": lambda x: tw.diff(x, axis=0),
    "outer": lambda x: tw.tensordot(x, x, axes=([1], [1])),
    "grad_mean": lambda x: tw.grad(lambda v: tw.mean(tw.exp(v) ** 2))(x),
    "hess": lambda x: tw.grad(lambda v: tw.sum(tw.grad(lambda u: tw.mean(u**3))(v) * v))(x),
    "mse": lambda x: tw.nn.mse(x, x * 0.5),
    "huber": lambda x: tw.nn.huber(x, x * 3.0),
    "sig": lambda x: tw.nn.sigmoid_cross_entropy(x, tw.astype(x > 0, tw.float32)),
    "hinge": lambda x: tw.nn.hinge(x, tw.sign(x)),
    "dropout": lambda x: tw.nn.dropout(x, 0.5, tw.random.key(1)),
    "normal": lambda x: x + tw.random.normal(x.shape, seed=2),
    "bern": lambda x: tw.random.bernoulli(0.5, x.shape, seed=2),
    "avgpool": lambda x: tw.nn.avg_pool(tw.reshape(x, (x.shape[0], 2, 2, 1)), 2),
    "avgsame": lambda x: tw.nn.avg_pool(tw.reshape(x, (x.shape[0], 2, 2, 1)), 2, stride=1, padding="same"),
    "zeroslike": lambda x: tw.zeros_like(x) + 1.0,
    "fulllike": lambda x: tw.full_like(x, 3.0),
    "arange": lambda x: tw.arange(x.shape[0]),
    "meshgrid": lambda x: tw.meshgrid(x[:, 0], tw.asarray([1.0, 2.0]))[0],
    "takealong": lambda x: tw.take_along_axis(x, tw.argsort(x, axis=0), axis=0),
    "count": lambda x: tw.count_nonzero(x, axis=0),
    "search": lambda x: tw.searchsorted(tw.asarray([0.0, 1.0]), x[:, 0]),
    "allclose": lambda x: tw.all(x == x),
    "perm": lambda x: tw.random.permutation(x, seed=1),
    "matT": lambda x: x.T @ x,
    "bcast": lambda x: tw.broadcast_to(x, (2, *x.shape)),
    "expand": lambda x: tw.expand_dims(x, axis=0),
    "squeeze": lambda x: tw.squeeze(tw.expand_dims(x, axis=0), axis=0),
    "scanrev": lambda x: tw.scan(lambda c, r: (c * 0.5 + r, c), tw.zeros((4,)), x, reverse=True)[1],
    "vjp": lambda x: tw.vjp(lambda v: tw.tanh(v), x)[1](x)[0],
    "negarr": lambda x: x[tw.asarray([0, -1, 2])],
    "negbig": lambda x: x[tw.asarray(np.resize([0, -1, 2, -3], 500).astype(np.int32))],
    "two": lambda x: x[tw.asarray([0, -1]), tw.asarray([-1, 2])],
    "takeneg": lambda x: tw.take(x, tw.asarray([-1]), axis=0),
    "traced": lambda x: x[tw.astype(tw.sum(x) * 0 - 2, tw.int32)],
    "atneg": lambda x: x.at[-1].set(5.0),
    "atarr": lambda x: x.at[tw.asarray([0, -1])].add(1.0),
    "takegrad": lambda x: tw.grad(lambda v: tw.sum(v[tw.asarray([0, -1, 0])] ** 2))(x),
    "uint": lambda x: x[tw.asarray(np.array([0, 2], np.uint8))],
    "categorical": lambda x: tw.random.categorical(x, seed=1),
    "moveaxis": lambda x: tw.moveaxis(x, 0, 1),
    "clip": lambda x: tw.clip(x, -1, 1),
    "cumprod_init": lambda x: tw.cumulative_sum(x, axis=0, include_initial=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_open_extent_gives_what_the_size_gives(name: str) -> None:
    function = FUNCTIONS[name]
    static = tw.function(function)
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None, 4), name="x")
        y = function(x)
    rng = np.random.default_rng(3)
    with tw.Session(graph) as session:
        for rows in (5, 4):
            fed = rng.normal(size=(rows, 4)).astype(np.float32)
            np.testing.assert_array_equal(session.run(y, {x: fed}), static(fed))
