"""Which programs are attention, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu import attention
from thalweg.backends.cpu.attention import Attention, form_attention
from thalweg.backends.cpu.backend import main_function
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.read import read_function
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

SHAPE = (2, 3, 32, 8)


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of few scores are faster with the scores kept: here they are attention all the same."""
    monkeypatch.setattr(attention, "KEPT", 0)


def found(function: Callable[..., object], *shapes: tuple[int, ...]) -> list[Attention]:
    """The kernels of attention of a traced function, in order."""
    program = tw.function(lambda *args: function(*args)).program(*(np.zeros(s, np.float32) for s in shapes))
    with context.entered(), ir.Location.unknown():
        linalg = legalize(driver().to_stablehlo(program.module)[0])
        graph = read_function(main_function(linalg))
        changed = form_attention(graph)
    made = [v for v in graph.values if v.kind == "attention" and v is v.peers[0]]
    assert changed == bool(made)
    for value in made:
        assert len(value.operands) == len(value.attention.operands)
    positions = {v: n for n, v in enumerate([*graph.args, *graph.values])}
    assert all(positions[o] < positions[v] for v in graph.values for o in v.operands)
    assert len({v.id for v in positions}) == len(positions)
    return [v.attention for v in made]


def softmax(q, k, v, change=lambda scores: scores, after=lambda weights: weights):
    scores = change(q @ tw.matrix_transpose(k))
    return after(tw.nn.softmax(scores)) @ v


@pytest.mark.parametrize("function", [
    softmax,
    tw.nn.attention,
    lambda q, k, v: softmax(q, k, v, lambda s: s * 0.25 + 1.0),
    lambda q, k, v: softmax(q, k, v, lambda s: 30 * tw.tanh(s / 30)),
    lambda q, k, v: tw.exp(tw.log_softmax(q @ tw.matrix_transpose(k))) @ v,
    lambda q, k, v: tw.matrix_transpose(tw.matrix_transpose(v) @ tw.matrix_transpose(tw.softmax(q @ tw.matrix_transpose(k)))),  # noqa: E501
], ids=["plain", "scaled", "shifted", "capped", "by logarithms", "transposed"])  # fmt: skip
def test_forward(function):
    (one,) = found(function, SHAPE, SHAPE, SHAPE)
    assert one.extents == (2, 3, 32, 32) and len(one.scores) == len(one.products) == 1
    assert one.products[0].sums(one.column) and not one.products[0].sums(one.row)
    assert one.visible is None and not one.kept


def test_division_is_left_for_the_result():
    (one,) = found(softmax, SHAPE, SHAPE, SHAPE)
    (product,) = one.products
    assert product.factor == ("arith.divf", one.reductions[-1]) and one.reductions[-1] not in product.operand.operands


def test_scores_times_a_number_are_of_keys_times_it():
    def scaled(q, k, v):
        return softmax(q, k, v, lambda scores: tw.where(scores * 0.25 > 1, 0.5, scores * 0.25))

    (one,) = found(scaled, SHAPE, SHAPE, SHAPE)
    assert [p.scale for p in one.scores] == [0.25]
    (one,) = found(lambda q, k, v: softmax(q, k, v, lambda scores: scores * 0.25 + scores), SHAPE, SHAPE, SHAPE)
    assert [p.scale for p in one.scores] == [1.0]


@pytest.mark.parametrize(("queries", "keys"), [(32, 32), (32, 48), (48, 32)])
def test_causal(queries, keys):
    shapes = (2, queries, 8), (2, keys, 8), (2, keys, 8)
    (one,) = found(lambda q, k, v: tw.nn.attention(q, k, v, causal=True), *shapes)
    assert one.visible == (keys - queries if keys >= queries else None)  # the first queries would see nothing


def test_a_constant_triangle_is_causal_and_other_masks_are_not():
    triangle = np.tril(np.ones((32, 32), bool), 2)

    def visible(mask):
        # a mask that is an argument, as captured arrays are, tells nothing; one of ranges does
        return found(lambda q, k, v: tw.nn.attention(q, k, v, mask=mask(tw)), SHAPE, SHAPE, SHAPE)[0].visible

    rows, columns = (lambda t: t.expand_dims(t.arange(32), axis=1)), (lambda t: t.arange(32))
    assert visible(lambda t: rows(t) + 2 >= columns(t)) == 2
    assert visible(lambda t: columns(t) < rows(t) + 1) == 0
    assert visible(lambda t: columns(t) > rows(t) - 1) is None
    assert visible(lambda t: t.abs(columns(t) - rows(t)) < 4) is None
    assert visible(lambda t: triangle) is None


def gradient(function: Callable[..., tw.Tensor]) -> Callable[..., object]:
    return lambda *args: tw.value_and_grad(lambda *a: tw.sum(function(*a) ** 2), argnums=(0, 1, 2))(*args)


@pytest.mark.parametrize("causal", [False, True])
def test_gradient(causal):
    forward, backward = found(gradient(lambda q, k, v: tw.nn.attention(q, k, v, causal=causal)), SHAPE, SHAPE, SHAPE)
    assert len(forward.kept) == 2 and len(forward.reductions) == 2  # the maximum and the sum of each row
    assert len(backward.scores) == 2 and len(backward.reductions) == 1 and len(backward.products) == 3
    assert sorted(p.sums(backward.row) for p in backward.products) == [False, True, True]
    assert forward.visible == backward.visible == (0 if causal else None)


def test_scores_that_are_a_result_are_not_taken_away():
    def weights(q, k, v):
        seen = tw.softmax(q @ tw.matrix_transpose(k))
        return seen @ v, seen

    assert not found(weights, SHAPE, SHAPE, SHAPE)


def test_what_rows_have_of_their_own_may_be_a_result():
    def with_logsumexp(q, k, v):
        scores = q @ tw.matrix_transpose(k)
        total = tw.logsumexp(scores, axis=-1, keepdims=True)
        return tw.exp(scores - total) @ v, total

    (one,) = found(with_logsumexp, SHAPE, SHAPE, SHAPE)
    assert one.kept == one.reductions


def test_layers_one_after_another():
    def layers(q, k, v):
        return tw.nn.attention(tw.nn.attention(q, k, v), k, v)

    assert len(found(layers, SHAPE, SHAPE, SHAPE)) == 2
    assert len(found(gradient(layers), SHAPE, SHAPE, SHAPE)) == 4


def test_a_dense_layer_after_a_normalised_one_is_none():
    def dense(x, a, b):
        h = x @ a
        h = h - tw.mean(h, axis=-1, keepdims=True)
        return (h / tw.sqrt(tw.mean(h * h, axis=-1, keepdims=True) + 1e-5)) @ b

    assert not found(dense, (64, 32), (32, 32), (32, 32))


def test_few_scores_are_kept_for_the_gradient(monkeypatch):
    monkeypatch.undo()
    assert not found(gradient(tw.nn.attention), SHAPE, SHAPE, SHAPE)
    assert len(found(gradient(tw.nn.attention), *[(4, 512, 8)] * 3)) == 2
    assert len(found(tw.nn.attention, SHAPE, SHAPE, SHAPE)) == 1
