"""Tensors of 2^31 elements and more have 64-bit positions. Nobody has the memory: the text is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gpu_programs import lowered

import thalweg as tw
from thalweg.dialects import context


def _like(*shape: int, dtype: Any = tw.float32) -> Any:
    """A type in the place of an array."""
    return tw.spec(shape, dtype)


def _row_gradients(x: tw.Tensor, rows: tw.Tensor) -> Any:
    return tw.grad(lambda x: tw.sum(tw.take(x, rows, axis=0) ** 2))(x)


LARGE = _like(70_000, 40_000)
ROWS = _like(100, dtype=tw.int32)
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (lambda x: x * 2, (_like(3 * 2**30),)),
    "transpose": (lambda x: tw.transpose(x) + 1, (LARGE,)),
    "slice": (lambda x: x[1:, 5:], (LARGE,)),
    "gather": (lambda x, rows: tw.take(x, rows, axis=0), (LARGE, ROWS)),
    "scatter": (_row_gradients, (LARGE, ROWS)),
    "concatenate": (lambda x, y: tw.concatenate([x, y], axis=0), (_like(40_000, 40_000), _like(30_000, 40_000))),
    "sum of rows": (lambda x: tw.sum(x, axis=1), (LARGE,)),
    "sum of columns": (lambda x: tw.sum(x, axis=0), (LARGE,)),
    "argmax": (lambda x: tw.argmax(x, axis=1), (LARGE,)),
    "softmax": (lambda x: tw.softmax(x, axis=-1), (LARGE,)),
    "matmul": (lambda x, w: x @ w, (_like(70_000, 4096, dtype=tw.bfloat16), _like(4096, 40_000, dtype=tw.bfloat16))),
    "matmul of the transpose": (lambda x, w: tw.transpose(x) @ w, (LARGE, _like(70_000, 128))),
    "convolution": (
        lambda x, w: tw.nn.conv(x, w, padding="same"), (_like(1024, 224, 224, 64), _like(3, 3, 64, 64)),
    ),
    "pooling": (lambda x: tw.nn.max_pool(x, 2), (_like(1024, 224, 224, 64),)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_positions_are_64_bit(name: str) -> None:
    function, arguments = CASES[name]
    with context.entered():
        kernels = lowered(function, *arguments).kernels
    large = [k for k in kernels if any(value.size >= 2**31 for value in (*k.operands, *k.results))]
    assert large and all(".to(tl.int64)" in kernel.source for kernel in large)


def test_others_are_32_bit() -> None:
    with context.entered():
        kernels = lowered(lambda x: tw.softmax(x, axis=-1), _like(50_000, 40_000)).kernels
    assert kernels and not any("int64" in kernel.source for kernel in kernels)
