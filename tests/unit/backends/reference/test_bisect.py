"""Bisecting: a runner that is wrong on purpose in one op is found out, with the user's line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from thalweg.backends.reference import run
from thalweg.backends.reference.bisect import bisect
from thalweg.backends.reference.interpreter import Array
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse, verify

F = "tensor<3xf32>"
PROGRAM = f"""
func.func @main(%x: {F} {{tw.alias = 0 : i64}}, %p: tensor<i1>) -> {F} {{
  %0 = "tw.exp"(%x) : ({F}) -> {F} loc("loss"("model.py":1:0))
  %1 = "tw.neg"(%0) : ({F}) -> {F} loc("loss"("model.py":2:0))
  %2 = "tw.cond"(%p) ({{
    %i = "tw.mul"(%1, %0) : ({F}, {F}) -> {F}
    "tw.yield"(%i) : ({F}) -> ()
  }}, {{
    "tw.yield"(%x) : ({F}) -> ()
  }}) : (tensor<i1>) -> {F} loc("loss"("model.py":3:0))
  %3 = "tw.tanh"(%2) : ({F}) -> {F} loc("loss"("model.py":4:0))
  %4 = "tw.add"(%3, %x) : ({F}, {F}) -> {F} loc("loss"("model.py":5:0))
  return %4 : {F}
}}
"""
INPUTS = [np.float32([0.5, 1.0, -1.0]), np.array(True)]


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def wrong(name: str, together_with: str = "") -> object:
    """A 'compiler' whose programs compute `name` wrongly (if the program also has the op `together_with`)."""

    def runner(module: ir.Module, inputs: Sequence[Array]) -> list[Array]:
        verify(module)  # every cut must be a proper program
        text = str(module)
        if together_with in text:
            text = text.replace(f'"tw.{name}"', '"tw.abs"')
        return run(parse(text), inputs)

    return runner


@pytest.mark.parametrize(("op", "number"), [("exp", 0), ("neg", 1), ("tanh", 3)])
def test_the_wrong_op_is_found(op: str, number: int) -> None:
    found = bisect(parse(PROGRAM), INPUTS, wrong(op), run)  # type: ignore[arg-type]
    assert found is not None
    assert (found.number, found.count, found.operation.name) == (number, 5, f"tw.{op}")
    assert str(found).startswith(f"model.py:{number + 1}: in loss(): {op} (op {number + 1} of 5): ")
    assert str(found).endswith("It differs by itself, too.")


def test_an_op_that_is_wrong_only_in_company_is_told_as_such() -> None:
    found = bisect(parse(PROGRAM), INPUTS, wrong("tanh", together_with="exp"), run)  # type: ignore[arg-type]
    assert found is not None
    assert found.operation.name == "tw.tanh"
    assert found.alone is None
    assert "together with the ops around it" in str(found)


def test_an_op_wrong_inside_a_region_is_found_as_its_control_op() -> None:
    def runner(module: ir.Module, inputs: Sequence[Array]) -> list[Array]:
        return run(parse(str(module).replace('"tw.mul"', '"tw.max"')), inputs)

    found = bisect(parse(PROGRAM), INPUTS, runner, run)
    assert found is not None
    assert found.operation.name == "tw.cond"
    assert len(found.inputs) == 4, "the predicate, and the three values that the branches capture"


def test_agreement_is_none_and_the_program_is_left_alone() -> None:
    program = parse(PROGRAM)
    before = str(program)
    assert bisect(program, INPUTS, run, run) is None
    bisect(program, INPUTS, wrong("neg"), run)  # type: ignore[arg-type]
    assert str(program) == before
