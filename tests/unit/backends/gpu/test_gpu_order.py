"""The order of additions: fixed where a program is to be deterministic, whatever comes first where it is not."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, numbers, sources

import thalweg as tw
from thalweg.compiler import driver
from thalweg.runtime.config import config

BF16 = ml_dtypes.bfloat16
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


def _weights(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
    """A product of few results and many terms, and what follows."""
    return tw.tanh(tw.transpose(x) @ y * 0.01)


PRODUCTS = {
    "f32": (_weights, (numbers(4096, 20), numbers(4096, 30))),
    "bf16": (_weights, (numbers(4096, 20, dtype=BF16), numbers(4096, 30, dtype=BF16))),
    "computed as it is loaded": (lambda x, y: _weights(x * 2, y + 1), (numbers(4096, 20), numbers(4096, 30))),
    "in the loop of a batch": (lambda x, y: tw.matmul(x, y), (numbers(2, 8, 4096), numbers(2, 4096, 9))),
    "gradient of a convolution": (
        lambda x, w: tw.grad(lambda w: tw.sum(tw.nn.conv(x, w, padding="same") ** 2))(w),
        (numbers(4, 32, 32, 3), numbers(3, 3, 3, 4) * 0.1),
    ),
}


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_in_parts(name: str, deterministic: bool, tmp_path: Path) -> None:
    function, arguments = PRODUCTS[name]
    texts = sources(function, *arguments, deterministic=deterministic)
    assert any("tl.atomic_add(" in text for text in texts) is not deterministic
    assert any("tl.sum(" in text for text in texts) is deterministic
    pytest.importorskip("triton")
    check(function, *arguments, folder=tmp_path, error=2e-4, deterministic=deterministic)
