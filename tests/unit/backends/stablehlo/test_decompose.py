"""Composite ops written out: their numbers through StableHLO's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.stablehlo.importer import import_module
from thalweg.backends.stablehlo.interpreter import evaluate

RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


X, SCALE, OFFSET, MEAN, GRAD = floats(2, 4, 3), floats(3), floats(3), floats(3), floats(2, 4, 3)
VARIANCE = np.abs(floats(3)) + np.float32(0.1)
FEATURES = ", ".join(["tensor<3xf32>"] * 2)


def batch_norm(kind: str, signature: str, operands: str, types: str, results: str) -> str:
    names = ", ".join(f"%{k}" for k in range(results.count("tensor")))
    return (
        f'func.func @main({signature}) -> ({results}) {{ {names} = "stablehlo.batch_norm_{kind}"({operands}) '
        f"<{{epsilon = 1.0e-3 : f32, feature_index = 2 : i64}}> : ({types}) -> ({results})\n "
        f"return {names} : {results} }}"
    )


def test_batch_norm_inference() -> None:
    types = f"tensor<2x4x3xf32>, {FEATURES}, {FEATURES}"
    signature = "%x: tensor<2x4x3xf32>, " + ", ".join(f"%{n}: tensor<3xf32>" for n in "somv")
    text = batch_norm("inference", signature, "%x, %s, %o, %m, %v", types, "tensor<2x4x3xf32>").replace(
        "-> (tensor<2x4x3xf32>)\n", "-> tensor<2x4x3xf32>\n"
    )
    wanted = (X - MEAN) / np.sqrt(VARIANCE + 1e-3) * SCALE + OFFSET
    got = evaluate(import_module(text), [X, SCALE, OFFSET, MEAN, VARIANCE])[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_batch_norm_training() -> None:
    text = batch_norm(
        "training",
        "%x: tensor<2x4x3xf32>, %s: tensor<3xf32>, %o: tensor<3xf32>",
        "%x, %s, %o",
        f"tensor<2x4x3xf32>, {FEATURES}",
        f"tensor<2x4x3xf32>, {FEATURES}",
    )
    mean, variance = X.mean((0, 1)), X.var((0, 1))
    got = evaluate(import_module(text), [X, SCALE, OFFSET])
    np.testing.assert_allclose(got[0], (X - mean) / np.sqrt(variance + 1e-3) * SCALE + OFFSET, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[2], variance, rtol=1e-5, atol=1e-6)


def test_batch_norm_grad_is_the_derivative() -> None:
    text = batch_norm(
        "grad",
        "%x: tensor<2x4x3xf32>, %s: tensor<3xf32>, %m: tensor<3xf32>, %v: tensor<3xf32>, %g: tensor<2x4x3xf32>",
        "%x, %s, %m, %v, %g",
        f"tensor<2x4x3xf32>, {FEATURES}, tensor<3xf32>, tensor<2x4x3xf32>",
        f"tensor<2x4x3xf32>, {FEATURES}",
    )

    def loss(x: np.ndarray, scale: np.ndarray) -> float:
        normal = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-3)
        return float((normal * scale * GRAD).sum())

    got = evaluate(import_module(text), [X, SCALE, X.mean((0, 1)), X.var((0, 1)), GRAD])
    x, scale = X.astype(np.float64), SCALE.astype(np.float64)
    for array, gradient in ((x, got[0]), (scale, got[1])):
        for place in np.ndindex(*array.shape):
            old = array[place]
            array[place] = old + 1e-5
            up = loss(x, scale)
            array[place] = old - 1e-5
            down = loss(x, scale)
            array[place] = old
            assert gradient[place] == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(got[2], GRAD.sum((0, 1)), rtol=1e-4, atol=1e-5)


def rng(distribution: str, element: str, low: str, high: str) -> str:
    return (
        f"func.func @main() -> (tensor<50x40x{element}>, tensor<50x40x{element}>) {{\n"
        f"%a = stablehlo.constant dense<{low}> : tensor<{element}>\n"
        f"%b = stablehlo.constant dense<{high}> : tensor<{element}>\n"
        "%s = stablehlo.constant dense<[50, 40]> : tensor<2xi64>\n"
        + "".join(
            f"%{k} = stablehlo.rng %a, %b, %s, distribution = {distribution} : "
            f"(tensor<{element}>, tensor<{element}>, tensor<2xi64>) -> tensor<50x40x{element}>\n"
            for k in (0, 1)
        )
        + f"return %0, %1 : tensor<50x40x{element}>, tensor<50x40x{element}> }}"
    )


def test_rng_uniform_and_normal() -> None:
    program = compile_stablehlo(import_module(rng("UNIFORM", "f32", "2.0", "4.0")))
    first, second = program([])
    assert first.min() >= 2 and first.max() < 4 and abs(first.mean() - 3) < 0.05
    assert (first != second).mean() > 0.99, "every op has numbers of its own"
    np.testing.assert_array_equal(program([])[0], first, err_msg="runs repeat")
    normal = compile_stablehlo(import_module(rng("NORMAL", "f32", "1.0", "2.0")))([])[0]
    assert abs(normal.mean() - 1) < 0.2 and abs(normal.std() - 2) < 0.2


def test_rng_integers() -> None:
    numbers = compile_stablehlo(import_module(rng("UNIFORM", "i32", "-3", "4")))([])[0]
    assert set(np.unique(numbers)) == set(range(-3, 4))


def test_sums_of_booleans_are_or() -> None:
    text = (
        "func.func @main(%a: tensor<4xi1>, %b: tensor<4xi1>) -> (tensor<4xi1>, tensor<4xi1>) {\n"
        "%0 = stablehlo.add %a, %b : tensor<4xi1>\n%1 = stablehlo.multiply %a, %b : tensor<4xi1>\n"
        "return %0, %1 : tensor<4xi1>, tensor<4xi1> }"
    )
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    either, both = compile_stablehlo(import_module(text))([a, b])
    np.testing.assert_array_equal(either, a | b)
    np.testing.assert_array_equal(both, a & b)
