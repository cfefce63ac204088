"""Convolutions as products of tiles, their gradients, and sums in two stages, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, numbers, sources

import thalweg as tw

pytest.importorskip("triton")

BF16 = ml_dtypes.bfloat16


def _gradients(**options: Any) -> Callable[..., Any]:
    def loss(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
        return tw.sum(tw.tanh(tw.nn.conv(x, w, **options)))

    return lambda x, w: tw.grad(loss, argnums=(0, 1))(x, w)


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "odd": (lambda x, w: tw.nn.conv(x, w), (numbers(2, 7, 5, 3), numbers(3, 3, 3, 10))),
    "channels of whole tiles": (lambda x, w: tw.nn.conv(x, w), (numbers(1, 5, 4, 64), numbers(3, 3, 64, 32))),
    "strided": (lambda x, w: tw.nn.conv(x, w, stride=2), (numbers(2, 9, 8, 5), numbers(3, 3, 5, 6))),
    "dilated": (lambda x, w: tw.nn.conv(x, w, dilation=2), (numbers(1, 9, 8, 5), numbers(3, 3, 5, 6))),
    "grouped": (lambda x, w: tw.nn.conv(x, w, groups=2), (numbers(1, 6, 6, 6), numbers(3, 3, 3, 8))),
    "depthwise": (lambda x, w: tw.nn.conv(x, w, groups=6, stride=2), (numbers(1, 7, 6, 6), numbers(3, 3, 1, 6))),
    "of a line": (lambda x, w: tw.nn.conv(x, w), (numbers(2, 11, 4), numbers(5, 4, 6))),
    "bf16": (lambda x, w: tw.nn.conv(x, w), (numbers(1, 6, 5, 8, dtype=BF16), numbers(3, 3, 8, 8, dtype=BF16))),
    "with an epilogue": (
        lambda x, w, b: tw.maximum(tw.nn.conv(x, w) + b, 0), (numbers(1, 6, 5, 4), numbers(3, 3, 4, 9), numbers(9))
    ),
    "gradients": (_gradients(), (numbers(2, 6, 5, 4), numbers(3, 3, 4, 7))),
    "gradients of strides": (_gradients(stride=2), (numbers(2, 7, 6, 4), numbers(3, 3, 4, 7))),
    "gradients of dilation": (_gradients(dilation=2), (numbers(1, 7, 6, 4), numbers(3, 3, 4, 7))),
    "gradients of groups": (_gradients(groups=2), (numbers(1, 6, 5, 4), numbers(3, 3, 2, 6))),
    "gradients of each channel": (_gradients(groups=4), (numbers(1, 6, 5, 4), numbers(3, 3, 1, 4))),
    "gradient in parts": (_gradients(), (numbers(8, 16, 16, 3), numbers(1, 1, 3, 4))),
    "pooling": (
        lambda x: (tw.nn.max_pool(x, 3, stride=2, padding="same"), tw.nn.avg_pool(x, 2)), (numbers(2, 7, 6, 3),)
    ),
    "gradients of pooling": (
        lambda x: tw.grad(lambda x: tw.sum(tw.nn.max_pool(x, 3, stride=2, padding="same") ** 2) + tw.sum(
            tw.nn.avg_pool(x, 2) ** 2))(x), (numbers(2, 7, 6, 3),)
    ),
    "a long sum": (lambda x: tw.sum(x), (numbers(1 << 18),)),
    "long columns": (lambda x: tw.sum(x * x, axis=0), (numbers(16384, 5),)),
    "few long rows": (lambda x: (tw.sum(x, axis=1), tw.max(x, axis=1)), (numbers(3, 65536),)),
    "a product of long rows": (lambda x, y: tw.matmul(x, y), (numbers(4, 8192), numbers(8192, 6))),
    "a product of long rows in bf16": (
        lambda x, y: tw.tanh(tw.matmul(x, y)), (numbers(4, 4096, dtype=BF16) / 8, numbers(4096, 6, dtype=BF16) / 8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_interpreted(name: str, tmp_path: Path) -> None:
    function, arguments = CASES[name]
    check(function, *arguments, folder=tmp_path, error=2e-4 if "long" in name or "parts" in name else 2e-5)


def test_channels_of_whole_tiles_make_windows_places_scalars() -> None:
    (text,) = sources(CASES["channels of whole tiles"][0], *CASES["channels of whole tiles"][1])
    assert "tap = step // 2" in text and "tl.dot(" in text


@pytest.mark.parametrize("name", ["a long sum", "long columns", "few long rows"])
def test_long_reductions_are_cut(name: str) -> None:
    assert len(sources(CASES[name][0], *CASES[name][1])) > 1


def test_long_products_are_cut() -> None:
    first, second = sources(CASES["a product of long rows"][0], *CASES["a product of long rows"][1])
    assert '"out0": "f32[16,4,6]"' in first and '"out0": "f32[4,6]"' in second
