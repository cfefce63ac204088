"""Matrices that a program does not change are packed by a function of their own, and read so."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from cpu_programs import compiled, normal

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

ONE = CpuOptions(threads=1)
# The contracted dimensions of x and w, and what NumPy calls that.
PRODUCTS = {
    "x w": ("[1] x [0]", lambda x, w: x @ w),
    "x wT": ("[1] x [1]", lambda x, w: x @ w.T),
}


def product(rows: int, inner: int, columns: int, which: str, element: str = "f32", mark: str = "tw.variable") -> str:
    """main(x, w) with w marked as a variable or constant."""
    dims, _ = PRODUCTS[which]
    x = f"tensor<{rows}x{inner}x{element}>"
    w = f"tensor<{columns}x{inner}x{element}>" if which == "x wT" else f"tensor<{inner}x{columns}x{element}>"
    r = f"tensor<{rows}x{columns}x{element}>"
    marked = f'{mark} = "w"' if mark == "tw.variable" else mark
    return f"""func.func @main(%x: {x}, %w: {w} {{{marked}}}) -> {r} {{
  %r = stablehlo.dot_general %x, %w, contracting_dims = {dims} : ({x}, {w}) -> {r}
  return %r : {r}
}}"""


def made(program: Executable) -> list[tuple[int, ...]]:
    """The shapes of what a program packs."""
    preparation = program.signature.preparation
    return [] if preparation is None else [type_.shape for type_ in preparation.made]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize(("rows", "inner", "columns"), [
    (2, 300, 200), (7, 64, 17), (3, 129, 201), (20, 300, 48), (50, 511, 130), (200, 70, 33), (130, 2100, 20),
])  # fmt: skip
@pytest.mark.parametrize("which", PRODUCTS)
def test_products(which: str, rows: int, inner: int, columns: int, element: str, threads: int) -> None:
    program = compiled(product(rows, inner, columns, which, element), CpuOptions(threads=threads))
    assert len(made(program)) == 1
    dtype = np.dtype("f4" if element == "f32" else "f8")
    x = normal(rows, inner).astype(dtype)
    w = normal(*((columns, inner) if which == "x wT" else (inner, columns)), seed=1).astype(dtype)
    weights = program.weights([w], [None])
    for again in range(2):
        (found,) = program([x + again, w], weights)
        np.testing.assert_allclose(found, PRODUCTS[which][1](x + again, w), rtol=1e-4, atol=2e-3)


def convolution(
    image: tuple[int, ...], outputs: int, window: int, stride: int, pad: int, layout: str = "nhwc", groups: int = 1
) -> tuple[str, tuple[int, ...]]:
    """main(x, w): a convolution and a bias of 1, and the shape of w."""
    n, height, width, channels = image
    after = (height + 2 * pad - window) // stride + 1
    x, y = (n, height, width, channels), (n, after, after, outputs)
    w = (window, window, channels // groups, outputs)
    dims = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
    if layout == "nchw":
        x, y, w = (n, channels, height, width), (n, outputs, after, after), (outputs, channels, window, window)
        dims = "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]"
    types = ["x".join(map(str, s)) + "xf32" for s in (x, w, y)]
    return f"""func.func @main(%x: tensor<{types[0]}>, %w: tensor<{types[1]}> {{tw.variable = "w"}})
      -> tensor<{types[2]}> {{
  %c = stablehlo.convolution(%x, %w) dim_numbers = {dims}, window = {{stride = [{stride}, {stride}],
    pad = [[{pad}, {pad}], [{pad}, {pad}]], lhs_dilate = [1, 1], rhs_dilate = [1, 1]}}
    {{batch_group_count = 1 : i64, feature_group_count = {groups} : i64}}
    : (tensor<{types[0]}>, tensor<{types[1]}>) -> tensor<{types[2]}>
  %one = stablehlo.constant dense<1.0> : tensor<{types[2]}>
  %r = stablehlo.add %c, %one : tensor<{types[2]}>
  return %r : tensor<{types[2]}>
}}""", w


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize(("image", "outputs", "window", "stride", "pad"), [
    ((1, 14, 14, 64), 96, 1, 1, 0), ((2, 13, 13, 40), 72, 3, 1, 1), ((1, 15, 15, 24), 40, 3, 2, 1),
    ((1, 28, 28, 32), 64, 1, 2, 0), ((1, 7, 7, 256), 256, 3, 1, 1), ((1, 30, 30, 16), 24, 5, 1, 2),
])  # fmt: skip
def test_convolutions(
    image: tuple[int, ...], outputs: int, window: int, stride: int, pad: int, layout: str, threads: int
) -> None:
    text, shape = convolution(image, outputs, window, stride, pad, layout)
    options = CpuOptions(threads=threads)
    program = compiled(text, options)
    plain = compiled(text, dataclasses.replace(options, pack_weights=False))
    # With channels first, vectors may run along the image: weights are then read one by one, wherever they lie.
    assert len(made(program)) == 1 or layout == "nchw"
    assert not made(plain)
    x = normal(*(image if layout == "nhwc" else (image[0], image[3], *image[1:3])))
    w = normal(*shape, seed=1)
    (found,) = program([x, w], program.weights([w], [None]))
    np.testing.assert_allclose(found, plain([x, w])[0], rtol=1e-4, atol=1e-4)


def test_groups_pack_in_every_call() -> None:
    text, shape = convolution((1, 12, 12, 64), 64, 3, 1, 1, groups=2)
    program = compiled(text)
    x, w = normal(1, 12, 12, 64), normal(*shape, seed=1)
    halves = []
    for half in (slice(0, 32), slice(32, 64)):
        alone, _ = convolution((1, 12, 12, 32), 32, 3, 1, 1)
        halves.append(compiled(alone)([x[..., half].copy(), w[..., half].copy()])[0])
    assert not made(program)
    np.testing.assert_allclose(program([x, w])[0], np.concatenate(halves, -1), rtol=1e-4, atol=1e-4)


def test_what_is_computed_from_weights_alone_is_computed_once() -> None:
    """relu(x) . transpose(w * m): the product reads neither of the two."""
    text = """func.func @main(%x: tensor<9x70xf32>, %w: tensor<50x70xf32> {tw.variable = "w"},
      %m: tensor<50x70xf32> {tw.constant}) -> tensor<9x50xf32> {
  %s = stablehlo.multiply %w, %m : tensor<50x70xf32>
  %t = stablehlo.transpose %s, dims = [1, 0] : (tensor<50x70xf32>) -> tensor<70x50xf32>
  %r = stablehlo.dot_general %x, %t, contracting_dims = [1] x [0]
    : (tensor<9x70xf32>, tensor<70x50xf32>) -> tensor<9x50xf32>
  return %r : tensor<9x50xf32>
}"""
    program = compiled(text)
    preparation = program.signature.preparation
    assert preparation is not None and preparation.sources == (1, 2) and len(preparation.made) == 1
    x, w, m = normal(9, 70), normal(50, 70, seed=1), normal(50, 70, seed=2)
    weights = program.weights([w, m], [None, None])
    assert weights is not None
    np.testing.assert_allclose(program([x, w, m], weights)[0], x @ (w * m).T, rtol=1e-4, atol=1e-4)
    nothing = np.zeros_like(w)
    np.testing.assert_array_equal(
        program([x, nothing, nothing], weights)[0], program([x, w, m], weights)[0], "they are not read again"
    )


def test_two_products_that_read_a_matrix_in_one_way_share_a_copy() -> None:
    text = """func.func @main(%x: tensor<9x64xf32>, %w: tensor<64x64xf32> {tw.variable = "w"})
      -> (tensor<9x64xf32>, tensor<9x64xf32>) {
  %r = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
    : (tensor<9x64xf32>, tensor<64x64xf32>) -> tensor<9x64xf32>
  %s = stablehlo.dot_general %r, %w, contracting_dims = [1] x [0]
    : (tensor<9x64xf32>, tensor<64x64xf32>) -> tensor<9x64xf32>
  %t = stablehlo.dot_general %s, %w, contracting_dims = [1] x [1]
    : (tensor<9x64xf32>, tensor<64x64xf32>) -> tensor<9x64xf32>
  return %s, %t : tensor<9x64xf32>, tensor<9x64xf32>
}"""
    program = compiled(text)
    assert len(made(program)) == 2, "one for each orientation"
    x, w = normal(9, 64), normal(64, 64, seed=1)
    found = program([x, w], program.weights([w], [None]))
    np.testing.assert_allclose(found[0], x @ w @ w, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found[1], x @ w @ w @ w.T, rtol=1e-3, atol=5e-2)


LOOP = """func.func @main(%h0: tensor<ROWSx192xf32>, %w: tensor<192x192xf32> {tw.variable = "w"})
    -> tensor<ROWSx192xf32> {
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %end = stablehlo.constant dense<3> : tensor<i32>
  %r:2 = stablehlo.while(%i = %zero, %h = %h0) : tensor<i32>, tensor<ROWSx192xf32>
    cond {
      %more = stablehlo.compare LT, %i, %end : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more : tensor<i1>
    } do {
      %p = stablehlo.dot_general %h, %w, contracting_dims = [1] x [0]
        : (tensor<ROWSx192xf32>, tensor<192x192xf32>) -> tensor<ROWSx192xf32>
      %t = stablehlo.tanh %p : tensor<ROWSx192xf32>
      %n = stablehlo.add %i, %one : tensor<i32>
      stablehlo.return %n, %t : tensor<i32>, tensor<ROWSx192xf32>
    }
  return %r#1 : tensor<ROWSx192xf32>
}"""


@pytest.mark.parametrize("rows", [3, 20, 200])
def test_in_loops(rows: int) -> None:
    text = LOOP.replace("ROWS", str(rows))
    program = compiled(text)
    assert made(program) and not re.search(r"@k\d+_pack", _kernels(text)), "packed before the call, not before the loop"
    h, w = normal(rows, 192), normal(192, 192, seed=1) / 14
    (found,) = program([h, w], program.weights([w], [None]))
    for _ in range(3):
        h = np.tanh(h @ w)
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-5)


def _kernels(text: str) -> str:
    with context.entered():
        return lower(ir.Module.parse(text), ONE).kernels


def test_what_is_no_weight_or_changes_is_packed_in_the_call() -> None:
    text = product(9, 64, 64, "x w")
    assert made(compiled(text))
    assert made(compiled(product(9, 64, 64, "x w", mark="tw.constant")))
    assert not made(compiled(text.replace(' {tw.variable = "w"}', "")))
    assert not made(compiled(text, dataclasses.replace(ONE, pack_weights=False)))
    updated = """func.func @main(%x: tensor<64x64xf32>, %w: tensor<64x64xf32> {tw.variable = "w", tw.alias = 0 : i64})
      -> tensor<64x64xf32> {
  %r = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
    : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %r : tensor<64x64xf32>
}"""
    assert not made(compiled(updated))


def test_small_matrices_and_those_of_one_row_are_read_as_they_lie() -> None:
    assert not made(compiled(product(9, 16, 16, "x w")))
    assert not made(compiled(product(1, 300, 200, "x w")))


def test_a_call_without_a_place_for_the_packed_packs_for_itself() -> None:
    program = compiled(product(9, 64, 70, "x w"))
    x, w = normal(9, 64), normal(64, 70, seed=1)
    for factor in (1, 2):
        np.testing.assert_allclose(program([x, w * factor])[0], x @ w * factor, rtol=1e-4, atol=1e-4)
    assert program.direct([w]) is None, "the quick way cannot"


def test_a_program_from_bytes_packs_as_before() -> None:
    program = compiled(product(9, 64, 70, "x w"))
    again = Executable.deserialize(program.serialize())
    assert again.signature == program.signature
    x, w = normal(9, 64), normal(64, 70, seed=1)
    np.testing.assert_array_equal(again([x, w])[0], program([x, w])[0])


class _Words:
    """The words of a variable's lock, as native code sees them."""

    def __init__(self) -> None:
        import ctypes

        self.words: Any = (ctypes.c_int32 * 4)()

    def write(self) -> None:
        self.words[2] += 1  # the low half of the version


def test_the_quick_way_is_closed_until_what_has_changed_is_packed_again() -> None:
    program = compiled(product(9, 64, 70, "x w"))
    x, w, lock = normal(9, 64), normal(64, 70, seed=1), _Words()
    weights = program.weights([w], [lock.words])
    direct = program.direct([w], [(lock.words, False)], weights=weights)
    assert weights is not None and direct is not None
    assert direct.call(x) is NotImplemented, "nothing is packed yet"
    for _ in range(2):
        (expected,) = program([x, w], weights)
        np.testing.assert_array_equal(direct.call(x), expected)
        np.testing.assert_allclose(expected, x @ w, rtol=1e-4, atol=1e-4)
        w *= 3
        lock.write()
        assert direct.call(x) is NotImplemented and lock.words[0] == 0, "and the lock is let go of"


def test_nothing_is_packed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled(product(9, 64, 70, "x w"))
    x, w, lock = normal(9, 64), normal(64, 70, seed=1), _Words()
    weights = program.weights([w], [lock.words])
    assert weights is not None
    packed = []
    pack = weights._pack
    monkeypatch.setattr(weights, "_pack", lambda: (packed.append(1), pack()))
    for _ in range(3):
        program([x, w], weights)
    assert len(packed) == 1
    lock.write()
    program([x, w], weights)
    assert len(packed) == 2


def test_what_is_kept_is_counted() -> None:
    program = compiled(product(9, 64, 70, "x w"))
    preparation = program.signature.preparation
    assert preparation is not None
    ((panels, inner, width),) = made(program)
    assert inner == 64 and (panels - 1) * width < 70 <= panels * width
    assert preparation.packed_bytes == panels * inner * width * 4
