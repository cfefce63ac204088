"""Attention without its matrices of scores, in Triton's interpreter: gradients, masks, scores of other forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, lowered, numbers, sources

import thalweg as tw
from thalweg.backends.cpu import attention
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.backends.gpu.configurations import shared
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients by kernels of attention, however few the scores."""
    monkeypatch.setattr(attention, "KEPT", 0)


def _attention(causal: bool = False) -> Callable[..., tw.Tensor]:
    return lambda q, k, v: tw.nn.attention(q, k, v, causal=causal)


def _gradients(function: Callable[..., tw.Tensor]) -> Callable[..., Any]:
    return lambda *x: tw.grad(lambda *x: tw.sum(tw.tanh(function(*x))), argnums=tuple(range(len(x))))(*x)


def _alone(*x: tw.Tensor) -> Any:
    """Gradients for which nothing was computed before."""
    return tw.grad(lambda *x: tw.sum(tw.nn.attention(*x)), argnums=(0, 1, 2))(*x)


def _joined(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    """Heads side by side, as a dense layer takes them."""
    return tw.transpose(tw.nn.attention(q, k, v) * 0.5, (0, 2, 1, 3)) + 1


def _sigmoid(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    """Scores that grow with the square of e^: they do not scale with the maximum."""
    scores = q @ tw.matrix_transpose(k)
    e = tw.exp(scores - tw.max(scores, axis=-1, keepdims=True))
    return ((e + e * e) / tw.sum(e, axis=-1, keepdims=True)) @ v


def _ahead(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    """Each row sees 90 columns more than the one that it is."""
    rows, columns = tw.arange(q.shape[-2]), tw.arange(k.shape[-2])
    scores = tw.where(columns[None, :] <= rows[:, None] + 90, q @ tw.matrix_transpose(k) * 0.3, -1e30)
    return tw.softmax(scores, axis=-1) @ v


def _masked(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    mask = np.random.default_rng(0).random((70, 90)) < 0.7
    scores = tw.where(mask, q @ tw.matrix_transpose(k) * 0.3, -np.inf)
    return tw.softmax(scores, axis=-1) @ v


def _triangle(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    mask = tw.tril(tw.ones((q.shape[-2], k.shape[-2]), dtype=tw.bool))
    return tw.softmax(tw.where(mask, q @ tw.matrix_transpose(k) * 0.3, -1e9), axis=-1) @ v


SAME = tuple(numbers(2, 1, 70, 20) * s for s in (1.0, 0.7, -0.5))
HEADS = tuple(np.concatenate([x, 2 * x], axis=1) for x in SAME)
OTHER = (numbers(2, 70, 16), numbers(2, 90, 16) * 0.5, numbers(2, 90, 20))
LONG = tuple(numbers(1, 300, 16) * s for s in (1.0, 0.7, -0.5))
WIDE = (numbers(1, 300, 16), numbers(1, 420, 16) * 0.5, numbers(1, 420, 16))
TALL = (numbers(1, 420, 16), numbers(1, 300, 16) * 0.5, numbers(1, 300, 16))
NARROW = tuple(x.astype(ml_dtypes.bfloat16) for x in SAME)
CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "attention": (_attention(), SAME),
    "causal": (_attention(causal=True), SAME),
    "rows and columns of other extents": (_attention(), tuple(x[:, None] for x in OTHER)),
    "masked": (_masked, OTHER),
    "scores that do not scale": (_sigmoid, OTHER),
    "bf16, causal": (_attention(causal=True), NARROW),
    "a triangle of ones": (_triangle, SAME),
    "gradients, a triangle of ones": (_gradients(_triangle), SAME),
    "heads side by side": (_joined, HEADS),
    "gradients, bf16": (_gradients(_attention(causal=True)), NARROW),
    "gradients alone": (_alone, SAME),
    "gradients": (_gradients(_attention()), SAME),
    "gradients, causal": (_gradients(_attention(causal=True)), SAME),
    "causal, long": (_attention(causal=True), LONG),
    "causal, to the end of longer texts": (_ahead, WIDE),
    "gradients, causal, long": (_gradients(_attention(causal=True)), LONG),
    "gradients, causal, longer texts": (_gradients(_ahead), WIDE),
    "gradients, causal, more rows than columns": (_gradients(_ahead), TALL),
    "gradients, masked": (_gradients(_masked), OTHER),
}


@pytest.mark.parametrize("name", CASES)
def test_interpreted(name: str, tmp_path: Path) -> None:
    function, arguments = CASES[name]
    check(function, *arguments, folder=tmp_path, error=5e-5)


def test_scores_of_16_bits_need_no_memory() -> None:
    texts = sources(*[_attention(causal=True), *NARROW])
    (text,) = [text for text in texts if "tl.dot(" in text]
    assert ".to(tl.bfloat16)" in text and "end = tl.minimum(" in text


@pytest.mark.parametrize(("function", "arguments"), [(_attention(), NARROW), (_joined, HEADS)])
def test_what_becomes_of_a_result_is_no_kernel_of_its_own(function: Callable[..., Any], arguments: Any) -> None:
    assert "tl.dot(" in sources(function, *arguments)[-1]


def test_scores_are_walked_once() -> None:
    texts = sources(*[_attention(), *SAME])
    (text,) = [text for text in texts if "tl.dot(" in text]
    assert text.count("for start in range(0, 70, BN):") == 1 and "scale = tl.exp(" in text


def test_gradients_walk_the_columns_once_for_a_softmax() -> None:
    texts = sources(_alone, *SAME)
    (text,) = [text for text in texts if "attention_rows(" in text]
    assert text.count("for start in range(0, 70, BN):") == 3 and "scale = tl.exp(" in text


def test_products_of_16_bits_have_operands_of_16_bits() -> None:
    texts = sources(_gradients(_attention()), *NARROW)
    (text,) = [text for text in texts if "tl.trans(" in text]
    assert [line.split(".to(tl.bfloat16), ")[1].split(",")[0] for line in text.splitlines() if "tl.trans(" in line] == [
        "do_2", "q_2",
    ]  # fmt: skip


@pytest.mark.parametrize("function", [_attention(causal=True), _triangle])
@pytest.mark.parametrize("arguments", [SAME, NARROW], ids=["f32", "bf16"])
def test_causal_rows_do_not_look_ahead(function: Callable[..., Any], arguments: Any) -> None:
    texts = sources(function, *arguments)
    assert any("end = tl.minimum((tile + 1) * BM" in text for text in texts)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_causal_mask_is_compared_along_the_diagonal_only(gradient: bool) -> None:
    shape = (1, 2, 512, 64)
    function = _gradients(_attention(causal=True)) if gradient else _attention(causal=True)
    texts = [text for text in sources(function, *[numbers(*shape)] * 3) if "tl.dot(" in text]
    assert len(texts) == (3 if gradient else 1)
    for text in texts:
        walks = [walk for walk in text.split("    for start in range(")[1:]]
        masked = ["<= rows" in walk for walk in walks]
        assert "common" in walks[0] and sum(masked) == len(walks) // 2


def test_scores_stay_as_exact_as_they_are() -> None:
    """Only what products take, and results, are rounded to 16 bits."""
    texts = sources(_gradients(_attention()), *[x.astype(ml_dtypes.bfloat16) for x in HEADS])
    for text in texts:
        if "tl.dot(" in text:
            assert not re.search(r"\.to\(tl\.bfloat16\)\.to\(tl\.float32\)", text), text


def test_sums_along_rows_are_kernels_of_their_own() -> None:
    texts = sources(*CASES["gradients"][0:1], *SAME)
    assert sum("tl.trans(" in text for text in texts) == 1


@pytest.mark.parametrize("chip", ["sm_80", "gfx942"])
def test_gradients_fit_the_chips(chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    options = GpuOptions(chip, tf32=True, folder=tmp_path)
    with context.entered():
        program = lowered(_gradients(_attention(causal=True)), *SAME, folder=tmp_path, chip=chip, tf32=True)
        kernels = [kernel for kernel in program.kernels if "attention" in kernel.name]
        made = [compile_kernel(kernel.text, options).image for kernel in kernels]
    assert len(made) == 3 and all(image.shared <= shared(options) for image in made)
