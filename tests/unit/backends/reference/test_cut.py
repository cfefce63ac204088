"""Programs cut out of a program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.reference import run
from thalweg.backends.reference.cut import before, feeding, isolate, probed
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import compact
from thalweg.dialects.verify import parse, verify

F = "tensor<3xf32>"
PROGRAM = f"""
func.func @main(%x: {F} {{tw.alias = 0 : i64}}, %p: tensor<i1>) -> {F} {{
  %0 = "tw.exp"(%x) : ({F}) -> {F}
  %1 = "tw.neg"(%0) : ({F}) -> {F}
  %2 = "tw.cond"(%p) ({{
    %i = "tw.mul"(%1, %0) : ({F}, {F}) -> {F}
    "tw.yield"(%i) : ({F}) -> ()
  }}, {{
    "tw.yield"(%x) : ({F}) -> ()
  }}) : (tensor<i1>) -> {F}
  %3 = "tw.add"(%2, %x) : ({F}, {F}) -> {F}
  return %3 : {F}
}}
"""
X = np.float32([0, 1, 2])


@pytest.fixture
def program() -> Iterator[ir.Module]:
    with context.entered():
        yield parse(PROGRAM)


def head(module: ir.Module) -> str:
    verify(module)
    return compact(module).splitlines()[0].partition("  #")[0].rstrip()


def test_before_returns_what_is_live_at_the_cut(program: ir.Module) -> None:
    assert head(before(program, 2)).endswith("-> (f32[3], f32[3]):"), "both are captured by the branches of the cond"
    assert head(before(program, 3)).endswith("-> f32[3]:")
    assert head(before(program, 0)).endswith("-> ():")


def test_feeding_returns_what_the_op_uses_captures_included(program: ir.Module) -> None:
    found = run(feeding(program, 2), [X, np.array(True)])
    assert [a.tolist() for a in found[:1]] == [True]
    assert len(found) == 4


def test_isolate_makes_a_program_of_one_op(program: ir.Module) -> None:
    alone = isolate(program, 3)
    assert head(alone) == "func main(%arg0: f32[3], %arg1: f32[3]) -> f32[3]:"
    assert run(alone, [X, X])[0].tolist() == [0, 2, 4]
    assert head(isolate(program, 2)).startswith("func main(%arg0: bool[], %arg1: f32[3], %arg2: f32[3], %arg3: f32[3])")


def test_probed_returns_every_intermediate_then_the_results(program: ir.Module) -> None:
    *values, result = run(probed(program), [X, np.array(False)])
    assert len(values) == 4
    assert values[1].tolist() == (-np.exp(X)).tolist()
    assert result.tolist() == values[3].tolist() == [0, 2, 4]


def test_the_program_is_left_alone(program: ir.Module) -> None:
    text = str(program)
    for number in range(4):
        before(program, number), feeding(program, number), isolate(program, number), probed(program)
    assert str(program) == text
