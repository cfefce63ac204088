"""Shadow runs: statistics of values, and the op that made the first NaN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.reference.shadow import Summary, first_nan, nan_origins, trace_values, values_where
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def module(body: str, inputs: str, outputs: str) -> ir.Module:
    return parse(f"func.func @main({inputs}) -> ({outputs}) {{ {body} }}")


F = "tensor<3xf32>"


def unary(name: str, operand: str, line: int) -> str:
    return f'"tw.{name}"({operand}) : ({F}) -> {F} loc("loss"("model.py":{line}:0))\n'


def test_summary_tells_finite_range_and_oddities() -> None:
    assert str(Summary.of(np.float32([1, 2]))) == "f32[2] in [1, 2]"
    assert str(Summary.of(np.float32([1, np.nan, np.inf]))) == "f32[3] in [1, 1], 1 NaN and 1 infinite"
    assert str(Summary.of(np.float32([np.nan]))) == "f32[1] without finite elements, 1 NaN"
    assert str(Summary.of(np.zeros((0,), np.int32))) == "i32[0] without finite elements"


def test_trace_merges_executions_of_a_loop() -> None:
    program = module(
        """%0 = "tw.while"(%x) ({
            ^bb0(%v: tensor<i32>):
              %c = "tw.less"(%v, %bound) : (tensor<i32>, tensor<i32>) -> tensor<i1>
              "tw.yield"(%c) : (tensor<i1>) -> ()
            }, {
            ^bb0(%v: tensor<i32>):
              %d = "tw.add"(%v, %v) : (tensor<i32>, tensor<i32>) -> tensor<i32>
              "tw.yield"(%d) : (tensor<i32>) -> ()
            }) : (tensor<i32>) -> tensor<i32>
            return %0 : tensor<i32>""",
        "%x: tensor<i32>, %bound: tensor<i32>", "tensor<i32>",
    )
    records = {r.operation.name: r for r in trace_values(program, [np.int32(3), np.int32(20)])}
    assert records["tw.less"].executions == 4
    add = records["tw.add"]
    assert (add.executions, add.results[0].minimum, add.results[0].maximum) == (3, 6, 24)
    kept = values_where(program, [np.int32(3), np.int32(20)], lambda op: op.name == "tw.add")
    assert [int(values[0]) for _, values in kept] == [6, 12, 24]


def test_the_first_nan_names_op_line_and_operands() -> None:
    program = module(
        f"%0 = {unary('neg', '%x', 6)} %1 = {unary('log', '%0', 7)} %2 = {unary('exp', '%1', 8)} return %2 : {F}",
        f"%x: {F}", F,
    )
    found = first_nan(program, [np.float32([-1, 1, 2])])
    assert str(found) == (
        "model.py:7: in loss(): log made the first NaN: 2 of the 3 elements of f32[3] "
        "from neg at model.py:6 (f32[3] in [-2, 1])."
    )
    assert first_nan(program, [np.float32([-1, -1, -2])]) is None


def test_a_nan_that_select_masks_is_an_origin_but_not_the_first() -> None:
    program = module(
        f"""%bad = {unary('log', '%x', 3)}
            %zero = "tw.sub"(%x, %x) : ({F}, {F}) -> {F}
            %p = "tw.greater"(%x, %zero) : ({F}, {F}) -> tensor<3xi1>
            %0 = "tw.select"(%p, %bad, %zero) : (tensor<3xi1>, {F}, {F}) -> {F}
            %1 = {unary('sqrt', '%x', 9)}
            return %0, %1 : {F}, {F}""",
        f"%x: {F}", f"{F}, {F}",
    )
    found = first_nan(program, [np.float32([-1, 1, 2])])
    assert found is not None
    assert found.what == "sqrt"
    origins = nan_origins(program, [np.float32([-1, 1, 2])])
    assert [(o.what, o.reaches_result) for o in origins] == [("log", False), ("sqrt", True)]


def test_nan_in_an_input_is_told_as_such() -> None:
    program = module(f"%0 = {unary('exp', '%x', 3)} return %0 : {F}", f"%x: {F}", F)
    found = first_nan(program, [np.float32([np.nan, 1, 2])])
    assert str(found) == "input 0 holds NaN from the start: 1 of the 3 elements of f32[3]."


def test_nan_is_followed_through_a_loop() -> None:
    program = module(
        f"""%0:2 = "tw.scan"(%init, %x) ({{
            ^bb0(%c: tensor<f32>, %row: tensor<f32>):
              %s = "tw.sub"(%c, %row) : (tensor<f32>, tensor<f32>) -> tensor<f32>
              %l = "tw.sqrt"(%s) : (tensor<f32>) -> tensor<f32> loc("model.py":5:0)
              "tw.yield"(%l, %l) : (tensor<f32>, tensor<f32>) -> ()
            }}) {{carried = 1 : i64, length = 3 : i64, reverse = false}} : (tensor<f32>, {F}) -> (tensor<f32>, {F})
            return %0#1 : {F}""",
        f"%init: tensor<f32>, %x: {F}", F,
    )
    found = first_nan(program, [np.float32(9), np.float32([0, 5, 1])])
    assert found is not None
    assert (found.what, found.execution) == ("sqrt", 2)
    assert "model.py:5: sqrt made the first NaN (in its execution 2)" in str(found)
    found = first_nan(program, [np.float32(9), np.float32([0, np.nan, 1])])
    assert found is not None
    assert found.what == "input 1"


VARIABLE = f'%v = "tw.variable_handle"() {{name = "w", shape = array<i64: 3>, dtype = f32}} : () -> !tw.variable<{F}>\n'


def assign(op: str, value: str) -> str:
    return f'"tw.{op}"(%v, {value}) : (!tw.variable<{F}>, {F}) -> () loc("model.py":8:0)\n'


def test_nan_in_a_variable() -> None:
    program = module(
        VARIABLE + f"%0 = {unary('log', '%x', 4)} {assign('assign', '%0')} return", f"%x: {F}", ""
    )
    variables = {"w": np.ones(3, np.float32)}
    found = first_nan(program, [np.float32([-1, 1, 1])], variables)
    assert found is not None
    assert found.what == "log"
    assert variables["w"].tolist() == [1, 1, 1], "a shadow run leaves the variables alone"


def test_nan_made_by_the_update_itself_and_nan_from_before() -> None:
    program = module(
        VARIABLE + assign("assign_sub", "%x") + f'%0 = "tw.read"(%v) : (!tw.variable<{F}>) -> {F}\n return %0 : {F}',
        f"%x: {F}", F,
    )
    infinite = np.float32([np.inf, 1, 1])
    assert str(first_nan(program, [infinite], {"w": infinite})).startswith(
        "model.py:8: the update of variable 'w' made the first NaN: 1 of the 3 elements"
    )
    assert str(first_nan(program, [infinite], {"w": np.float32([np.nan, 1, 1])})).startswith(
        "variable 'w' holds NaN from the start"
    )
