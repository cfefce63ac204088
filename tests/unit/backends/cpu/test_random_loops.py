"""Random loop bodies and variable updates against NumPy: what may be written in place, and what has to be copied."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cpu_programs import Array, normal, run

KIND = "tensor<5x5xf32>"
CARRIED = 3

OPS: list[tuple[str, Callable[[Array, Array], Array]]] = [
    ("stablehlo.add {0}, {1} : K", lambda x, y: x + y),
    ("stablehlo.maximum {0}, {1} : K", np.maximum),
    ("stablehlo.tanh {0} : K", lambda x, y: np.tanh(x)),
    ("stablehlo.negate {0} : K", lambda x, y: -x),
    ("stablehlo.transpose {0}, dims = [1, 0] : (K) -> K", lambda x, y: x.T),
    ("stablehlo.reverse {0}, dims = [0] : K", lambda x, y: x[::-1]),
    ("stablehlo.dot_general {0}, {1}, contracting_dims = [1] x [0] : (K, K) -> K", lambda x, y: x @ y),
]


def body(random: np.random.Generator, names: list[str]) -> tuple[list[str], list[int], list[tuple[int, int, int]]]:
    """Lines, the positions that are returned, and the recipe: (op, first, second operand) as positions."""
    lines: list[str] = []
    recipe: list[tuple[int, int, int]] = []
    for _ in range(int(random.integers(1, 7))):
        op, a, b = int(random.integers(len(OPS))), *map(int, random.integers(0, len(names), 2))
        lines.append(f"%v{len(lines)} = {OPS[op][0].format(names[a], names[b]).replace('K', KIND)}")
        names.append(f"%v{len(lines) - 1}")
        recipe.append((op, a, b))
    # Products are bounded, or the numbers explode: everything that is returned passes through tanh.
    returned = []
    for position in map(int, random.integers(0, len(names), CARRIED)):
        if position >= CARRIED and random.integers(2):
            lines.append(f"%v{len(lines)} = stablehlo.tanh {names[position]} : {KIND}")
            names.append(f"%v{len(lines) - 1}")
            recipe.append((2, position, position))
            position = len(names) - 1
        returned.append(position)
    return lines, returned, recipe


def evaluate(values: list[Array], recipe: list[tuple[int, int, int]], returned: list[int]) -> list[Array]:
    values = list(values)
    for op, a, b in recipe:
        values.append(OPS[op][1](values[a], values[b]).astype(np.float32))
    return [values[position] for position in returned]


def check(found: list[Array], expected: list[Array], seed: int) -> None:
    for result, wanted in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(result / scale, wanted / scale, atol=1e-4, err_msg=f"seed {seed}")


@pytest.mark.parametrize("seed", range(25))
def test_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    lines, returned, recipe = body(random, ["%c0", "%c1", "%c2"])
    values = ["%c0", "%c1", "%c2", *(f"%v{k}" for k in range(len(recipe)))]
    inputs = [normal(5, 5, seed=seed + k) / 3 for k in range(CARRIED)]
    starts = [int(k) for k in random.integers(0, CARRIED, CARRIED)]
    kinds = ", ".join(["tensor<i32>", *[KIND] * CARRIED])
    carried = ", ".join(["%i = %zero", *(f"%c{k} = %a{start}" for k, start in enumerate(starts))])
    text = f"""func.func @main(%a0: {KIND}, %a1: {KIND}, %a2: {KIND}) -> ({KIND}, {KIND}, {KIND}) {{
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %count = stablehlo.constant dense<3> : tensor<i32>
  %w:4 = stablehlo.while({carried}) : {kinds}
  cond {{
    %go = stablehlo.compare LT, %i, %count : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %go : tensor<i1>
  }} do {{
    %next = stablehlo.add %i, %one : tensor<i32>
    {chr(10).join(lines)}
    stablehlo.return %next, {", ".join(values[p] for p in returned)} : {kinds}
  }}
  return %w#1, %w#2, %w#3 : {KIND}, {KIND}, {KIND}
}}"""
    state = [inputs[start] for start in starts]
    for _ in range(3):
        state = evaluate(state, recipe, returned)
    check(run(text, *inputs), state, seed)


@pytest.mark.parametrize("seed", range(25))
def test_variables(seed: int) -> None:
    """All three arguments are variables; any value may be the new value of any of them."""
    random = np.random.default_rng(1000 + seed)
    lines, returned, recipe = body(random, ["%c0", "%c1", "%c2"])
    values = ["%c0", "%c1", "%c2", *(f"%v{k}" for k in range(len(recipe)))]
    order = [int(k) for k in random.permutation(CARRIED)]  # argument k is updated by result order[k]
    arguments = ", ".join(f"%c{k}: {KIND} {{tw.alias = {result} : i64}}" for k, result in enumerate(order))
    text = f"""func.func @main({arguments}) -> ({KIND}, {KIND}, {KIND}) {{
  {chr(10).join(lines)}
  return {", ".join(values[p] for p in returned)} : {KIND}, {KIND}, {KIND}
}}"""
    variables = [normal(5, 5, seed=seed + k) / 3 for k in range(CARRIED)]
    expected = evaluate([v.copy() for v in variables], recipe, returned)
    found = run(text, *variables)
    check(found, expected, seed)
    for argument, result in enumerate(order):
        assert found[result] is variables[argument]
