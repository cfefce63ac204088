"""Variables that compiled programs keep packed: whoever writes to one, the next call sees it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu.weights import PackedWeights

ROWS, INNER, COLUMNS = 5, 70, 90


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PackedWeights]]:
    """What packs, each time that it does."""
    done: list[PackedWeights] = []
    pack = PackedWeights._pack

    def counted(weights: PackedWeights) -> None:
        done.append(weights)
        pack(weights)

    monkeypatch.setattr(PackedWeights, "_pack", counted)
    yield done
    done.clear()


def _graph_assign(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
    graph = tw.Graph()
    with graph.as_default():
        fed = tw.placeholder(tw.float32, (INNER, COLUMNS), name="fed")
        op = w.assign(fed)
    with tw.Session(graph) as session:
        session.run(op, feeds={fed: value})


def _compiled_assign(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
    @tw.function
    def change(x: tw.Tensor) -> None:
        w.assign(x)

    change(value)


def _compiled_update(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
    """In place, from what it was."""

    @tw.function
    def change(x: tw.Tensor) -> None:
        w.assign_add(x)

    change(value - w.numpy())


def _restored(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
    folder.mkdir()
    other = tw.Variable(value, name="other")
    tw.save(folder / "checkpoint", {"w": other})
    tw.restore(folder / "checkpoint", {"w": w})


def _rows(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
    """As sparse gradients do."""

    @tw.function
    def change(x: tw.Tensor) -> None:
        w.assign(tw.asarray(w.value).at[np.arange(INNER)].set(x))

    change(value)


def _eager(name: str) -> Callable[[tw.Variable, np.ndarray[Any, Any], Path], None]:
    def change(w: tw.Variable, value: np.ndarray[Any, Any], folder: Path) -> None:
        by = {"assign": value, "assign_add": value - w.numpy(), "assign_sub": w.numpy() - value}[name]
        getattr(w, name)(by)

    return change


PATHS = {
    "assign": _eager("assign"), "assign_add": _eager("assign_add"), "assign_sub": _eager("assign_sub"),
    "compiled": _compiled_assign, "in place": _compiled_update, "graph": _graph_assign, "checkpoint": _restored,
    "rows": _rows,
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_every_way_to_assign_is_seen(path: str, tmp_path: Path, packings: list[PackedWeights]) -> None:
    w, x = tw.Variable(numbers(INNER, COLUMNS), name="w"), numbers(ROWS, INNER, seed=1)
    infer = tw.function(lambda x: tw.tanh(x @ w))
    for round_ in range(3):
        if round_:
            PATHS[path](w, numbers(INNER, COLUMNS, seed=5 * round_), tmp_path / str(round_))
        packings.clear()
        for _ in range(4):
            np.testing.assert_allclose(infer(x), np.tanh(x @ w.numpy()), rtol=1e-4, atol=1e-5)
        assert len(packings) == 1, "once for each value"


def test_a_variable_that_gets_its_first_value_again() -> None:
    w, x = tw.Variable(numbers(INNER, COLUMNS), container="c"), numbers(ROWS, INNER, seed=1)
    infer = tw.function(lambda x: x @ w)
    first = np.asarray(infer(x))
    w.assign(tw.zeros((INNER, COLUMNS)))
    assert not np.asarray(infer(x)).any()
    w.reset()
    np.testing.assert_array_equal(infer(x), first)


def test_training_steps_between_evaluations(packings: list[PackedWeights]) -> None:
    """The step packs nothing for later, the evaluation packs once for each step."""
    w = tw.Variable(numbers(INNER, COLUMNS) * 0.1)
    optimizer = tw.optim.SGD(0.1)
    x, y = numbers(ROWS, INNER, seed=1), numbers(ROWS, COLUMNS, seed=2)

    @tw.function
    def step(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
        value, (gradient,) = tw.value_and_grad(lambda: tw.mean((x @ w - y) ** 2), wrt=[w])()
        optimizer.apply([(gradient, w)])
        return value

    evaluate = tw.function(lambda x, y: tw.mean((x @ w - y) ** 2))
    for _ in range(3):
        for _ in range(2):
            loss = float(step(x, y))
        assert not packings
        after = float(evaluate(x, y))
        assert after < loss and after == float(evaluate(x, y)) and len(packings) == 1
        np.testing.assert_allclose(after, np.mean((x @ w.numpy() - y) ** 2), rtol=1e-4)
        packings.clear()


def test_programs_with_orders_of_their_own() -> None:
    """One variable, multiplied by from both sides, by few and many rows, and as the window of a convolution."""
    w = tw.Variable(numbers(96, 96))
    x, many = numbers(3, 96, seed=1), numbers(200, 96, seed=2)
    plain, turned = tw.function(lambda x: x @ w), tw.function(lambda x: x @ w.value.T)
    for factor in (1.0, 2.0):
        w.assign(numbers(96, 96) * np.float32(factor))
        value = w.numpy()
        for rows in (x, many):
            np.testing.assert_allclose(plain(rows), rows @ value, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(turned(rows), rows @ value.T, rtol=1e-3, atol=1e-3)


def test_sessions_share_variables(packings: list[PackedWeights]) -> None:
    graph = tw.Graph()
    with graph.as_default():
        w = tw.Variable(numbers(INNER, COLUMNS), name="shared")
        x = tw.placeholder(tw.float32, (ROWS, INNER), name="x")
        fed = tw.placeholder(tw.float32, (INNER, COLUMNS), name="fed")
        y, op = x @ w, w.assign(fed)
    given = numbers(ROWS, INNER, seed=1)
    with tw.Session(graph) as first, tw.Session(graph) as second:
        for seed in range(3):
            value = numbers(INNER, COLUMNS, seed=seed)
            (first if seed % 2 else second).run(op, feeds={fed: value})
            for session in (first, second):
                np.testing.assert_allclose(session.run(y, feeds={x: given}), given @ value, rtol=1e-4, atol=1e-4)
    assert packings


def test_devices_of_a_process() -> None:
    with tw.config.override(virtual_cpus=2):
        with tw.device("/device:CPU:1"):
            w = tw.Variable(numbers(INNER, COLUMNS))
        x = numbers(ROWS, INNER, seed=1)

        @tw.function
        def infer(x: tw.Tensor) -> tw.Tensor:
            with tw.device("/device:CPU:1"):
                return x @ w

        for seed in range(2):
            w.assign(numbers(INNER, COLUMNS, seed=seed))
            np.testing.assert_allclose(infer(x), x @ w.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.timeout(120)
def test_readers_never_see_half_of_an_assignment() -> None:
    """All elements of the weights are the same number at any time; so are all of a result."""
    w = tw.Variable(tw.zeros((256, 256)))
    infer = tw.function(lambda x: x @ w)
    x = np.ones((4, 256), np.float32)
    infer(x)
    wrong, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            found = np.asarray(infer(x))
            if found.min() != found.max() or found[0, 0] % 256:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    last = 0
    for last in range(60):
        w.assign(np.full((256, 256), last, np.float32))
        assert np.asarray(infer(x))[0, 0] == 256 * last, "who has assigned sees it at once"
    over.set()
    for reader in readers:
        reader.join()
    assert not wrong and np.asarray(infer(x))[0, 0] == 256 * last


def test_constants_are_packed_once(packings: list[PackedWeights]) -> None:
    w, x = tw.asarray(numbers(INNER, COLUMNS)), numbers(ROWS, INNER, seed=1)
    infer = tw.function(lambda x: x @ w)
    for _ in range(3):
        np.testing.assert_allclose(infer(x), x @ np.asarray(w), rtol=1e-4, atol=1e-4)
    assert len(packings) == 1


def test_arguments_may_change_from_call_to_call(packings: list[PackedWeights]) -> None:
    product = tw.function(lambda x, w: x @ w)
    x, w = numbers(ROWS, INNER, seed=1), numbers(INNER, COLUMNS)
    for _ in range(2):
        np.testing.assert_allclose(product(x, w), x @ w, rtol=1e-4, atol=1e-4)
        w *= 2
    assert not packings


def test_the_copies_go_with_the_program(packings: list[PackedWeights]) -> None:
    w, x = tw.Variable(numbers(INNER, COLUMNS)), numbers(ROWS, INNER, seed=1)
    infer = tw.function(lambda x: x @ w)
    infer(x)
    (weights,) = packings
    kept = [weakref.ref(weights), weakref.ref(weights.arrays[0])]
    packings.clear()
    del weights, infer
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    np.testing.assert_array_equal(w.numpy(), numbers(INNER, COLUMNS))


def test_without_copies(packings: list[PackedWeights]) -> None:
    with tw.config.override(pack_weights=False):
        w, x = tw.Variable(numbers(INNER, COLUMNS)), numbers(ROWS, INNER, seed=1)
        np.testing.assert_allclose(tw.function(lambda x: x @ w)(x), x @ w.numpy(), rtol=1e-4, atol=1e-4)
    assert not packings
