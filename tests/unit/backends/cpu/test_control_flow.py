"""While, if and case: nested, capturing, with values carried in place."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import main, normal, run, step_of

I32 = "tensor<i32>"


def loop(carried: list[str], body: str, returned: list[str], count: int = 5, results: int = 1) -> str:
    """`count` iterations over the carried tensors of shape 4x8 (%1, …), with the counter %i in the body."""
    kinds = ", ".join([I32, *["tensor<4x8xf32>"] * len(carried)])
    starts = ", ".join(["%i = %zero", *(f"%c{k} = {start}" for k, start in enumerate(carried))])
    return main(
        ["4x8xf32"] * len(carried),
        ["4x8xf32"] * results,
        f"""
  %zero = stablehlo.constant dense<0> : {I32}
  %count = stablehlo.constant dense<{count}> : {I32}
  %one = stablehlo.constant dense<1> : {I32}
  %w:{len(carried) + 1} = stablehlo.while({starts}) : {kinds}
  cond {{
    %go = stablehlo.compare LT, %i, %count : ({I32}, {I32}) -> tensor<i1>
    stablehlo.return %go : tensor<i1>
  }} do {{
    %next = stablehlo.add %i, %one : {I32}
    {body}
    stablehlo.return {", ".join(["%next", *returned])} : {kinds}
  }}
  return {", ".join(f"%w#{k + 1}" for k in range(results))} : {", ".join(["tensor<4x8xf32>"] * results)}""",
    )


def test_a_loop_updates_in_place() -> None:
    text = loop(["%0"], "%r = stablehlo.add %c0, %c0 : tensor<4x8xf32>", ["%r"])
    x = normal(4, 8)
    np.testing.assert_array_equal(run(text, x)[0], x * 32)
    inside = step_of(text).partition(" do ")[2] or step_of(text).partition("\ndo {")[2]
    assert "memref.copy" not in inside


def test_no_iterations() -> None:
    text = loop(["%0"], "%r = stablehlo.add %c0, %c0 : tensor<4x8xf32>", ["%r"], count=0)
    x = normal(4, 8)
    np.testing.assert_array_equal(run(text, x)[0], x)


@pytest.mark.parametrize("count", [2, 3])
def test_values_that_change_places(count: int) -> None:
    text = loop(["%0", "%1"], "", ["%c1", "%c0"], count=count, results=2)
    x, y = normal(4, 8), normal(4, 8, seed=1)
    first, second = run(text, x, y)
    expected = (x, y) if count % 2 == 0 else (y, x)
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(second, expected[1])


def test_fibonacci_reads_old_values() -> None:
    text = loop(["%0", "%1"], "%s = stablehlo.add %c0, %c1 : tensor<4x8xf32>", ["%c1", "%s"], results=2)
    x, y = normal(4, 8), normal(4, 8, seed=1)
    a, b = x, y
    for _ in range(5):
        a, b = b, a + b
    for found, expected in zip(run(text, x, y), (a, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_transposed_read_is_not_overwritten() -> None:
    """The next value reads the old one at other places: not in place."""
    text = loop(["%0"], "%r = stablehlo.reverse %c0, dims = [1] : tensor<4x8xf32>", ["%r"], count=3)
    x = normal(4, 8)
    np.testing.assert_array_equal(run(text, x)[0], x[:, ::-1])


def test_rows_are_inserted_in_place() -> None:
    body = """
    %row = stablehlo.dynamic_slice %c0, %i, %zero, sizes = [1, 8] : (tensor<4x8xf32>, tensor<i32>, tensor<i32>) ->
    tensor<1x8xf32> %twice = stablehlo.add %row, %row : tensor<1x8xf32>
    %r = stablehlo.dynamic_update_slice %c0, %twice, %next, %zero
      : (tensor<4x8xf32>, tensor<1x8xf32>, tensor<i32>, tensor<i32>) -> tensor<4x8xf32>"""
    text = loop(["%0"], body, ["%r"], count=3)
    x = normal(4, 8)
    expected = x.copy()
    for k in range(3):
        expected[k + 1] = 2 * expected[k]
    np.testing.assert_array_equal(run(text, x)[0], expected)


def test_branches_and_captured_values() -> None:
    text = main(
        ["4x8xf32", "i32"],
        ["4x8xf32"],
        """
  %t = stablehlo.tanh %0 : tensor<4x8xf32>
  %r = "stablehlo.case"(%1) ({
    stablehlo.return %0 : tensor<4x8xf32>
  }, {
    %a = stablehlo.add %t, %0 : tensor<4x8xf32>
    stablehlo.return %a : tensor<4x8xf32>
  }, {
    %b = stablehlo.negate %t : tensor<4x8xf32>
    stablehlo.return %b : tensor<4x8xf32>
  }) : (tensor<i32>) -> tensor<4x8xf32>
  return %r : tensor<4x8xf32>""",
    )
    x = normal(4, 8)
    arms = [x, np.tanh(x) + x, -np.tanh(x)]
    for index, expected in [(0, arms[0]), (1, arms[1]), (2, arms[2]), (7, arms[2]), (-1, arms[2])]:
        np.testing.assert_allclose(run(text, x, np.array(index, np.int32))[0], expected, rtol=1e-5)


def test_a_branch_inside_a_loop_keeps_a_variable() -> None:
    """A variable updated by a conditional step, in the caller's array."""
    text = """func.func @main(%v: tensor<4xf32> {tw.alias = 0 : i64}, %p: tensor<i1>) -> tensor<4xf32> {
  %r = "stablehlo.if"(%p) ({
    %a = stablehlo.add %v, %v : tensor<4xf32>
    stablehlo.return %a : tensor<4xf32>
  }, {
    stablehlo.return %v : tensor<4xf32>
  }) : (tensor<i1>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}"""
    variable = np.ones(4, np.float32)
    for predicate, expected in [(True, 2), (False, 2), (True, 4)]:
        (result,) = run(text, variable, np.array(predicate))
        assert result is variable
        np.testing.assert_array_equal(variable, np.full(4, expected, np.float32))
