"""A pass that is wrong on purpose is found out by running the program after each pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.reference.bisect_passes import first_wrong_pass
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse, walk
from thalweg.passes.cse import Cse

F = "tensor<3xf32>"
PROGRAM = f"""
func.func @main(%x: {F}) -> {F} {{
  %v = "tw.variable_handle"() {{name = "w", shape = array<i64: 3>, dtype = f32}} : () -> !tw.variable<{F}>
  %0 = "tw.read"(%v) : (!tw.variable<{F}>) -> {F}
  %1 = "tw.exp"(%x) : ({F}) -> {F}
  %2 = "tw.mul"(%1, %0) : ({F}, {F}) -> {F}
  "tw.assign"(%v, %2) : (!tw.variable<{F}>, {F}) -> ()
  return %1 : {F}
}}
"""
X, VARIABLES = np.float32([0.5, 1, 2]), {"w": np.float32([1, 2, 3])}
PIPELINE = "inline,hoist-state,differentiate,cse,functionalize,dce"


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def test_right_passes_with_state_moved_to_arguments() -> None:
    program = parse(PROGRAM)
    before = str(program)
    assert first_wrong_pass(program, PIPELINE, [X], VARIABLES) is None
    assert str(program) == before
    assert VARIABLES["w"].tolist() == [1, 2, 3]


def test_a_wrong_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def swap(self: Cse, module: ir.Module) -> bool:
        product = next(o for o in walk(module.body) if o.name == "tw.mul")
        product.operands[1] = product.operands[0]
        return True

    monkeypatch.setattr(Cse, "run", swap)
    found = first_wrong_pass(parse(PROGRAM), PIPELINE, [X], VARIABLES)
    assert found is not None
    assert (found.pass_.name, found.number) == ("cse", 3)
    assert str(found).startswith("pass 'cse' (4 of 6) changed what the program computes: 3 of the 3 elements of f32[3]")
