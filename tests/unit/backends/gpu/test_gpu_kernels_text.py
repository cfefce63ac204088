"""The modules that kernels become: their names, their lines, and what is not there yet. None of this needs Triton."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_programs import lowered, numbers, sources

import thalweg as tw
from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError, PassError
from thalweg.dialects.mlir import ir


def test_softmax_is_one_kernel_that_reads_once() -> None:
    (text,) = sources(lambda x: tw.softmax(x), numbers(9, 37))
    assert "def k0_softmax(" in text
    assert text.count("tl.load(") == 1 and text.count("tl.store(") == 1
    ast.parse(text)


def test_users_lines_are_comments() -> None:
    (text,) = sources(lambda x: tw.tanh(x) * 3, numbers(5))
    assert "# test_gpu_kernels_text.py:" in text and "tw.tanh(x) * 3" in text


def test_long_rows_are_walked_in_loops() -> None:
    (text,) = sources(lambda x: tw.softmax(x), numbers(2, 9000))
    assert text.count("for start in range(0, 9000, COLS):") == 3  # largest, total, result


def test_full_tiles_have_no_mask() -> None:
    (text,) = sources(lambda x: x + 1, numbers(64, 64))
    assert "mask" not in text


def test_matmul_computes_what_follows_elementwise() -> None:
    def layer(x: tw.Tensor, w: tw.Tensor, b: tw.Tensor) -> tw.Tensor:
        return tw.maximum(tw.matmul(x, w) + b, 0)

    (text,) = sources(layer, numbers(70, 90), numbers(90, 50), numbers(50))
    assert "def k0_matmul_add_maximum(" in text and "tl.dot(" in text


def _names(function: Callable[..., Any], *arguments: np.ndarray) -> list[str]:
    with context.entered():
        return [kernel.name.partition("_")[2] for kernel in lowered(function, *arguments).kernels]


def test_names_tell_what_is_computed() -> None:
    def momentum(x: tw.Tensor, w: tw.Tensor, v: tw.Tensor) -> Any:
        v = v * 0.9 + tw.grad(lambda w: tw.sum(tw.tanh(x @ w)))(w)
        return w - v / (tw.sqrt(tw.sum(v * v, axis=0)) + 1), v

    x, w = numbers(70, 90), numbers(90, 50)
    assert _names(momentum, x, w, w)[0] == "matmul_tanh_multiply_subtract"
    assert _names(lambda x: tw.nn.layer_norm(x), x) == ["normalize"]
    assert _names(lambda x: tw.softmax(x), x) == ["softmax"]
    assert _names(lambda x, v: v - 0.1 / (tw.sqrt(tw.sum(x, axis=0)) + 1), x, w[:, 0])[0].startswith("sum_sqrt")
    assert _names(lambda t, i: tw.take(t, i, axis=0) * 2, x, np.array([1, 2])) == ["gather_multiply"]


def test_what_readers_can_compute_is_not_stored() -> None:
    def entropy(x: tw.Tensor, w: tw.Tensor, labels: tw.Tensor) -> Any:
        return tw.grad(lambda w: tw.mean(tw.nn.softmax_cross_entropy(x @ w, labels)))(w)

    texts = sources(entropy, numbers(70, 90), numbers(90, 50), np.zeros(70, np.int32))
    assert texts[0].count("tl.store(") == 1 and "def k0_matmul(" in texts[0]


def test_products_round_to_tf32_only_if_asked() -> None:
    def product(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
        return tw.matmul(x, y)

    assert 'input_precision="ieee"' in sources(product, numbers(4, 5), numbers(5, 6))[0]
    assert 'input_precision="tf32"' in sources(product, numbers(4, 5), numbers(5, 6), tf32=True)[0]


def test_transposes_are_read_in_squares() -> None:
    (text,) = sources(lambda x: tw.transpose(x), numbers(70, 90))
    assert "def k0_transpose(" in text and "x0 + col * 90 + row" in text


UNKNOWN = """
func.func @main(%x: tensor<5xf32>) -> tensor<5xf32> {
  %0 = stablehlo.custom_call @unheard_of(%x) : (tensor<5xf32>) -> tensor<5xf32> loc("model.py":7:1)
  return %0 : tensor<5xf32>
}
"""


def test_what_is_not_there_names_the_op_and_the_line() -> None:
    with context.entered(), pytest.raises(LoweringError) as caught:
        lower(ir.Module.parse(UNKNOWN))
    assert "model.py:7" in str(caught.value)
    assert "stablehlo.custom_call (f32[5]): not yet on GPU" in str(caught.value)


def test_sixteen_tiles_are_divided_by_sixteen() -> None:
    (text,) = sources(lambda x: tw.softmax(x @ tw.matrix_transpose(x)) @ x, numbers(2, 1024, 16))
    assert "tl.program_id(0) // 16" in text


def test_products_of_integers_are_loops() -> None:
    x = np.ones((4, 4), np.int32)
    (text,) = sources(lambda a: tw.matmul(a, a), x)
    assert "for step in tl.static_range(4):" in text and "tl.dot(" not in text


def test_convolutions_read_through_the_window() -> None:
    def layer(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
        return tw.maximum(tw.nn.conv(x, w, padding="same"), 0)

    texts = sources(layer, numbers(2, 8, 8, 64), numbers(3, 3, 64, 32))
    assert any("tl.dot(" in text and "inside" in text for text in texts)


def test_chips_are_checked() -> None:
    assert GpuOptions("gfx942").vendor == "hip"
    with pytest.raises(ValueError, match="sm_90"):
        GpuOptions("h100")


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    @tw.function
    def f(x: tw.Tensor) -> tw.Tensor:
        with tw.device("gpu:0"):
            return tw.tanh(x)

    with pytest.raises(PassError, match=r"tanh asks for /device:GPU:0, which is not there.*--to triton"):
        f(numbers(3))


def test_stage_of_a_function() -> None:
    text = tw.function(lambda x: tw.exp(x)).ir("triton", numbers(3))
    assert "@triton.jit" in text
