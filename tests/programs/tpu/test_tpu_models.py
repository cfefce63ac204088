"""Whole models, trained through PJRT on one and on four devices: a convnet, a recurrent one, a transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_models import CLASSES, images, recurrent, sentences, step_of, transformer

import thalweg as tw

STEPS = 3


@pytest.fixture(autouse=True)
def four_tpus() -> Iterator[None]:
    with tw.config.override(virtual_tpus=4):
        yield


def convnet(rng):
    def flat(x):
        return tw.reshape(x, (x.shape[0], -1))

    layers = tw.nn.Conv(1, 4, 3, rng, activation=tw.nn.relu), lambda x: tw.nn.max_pool(x, 2), flat
    return tw.nn.Sequential(*layers, tw.nn.Dropout(0.2, seed=1), tw.nn.Dense(4 * 4 * 4, CLASSES, rng))


@pytest.mark.usefixtures("four_devices")
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    ("make", "data"), [(convnet, images), (recurrent, sentences), (transformer, sentences)],
    ids=["convnet", "lstm", "transformer"],
)  # fmt: skip
def test_training_follows_the_function(tmp_path: Path, make: Callable, data: Callable, shards: int) -> None:
    x, y = data(np.random.default_rng(2))
    specs = [tw.spec(x.shape, x.dtype), tw.spec(y.shape, y.dtype)]
    made = step_of(make, tw.optim.Adam(0.01))
    tw.export({"step": (made, specs)}, tmp_path, targets=["tpu"], shards=shards)
    model, ours = tw.load(tmp_path, device="tpu"), step_of(make, tw.optim.Adam(0.01))
    losses = [float(ours(x, y)) for _ in range(STEPS)]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose([float(model.step(x, y)) for _ in range(STEPS)], losses, rtol=2e-4)
