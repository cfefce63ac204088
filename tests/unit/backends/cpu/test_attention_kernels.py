"""Attention against NumPy in float64: odd sizes, masks, gradients, layouts; memory in proportion to the length."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu import attention
from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

RNG = np.random.default_rng(0)
Array = np.ndarray


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of few scores are faster with the scores kept: here they are attention all the same."""
    monkeypatch.setattr(attention, "KEPT", 0)
    monkeypatch.setattr(tw.config, "cache", False)


def randoms(*shapes: tuple[int, ...]) -> list[Array]:
    return [RNG.standard_normal(s).astype(np.float32) for s in shapes]


def weights_of(scores: Array) -> Array:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expected(q: Array, k: Array, v: Array, seen: Array | bool = True) -> Array:
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    scores = np.where(seen, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1e30)
    return weights_of(scores) @ v


def expected_gradients(q: Array, k: Array, v: Array, seen: Array | bool = True) -> list[Array]:
    """Of the sum of the squares of the result."""
    result = expected(q, k, v, seen)
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    scale = 1 / np.sqrt(q.shape[-1])
    p = weights_of(np.where(seen, q @ k.swapaxes(-1, -2) * scale, -1e30))
    dp = 2 * result @ v.swapaxes(-1, -2)
    ds = np.where(seen, p * (dp - (dp * p).sum(-1, keepdims=True)) * scale, 0)
    return [ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ (2 * result)]


def close(found: object, wanted: Array) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=2e-4, atol=3e-6 * np.abs(wanted).max())


def kernels(function: Callable[..., object], *arrays: Array) -> str:
    return tw.function(lambda *a: function(*a)).ir("kernels", *arrays)


def causal(queries: int, keys: int) -> Array:
    return np.tril(np.ones((queries, keys), bool), keys - queries)


SIZES = [  # outer axes, queries, keys, features, features of the values
    ((2, 3), 64, 64, 32, 32),
    ((2,), 128, 128, 64, 64),
    ((3,), 100, 100, 20, 20),
    ((2,), 33, 47, 7, 5),
    ((1, 2), 70, 190, 64, 24),
    ((2,), 257, 129, 80, 96),
    ((5,), 16, 16, 3, 17),
]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("outer", "queries", "keys", "features", "values"), SIZES)
def test_sizes(outer, queries, keys, features, values, is_causal):
    q, k, v = randoms((*outer, queries, features), (*outer, keys, features), (*outer, keys, values))
    seen = causal(queries, keys) if is_causal else True

    def attend(q, k, v):
        return tw.nn.attention(q, k, v, causal=is_causal)

    def loss(q, k, v):
        return tw.sum(attend(q, k, v) ** 2)

    assert "_attention(" in kernels(attend, q, k, v)
    close(tw.function(attend)(q, k, v), expected(q, k, v, seen))
    found = tw.function(lambda *a: tw.grad(loss, argnums=(0, 1, 2))(*a))(q, k, v)
    for gradient, wanted in zip(found, expected_gradients(q, k, v, seen), strict=True):
        close(gradient, wanted)


def test_queries_keys_and_values_of_one_product_are_read_where_they_are():
    (x,) = randoms((2, 40, 3 * 5 * 8))

    def attend(x):
        parts = tw.reshape(x, (2, 40, 3, 5, 8))
        return tw.nn.attention(*(tw.permute_dims(parts[:, :, i], (0, 2, 1, 3)) for i in range(3)))

    assert re.findall(r"func private @(k\d+_[a-z]+)\(", kernels(attend, x)) == ["k0_attention"]
    parts = x.reshape(2, 40, 3, 5, 8)
    close(tw.function(attend)(x), expected(*(parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))))


def by_part(x):
    parts = tw.reshape(x, (2, 40, 3, 5, 8))
    return [tw.permute_dims(parts[:, :, i], (0, 2, 1, 3)) for i in range(3)]


def by_feature(x):
    return [tw.permute_dims(tw.reshape(x[:, :, 40 * i : 40 * i + 40], (2, 40, 5, 8)), (0, 2, 1, 3)) for i in range(3)]


@pytest.mark.parametrize("split", [by_part, by_feature])
def test_gradients_of_one_product_are_written_where_they_go(split):
    (x,) = randoms((2, 40, 3 * 5 * 8))

    def gradient(x):
        return tw.grad(lambda x: tw.sum(tw.nn.attention(*split(x)) ** 2))(x)

    names = re.findall(r"func private @k\d+_([a-z]+)\(", kernels(gradient, x))
    assert "attention" in names and "insert" not in names
    parts = (part.transpose(0, 2, 1, 3) for part in np.moveaxis(x.reshape(2, 40, 3, 5, 8), 2, 0))
    wanted = np.stack(expected_gradients(*parts), 2)  # [batch, heads, part, length, features]
    close(tw.function(gradient)(x), wanted.transpose(0, 3, 2, 1, 4).reshape(x.shape))


def test_parts_that_something_else_reads_are_results_of_their_own():
    (x,) = randoms((2, 40, 3 * 5 * 8))

    def gradients(x):
        q, k, v = by_part(x)
        found = tw.grad(lambda *a: tw.sum(tw.nn.attention(*a) ** 2), argnums=(0, 1, 2))(q, k, v)
        return tw.concat([tw.reshape(g, (10, 40, 8)) for g in found], axis=2), tw.sum(found[0])

    parts = (part.transpose(0, 2, 1, 3) for part in np.moveaxis(x.reshape(2, 40, 3, 5, 8), 2, 0))
    wanted = expected_gradients(*parts)
    found, total = tw.function(gradients)(x)
    close(found, np.concatenate([g.reshape(10, 40, 8) for g in wanted], 2))
    np.testing.assert_allclose(total, wanted[0].sum(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [0.3, -2.0])
def test_scaled_scores(scale):
    q, k, v = randoms((2, 3, 70, 20), (2, 3, 90, 20), (2, 3, 90, 10))

    def attend(q, k, v):
        return tw.nn.softmax((q @ tw.matrix_transpose(k)) * scale) @ v

    result = tw.function(attend)(q, k, v)
    np.testing.assert_allclose(result, expected(q * np.float32(scale * np.sqrt(20)), k, v), rtol=2e-4, atol=1e-5)


def test_gradients_that_do_not_wait_for_the_result_are_one_kernel():
    q, k, v, g = randoms(*[(2, 40, 8)] * 4)

    def both(q, k, v, g):
        return tw.value_and_grad(lambda *a: tw.sum(tw.nn.attention(*a) * g), argnums=(0, 1, 2))(q, k, v)

    assert kernels(both, q, k, v, g).count("func.func private @k") - kernels(both, q, k, v, g).count("_attention(") < 3
    value, found = tw.function(both)(q, k, v, g)
    close(value, (expected(q, k, v) * g).sum())
    p = weights_of(q.astype(np.float64) @ k.swapaxes(-1, -2) / np.sqrt(8))
    close(found[2], p.swapaxes(-1, -2) @ g)


@pytest.mark.parametrize("shape", [(40, 50), (2, 1, 40, 50), (2, 3, 1, 50)])
def test_masks(shape):
    q, k, v = randoms((2, 3, 40, 8), (2, 3, 50, 8), (2, 3, 50, 8))
    seen = RNG.random(shape) < 0.6
    seen[..., 0, :] = False  # rows that see nothing have the mean of everything
    close(tw.function(lambda *a: tw.nn.attention(*a[:3], mask=a[3]))(q, k, v, seen), expected(q, k, v, seen))
    found = tw.function(
        lambda q, k, v, m: tw.grad(lambda *a: tw.sum(tw.nn.attention(*a, mask=m) ** 2), argnums=(0, 1, 2))(q, k, v)
    )(q, k, v, seen)
    for gradient, wanted in zip(found, expected_gradients(q, k, v, seen), strict=True):
        close(gradient, wanted)


def test_bias_cap_and_dropped_weights():
    q, k, v, bias = randoms((2, 3, 40, 8), (2, 3, 50, 8), (2, 3, 50, 8), (3, 40, 50))
    kept = (RNG.random((2, 3, 40, 50)) < 0.9).astype(np.float32) / np.float32(0.9)

    def attend(q, k, v, bias, kept):
        scores = q @ tw.matrix_transpose(k) + bias
        return (tw.nn.softmax(5 * tw.tanh(scores / 5)) * kept) @ v

    wide = [a.astype(np.float64) for a in (q, k, v, bias, kept)]
    scores = wide[0] @ wide[1].swapaxes(-1, -2) + wide[3]
    assert "_attention(" in kernels(attend, q, k, v, bias, kept)
    close(tw.function(attend)(q, k, v, bias, kept), (weights_of(5 * np.tanh(scores / 5)) * wide[4]) @ wide[2])


def test_heads_beside_features():
    """[batch, length, heads, features] is read and written where it lies."""
    q, k, v = randoms(*[(2, 40, 3, 16)] * 3)

    def attend(q, k, v):
        q, k, v = (tw.permute_dims(a, (0, 2, 1, 3)) for a in (q, k, v))
        return tw.permute_dims(tw.nn.attention(q, k, v, causal=True), (0, 2, 1, 3))

    moved = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    close(tw.function(attend)(q, k, v), expected(*moved, causal(40, 40)).transpose(0, 2, 1, 3))
    assert len(re.findall(r"func.func private @k\w+\(%", kernels(attend, q, k, v))) == 1


def test_a_nan_stays_in_its_row():
    q, k, v = randoms(*[(2, 32, 8)] * 3)
    q[1, 5, 3] = np.nan
    found = np.asarray(tw.function(tw.nn.attention)(q, k, v))
    assert np.isnan(found[1, 5]).all() and np.isnan(found).sum() == 8


@pytest.mark.parametrize("name", ["attention", "attention_grad"])
def test_programs_of_jax(name):
    folder = Path(__file__).parents[3] / "conformance" / "stablehlo" / "programs"
    arrays = np.load(folder / f"{name}.npz")
    arguments = [arrays[f"in{k}"] for k in range(sum(n.startswith("in") for n in arrays.files))]
    with context.entered():
        program = compile_stablehlo(ir.Module.parse((folder / f"{name}.mlir").read_text()))
    for k, result in enumerate(program(arguments)):
        close(result, arrays[f"out{k}"])


def arena(function: Callable[..., object], length: int) -> int:
    arrays = [np.zeros((1, 2, length, 16), np.float32)] * 3
    program = tw.function(lambda *a: function(*a)).program(*arrays)
    with context.entered():
        return lower(driver().to_stablehlo(program.module)[0], driver().cpu_options()).plan.arena_bytes


@pytest.mark.parametrize("gradients", [False, True])
def test_memory_grows_with_the_length_not_its_square(gradients):
    def loss(q, k, v):
        return tw.sum(tw.nn.attention(q, k, v, causal=True) ** 2)

    function = tw.value_and_grad(loss, argnums=(0, 1, 2)) if gradients else loss
    short, long = arena(function, 2048), arena(function, 8192)
    assert long < 4.5 * short and long < 0.2 * 2 * 8192 * 8192 * 4
