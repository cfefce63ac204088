"""Random programs against NumPy: whatever fusion, planning and code generation make of them, the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import Array, normal, run

SHAPES = [(4, 6), (6, 4), (24,), (4, 1), (6,), (4,), (2, 3, 4), (17, 19), (19,), (17,)]


class Program:
    """StableHLO text and its meaning, grown op by op."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.values: list[tuple[str, Array]] = []
        self.inputs: list[Array] = []
        for k in range(int(self.random.integers(1, 4))):
            shape = SHAPES[self.random.integers(len(SHAPES))]
            self.inputs.append(normal(*shape, seed=seed + k))
            self.values.append((f"%a{k}", self.inputs[-1]))

    def pick(self) -> tuple[str, Array]:
        """A value, preferably a late one."""
        back = min(int(self.random.geometric(0.25)), len(self.values))
        return self.values[-back]

    def add(self, text: str, value: Array, kind: str = "") -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = {text}{kind or f' : {kind_of(value)}'}")
        self.values.append((name, value.astype(np.float32)))
        return name

    def grow(self) -> None:
        steps = [self.unary, self.binary, self.transpose, self.reshape, self.broadcast, self.reduce, self.slice]
        steps += [self.pad, self.concatenate, self.update, self.reverse, self.select, self.product]
        steps[self.random.integers(len(steps))]()

    def unary(self) -> None:
        name, x = self.pick()
        op, function = [("tanh", np.tanh), ("negate", np.negative), ("cosine", np.cos), ("abs", np.abs)][
            self.random.integers(4)
        ]
        self.add(f"stablehlo.{op} {name}", function(x))

    def binary(self) -> None:
        name, x = self.pick()
        others = [(n, v) for n, v in self.values if v.shape == x.shape]
        other, y = others[self.random.integers(len(others))]
        ops = [("add", np.add), ("subtract", np.subtract), ("maximum", np.maximum), ("multiply", np.multiply)]
        op, function = ops[self.random.integers(4)]
        scaled = self.add(f"stablehlo.tanh {other}", np.tanh(y)) if op == "multiply" else other
        self.add(f"stablehlo.{op} {name}, {scaled}", function(x, np.tanh(y) if op == "multiply" else y))

    def transpose(self) -> None:
        name, x = self.pick()
        dims = self.random.permutation(x.ndim)
        y = x.transpose(dims)
        self.add(f"stablehlo.transpose {name}, dims = {dims.tolist()}", y, f" : ({kind_of(x)}) -> {kind_of(y)}")

    def reshape(self) -> None:
        name, x = self.pick()
        shapes = [s for s in SHAPES if np.prod(s) == x.size]
        if shapes:
            y = x.reshape(shapes[self.random.integers(len(shapes))])
            self.add(f"stablehlo.reshape {name}", y, f" : ({kind_of(x)}) -> {kind_of(y)}")

    def broadcast(self) -> None:
        name, x = self.pick()
        if x.ndim == 1 and x.size < 24:
            extent = int(self.random.integers(2, 7))
            along = int(self.random.integers(2))
            y = np.repeat(np.expand_dims(x, 1 - along), extent, 1 - along)
            self.add(f"stablehlo.broadcast_in_dim {name}, dims = [{along}]", y, f" : ({kind_of(x)}) -> {kind_of(y)}")

    def reduce(self) -> None:
        name, x = self.pick()
        if not x.ndim:
            return
        count = int(self.random.integers(1, x.ndim + 1))
        dims = sorted(self.random.choice(x.ndim, count, replace=False).tolist())
        op, start, function = [("add", "0.0", np.sum), ("maximum", "0xFF800000", np.max)][self.random.integers(2)]
        y = np.asarray(function(x, axis=tuple(dims)))
        self.lines.append(f"%init{len(self.lines)} = stablehlo.constant dense<{start}> : tensor<f32>")
        reduce = f"stablehlo.reduce({name} init: %init{len(self.lines) - 1}) applies stablehlo.{op}"
        self.add(f"{reduce} across dimensions = {dims}", y, f" : ({kind_of(x)}, tensor<f32>) -> {kind_of(y)}")

    def slice(self) -> None:
        name, x = self.pick()
        if not x.ndim:
            return
        starts = [int(self.random.integers(0, n)) for n in x.shape]
        ends = [int(self.random.integers(s + 1, n + 1)) for s, n in zip(starts, x.shape, strict=True)]
        steps = [int(self.random.integers(1, 3)) for _ in x.shape]
        y = x[tuple(slice(*r) for r in zip(starts, ends, steps, strict=True))]
        ranges = ", ".join(f"{a}:{b}:{c}" for a, b, c in zip(starts, ends, steps, strict=True))
        self.add(f"stablehlo.slice {name} [{ranges}]", y, f" : ({kind_of(x)}) -> {kind_of(y)}")

    def pad(self) -> None:
        name, x = self.pick()
        if x.size > 200 or not x.ndim:
            return
        low, high = ([int(self.random.integers(0, 3)) for _ in x.shape] for _ in range(2))
        y = np.pad(x, list(zip(low, high, strict=True)), constant_values=1.5)
        self.lines.append(f"%fill{len(self.lines)} = stablehlo.constant dense<1.5> : tensor<f32>")
        amounts = f"low = {low}, high = {high}, interior = {[0] * x.ndim}"
        kind = f" : ({kind_of(x)}, tensor<f32>) -> {kind_of(y)}"
        self.add(f"stablehlo.pad {name}, %fill{len(self.lines) - 1}, {amounts}", y, kind)

    def concatenate(self) -> None:
        name, x = self.pick()
        others = [(n, v) for n, v in self.values if v.shape == x.shape]
        if x.ndim and x.size < 200:
            other, z = others[self.random.integers(len(others))]
            dim = int(self.random.integers(x.ndim))
            y = np.concatenate([x, z], dim)
            kind = f" : ({kind_of(x)}, {kind_of(z)}) -> {kind_of(y)}"
            self.add(f"stablehlo.concatenate {name}, {other}, dim = {dim}", y, kind)

    def update(self) -> None:
        """The first half of a value over a row of itself or another."""
        name, x = self.pick()
        if x.ndim != 2 or x.shape[0] < 2:
            return
        row = int(self.random.integers(x.shape[0]))
        piece = x[:1] * 1
        source = f"stablehlo.slice {name} [0:1, 0:{x.shape[1]}]"
        self.add(source, piece, f" : ({kind_of(x)}) -> {kind_of(piece)}")
        piece_name = self.values[-1][0]
        index = [f"%i{len(self.lines)}", f"%j{len(self.lines)}"]
        self.lines.append(f"{index[0]} = stablehlo.constant dense<{row}> : tensor<i32>")
        self.lines.append(f"{index[1]} = stablehlo.constant dense<0> : tensor<i32>")
        y = x.copy()
        y[row] = piece[0]
        kind = f" : ({kind_of(x)}, {kind_of(piece)}, tensor<i32>, tensor<i32>) -> {kind_of(y)}"
        self.add(f"stablehlo.dynamic_update_slice {name}, {piece_name}, {index[0]}, {index[1]}", y, kind)

    def reverse(self) -> None:
        name, x = self.pick()
        if x.ndim:
            dim = int(self.random.integers(x.ndim))
            self.add(f"stablehlo.reverse {name}, dims = [{dim}]", np.flip(x, dim))

    def select(self) -> None:
        name, x = self.pick()
        others = [(n, v) for n, v in self.values if v.shape == x.shape]
        other, y = others[self.random.integers(len(others))]
        mask = f"%m{len(self.lines)}"
        bools = kind_of(x).replace("f32", "i1")
        self.lines.append(f"{mask} = stablehlo.compare GT, {name}, {other} : ({kind_of(x)}, {kind_of(y)}) -> {bools}")
        self.add(f"stablehlo.select {mask}, {name}, {other}", np.where(x > y, x, y), f" : {bools}, {kind_of(x)}")

    def product(self) -> None:
        name, x = self.pick()
        if x.ndim == 2:
            y = (x @ x.T) / 8
            kind = f" : ({kind_of(x)}, {kind_of(x)}) -> {kind_of(y)}"
            self.lines.append(
                f"%d{len(self.lines)} = stablehlo.dot_general {name}, {name}, contracting_dims = [1] x [1]{kind}"
            )
            self.lines.append(f"%e{len(self.lines)} = stablehlo.constant dense<8.0> : {kind_of(y)}")
            self.add(f"stablehlo.divide %d{len(self.lines) - 2}, %e{len(self.lines) - 1}", y)

    def text(self, outputs: list[tuple[str, Array]]) -> str:
        arguments = ", ".join(f"%a{k}: {kind_of(x)}" for k, x in enumerate(self.inputs))
        kinds = ", ".join(kind_of(value) for _, value in outputs)
        names = ", ".join(name for name, _ in outputs)
        body = "\n  ".join(self.lines)
        return f"func.func @main({arguments}) -> ({kinds}) {{\n  {body}\n  return {names} : {kinds}\n}}"


def kind_of(value: Array) -> str:
    return f"tensor<{''.join(f'{n}x' for n in value.shape)}f32>"


@pytest.mark.parametrize("seed", range(40))
def test_random_program(seed: int) -> None:
    program = Program(seed)
    for _ in range(int(program.random.integers(5, 30))):
        program.grow()
    count = min(len(program.values), 3)
    chosen = program.random.choice(len(program.values), count, replace=False)
    outputs = [program.values[-1], *(program.values[k] for k in chosen)]
    found = run(program.text(outputs), *program.inputs)
    for (name, expected), result in zip(outputs, found, strict=True):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(result / scale, expected / scale, atol=3e-5, err_msg=f"seed {seed}: {name}")
