"""Batches shared out among virtual GPUs: the same numbers as on the host, whatever is in the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulated_nccl import SimulatedNccl

import thalweg as tw
from thalweg.dialects.diagnostics import DeviceError, ExecutionError, LoweringError, UnavailableError
from thalweg.frontend.program import compiler
from thalweg.gpus import virtual_driver
from thalweg.replicated import ReplicatedProgram
from thalweg.runtime.config import config
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.nccl import Collective

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


X, Y, TABLE, MATRIX = normal(4, 6), normal(4, 6), normal(9, 6), normal(6, 6)
IDS = np.array([[1, 8, 3], [0, 3, 3], [8, 1, 1], [2, 2, 0]], np.int32)
IMAGES, KERNEL = normal(4, 6, 6, 2), normal(3, 3, 2, 4)
WEIGHTS = normal(3, 6)


def _loop(x: Any) -> Any:
    """A loop over time whose state begins as zeros, and a sum that grows."""

    def body(carried: Any, row: Any) -> Any:
        state, total = carried
        state = tw.tanh(row @ MATRIX + state)
        return (state, total + tw.sum(state)), state * 2

    rows = tw.stack([x, x * 2, x * 3])
    return tw.scan(body, (tw.zeros((x.shape[0], 6)), tw.zeros(())), rows)


CASES: dict[str, tuple[Callable[..., Any], list[Array]]] = {
    "elementwise, broadcasts": (lambda x: (tw.tanh(x) * MATRIX[0] + x[:, :1], tw.where(x > 0, x, 0.5)), [X]),
    "reductions over rows and over the batch": (
        lambda x: (tw.sum(x, axis=1), tw.sum(x, axis=0), tw.max(x), tw.mean(x), tw.argmax(x, axis=0)), [X]),
    "reductions of truths and products": (lambda x: (tw.any(x > 1, axis=0), tw.all(x > -9), tw.prod(x, axis=0)), [X]),
    "products with weights, of the batch with itself": (lambda x, y: (x @ MATRIX, x @ y.T, x.T @ y), [X, Y]),
    "shapes": (lambda x: (tw.reshape(x, (-1,)), tw.reshape(x, (4, 2, 3)), tw.reshape(x, (2, 12)), x.T, x[::-1]), [X]),
    "parts": (lambda x, y: (x[:, 2:5], x[1:3], tw.concat([x, y], axis=1), tw.concat([x, y], axis=0)), [X, Y]),
    "padding": (lambda x: (tw.pad(x, [(0, 0), (1, 2)]), tw.pad(x, [(1, 0), (0, 0)])), [X]),
    "sort along rows, along the batch; running sums": (
        lambda x: (tw.sort(x, axis=1), tw.sort(x, axis=0), tw.cumulative_sum(x, axis=1)), [X]),
    "look-ups and their gradient": (
        lambda ids: tw.value_and_grad(lambda t: tw.sum(tw.take(t, ids, axis=0) ** 2))(TABLE), [IDS]),
    "a convolution and its gradients": (
        lambda x: tw.value_and_grad(
            lambda x, w: tw.sum(tw.tanh(tw.nn.conv(x, w, padding="same", stride=2))), argnums=(0, 1))(x, KERNEL),
        [IMAGES]),
    "pooling and its gradient": (lambda x: tw.value_and_grad(lambda x: tw.sum(tw.nn.max_pool(x, 2) ** 2))(x), [IMAGES]),
    "a loop": (_loop, [X]),
    "a branch": (lambda x: tw.cond(tw.sum(x) > 1e3, lambda: x * 2, lambda: x - tw.sum(x, axis=0)), [X]),
    "random numbers": (lambda x: x * tw.random.uniform((4, 6), seed=3), [X]),
}  # fmt: skip


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_one_device_does(name: str) -> None:
    function, inputs = CASES[name]
    with config.override(default_device="cpu"):
        wanted = _leaves(tw.function(function)(*inputs))
    shared = tw.function(function, shards=2)
    for _ in range(2):  # launches, then graphs
        found = _leaves(shared(*inputs))
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5, atol=1e-5)


def _model() -> tuple[Callable[..., Any], list[tw.Variable]]:
    """A network with batch normalisation, whose means are those of the whole batch."""
    rng = np.random.default_rng(1)
    shapes = (6, 8), (8, 3)
    weights = [tw.Variable(rng.normal(size=s).astype(np.float32) * 0.5, name="shared_out") for s in shapes]
    norm, optimizer = tw.nn.BatchNorm(8), tw.optim.Adam(0.01)
    trained = [*weights, *norm.trainable]

    def step(x: Any, y: Any) -> Any:
        def loss() -> Any:
            logits = tw.nn.relu(norm(x @ weights[0], training=True)) @ weights[1]
            return tw.mean(tw.nn.softmax_cross_entropy(logits, y))

        value, gradients = tw.value_and_grad(loss, wrt=trained)()
        optimizer.apply(zip(gradients, trained, strict=True))
        return value

    return step, trained


@pytest.mark.parametrize("shards", [2, 4])
def test_training_is_that_of_one_device(shards: int) -> None:
    x, y = normal(8, 6), RNG.integers(0, 3, 8).astype(np.int32)
    runs = []
    for count, place in ((1, "cpu"), (shards, "gpu")):
        with config.override(virtual_gpus=shards, default_device=place):
            made, weights = _model()
            step = tw.function(made, shards=count)
            losses = []
            for turn in range(4):
                if turn == 2:  # the host changes a variable: every GPU gets the new one
                    weights[0].assign(weights[0].numpy() * 1.5)
                losses.append(float(step(x, y)))
            runs.append([np.array(losses), *(w.numpy() for w in weights)])
    for one, several in zip(*runs, strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-4, atol=1e-5)


def test_every_gpu_has_the_same_bits_also_of_large_sums() -> None:
    """Sums in pieces: each GPU adds up one, in the same order."""
    w = tw.Variable(np.zeros((160, 130), np.float32), name="large")
    x = normal(8, 160)
    with config.override(virtual_gpus=4):
        grown = tw.function(lambda x: w.assign_add(x.T @ x[:, :130]), shards=4)
        program = compiler().compile(grown.program(x))
        for _ in range(2):
            program([x])
        assert isinstance(program, ReplicatedProgram)
        first, *others = program.copies_of(0)
    np.testing.assert_allclose(first, 2 * (x.T @ x[:, :130]), rtol=1e-4, atol=1e-4)
    assert len(others) == 3
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_sums_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """All gradients of a step in one group of its calls."""
    library = SimulatedNccl(virtual_driver())
    monkeypatch.setattr("thalweg.replicated.sums_of", lambda gpus, timeout: Collective(gpus, library))
    v, w = (tw.Variable(np.full((6, 6), k / 10, np.float32), name="by_nccl") for k in (1, 2))

    @tw.function(shards=2)
    def step(x: Any) -> Any:
        gradients = tw.grad(lambda: tw.sum(tw.tanh(x @ v) @ w), wrt=[v, w])()
        v.assign_sub(gradients[0])
        w.assign_sub(gradients[1])

    expected = v.numpy(), w.numpy()
    for _ in range(3):
        a, b = expected
        hidden = np.tanh(X @ a)
        expected = a - X.T @ ((1 - hidden**2) * b.sum(1)), b - hidden.T @ np.ones((4, 6), np.float32)
        step(X)
        for variable, want in zip((v, w), expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), want, rtol=1e-4, atol=1e-4)
    assert library.calls[: len(library.calls) // 3] == ["start", *["reduce 500", "reduce 501"] * 2, "end"]


def test_arrays_of_a_gpu_are_shared_out_without_the_host() -> None:
    x = tw.asarray(normal(4, 6)).to_device("gpu:0")
    shared = tw.function(lambda x: (x * 2, tw.sum(x, axis=0)), shards=2)
    doubled, total = shared(x)
    np.testing.assert_array_equal(np.asarray(doubled), np.asarray(x) * 2)
    np.testing.assert_allclose(np.asarray(total), np.asarray(x).sum(0), rtol=1e-5)
    again, _ = shared(doubled)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(x) * 4)


def test_another_program_changes_what_all_gpus_have() -> None:
    w = tw.Variable(np.ones(3, np.float32), name="between")
    shared = tw.function(lambda x: w.assign_add(tw.sum(x, axis=0)), shards=2)
    with config.override(default_device="gpu"):
        alone = tw.function(lambda: w.assign(w * 10 + tw.ones((3,))))
        for turn in range(3):
            before = w.numpy()
            shared(np.ones((2, 3), np.float32))
            alone()
            np.testing.assert_array_equal(w.numpy(), (before + 2) * 10 + 1, err_msg=f"turn {turn}")


def test_what_must_not_come_out_is_told_with_its_line() -> None:
    with config.override(check_nans=True):
        logs = tw.function(lambda x: tw.sum(tw.log(x), axis=0), shards=2)
        np.testing.assert_allclose(np.asarray(logs(np.ones((4, 2), np.float32))), 0)
        with pytest.raises(ExecutionError, match=r"test_gpu_shards.py:\d+.*log"):
            logs(-np.ones((4, 2), np.float32))


def test_open_extents_are_shared_out_for_each_size() -> None:
    spec = [tw.spec((None, 3), tw.float32)]
    doubled = tw.function(lambda x: (x * 2, tw.sum(x)), signature=spec, shards=2)
    for rows in (2, 6):
        found, total = doubled(np.ones((rows, 3), np.float32))
        assert np.asarray(found).shape == (rows, 3) and float(total) == 3 * rows


def test_a_batch_that_cannot_be_divided_is_told() -> None:
    with pytest.raises(LoweringError, match=r"\(f32\[3,6\]\) none has a first extent that can be divided by 2"):
        tw.function(lambda x: x * 2, shards=2)(normal(3, 6))


def test_more_shards_than_gpus_are_told() -> None:
    with pytest.raises(UnavailableError, match=r"shards=3.*this one has 2.*set_virtual_devices\(gpu=3\)"):
        tw.function(lambda x: x * 2, shards=3)(normal(3, 6))
    with pytest.raises(ValueError, match="shards must be 1 or more, got 0"):
        tw.function(lambda x: x, shards=0)


def test_a_gpu_that_fails_is_named_and_the_next_step_begins_from_the_first_ones_values() -> None:
    w = tw.Variable(np.ones((6, 6), np.float32), name="survives")
    step = tw.function(lambda x: w.assign_add(x.T @ x), shards=2)
    x = normal(4, 6)
    step(x)
    before = w.numpy()
    driver = virtual_driver()
    driver.faults["copy_peer"] = DriverError("cuMemcpyPeerAsync", 719, "CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(DeviceError, match=r"GPU:1 to /device:GPU:0.*failed: cuMemcpyPeerAsync"):
        tw.function(lambda x: tw.sum(x @ MATRIX), shards=2)(x)
    w.assign(before)
    step(x)
    np.testing.assert_allclose(w.numpy(), before + x.T @ x, rtol=1e-4, atol=1e-4)
