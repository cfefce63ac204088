"""Whole training steps in Triton's interpreter: gradients, the optimiser's update in place, loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import numbers

import thalweg as tw
from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.options import GpuOptions
from thalweg.compiler import driver
from thalweg.dialects import context

pytest.importorskip("triton")


def train(loss: Callable[..., Any], variables: list[Any], optimizer: Any) -> Any:
    """A step that applies a loss's gradients."""

    @tw.function
    def step(*arguments: tw.Tensor) -> tw.Tensor:
        value, gradients = tw.value_and_grad(lambda: loss(*arguments), wrt=variables)()
        optimizer.apply(list(zip(gradients, variables, strict=True)))
        return value

    return step


def check_step(step: Any, *arguments: np.ndarray, folder: Path, error: float = 1e-4, steps: int = 1) -> Any:
    """Run a step in the interpreter and on the CPU: the same results, and the same new variables."""
    from thalweg.backends.gpu.simulate import simulate

    step(*arguments)  # makes the optimiser's variables
    program = step.program(*arguments)
    variables = {v.name: v for v in program.variables}
    with context.entered():
        stablehlo, names = driver().to_stablehlo(program.module)
        lowered = lower(stablehlo, GpuOptions(folder=folder))
        given = [*arguments, *program.constants]
        held = [np.array(variables[name]) for name in names]
        for _ in range(steps):
            found = simulate(lowered, [*given, *held])
            wanted = np.asarray(step(*arguments))
            np.testing.assert_allclose(found[0], wanted, error, error)
            for result, argument in lowered.aliases.items():
                held[argument - len(given)] = found[result]
        for name, value in zip(names, held, strict=True):
            np.testing.assert_allclose(value, np.asarray(variables[name]), error, error, err_msg=name)
    return lowered


def _mlp(rng: np.random.Generator) -> Any:
    layers = tw.nn.Sequential(tw.nn.Dense(12, 20, rng, activation=tw.tanh), tw.nn.Dense(20, 5, rng))
    return layers, numbers(9, 12), np.arange(9, dtype=np.int32) % 5


def _convnet(rng: np.random.Generator) -> Any:
    def block(x: tw.Tensor) -> tw.Tensor:
        return x + second(tw.nn.relu(norm(first(x), training=True)))

    def pool(x: tw.Tensor) -> tw.Tensor:
        return tw.nn.max_pool(x, 3, stride=2, padding="same")

    start = tw.nn.Conv(3, 4, 3, rng, stride=2, name="start")
    first, second = (tw.nn.Conv(4, 4, 3, rng, name=name) for name in ("first", "second"))
    norm = tw.nn.BatchNorm(4)
    dense = tw.nn.Dense(4, 5, rng)

    class Network(tw.nn.Module):
        def __init__(self) -> None:
            self.layers = [start, first, second, norm, dense]

        def __call__(self, x: Any, *, training: bool = False) -> tw.Tensor:
            return dense(tw.mean(block(pool(start(x))), axis=(1, 2)))

    return Network(), numbers(3, 12, 10, 3), np.arange(3, dtype=np.int32)


def _lstm(rng: np.random.Generator) -> Any:
    lstm, dense = tw.nn.LSTM(6, 8, rng), tw.nn.Dense(8, 5, rng)

    class Network(tw.nn.Module):
        def __init__(self) -> None:
            self.layers = [lstm, dense]

        def __call__(self, x: Any, *, training: bool = False) -> tw.Tensor:
            return dense(lstm(x)[:, -1])

    return Network(), numbers(3, 7, 6), np.arange(3, dtype=np.int32)


def _transformer(rng: np.random.Generator) -> Any:
    embedding, place = tw.nn.Embedding(11, 16, rng), tw.nn.Embedding(20, 16, rng, name="place")
    before, after = tw.nn.LayerNorm(16, name="before"), tw.nn.LayerNorm(16, name="after")
    attention = tw.nn.MultiHeadAttention(16, 2, rng, causal=True)
    wide, narrow = tw.nn.Dense(16, 32, rng, activation=tw.nn.gelu, name="wide"), tw.nn.Dense(32, 16, rng, name="narrow")

    class Network(tw.nn.Module):
        def __init__(self) -> None:
            self.layers = [embedding, place, before, after, attention, wide, narrow]

        def __call__(self, tokens: Any, *, training: bool = False) -> tw.Tensor:
            x = embedding(tokens) + place(np.arange(20, dtype=np.int32))
            x = x + attention(before(x))
            x = x + narrow(wide(after(x)))
            return tw.reshape(x @ tw.matrix_transpose(embedding.table), (-1, 11))

    tokens = rng.integers(0, 11, (2, 21)).astype(np.int32)
    return Network(), tokens[:, :-1], tokens[:, 1:].reshape(-1)


MODELS = {"mlp": _mlp, "convnet": _convnet, "lstm": _lstm, "transformer": _transformer}
# Adam would divide gradients that are 0 but for rounding (of biases that a normalisation takes away) by their size.
OPTIMIZERS = {"mlp": lambda: tw.optim.Adam(1e-2), "lstm": lambda: tw.optim.SGD(0.1)}


@pytest.mark.parametrize("name", MODELS)
def test_training_step(name: str, tmp_path: Path) -> None:
    model, inputs, labels = MODELS[name](np.random.default_rng(0))

    def loss(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
        return tw.mean(tw.nn.softmax_cross_entropy(model(x, training=True), y))

    optimizer = OPTIMIZERS.get(name, lambda: tw.optim.Momentum(0.1, 0.9))()
    lowered = check_step(train(loss, model.trainable, optimizer), inputs, labels, folder=tmp_path)
    assert lowered.aliases, "variables are updated in place"
