"""Programs around matrix products, from StableHLO to results: views, epilogues, updates in place, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, stages
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def compiled(text: str, threads: int = 1) -> Executable:
    with context.entered():
        return compile_stablehlo(ir.Module.parse(text), CpuOptions(threads=threads))


def compare(text: str, *arrays: np.ndarray) -> None:
    """The CPU's results against the reference interpreter's."""
    with context.entered():
        expected = evaluate(ir.Module.parse(text), list(arrays))
    for result, wanted in zip(compiled(text)(list(arrays)), expected, strict=True):
        np.testing.assert_allclose(result.astype(np.float64), wanted.astype(np.float64), rtol=2e-5, atol=2e-5)


def kernel_count(text: str) -> int:
    with context.entered():
        return stages(ir.Module.parse(text), CpuOptions(threads=1))["kernels"].count("func.func private")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def dot(lhs: str, rhs: str, out: str, contract: str, batch: str = "") -> str:
    batching = f"batching_dims = {batch}, " if batch else ""
    return f"""func.func @main(%x: tensor<{lhs}>, %y: tensor<{rhs}>) -> tensor<{out}> {{
      %0 = stablehlo.dot_general %x, %y, {batching}contracting_dims = {contract} :
        (tensor<{lhs}>, tensor<{rhs}>) -> tensor<{out}>
      return %0 : tensor<{out}> }}"""


@pytest.mark.parametrize(
    ("lhs", "rhs", "out", "contract", "batch"),
    [
        ("5x7xf32", "7x20xf32", "5x20xf32", "[1] x [0]", ""),
        ("7x5xf32", "20x7xf32", "5x20xf32", "[0] x [1]", ""),
        ("3x5x7xf32", "3x20x7xf32", "3x5x20xf32", "[2] x [2]", "[0] x [0]"),
        ("5x3x7xf32", "7x3x20xf32", "3x5x20xf32", "[2] x [0]", "[1] x [1]"),
        ("2x3x4x5xf32", "4x6x3x2xf32", "2x5x6xf32", "[1, 2] x [2, 0]", "[0] x [3]"),
        ("5x7xf32", "20xf32", "5x7x20xf32", "[] x []", ""),
        ("9xf32", "9xf32", "f32", "[0] x [0]", ""),
    ],
)
def test_dimension_numbers(lhs: str, rhs: str, out: str, contract: str, batch: str) -> None:
    shapes = [tuple(int(n) for n in kind.split("x")[:-1]) for kind in (lhs, rhs)]
    compare(dot(lhs, rhs, out, contract, batch), *(normal(*shape) for shape in shapes))


@pytest.mark.parametrize(("m", "k", "n"), [(3, 0, 5), (0, 4, 5), (3, 4, 0), (0, 0, 0)])
def test_no_elements(m: int, k: int, n: int) -> None:
    text = dot(f"{m}x{k}xf32", f"{k}x{n}xf32", f"{m}x{n}xf32", "[1] x [0]")
    (result,) = compiled(text)([normal(m, k), normal(k, n)])
    np.testing.assert_array_equal(result, np.zeros((m, n), np.float32))


def test_bools_are_or_of_and() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (5, 9)).astype(bool), rng.integers(0, 2, (9, 20)).astype(bool)
    (result,) = compiled(dot("5x9xi1", "9x20xi1", "5x20xi1", "[1] x [0]"))([x, y])
    np.testing.assert_array_equal(result, x @ y)


@pytest.mark.parametrize(("element", "dtype"), [("i8", np.int8), ("ui8", np.uint8)])
def test_narrow_integers_with_a_wide_result(element: str, dtype: type) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    x, y = (rng.integers(info.min, info.max, s, endpoint=True).astype(dtype) for s in ((5, 9), (9, 20)))
    wide = "ui32" if element[0] == "u" else "i32"
    (result,) = compiled(dot(f"5x9x{element}", f"9x20x{element}", f"5x20x{wide}", "[1] x [0]"))([x, y])
    np.testing.assert_array_equal(result.astype(np.int64), x.astype(np.int64) @ y.astype(np.int64))


EPILOGUE = """
func.func @main(%x: tensor<33x50xf32>, %w: tensor<50x70xf32>, %b: tensor<70xf32>, %r: tensor<33x70xf32>) -> (
    tensor<33x70xf32>, tensor<33x70xi1>) {
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] :
    (tensor<33x50xf32>, tensor<50x70xf32>) -> tensor<33x70xf32>
  %1 = stablehlo.broadcast_in_dim %b, dims = [1] : (tensor<70xf32>) -> tensor<33x70xf32>
  %2 = stablehlo.add %0, %1 : tensor<33x70xf32>
  %zero = stablehlo.constant dense<0.0> : tensor<33x70xf32>
  %3 = stablehlo.compare GT, %2, %zero : (tensor<33x70xf32>, tensor<33x70xf32>) -> tensor<33x70xi1>
  %4 = stablehlo.tanh %2 : tensor<33x70xf32>
  %5 = stablehlo.add %4, %r : tensor<33x70xf32>
  return %5, %3 : tensor<33x70xf32>, tensor<33x70xi1> }"""


def test_bias_activation_mask_and_residual_are_one_kernel() -> None:
    compare(EPILOGUE, normal(33, 50), normal(50, 70), normal(70), normal(33, 70))
    assert kernel_count(EPILOGUE) == 1


TRANSPOSED = """
func.func @main(%x: tensor<40x33xf32>, %w: tensor<40x50xf32>, %v: tensor<50x33xf32>) -> tensor<50x33xf32> {
  %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<40x33xf32>) -> tensor<33x40xf32>
  %s = stablehlo.slice %w [0:40, 0:50] : (tensor<40x50xf32>) -> tensor<40x50xf32>
  %0 = stablehlo.dot_general %t, %s, contracting_dims = [1] x [0] :
    (tensor<33x40xf32>, tensor<40x50xf32>) -> tensor<33x50xf32>
  %1 = stablehlo.transpose %0, dims = [1, 0] : (tensor<33x50xf32>) -> tensor<50x33xf32>
  %2 = stablehlo.add %1, %v : tensor<50x33xf32>
  return %2 : tensor<50x33xf32> }"""


def test_transposes_around_a_product_are_not_copies() -> None:
    compare(TRANSPOSED, normal(40, 33), normal(40, 50), normal(50, 33))
    assert kernel_count(TRANSPOSED) == 1


SLICED = """
func.func @main(%x: tensor<9x60xf32>, %w: tensor<20x30xf32>) -> tensor<9x10xf32> {
  %a = stablehlo.slice %x [0:9, 5:45:2] : (tensor<9x60xf32>) -> tensor<9x20xf32>
  %r = stablehlo.reverse %w, dims = [0] : tensor<20x30xf32>
  %b = stablehlo.slice %r [0:20, 4:24:2] : (tensor<20x30xf32>) -> tensor<20x10xf32>
  %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0] :
    (tensor<9x20xf32>, tensor<20x10xf32>) -> tensor<9x10xf32>
  return %0 : tensor<9x10xf32> }"""


def test_slices_and_reversals_are_read_in_place() -> None:
    compare(SLICED, normal(9, 60), normal(20, 30))
    assert kernel_count(SLICED) == 1


UPDATE = """
func.func @main(%w: tensor<50x70xf32> {tw.alias = 0 : i64}, %m: tensor<50x70xf32> {tw.alias = 1 : i64},
    %x: tensor<33x50xf32>, %g: tensor<33x70xf32>) -> (tensor<50x70xf32>, tensor<50x70xf32>, tensor<33x50xf32>) {
  %0 = stablehlo.dot_general %x, %g, contracting_dims = [0] x [0] :
    (tensor<33x50xf32>, tensor<33x70xf32>) -> tensor<50x70xf32>
  %c = stablehlo.constant dense<0.9> : tensor<50x70xf32>
  %1 = stablehlo.multiply %c, %m : tensor<50x70xf32>
  %2 = stablehlo.add %1, %0 : tensor<50x70xf32>
  %3 = stablehlo.subtract %w, %2 : tensor<50x70xf32>
  %4 = stablehlo.dot_general %g, %w, contracting_dims = [1] x [1] :
    (tensor<33x70xf32>, tensor<50x70xf32>) -> tensor<33x50xf32>
  return %3, %2, %4 : tensor<50x70xf32>, tensor<50x70xf32>, tensor<33x50xf32> }"""


@pytest.mark.parametrize("threads", [1, 2])
def test_weights_are_updated_in_place_after_their_last_reader(threads: int) -> None:
    w, m, x, g = normal(50, 70), normal(50, 70), normal(33, 50), normal(33, 70)
    momentum = np.float32(0.9) * m + x.T @ g
    expected = w - momentum, momentum, g @ w.T
    weights, moments = w.copy(), m.copy()
    results = compiled(UPDATE, threads)([weights, moments, x, g])
    assert results[0] is weights
    assert results[1] is moments
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "spec",
    [("200x300", "300x250", "[1] x [0]"), ("200x300", "250x300", "[1] x [1]"), ("300x200", "300x250", "[0] x [0]")],
)
def test_threads_do_not_change_the_result(spec: tuple[str, str, str]) -> None:
    lhs, rhs, contract = spec
    text = dot(f"{lhs}xf32", f"{rhs}xf32", "200x250xf32", contract)
    x, y = (normal(*map(int, s.split("x"))) for s in (lhs, rhs))
    alone, together = compiled(text, 1)([x, y])[0], compiled(text, 2)([x, y])[0]
    np.testing.assert_array_equal(alone, together)


@pytest.mark.timeout(60)
def test_one_program_on_two_threads_from_several_callers_at_once() -> None:
    executable = compiled(dot("200x300xf32", "250x300xf32", "200x250xf32", "[1] x [1]"), threads=2)
    pairs = [(normal(200, 300) * k, normal(250, 300)) for k in range(1, 5)]
    expected = [executable([x, y])[0] for x, y in pairs]
    wrong: list[int] = []

    def call(k: int) -> None:
        for _ in range(30):
            if not np.array_equal(executable(list(pairs[k]))[0], expected[k]):
                wrong.append(k)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(len(pairs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
