"""Scatter: dimension numbers, dtypes, what falls outside, overlapping windows, several operands, in place."""

from __future__ import annotations

import numpy as np
import pytest
from emit_programs import RANDOM, agree, native, numbers, tensor

from thalweg.backends.stablehlo.interpreter import numpy_dtype

ROWS = "update_window_dims=[1], inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=1"

# operand, indices, updates, dimension numbers
FORMS = {
    "rows": ((10, 6), (5, 1), (5, 6), ROWS),
    "wide rows": ((10, 37), (5, 1), (5, 37), ROWS),
    "implicit vector": ((10, 37), (5,), (5, 37), ROWS),
    "elements": (
        *((10, 6), (2, 5), (5,)),
        "inserted_window_dims=[0,1], scatter_dims_to_operand_dims=[1,0], index_vector_dim=0",
    ),
    "windows": (
        *((10, 6), (5, 2), (3, 5, 2)),
        "update_window_dims=[0,2], scatter_dims_to_operand_dims=[0,1], index_vector_dim=1",
    ),
    "batches": (
        *((4, 10, 6), (3, 1, 4), (3, 6, 4)),
        "update_window_dims=[1], inserted_window_dims=[1], input_batching_dims=[0], scatter_indices_batching_dims=[2], "
        "scatter_dims_to_operand_dims=[1], index_vector_dim=1",
    ),
    "one window": ((10,), (1,), (3,), "update_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=0"),
    "nothing": ((10,), (0, 1), (0,), "inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=1"),
}


def scatter(form: str, body: str, element: str = "f32", index: str = "i32") -> str:
    operand, indices, updates, dimensions = FORMS[form]
    types = [tensor(operand, element), tensor(indices, index), tensor(updates, element)]
    return (
        f"func.func @main(%a: {types[0]}, %i: {types[1]}, %u: {types[2]}) -> {types[0]} {{\n"
        f'%0 = "stablehlo.scatter"(%a, %i, %u) <{{scatter_dimension_numbers = #stablehlo.scatter<{dimensions}>}}> ({{\n'
        f"^bb0(%x: tensor<{element}>, %y: tensor<{element}>):\n{body.format(e=element)}\n}})"
        f" : ({', '.join(types)}) -> {types[0]}\nreturn %0 : {types[0]} }}"
    )


SET = "stablehlo.return %y : tensor<{e}>"
ADD = "%c = stablehlo.add %x, %y : tensor<{e}>\nstablehlo.return %c : tensor<{e}>"
MAX = "%c = stablehlo.maximum %x, %y : tensor<{e}>\nstablehlo.return %c : tensor<{e}>"


def arguments(form: str, element: str = "f32", index: str = "i32") -> list[np.ndarray]:
    """Places inside and outside: below 0 for signed indices, and above the end."""
    operand, indices, updates, _ = FORMS[form]
    low = 0 if index.startswith("u") else -3
    places = RANDOM.integers(low, 13, indices).astype(numpy_dtype(index))
    return [numbers(operand, element), places, numbers(updates, element)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("body", [SET, ADD])
def test_forms(form: str, body: str) -> None:
    agree(scatter(form, body), arguments(form))


@pytest.mark.parametrize("element", ["f64", "f16", "bf16", "i64", "i16", "i8", "ui32", "ui8", "i1"])
def test_dtypes(element: str) -> None:
    for form in ("wide rows", "elements"):
        agree(scatter(form, MAX, element), arguments(form, element))


@pytest.mark.parametrize("index", ["i64", "i8", "ui32", "ui8"])
def test_index_types(index: str) -> None:
    agree(scatter("rows", ADD, index=index), arguments("rows", index=index))


def test_the_argument_is_not_changed() -> None:
    x, i, u = arguments("rows")
    before = x.copy()
    native(scatter("rows", ADD), [x, i, u])
    np.testing.assert_array_equal(x, before)


def test_several_operands() -> None:
    text = """func.func @main(%a: tensor<5xf32>, %b: tensor<5xi32>, %i: tensor<4x1xi32>,
        %u: tensor<4xf32>, %v: tensor<4xi32>)
      -> (tensor<5xf32>, tensor<5xi32>) {
      %0:2 = "stablehlo.scatter"(%a, %b, %i, %u, %v) <{scatter_dimension_numbers = #stablehlo.scatter<
        inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=1>}> ({
      ^bb0(%x: tensor<f32>, %y: tensor<i32>, %p: tensor<f32>, %q: tensor<i32>):
        %g = stablehlo.compare GT, %p, %x : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %s = stablehlo.select %g, %p, %x : tensor<i1>, tensor<f32>
        %t = stablehlo.select %g, %q, %y : tensor<i1>, tensor<i32>
        stablehlo.return %s, %t : tensor<f32>, tensor<i32>
      }) : (tensor<5xf32>, tensor<5xi32>, tensor<4x1xi32>, tensor<4xf32>, tensor<4xi32>)
        -> (tensor<5xf32>, tensor<5xi32>)
      return %0#0, %0#1 : tensor<5xf32>, tensor<5xi32> }"""
    a, u = np.zeros(5, np.float32), np.array([3, 1, 2, 5], np.float32)
    places = np.array([[1], [1], [4], [9]], np.int32)
    largest, which = native(text, [a, np.full(5, -1, np.int32), places, u, np.arange(4, dtype=np.int32)])
    np.testing.assert_array_equal(largest, [0, 3, 0, 0, 2])
    np.testing.assert_array_equal(which, [-1, 0, -1, -1, 2])
