"""Sorting: every dtype and dimension, stability, several operands and keys, comparators with and without a key."""

from __future__ import annotations

import numpy as np
import pytest
from emit_programs import RANDOM, agree, native, numbers, tensor

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit.ordering import find_key, find_order
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


def nan_last(x: str, y: str, element: str) -> str:
    """`x` before `y`, NaN after all numbers, as `tw.sort` compares."""
    tensors = f"(tensor<{element}>, tensor<{element}>) -> tensor<i1>"
    return f"""%l = stablehlo.compare LT, {x}, {y} : {tensors}
%n = stablehlo.compare EQ, {x}, {x} : {tensors}
%m = stablehlo.compare NE, {y}, {y} : {tensors}
%b = stablehlo.and %n, %m : tensor<i1>
%c = stablehlo.or %l, %b : tensor<i1>
stablehlo.return %c : tensor<i1>"""


def special(shape: tuple[int, ...], element: str) -> np.ndarray:
    """Numbers with both zeros, both infinities and NaNs of both signs among them, some of each several times."""
    x = numbers(shape, element)
    flat = x.reshape(-1)
    for k, value in enumerate((0.0, -0.0, np.inf, -np.inf, np.nan)):
        flat[k::17] = value
    flat[5::17] = -flat[4]
    return x


@pytest.mark.parametrize("element", ["f64", "f32", "f16", "bf16"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("length", [40, 64, 300])
def test_floats_in_the_order_of_their_values(element: str, descending: bool, length: int) -> None:
    """Lines that are merged, and such that are sorted by digits: zeros are equal, NaNs are the greatest, stable."""
    x, places = special((2, length), element), np.stack([np.arange(length, dtype=np.int32)] * 2)
    body = nan_last(*(("%y0", "%x0") if descending else ("%x0", "%y0")), element)
    got = native(sort((2, length), 1, [element, "i32"], body), [x, places])
    wide = x.astype(np.float64)
    groups = np.where(np.isnan(wide), 1, 0)
    sign = -1 if descending else 1
    values = np.where(np.isnan(wide), 0.0, wide)
    wanted = np.stack([np.lexsort((sign * v, sign * g)) for v, g in zip(values, groups, strict=True)])
    np.testing.assert_array_equal(got[1], wanted)
    np.testing.assert_array_equal(got[0].astype(np.float64), np.take_along_axis(wide, wanted, 1))


@pytest.mark.parametrize("element", [e for e in ELEMENTS if e[0] in "iu" and e != "i1"])
@pytest.mark.parametrize("direction", ["LT", "GT"])
@pytest.mark.parametrize("length", [64, 9001])
def test_integers_of_all_sizes(element: str, direction: str, length: int) -> None:
    """The whole range of each type, digits of 8 and of 11 bits."""
    kind = np.dtype(element.replace("ui", "uint") if element[0] == "u" else element.replace("i", "int"))
    limits = np.iinfo(kind)
    x = RANDOM.integers(limits.min, limits.max, length, kind, endpoint=True)
    x[:4] = limits.min, limits.max, 0, 1
    got = native(sort((length,), 0, [element], by(direction, element)), [x])[0]
    np.testing.assert_array_equal(got, np.sort(x) if direction == "LT" else np.sort(x)[::-1])


@pytest.mark.parametrize("top", [1, 200, 70_000])
def test_digits_that_are_all_alike_are_skipped(top: int) -> None:
    """Small numbers in a wide type: an even and an odd number of passes move something, or none."""
    x = RANDOM.integers(0, top, (3, 500))
    np.testing.assert_array_equal(native(sort((3, 500), 1, ["i64"], by("LT", "i64")), [x])[0], np.sort(x, axis=1))


def test_digits_of_computed_keys() -> None:
    keys = np.abs(special((400,), "f32"))
    keys[np.isnan(keys)] = 3
    got = native(sort((400,), 0, ["f32", "i32"], BY_SQUARE), [keys, np.arange(400, dtype=np.int32)])
    np.testing.assert_array_equal(got[1], np.argsort(keys * keys, kind="stable"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (by("LT", "f32"), ("float", False)),
        (by("GT", "f32"), ("float", True)),
        (by("LE", "f32"), None),
        (nan_last("%x0", "%y0", "f32"), ("float", False)),
        (nan_last("%y0", "%x0", "f32"), ("float", True)),
        (nan_last("%x0", "%y0", "f32").replace("compare EQ, %x0, %x0", "compare EQ, %y0, %y0"), None),
        (TWO_KEYS, None),
    ],
)
def test_which_comparators_are_an_order(body: str, kind: tuple[str, bool] | None) -> None:
    with context.entered():
        module = legalize(import_module(sort((4,), 0, ["f32", "i32"], body)))
        function = module.regions[0].blocks[0].operations[0]
        operation = next(o for o in function.regions[0].blocks[0].operations if o.operation.name == "stablehlo.sort")
        order = find_order(region_body(operation.operation))
    assert (None if order is None else (order.kind, order.descending)) == kind


@pytest.mark.parametrize("element", ["f64", "f32", "bf16", "i32", "i8", "ui8"])
@pytest.mark.parametrize("length", [203, 1003])
def test_top_k_of_many_dtypes(element: str, length: int) -> None:
    """Elements are passed over many at a time, the last few one by one; NaN comes first, as the comparator says."""
    kept = 20
    kind, part = tensor((2, length), element), tensor((2, kept), element)
    ikind, ipart = tensor((2, length), "i32"), tensor((2, kept), "i32")
    body = nan_last("%y0", "%x0", element) if "f" in element else by("GT", element)
    text = sort((2, length), 1, [element, "i32"], body)
    text = text.replace(f"-> ({kind}, {ikind}) {{", f"-> ({part}, {ipart}) {{").split("return %0#0")[0]
    for k, (whole, some) in enumerate([(kind, part), (ikind, ipart)]):
        text += f"%r{k} = stablehlo.slice %0#{k} [0:2, 0:{kept}] : ({whole}) -> {some}\n"
    x = special((2, length), element) if "f" in element else numbers((2, length), element)
    if "f" in element:
        x[:, 5::17] = 0
    got = native(text + f"return %r0, %r1 : {part}, {ipart} }}", [x, np.stack([np.arange(length, dtype=np.int32)] * 2)])
    wide = x.astype(np.float64)
    keys = np.where(np.isnan(wide), 0, wide)
    wanted = np.stack([np.lexsort((-k, ~np.isnan(v)))[:kept] for k, v in zip(keys, wide, strict=True)])
    np.testing.assert_array_equal(got[1], wanted)
