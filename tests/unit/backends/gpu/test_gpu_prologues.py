"""What products and attention read, computed as it is loaded: numbers, and when that is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, lowered, numbers, sources

import thalweg as tw
from thalweg.backends.cpu.program import Loop
from thalweg.dialects import context

BF16 = ml_dtypes.bfloat16
X, W = numbers(20, 90), numbers(90, 30)
INTEGERS = np.random.default_rng(0).integers(-9, 9, (90, 30)).astype(np.int8)
ROWS = np.array([3, 1, 19, 3], np.int32)


def _dequantized(x: tw.Tensor, w: tw.Tensor, scale: tw.Tensor) -> tw.Tensor:
    return x @ (tw.astype(w, x.dtype) * scale)


def _scaled_attention(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    return tw.nn.attention(tw.cos(q), tw.cos(k) * 0.5, v + 1)


def _in_a_loop(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
    return tw.scan(lambda carry, row: (tw.tanh((carry * 2 + row) @ w), carry), x, numbers(3, 1, 20))[0]


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "weights of 8 bits": (_dequantized, (X, INTEGERS, numbers(30))),
    "weights of 8 bits, in bf16": (_dequantized, (X.astype(BF16), INTEGERS, numbers(30, dtype=BF16))),
    "weights that are rounded": (lambda x, w: x @ tw.astype(w, tw.bfloat16), (X.astype(BF16), W)),
    "gathered rows": (lambda x, rows, w: tw.take(x, rows, axis=0) @ w, (X, ROWS, W)),
    "both operands, not 0 where nothing is": (lambda x, w: tw.cos(x) @ (1 / w), (X[:16], W[:, :16])),
    "a column for all": (lambda x, w: (tw.broadcast_to(x[:, :1], x.shape) * 2) @ w, (X, W)),
    "turned and cut": (lambda x, w: tw.transpose(x * 2)[:70] @ w[3:19], (X[:16], W)),
    "two products": (lambda x, w: ((x * 2) @ w, (x * 2) @ (w + 1)), (X, W)),
    "a loop": (_in_a_loop, (numbers(16, 20), numbers(20, 20))),
    "attention": (_scaled_attention, tuple(numbers(1, 2, 70, 20) * s for s in (1.0, 0.7, -0.5))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted(name: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    function, arguments = PROGRAMS[name]
    check(function, *arguments, folder=tmp_path)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"a loop", "two products"}))
def test_there_is_one_kernel(name: str) -> None:
    function, arguments = PROGRAMS[name]
    (text,) = sources(function, *arguments)
    assert "tl.dot(" in text


def test_what_many_tiles_would_compute_again_is_stored() -> None:
    texts = sources(lambda x, w: tw.exp(x) @ w, numbers(1024, 64), numbers(64, 1024))
    assert [("tl.exp(" in text, "tl.dot(" in text) for text in texts] == [(True, False), (False, True)]


def test_scales_are_loaded_once() -> None:
    (text,) = sources(_dequantized, X, INTEGERS, numbers(30))
    assert text.index("tl.load(x0 + n") < text.index("for start in")


def test_loops_capture_nothing_that_is_in_no_kernel() -> None:
    with context.entered():
        program = lowered(_in_a_loop, *PROGRAMS["a loop"][1]).program
    (loop,) = [step for step in program.steps if isinstance(step, Loop)]
    assert all(v in program.graph.values or v in program.graph.args for v in loop.body.graph.captures)
