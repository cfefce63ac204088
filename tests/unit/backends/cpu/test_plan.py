from __future__ import annotations

import itertools

import numpy as np
from cpu_programs import compiled, kernels_of, main, step_of
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.plan import ALIGNMENT, first_fit
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

REQUESTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 10), st.integers(0, 500)).map(lambda r: (r[0], r[0] + r[1], r[2])),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_buffers_alive_together_never_overlap(requests: list[tuple[int, int, int]]) -> None:
    offsets = first_fit(requests)
    for (a, x), (b, y) in itertools.combinations(zip(requests, offsets, strict=True), 2):
        if a[0] < b[1] and b[0] < a[1]:
            assert x + a[2] <= y or y + b[2] <= x
    assert all(offset % ALIGNMENT == 0 for offset in offsets)


def test_dead_buffers_are_used_again() -> None:
    assert first_fit([(0, 2, 64), (1, 3, 64), (2, 4, 64)]) == [0, 64, 0]


SQUARE = "tensor<64x64xf32>"
DOT = f"%1, contracting_dims = [1] x [0] : ({SQUARE}, {SQUARE}) -> {SQUARE}"
CHAIN = main(
    ["64x64xf32", "64x64xf32"],
    ["64x64xf32"],
    f"""
  %2 = stablehlo.dot_general %0, {DOT}
  %3 = stablehlo.dot_general %2, {DOT}
  %4 = stablehlo.dot_general %3, {DOT}
  %5 = stablehlo.dot_general %4, {DOT}
  return %5 : {SQUARE}""",
)


def test_a_chain_needs_two_temporaries() -> None:
    matrix = 64 * 64 * 4
    assert 2 * matrix <= compiled(CHAIN).arena_bytes < 3 * matrix + 65536  # the rest is packing scratch


UPDATE = """func.func @main(%w: tensor<8xf32> {tw.alias = 0 : i64}, %x: tensor<8xf32>)
    -> (tensor<8xf32>, tensor<8xf32>) {
  %new = stablehlo.subtract %w, %x : tensor<8xf32>
  %old = stablehlo.multiply %w, %x : tensor<8xf32>
  %more = stablehlo.sine %old : tensor<8xf32>
  return %new, %more : tensor<8xf32>, tensor<8xf32>
}"""


def test_updates_in_place_need_no_copy() -> None:
    assert "memref.copy" not in step_of(UPDATE)


def test_swapped_variables_are_copied() -> None:
    text = """func.func @main(%a: tensor<8xf32> {tw.alias = 0 : i64}, %b: tensor<8xf32> {tw.alias = 1 : i64})
        -> (tensor<8xf32>, tensor<8xf32>) { return %b, %a : tensor<8xf32>, tensor<8xf32> }"""
    assert kernels_of(text) == []
    assert step_of(text).count("memref.copy") == 3


def test_a_buffer_that_comes_in_twice_is_not_overwritten_while_its_other_shape_is_read() -> None:
    """x's rows in another order, plus x: the sum may not be written over x, of which later rows are still wanted."""
    text = """
    func.func @main(%a: tensor<4x6xf64>) -> (tensor<4x6xf64>, tensor<f64>) {
      %zero = stablehlo.constant dense<0.0> : tensor<f64>
      %rows = stablehlo.reduce(%a init: %zero) applies stablehlo.add across dimensions = [1]
          : (tensor<4x6xf64>, tensor<f64>) -> tensor<4xf64>
      %wide = stablehlo.broadcast_in_dim %rows, dims = [0] : (tensor<4xf64>) -> tensor<4x6xf64>
      %x = stablehlo.multiply %a, %wide : tensor<4x6xf64>
      %all = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0, 1]
          : (tensor<4x6xf64>, tensor<f64>) -> tensor<f64>
      %1 = stablehlo.reshape %x : (tensor<4x6xf64>) -> tensor<2x2x6xf64>
      %2 = stablehlo.transpose %1, dims = [1, 0, 2] : (tensor<2x2x6xf64>) -> tensor<2x2x6xf64>
      %3 = stablehlo.reshape %2 : (tensor<2x2x6xf64>) -> tensor<4x6xf64>
      %scaled = stablehlo.broadcast_in_dim %all, dims = [] : (tensor<f64>) -> tensor<4x6xf64>
      %4 = stablehlo.multiply %x, %scaled : tensor<4x6xf64>
      %5 = stablehlo.add %3, %4 : tensor<4x6xf64>
      return %5, %all : tensor<4x6xf64>, tensor<f64>
    }"""
    a = np.random.default_rng(0).standard_normal((4, 6))
    with context.entered():
        found, _ = compile_stablehlo(ir.Module.parse(text), CpuOptions(threads=1))([a])
    x = a * a.sum(1, keepdims=True)
    np.testing.assert_allclose(found, x.reshape(2, 2, 6).transpose(1, 0, 2).reshape(4, 6) + x * x.sum(), rtol=1e-12)
