"""Complex numbers as pairs of reals, and Fourier transforms, on the CPU against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.stablehlo.complex_numbers import complex_values
from thalweg.backends.stablehlo.importer import import_module
from thalweg.dialects.diagnostics import LoweringError

RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape) + 1j * RANDOM.standard_normal(shape)


def pairs(z: np.ndarray) -> np.ndarray:
    return z.view(np.float64).reshape(*z.shape, 2)


def run(text: str, *arguments: np.ndarray) -> list[np.ndarray]:
    """Results with a last dimension of 2 are read as complex numbers where the module says so."""
    inputs = [pairs(a) if a.dtype.kind == "c" else a for a in arguments]
    return compile_stablehlo(import_module(text))(inputs)


def unary(op: str, n: int) -> str:
    kind = f"tensor<{n}xcomplex<f64>>"
    return f"func.func @main(%a: {kind}) -> {kind} {{ %0 = stablehlo.{op} %a : {kind}\n return %0 : {kind} }}"


FUNCTIONS = {
    "negate": np.negative,
    "exponential": np.exp,
    "exponential_minus_one": np.expm1,
    "log": np.log,
    "log_plus_one": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda z: 1 / np.sqrt(z),
    "sine": np.sin,
    "cosine": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "sign": lambda z: z / np.abs(z),
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op: str) -> None:
    z = np.concatenate([numbers(20), [1 + 1j, -1 + 1j, -1 - 1j, 3 + 0j, 2j, -2j]])
    np.testing.assert_allclose(run(unary(op, 26), z)[0], pairs(FUNCTIONS[op](z)), rtol=1e-9, atol=1e-12)


def test_absolute_value_does_not_overflow() -> None:
    text = """func.func @main(%a: tensor<4xcomplex<f64>>) -> tensor<4xf64> {
      %0 = stablehlo.abs %a : (tensor<4xcomplex<f64>>) -> tensor<4xf64>
      return %0 : tensor<4xf64> }"""
    z = np.array([3e300 + 4e300j, 0j, complex(np.inf, 1), 1e-300 + 1e-300j])
    np.testing.assert_allclose(run(text, z)[0], np.abs(z))


def test_loops_carry_both_parts() -> None:
    text = """func.func @main(%a: tensor<3xcomplex<f64>>) -> tensor<3xcomplex<f64>> {
      %i = stablehlo.constant dense<0> : tensor<i32>
      %n = stablehlo.constant dense<5> : tensor<i32>
      %one = stablehlo.constant dense<1> : tensor<i32>
      %c = stablehlo.constant dense<(0.5, -0.25)> : tensor<3xcomplex<f64>>
      %0:2 = stablehlo.while(%j = %i, %z = %a) : tensor<i32>, tensor<3xcomplex<f64>>
        cond { %t = stablehlo.compare LT, %j, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
               stablehlo.return %t : tensor<i1> }
        do { %k = stablehlo.add %j, %one : tensor<i32>
             %s = stablehlo.multiply %z, %c : tensor<3xcomplex<f64>>
             %w = stablehlo.add %s, %a : tensor<3xcomplex<f64>>
             stablehlo.return %k, %w : tensor<i32>, tensor<3xcomplex<f64>> }
      return %0#1 : tensor<3xcomplex<f64>> }"""
    z = a = numbers(3)
    for _ in range(5):
        z = z * (0.5 - 0.25j) + a
    np.testing.assert_allclose(run(text, a)[0], pairs(z))


def test_constants_from_their_text() -> None:
    text = "%0 = stablehlo.constant dense<[(1.0,-2.5e+00), (0x7FC00000,3)]> : tensor<2xcomplex<f32>>"
    values = complex_values(text, (2,), "f32")
    assert values[0] == 1 - 2.5j and np.isnan(values[1].real) and values[1].imag == 3


def transform(kind: str, shape: tuple[int, ...], result: tuple[int, ...], lengths: tuple[int, ...]) -> str:
    def tensor(extents: tuple[int, ...], real: bool) -> str:
        return "tensor<" + "".join(f"{n}x" for n in extents) + ("f64>" if real else "complex<f64>>")

    a, b = tensor(shape, kind == "RFFT"), tensor(result, kind == "IRFFT")
    return (
        f"func.func @main(%a: {a}) -> {b} {{\n"
        f"%0 = stablehlo.fft %a, type = {kind}, length = {list(lengths)} : ({a}) -> {b}\n"
        f"return %0 : {b} }}"
    )


# Powers of two and others, products of small primes, primes on both sides of the direct transform, and their multiples.
@pytest.mark.parametrize("n", [1, 2, 7, 64, 65, 100, 101, 202, 243, 1024])
def test_one_dimension(n: int) -> None:
    z = numbers(3, n)
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    for kind, function in (("FFT", np.fft.fft), ("IFFT", np.fft.ifft)):
        np.testing.assert_allclose(run(transform(kind, (3, n), (3, n), (n,)), z)[0], pairs(function(z)), **tolerance)
    half = np.fft.rfft(z.real)
    got = run(transform("RFFT", (3, n), half.shape, (n,)), np.ascontiguousarray(z.real))[0]
    np.testing.assert_allclose(got, pairs(half), **tolerance)
    got = run(transform("IRFFT", half.shape, (3, n), (n,)), half)[0]
    np.testing.assert_allclose(got, z.real, **tolerance)


def test_three_dimensions() -> None:
    z = numbers(2, 3, 4, 5)
    got = run(transform("FFT", z.shape, z.shape, (3, 4, 5)), z)[0]
    np.testing.assert_allclose(got, pairs(np.fft.fftn(z, axes=(1, 2, 3))), atol=1e-10)
    half = np.fft.rfftn(z.real, axes=(1, 2, 3))
    got = run(transform("RFFT", z.shape, half.shape, (3, 4, 5)), np.ascontiguousarray(z.real))[0]
    np.testing.assert_allclose(got, pairs(half), atol=1e-10)
    np.testing.assert_allclose(run(transform("IRFFT", half.shape, z.shape, (3, 4, 5)), half)[0], z.real, atol=1e-10)


def test_what_has_no_rule_is_named() -> None:
    kind = "tensor<2x2xcomplex<f64>>"
    text = f"func.func @main(%a: {kind}) -> {kind} {{ %0 = stablehlo.cholesky %a, lower = true : {kind}\n"
    with pytest.raises(LoweringError, match=r"stablehlo\.cholesky of complex numbers is not supported"):
        import_module(text + f"return %0 : {kind} }}")
