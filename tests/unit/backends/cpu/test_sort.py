"""Sorting: every dtype and dimension, stability, several operands and keys, comparators with and without a key."""

from __future__ import annotations

import numpy as np
import pytest
from emit_programs import RANDOM, agree, native, numbers, tensor

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit.sort import find_key
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.stablehlo.importer import import_module
from thalweg.dialects import context

ELEMENTS = ["f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "ui64", "ui32", "ui16", "ui8", "i1"]


def sort(shape: tuple[int, ...], dim: int, elements: list[str], body: str) -> str:
    types = ", ".join(tensor(shape, e) for e in elements)
    arguments = ", ".join(f"%a{k}: {tensor(shape, e)}" for k, e in enumerate(elements))
    region = ", ".join(f"%x{k}: tensor<{e}>, %y{k}: tensor<{e}>" for k, e in enumerate(elements))
    names = ", ".join(f"%a{k}" for k in range(len(elements)))
    results = ", ".join(f"%0#{k}" for k in range(len(elements)))
    return (
        f"func.func @main({arguments}) -> ({types}) {{\n"
        f'%0:{len(elements)} = "stablehlo.sort"({names}) <{{dimension = {dim} : i64, is_stable = true}}> ({{\n'
        f"^bb0({region}):\n{body}\n}}) : ({types}) -> ({types})\nreturn {results} : {types} }}"
    )


def by(direction: str, element: str) -> str:
    compare = f"%c = stablehlo.compare {direction}, %x0, %y0 : (tensor<{element}>, tensor<{element}>) -> tensor<i1>"
    return compare + "\nstablehlo.return %c : tensor<i1>"


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("direction", ["LT", "GT"])
def test_dtypes(element: str, direction: str) -> None:
    agree(sort((3, 40), 1, [element], by(direction, element)), [numbers((3, 40), element)])


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_dimensions(dim: int) -> None:
    agree(sort((5, 19, 2), dim, ["f32"], by("LT", "f32")), [numbers((5, 19, 2), "f32")])


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 32, 33, 100, 1025])
def test_lengths(length: int) -> None:
    """Around the length of insertion runs, and lines that do not divide into them."""
    agree(sort((length,), 0, ["i32"], by("LT", "i32")), [numbers((length,), "i32")])


def test_equal_keys_keep_their_order() -> None:
    keys = RANDOM.integers(0, 5, 500).astype(np.int32)
    places = np.arange(500, dtype=np.int32)
    got = native(sort((500,), 0, ["i32", "i32"], by("LT", "i32")), [keys, places])
    np.testing.assert_array_equal(got[1], np.argsort(keys, kind="stable"))


TWO_KEYS = """%l = stablehlo.compare LT, %x0, %y0 : (tensor<f32>, tensor<f32>) -> tensor<i1>
%e = stablehlo.compare EQ, %x0, %y0 : (tensor<f32>, tensor<f32>) -> tensor<i1>
%g = stablehlo.compare GT, %x1, %y1 : (tensor<i32>, tensor<i32>) -> tensor<i1>
%b = stablehlo.and %e, %g : tensor<i1>
%c = stablehlo.or %l, %b : tensor<i1>
stablehlo.return %c : tensor<i1>"""


def test_several_keys() -> None:
    elements = ["f32", "i32", "i1"]
    agree(sort((300,), 0, elements, TWO_KEYS), [numbers((300,), e) for e in elements])


BY_SQUARE = """%a = stablehlo.multiply %x0, %x0 : tensor<f32>
%b = stablehlo.multiply %y0, %y0 : tensor<f32>
%c = stablehlo.compare LT, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
stablehlo.return %c : tensor<i1>"""


def test_keys_that_are_computed() -> None:
    agree(sort((100,), 0, ["f32", "i32"], BY_SQUARE), [numbers((100,), "f32"), numbers((100,), "i32")])


@pytest.mark.parametrize(
    ("body", "operations"), [(by("LT", "f32"), 0), (BY_SQUARE, 1), (TWO_KEYS.replace("%x1, %y1", "%x1, %y1"), None)]
)
def test_which_comparators_have_a_key(body: str, operations: int | None) -> None:
    elements = ["f32", "i32"]
    with context.entered():
        module = legalize(import_module(sort((4,), 0, elements, body)))
        function = module.regions[0].blocks[0].operations[0]
        operation = next(o for o in function.regions[0].blocks[0].operations if o.operation.name == "stablehlo.sort")
        key = find_key(region_body(operation.operation))
    assert (None if key is None else len(key.body.ops)) == operations


def test_nan_where_the_comparator_puts_it() -> None:
    """`<` is false for NaN, so that a stable sort leaves a line of NaNs alone."""
    x = np.full(40, np.nan, np.float32)
    x[::3] = 0
    got = native(sort((40,), 0, ["f32", "i32"], by("LT", "f32")), [x, np.arange(40, dtype=np.int32)])
    assert sorted(got[1].tolist()) == list(range(40)), "nothing is lost"


@pytest.mark.parametrize(("length", "kept"), [(5, 1), (40, 3), (1000, 10), (1000, 300), (12, 12)])
def test_top_k_is_the_beginning_of_a_sort(length: int, kept: int) -> None:
    """Selected where few are wanted, sorted where many are: with ties, which a stable sort leaves in order."""
    kind, part, places = tensor((3, length), "i32"), tensor((3, kept), "i32"), np.arange(length, dtype=np.int32)
    text = sort((3, length), 1, ["i32", "i32"], by("GT", "i32"))
    text = text.replace(f"-> ({kind}, {kind}) {{", f"-> ({part}, {part}) {{").split("return %0#0")[0] + "".join(
        f"%r{k} = stablehlo.slice %0#{k} [0:3, 0:{kept}] : ({kind}) -> {part}\n" for k in (0, 1)
    )
    keys = RANDOM.integers(0, 20, (3, length)).astype(np.int32)
    got = native(text + f"return %r0, %r1 : {part}, {part} }}", [keys, np.stack([places] * 3)])
    order = np.argsort(-keys, axis=1, kind="stable")[:, :kept]
    np.testing.assert_array_equal(got[1], order)
    np.testing.assert_array_equal(got[0], np.take_along_axis(keys, order, 1))
