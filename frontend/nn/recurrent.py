"""Recurrent layers: a step function, run over time by `tw.scan`, so that a program's size does not grow with time."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.frontend import array as xp
from thalweg.frontend import initializers
from thalweg.frontend.control import scan
from thalweg.frontend.initializers import Initializer
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.variable import Variable


class Recurrent(Module):
    """Base of LSTM and GRU: float[batch, time, inputs] -> float[batch, time, units].

    `unroll` also takes and gives the state, for text that goes on from one batch to the next.
    """

    gates: int  # blocks of `units` columns that each step computes

    def __init__(
        self,
        inputs: int,
        units: int,
        rng: np.random.Generator,
        *,
        init: Initializer = initializers.glorot_uniform,
        recurrent_init: Initializer | None = None,
        name: str = "",
    ) -> None:
        name = name or type(self).__name__.lower()
        recurrent_init = recurrent_init or initializers.orthogonal()
        blocks = [recurrent_init((units, units), rng) for _ in range(self.gates)]
        self.units = units
        self.weight = Variable(init((inputs, self.gates * units), rng), name=f"{name}/weight")
        self.recurrent = Variable(np.concatenate(blocks, axis=1), name=f"{name}/recurrent")
        self.bias = Variable(self._initial_bias(units), name=f"{name}/bias")

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        return self.unroll(x)[0]

    def unroll(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """The outputs at all times, float[batch, time, units], and the state after the last.

        Args:
            x: float[batch, time, inputs].
            state: as `initial_state` makes it, or what an earlier call returned; None starts from zero.
        """
        x = xp.asarray(x)
        state = self.initial_state(x.shape[0]) if state is None else state
        # The inputs' part of all steps in one multiplication; only the recurrent part has to wait for its turn.
        projected = xp.matmul(x, self.weight) + self.bias
        recurrent = xp.asarray(self.recurrent)
        last, outputs = scan(
            lambda carry, row: self.step(row, carry, recurrent), state, xp.permute_dims(projected, (1, 0, 2))
        )
        return xp.permute_dims(outputs, (1, 0, 2)), last

    def initial_state(self, batch: int) -> Any:
        """A state of zeros."""
        raise NotImplementedError

    def step(self, projected: Tensor, state: Any, recurrent: Any) -> tuple[Any, Tensor]:
        """From x @ weight + bias, float[batch, gates * units], and a state to the next state and an output."""
        raise NotImplementedError

    def _initial_bias(self, units: int) -> Any:
        return initializers.zeros((self.gates * units,))

    def _blocks(self, x: Tensor) -> list[Tensor]:
        return [x[:, i * self.units : (i + 1) * self.units] for i in range(self.gates)]

    def describe(self) -> str:
        return f"{self.weight.shape[0]} -> {self.units}"


class LSTM(Recurrent):
    """Long short-term memory; the state is `(output, cell)`. Gates in the order input, forget, cell, output.

        i, f, o = sigmoid(…), g = tanh(…);  c' = f * c + i * g;  h' = o * tanh(c')

    The forget gate's bias starts at one, so that a fresh network remembers (Jozefowicz et al. 2015).
    Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).
    """

    gates = 4

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        zeros = xp.zeros((batch, self.units), dtype=self.weight.dtype)
        return zeros, zeros

    def step(self, projected: Tensor, state: Any, recurrent: Any) -> tuple[Any, Tensor]:
        output, cell = state
        i, f, g, o = self._blocks(projected + xp.matmul(output, recurrent))
        cell = xp.sigmoid(f) * cell + xp.sigmoid(i) * xp.tanh(g)
        output = xp.sigmoid(o) * xp.tanh(cell)
        return (output, cell), output

    def _initial_bias(self, units: int) -> Any:
        bias = initializers.zeros((4 * units,))
        bias[units : 2 * units] = 1.0
        return bias


class GRU(Recurrent):
    """Gated recurrent unit; the state is the output. Gates in the order reset, update, new.

        r, z = sigmoid(…);  n = tanh(x W + b + r * (h U + b'));  h' = (1 - z) * n + z * h

    The reset gate acts after the recurrent multiplication, as in cuDNN and PyTorch, so that a step needs one of them.
    Cho et al. (2014).
    """

    gates = 3

    def __init__(self, inputs: int, units: int, rng: np.random.Generator, **options: Any) -> None:
        super().__init__(inputs, units, rng, **options)
        name = options.get("name") or "gru"
        self.new_bias = Variable(initializers.zeros((units,)), name=f"{name}/new_bias")

    def initial_state(self, batch: int) -> Tensor:
        return xp.zeros((batch, self.units), dtype=self.weight.dtype)

    def step(self, projected: Tensor, state: Any, recurrent: Any) -> tuple[Any, Tensor]:
        r, z, n = self._blocks(projected)
        hr, hz, hn = self._blocks(xp.matmul(state, recurrent))
        reset, update = xp.sigmoid(r + hr), xp.sigmoid(z + hz)
        new = xp.tanh(n + reset * (hn + self.new_bias))
        output = (1 - update) * new + update * state
        return output, output
