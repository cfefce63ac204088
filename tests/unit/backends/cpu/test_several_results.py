"""Reductions with several results, and with bodies that are no single op, in vectors and at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import ONE_THREAD, compiled, main

from thalweg.backends.cpu.backend import lower
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

RNG = np.random.default_rng(0)

# The larger value, and of equal ones the smaller place: as JAX writes argmax.
BODY = """^bb0(%a: tensor<{t}>, %i: tensor<{p}>, %b: tensor<{t}>, %j: tensor<{p}>):
  %g = stablehlo.compare GT, %a, %b : (tensor<{t}>, tensor<{t}>) -> tensor<i1>
  %n = stablehlo.compare NE, %a, %a : (tensor<{t}>, tensor<{t}>) -> tensor<i1>
  %w = stablehlo.or %g, %n : tensor<i1>
  %e = stablehlo.compare EQ, %a, %b : (tensor<{t}>, tensor<{t}>) -> tensor<i1>
  %l = stablehlo.compare LT, %i, %j : (tensor<{p}>, tensor<{p}>) -> tensor<i1>
  %f = stablehlo.and %e, %l : tensor<i1>
  %k = stablehlo.or %w, %f : tensor<i1>
  %v = stablehlo.select %w, %a, %b : tensor<i1>, tensor<{t}>
  %o = stablehlo.select %k, %i, %j : tensor<i1>, tensor<{p}>
  stablehlo.return %v, %o : tensor<{t}>, tensor<{p}>"""


def argmax(shape: tuple[int, ...], dim: int, element: str, place: str) -> str:
    whole = "x".join(map(str, shape))
    left = "".join(f"{n}x" for d, n in enumerate(shape) if d != dim)
    low = "0xFF800000" if element == "f32" else "0xFFF0000000000000"
    return main(
        [f"{whole}x{element}"],
        [f"{left}{element}", f"{left}{place}"],
        f"""%p = stablehlo.iota dim = {dim} : tensor<{whole}x{place}>
%low = stablehlo.constant dense<{low}> : tensor<{element}>
%zero = stablehlo.constant dense<0> : tensor<{place}>
%r:2 = "stablehlo.reduce"(%0, %p, %low, %zero) ({{
{BODY.format(t=element, p=place)}
}}) {{dimensions = array<i64: {dim}>}} : (tensor<{whole}x{element}>, tensor<{whole}x{place}>, tensor<{element}>,
  tensor<{place}>) -> (tensor<{left}{element}>, tensor<{left}{place}>)
return %r#0, %r#1 : tensor<{left}{element}>, tensor<{left}{place}>""",
    )


@pytest.mark.parametrize(("element", "place"), [("f32", "i32"), ("f64", "i32"), ("f32", "i64")])
@pytest.mark.parametrize(("shape", "dim"), [
    ((5, 37), 1), ((5, 37), 0), ((64,), 0), ((3, 16), 1), ((3, 7), 1), ((4, 20, 33), 1), ((4, 20, 33), 2), ((40, 3), 0),
])  # fmt: skip
def test_argmax(shape, dim, element, place):
    x = RNG.integers(-4, 4, shape).astype(np.float32 if element == "f32" else np.float64)  # with equal ones
    largest, where = compiled(argmax(shape, dim, element, place))([x])
    np.testing.assert_array_equal(largest, x.max(dim))
    np.testing.assert_array_equal(where, x.argmax(dim))


@pytest.mark.parametrize("dim", [0, 1])
def test_vectors_are_used(dim):
    with context.entered():
        source = lower(ir.Module.parse(argmax((64, 256), dim, "f32", "i32")), ONE_THREAD).kernels
    assert "vector<16xi32>" in source


@pytest.mark.parametrize("size", [5, 48, 100])
def test_initial_values_count_once(size):
    """|a| + |b|: a body that is no single op, from a number that is not neutral."""
    program = main([f"{size}xf32"], ["f32"], f"""%start = stablehlo.constant dense<5.0> : tensor<f32>
%r = "stablehlo.reduce"(%0, %start) ({{
^bb0(%a: tensor<f32>, %b: tensor<f32>):
  %x = stablehlo.abs %a : tensor<f32>
  %y = stablehlo.abs %b : tensor<f32>
  %s = stablehlo.add %x, %y : tensor<f32>
  stablehlo.return %s : tensor<f32>
}}) {{dimensions = array<i64: 0>}} : (tensor<{size}xf32>, tensor<f32>) -> tensor<f32>
return %r : tensor<f32>""")
    x = RNG.standard_normal(size).astype(np.float32)
    (found,) = compiled(program)([x])
    np.testing.assert_allclose(found, 5 + np.abs(x).sum(), rtol=1e-5)
