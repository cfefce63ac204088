"""The writer that places code, index arithmetic, and the reader of scalar bodies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from cpu_programs import compiled, main
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.backends.cpu.emit.indexing import Index, Indexer, matching_groups
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.read import read_function
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir


def test_ops_move_out_of_loops_they_do_not_depend_on() -> None:
    w = ScopedWriter()
    with w.for_(0, 8, 1) as i:
        outside = w.op("arith.addi %lo, %hi : index")
        inside = w.op(f"arith.addi {i}, {outside} : index")
        assert w.op("arith.addi %lo, %hi : index") == outside
    lines = w.text().split("\n")
    loop = next(k for k, line in enumerate(lines) if line.startswith("scf.for"))
    assert next(k for k, line in enumerate(lines) if line.startswith(outside)) < loop
    assert next(k for k, line in enumerate(lines) if line.startswith(inside)) > loop


def test_nothing_moves_out_of_a_branch() -> None:
    w = ScopedWriter()
    with w.branch("%condition"):
        w.op("memref.load %in0[%lo] : memref<4xf32>")
    assert w.text().split("\n")[1].startswith("%t")
    assert w.text().startswith("scf.if")


def test_names_of_a_scope_are_forgotten_at_its_end() -> None:
    w = ScopedWriter()
    with w.for_(0, 2, 1) as i:
        first = w.op(f"arith.addi {i}, %lo : index")
        w.remember("key", first)
        assert w.recall("key") == first
    assert w.recall("key") is None


SHAPE = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@settings(max_examples=100, deadline=None)
@given(SHAPE)
def test_linear_and_delinear_are_inverse(shape: tuple[int, ...]) -> None:
    at = Indexer(ScopedWriter(), 1)
    for position, place in enumerate(itertools.product(*map(range, shape))):
        assert at.linear([Index(p) for p in place], shape) == Index(position)
        assert at.delinear(Index(position), shape) == [Index(p) for p in place]


@pytest.mark.parametrize(
    ("target", "source"),
    [((2, 3, 4), (6, 4)), ((24,), (2, 3, 4)), ((2, 12), (6, 4)), ((1, 5, 1), (5,)), ((), (1, 1)), ((4, 6), (4, 3, 2))],
)
def test_reshaped_places(target: tuple[int, ...], source: tuple[int, ...]) -> None:
    at = Indexer(ScopedWriter(), 1)
    numbers = np.arange(math.prod(source)).reshape(source)
    for place in itertools.product(*map(range, target)):
        there = at.reshape([Index(p) for p in place], target, source)
        assert numbers[tuple(index.base for index in there)] == numbers.reshape(target)[place]


def test_groups_are_as_small_as_they_can_be() -> None:
    assert matching_groups((2, 3, 8), (6, 8)) == [([0, 1], [0]), ([2], [1])]


def kinds(text: str) -> list[str]:
    with context.entered():
        linalg = legalize(ir.Module.parse(text))
        function = linalg.regions[0].blocks[0].operations[0].operation
        return [value.kind for value in read_function(function).values]


def test_dead_values_and_fills_are_not_read() -> None:
    text = main(
        ["4x8xf32"],
        ["4x8xf32"],
        """
  %dead = stablehlo.tanh %0 : tensor<4x8xf32>
  %one = stablehlo.constant dense<1.0> : tensor<f32>
  %ones = stablehlo.broadcast_in_dim %one, dims = [] : (tensor<f32>) -> tensor<4x8xf32>
  %r = stablehlo.add %0, %ones : tensor<4x8xf32>
  return %r : tensor<4x8xf32>""",
    )
    assert kinds(text) == ["constant", "map"]


def test_an_op_without_code_is_named_with_its_place() -> None:
    text = main(
        ["4xf32"],
        ["4xf32"],
        """
  %r = stablehlo.custom_call @nobody_knows(%0) : (tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>""",
    )
    with pytest.raises(LoweringError, match="nobody_knows"):
        compiled(text)


@pytest.mark.parametrize("alias", [1, 7])
def test_wrong_aliases_are_refused(alias: int) -> None:
    text = f"""func.func @main(%x: tensor<4xf32> {{tw.alias = {alias} : i64}}) -> (tensor<4xf32>, tensor<i32>) {{
  %c = stablehlo.constant dense<0> : tensor<i32>
  return %x, %c : tensor<4xf32>, tensor<i32>
}}"""
    with pytest.raises(LoweringError, match=f"tw.alias = {alias}"):
        compiled(text)
