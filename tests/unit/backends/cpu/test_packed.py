"""Weights that lie packed: the same in rows, and the products that read them as they are."""

from __future__ import annotations

import numpy as np
import pytest
from byte_programs import IDS, OPTIONS, compiled, convolved, numbers, tensor

from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.packed import pack, unpacked
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

EVERY = pytest.mark.parametrize("options", OPTIONS, ids=IDS)


def in_rows(weights, run):
    """What replaces a call of "rows" by the ops that put packed weights in rows."""

    def change(module):
        main = module.body.operations[0].operation
        call = main.regions[0].blocks[0].operations[0].operation
        with ir.InsertionPoint(call), ir.Location.unknown():
            call.results[0].replace_all_uses_with(unpacked(call.operands[0], weights, run))
        call.erase()

    return change


def program(x, packed, weights, run, op, made):
    """StableHLO of `op` on %x and %w, the packed weights in rows; and what puts them there."""
    element = "ui8" if x.dtype == np.uint8 else "i8"
    a, p, w, c = tensor(x.shape, element), tensor(packed.shape, "i8"), tensor(weights, "i8"), tensor(made, "i32")
    wide = [tensor(shape, "i32") for shape in (x.shape, weights)]
    text = (
        f"module {{ func.func public @main(%x: {a}, %p: {p}) -> {c} {{\n"
        f'%r = "stablehlo.custom_call"(%p) {{call_target_name = "rows"}} : ({p}) -> {w}\n'
        f"%xi = stablehlo.convert %x : ({a}) -> {wide[0]}\n%wi = stablehlo.convert %r : ({w}) -> {wide[1]}\n"
        f"%0 = {op} : ({wide[0]}, {wide[1]}) -> {c}\nreturn %0 : {c} }} }}"
    )
    return text, in_rows(weights, run)


def product(x, weights):
    made = (*x.shape[:-1], weights.shape[1])
    packed = pack(weights, len(weights))
    dims = f"[{x.ndim - 1}] x [0]"
    op = f"stablehlo.dot_general %xi, %wi, contracting_dims = {dims}"
    return packed, program(x, packed, weights.shape, len(weights), op, made)


@pytest.mark.parametrize(("shape", "run"), [((7, 3), 7), ((16, 32), 16), ((3, 3, 5, 17), 15), ((3, 3, 5, 17), 5)])
def test_in_rows_again(shape, run):
    weights = numbers(shape)
    packed = pack(weights, run)
    assert packed.shape[-2:] == (16, 4)
    p, w = tensor(packed.shape, "i8"), tensor(shape, "i8")
    text = (
        f"module {{ func.func public @main(%p: {p}) -> {w} {{\n"
        f'%r = "stablehlo.custom_call"(%p) {{call_target_name = "rows"}} : ({p}) -> {w}\nreturn %r : {w} }} }}'
    )
    found = compiled(text, CpuOptions(threads=1), in_rows(shape, run))([packed])[0]
    np.testing.assert_array_equal(found, weights)


@EVERY
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("size", [(1, 785, 256), (3, 5, 7), (17, 33, 50), (8, 64, 10), (5, 7, 2), (49, 64, 130)])
def test_products_are_exact(options, unsigned, size):
    m, k, n = size
    x, weights = numbers((m, k), unsigned), np.clip(numbers((k, n), seed=1), -127, 127)
    packed, (text, change) = product(x, weights)
    expected = x.astype(np.int32) @ weights.astype(np.int32)
    np.testing.assert_array_equal(compiled(text, options, change)([x, packed])[0], expected)


@EVERY
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize(("extent", "channels", "columns", "size", "stride", "pad", "dilation"), [
    (8, 1, 7, 5, 1, 2, 1), (9, 3, 32, 3, 2, 1, 1), (7, 8, 16, 3, 1, 1, 1), (7, 20, 18, 1, 1, 0, 1),
    (9, 5, 20, 3, 1, 2, 2), (9, 4, 20, 3, 1, 2, 2), (3, 5, 20, 3, 1, 0, 1),
])  # fmt: skip
def test_convolutions_are_exact(options, unsigned, extent, channels, columns, size, stride, pad, dilation):
    x = numbers((2, extent, extent, channels), unsigned)
    weights = np.clip(numbers((size, size, channels, columns), seed=1), -127, 127)
    run = channels if dilation > 1 else size * channels
    packed, expected = pack(weights, run), convolved(x, weights, stride, pad, dilation)
    op = (
        "stablehlo.convolution(%xi, %wi) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = {"
        f"stride = [{stride}, {stride}], pad = [[{pad}, {pad}], [{pad}, {pad}]], "
        f"rhs_dilate = [{dilation}, {dilation}]}} "
        "{batch_group_count = 1 : i64, feature_group_count = 1 : i64}"
    )
    text, change = program(x, packed, weights.shape, run, op, expected.shape)
    np.testing.assert_array_equal(compiled(text, options, change)([x, packed])[0], expected)


def test_packed_weights_are_read_as_they_are():
    x, weights = numbers((4, 64)), numbers((64, 32))
    _, (text, change) = product(x, weights)
    with context.entered():
        module = ir.Module.parse(text)
        change(module)
        lowered = str(legalize(module))
    assert "tw.packed_product" in lowered
    assert "transpose" not in lowered
