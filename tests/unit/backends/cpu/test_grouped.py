"""Products of bytes: exact on every kind of processor, for any size and orientation."""

from __future__ import annotations

import numpy as np
import pytest
from byte_programs import IDS, OPTIONS, compiled, convolved, numbers, tensor

from thalweg.backends.cpu.backend import stages
from thalweg.backends.cpu.emit.groups import groups_for
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

EVERY = pytest.mark.parametrize("options", OPTIONS, ids=IDS)
SIZES = [(1, 4, 1), (1, 784, 40), (3, 5, 7), (17, 33, 50), (64, 101, 130), (5, 7, 1), (2, 4, 300), (70, 1, 20)]


def product(x, w, dims, batch="", made=None, element="i32"):
    names = {np.dtype(np.int8): "i8"}
    types = [tensor(a.shape, names[a.dtype]) for a in (x, w)]
    result = tensor(made, element)
    return (
        f"module {{ func.func public @main(%x: {types[0]}, %w: {types[1]}) -> {result} {{\n"
        f"%0 = stablehlo.dot_general %x, %w, {batch} contracting_dims = {dims} : ({types[0]}, {types[1]}) -> {result}\n"
        f"return %0 : {result} }} }}"
    )


@EVERY
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("across", [False, True])
def test_products_are_exact(options, size, across):
    m, k, n = size
    x, w = numbers((m, k)), numbers((n, k) if across else (k, n), seed=1)
    program = compiled(product(x, w, f"[1] x [{int(across)}]", made=(m, n)), options)
    expected = x.astype(np.int32) @ (w.T if across else w).astype(np.int32)
    np.testing.assert_array_equal(program([x, w])[0], expected)


@EVERY
def test_batches_and_left_operands_in_columns(options):
    x, w = numbers((3, 9, 21)), numbers((3, 21, 18), seed=1)
    text = product(x, w, "[2] x [1]", "batching_dims = [0] x [0],", (3, 9, 18))
    np.testing.assert_array_equal(compiled(text, options)([x, w])[0], x.astype(np.int32) @ w.astype(np.int32))
    x, w = numbers((21, 9)), numbers((21, 18), seed=1)
    text = product(x, w, "[0] x [0]", made=(9, 18))
    np.testing.assert_array_equal(compiled(text, options)([x, w])[0], x.T.astype(np.int32) @ w.astype(np.int32))


@EVERY
def test_results_in_bytes_wrap(options):
    x, w = numbers((6, 30)), numbers((30, 20), seed=1)
    program = compiled(product(x, w, "[1] x [0]", made=(6, 20), element="i8"), options)
    np.testing.assert_array_equal(program([x, w])[0], (x.astype(np.int32) @ w.astype(np.int32)).astype(np.int8))


@EVERY
@pytest.mark.parametrize(("channels", "stride", "pad"), [(3, 1, 1), (8, 2, 0), (20, 1, 1)])
def test_convolutions_are_exact(options, channels, stride, pad):
    x, w = numbers((2, 9, 9, channels)), numbers((3, 3, channels, 21), seed=1)
    expected = convolved(x, w, stride, pad)
    a, b, c = tensor(x.shape, "i8"), tensor(w.shape, "i8"), tensor(expected.shape, "i32")
    text = (
        f"module {{ func.func public @main(%x: {a}, %w: {b}) -> {c} {{\n"
        "%0 = stablehlo.convolution(%x, %w) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = "
        f"{{stride = [{stride}, {stride}], pad = [[{pad}, {pad}], [{pad}, {pad}]]}} "
        f"{{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : ({a}, {b}) -> {c}\nreturn %0 : {c} }} }}"
    )
    np.testing.assert_array_equal(compiled(text, options)([x, w])[0], expected)


@pytest.mark.parametrize(("options", "kind", "words"), [
    (CpuOptions(threads=1, cpu="x86-64-v4", features="+avx512vnni"), "vnni", "vpdpbusd"),
    (CpuOptions(threads=1, cpu="x86-64-v4"), "pairs", "vpmaddwd"),
    (CpuOptions(threads=1, cpu="alderlake"), "vnni", "vpdpbusd"),
    (CpuOptions(threads=1, cpu="x86-64-v2"), "pairs", "pmaddwd"),
    (CpuOptions(threads=1, cpu="apple-m1"), "sdot", ""),
    (CpuOptions(threads=1, cpu="generic", features="+neon"), "widen", ""),
    (CpuOptions(threads=1, cpu="generic", features="+simd128"), "pairs", ""),
])  # fmt: skip
def test_each_processor_uses_what_it_has(options, kind, words):
    assert groups_for(options).kind == kind
    if words:
        x, w = numbers((8, 64)), numbers((64, 64))
        with context.entered():
            text = stages(ir.Module.parse(product(x, w, "[1] x [0]", made=(8, 64))), options)["asm"]
        assert words in text
