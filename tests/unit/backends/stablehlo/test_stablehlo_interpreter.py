"""StableHLO's interpreter on NumPy arrays: dtypes there and back, and errors in the place of a dead process."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.stablehlo.importer import read
from thalweg.backends.stablehlo.interpreter import evaluate, numpy_dtype
from thalweg.dialects.diagnostics import ExecutionError

ELEMENTS = [
    *("f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "ui64", "ui32", "ui16", "ui8", "i1"),
    *("complex<f32>", "complex<f64>"),
]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
def test_arrays_go_in_and_out(element: str, shape: tuple[int, ...]) -> None:
    kind = "tensor<" + "".join(f"{n}x" for n in shape) + element + ">"
    values = np.arange(int(np.prod(shape))).reshape(shape).astype(numpy_dtype(element))
    if element.startswith("complex"):
        values = values * (1 - 2j)
    values = values.astype(numpy_dtype(element))
    text = f"func.func @main(%a: {kind}) -> ({kind}, {kind}) {{ return %a, %a : {kind}, {kind} }}"
    for result in evaluate(read(text), [values]):
        assert result.dtype == values.dtype
        np.testing.assert_array_equal(result, values)


NEGATE = """func.func @main(%a: tensor<3xf32>) -> tensor<3xf32> {
  %0 = stablehlo.negate %a : tensor<3xf32>
  return %0 : tensor<3xf32> }"""


def test_the_module_is_not_changed() -> None:
    module = read(NEGATE)
    before = str(module)
    evaluate(module, [np.ones(3, np.float32)])
    assert str(module) == before


@pytest.mark.parametrize("argument", [np.ones(3), np.ones((3, 1), np.float32)])
def test_wrong_arguments(argument: np.ndarray) -> None:
    with pytest.raises(ExecutionError, match=r"argument 0 of main is tensor<3xf32>, but the array is"):
        evaluate(read(NEGATE), [argument])


def test_wrong_number_of_arguments() -> None:
    with pytest.raises(ExecutionError, match="main takes 1 arguments, but 0 were given"):
        evaluate(read(NEGATE), [])


def test_ops_that_would_abort_are_refused() -> None:
    text = """func.func @main(%a: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %0 = stablehlo.cholesky %a, lower = true : tensor<2x2xf32>
      return %0 : tensor<2x2xf32> }"""
    with pytest.raises(ExecutionError, match=r"cannot run stablehlo\.cholesky"):
        evaluate(read(text), [np.eye(2, dtype=np.float32)])


def test_scatter_leaves_its_operand_to_other_users() -> None:
    text = """func.func @main(%a: tensor<3xf32>, %i: tensor<1x1xi32>, %u: tensor<1xf32>)
        -> (tensor<3xf32>, tensor<3xf32>) {
      %0 = "stablehlo.scatter"(%a, %i, %u) <{scatter_dimension_numbers = #stablehlo.scatter<
        inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=1>}> ({
      ^bb0(%x: tensor<f32>, %y: tensor<f32>): stablehlo.return %y : tensor<f32>
      }) : (tensor<3xf32>, tensor<1x1xi32>, tensor<1xf32>) -> tensor<3xf32>
      return %0, %a : tensor<3xf32>, tensor<3xf32> }"""
    arguments = [np.zeros(3, np.float32), np.array([[1]], np.int32), np.array([5], np.float32)]
    changed, original = evaluate(read(text), arguments)
    np.testing.assert_array_equal(changed, [0, 5, 0])
    np.testing.assert_array_equal(original, [0, 0, 0])
