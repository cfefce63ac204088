"""The order of additions: fixed where a program is to be deterministic, whatever comes first where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gpu_programs import check, numbers, sources

import thalweg as tw
from thalweg.compiler import driver
from thalweg.runtime.config import config

TABLE, PLACES = numbers(9, 20), np.array([3, 1, 8, 3, 3, 0, 1], np.int32)


def _embedding_gradient(table: tw.Tensor, places: tw.Tensor) -> tw.Tensor:
    return tw.grad(lambda t: tw.sum(tw.tanh(tw.take(t, places, axis=0))))(table)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_option_reaches_the_backend(deterministic: bool) -> None:
    with config.override(deterministic=deterministic):
        assert driver().gpu_options().deterministic is deterministic


@pytest.mark.parametrize("deterministic", [False, True])
def test_gradients_of_embeddings(deterministic: bool, tmp_path: Path) -> None:
    texts = sources(_embedding_gradient, TABLE, PLACES, deterministic=deterministic)
    assert any("tl.atomic_add(" in text for text in texts) is not deterministic
    pytest.importorskip("triton")
    check(_embedding_gradient, TABLE, PLACES, folder=tmp_path, deterministic=deterministic)
