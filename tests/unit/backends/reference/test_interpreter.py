"""The reference interpreter: control flow, state, observers and errors (single ops: conformance tests)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.reference import Interpreter, run
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExecutionError
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def module(body: str, inputs: str, outputs: str) -> ir.Module:
    return parse(f"func.func @main({inputs}) -> ({outputs}) {{ {body} }}")


F = "tensor<3xf32>"
X = np.array([1.0, 2.0, 4.0], np.float32)


def test_ops_run_in_order_and_the_observer_sees_each() -> None:
    program = module(
        f"""%0 = "tw.add"(%x, %x) : ({F}, {F}) -> {F}
            %1 = "tw.mul"(%0, %x) : ({F}, {F}) -> {F}
            return %1, %0 : {F}, {F}""",
        f"%x: {F}", f"{F}, {F}",
    )
    seen: list[tuple[str, float, list[float]]] = []
    outputs = run(program, [X], observer=lambda op, xs, ys: seen.append((op.name, xs[0][0], ys[0].tolist())))
    assert [o.tolist() for o in outputs] == [[2, 8, 32], [2, 4, 8]]
    assert seen == [("tw.add", 1, [2, 4, 8]), ("tw.mul", 2, [2, 8, 32])]


@pytest.mark.parametrize(("flag", "expected"), [(True, [2, 4, 8]), (False, [1, 4, 16])])
def test_cond_runs_one_branch_with_outer_values(flag: bool, expected: list[float]) -> None:
    program = module(
        f"""%0 = "tw.cond"(%p) ({{
              %1 = "tw.add"(%x, %x) : ({F}, {F}) -> {F}
              "tw.yield"(%1) : ({F}) -> ()
            }}, {{
              %1 = "tw.mul"(%x, %x) : ({F}, {F}) -> {F}
              "tw.yield"(%1) : ({F}) -> ()
            }}) : (tensor<i1>) -> {F}
            return %0 : {F}""",
        f"%p: tensor<i1>, %x: {F}", F,
    )
    seen: list[str] = []
    (out,) = run(program, [np.array(flag), X], observer=lambda op, *_: seen.append(op.name))
    assert out.tolist() == expected
    assert seen == ["tw.add" if flag else "tw.mul", "tw.cond"]


def test_while_doubles_until_the_bound() -> None:
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
    interpreter = Interpreter(program)
    assert interpreter([np.int32(3), np.int32(20)])[0] == 24
    assert interpreter([np.int32(30), np.int32(20)])[0] == 30  # a second run starts afresh


@pytest.mark.parametrize(("reverse", "stacked"), [("false", [1, 3, 7]), ("true", [7, 6, 4])])
def test_scan_carries_and_stacks(reverse: str, stacked: list[float]) -> None:
    program = module(
        f"""%0:2 = "tw.scan"(%init, %x) <{{}}> ({{
            ^bb0(%c: tensor<f32>, %row: tensor<f32>):
              %s = "tw.add"(%c, %row) : (tensor<f32>, tensor<f32>) -> tensor<f32>
              "tw.yield"(%s, %s) : (tensor<f32>, tensor<f32>) -> ()
            }}) {{carried = 1 : i64, length = 3 : i64, reverse = {reverse}}} : (tensor<f32>, {F}) -> (tensor<f32>, {F})
            return %0#0, %0#1 : tensor<f32>, {F}""",
        f"%init: tensor<f32>, %x: {F}", f"tensor<f32>, {F}",
    )
    total, rows = run(program, [np.float32(0), X])
    assert total == 7
    assert rows.tolist() == stacked


def test_call_checkpoint_and_custom_gradient_are_transparent() -> None:
    program = module(
        f"""%0 = "tw.call"(%x) ({{
            ^bb0(%a: {F}):
              %n = "tw.neg"(%a) : ({F}) -> {F}
              "tw.yield"(%n) : ({F}) -> ()
            }}) {{name = "f"}} : ({F}) -> {F}
            %1 = "tw.checkpoint"() ({{
              %n = "tw.add"(%0, %x) : ({F}, {F}) -> {F}
              "tw.yield"(%n) : ({F}) -> ()
            }}) : () -> {F}
            %2 = "tw.custom_gradient"(%x, %0) ({{
            ^bb0(%g: {F}):
              "tw.yield"(%g) : ({F}) -> ()
            }}) {{inputs = 1 : i64}} : ({F}, {F}) -> {F}
            return %1, %2 : {F}, {F}""",
        f"%x: {F}", f"{F}, {F}",
    )
    first, second = run(program, [X])
    assert first.tolist() == [0, 0, 0]
    assert second.tolist() == (-X).tolist()


VARIABLE = f"""%v = "tw.variable_handle"() {{name = "w", shape = array<i64: 3>, dtype = f32}} : () -> !tw.variable<{F}>
"""


def test_variables_are_read_and_written_in_order() -> None:
    program = module(
        VARIABLE
        + f"""%0 = "tw.read"(%v) : (!tw.variable<{F}>) -> {F}
            "tw.assign_add"(%v, %x) : (!tw.variable<{F}>, {F}) -> ()
            %1 = "tw.read"(%v) : (!tw.variable<{F}>) -> {F}
            "tw.assign"(%v, %x) : (!tw.variable<{F}>, {F}) -> ()
            return %0, %1 : {F}, {F}""",
        f"%x: {F}", f"{F}, {F}",
    )
    buffer = np.ones(3, np.float32)
    variables = {"w": buffer}
    before, after = run(program, [X], variables)
    assert before.tolist() == [1, 1, 1]
    assert after.tolist() == [2, 3, 5]
    assert variables["w"].tolist() == X.tolist()
    assert buffer.tolist() == [1, 1, 1], "the caller's array is replaced, never written to"


def test_scatter_update_combines_rows_and_drops_what_is_outside() -> None:
    program = module(
        VARIABLE
        + f"""%i = "tw.constant"() {{value = dense<[2, 0, 2, 7]> : tensor<4xi32>}} : () -> tensor<4xi32>
            %r = "tw.constant"() {{value = dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>}} : () -> tensor<4xf32>
            "tw.scatter_update"(%v, %i, %r) {{mode = "add"}} : (!tw.variable<{F}>, tensor<4xi32>, tensor<4xf32>) -> ()
            return""",
        "", "",
    )
    variables = {"w": X}
    run(program, [], variables)
    assert variables["w"].tolist() == [3, 2, 8]
    assert X.tolist() == [1, 2, 4]


def test_a_missing_variable_is_told_with_the_nearest_name() -> None:
    program = module(VARIABLE + "return", "", "")
    with pytest.raises(ExecutionError, match=r"no value for the variable 'w'\. Given are none\."):
        run(program, [])
    with pytest.raises(ExecutionError, match=r"did you mean 'w1'\?"):
        run(program, [], {"w1": np.ones(3, np.float32)})
    with pytest.raises(ExecutionError, match=r"variable 'w' must be f32\[3\], got f64\[3\]"):
        run(program, [], {"w": np.ones(3)})


def test_inputs_that_do_not_fit() -> None:
    program = module(f"return %x : {F}", f"%x: {F}", F)
    with pytest.raises(ExecutionError, match=r"input 0 must be f32\[3\], got f64\[3\]"):
        run(program, [np.ones(3)])
    with pytest.raises(ExecutionError, match="takes 1 inputs, got 2"):
        run(program, [X, X])
    with pytest.raises(ExecutionError, match=r"no function 'mian'; did you mean 'main'\?"):
        run(program, [X], function="mian")


def test_vjp_must_be_expanded_first_and_the_error_names_the_users_line() -> None:
    program = module(
        f"""%0, %tape = "tw.vjp"(%x) ({{
            ^bb0(%a: {F}):
              "tw.yield"(%a) : ({F}) -> ()
            }}) : ({F}) -> ({F}, !tw.tape<({F}) -> {F}>) loc("loss"("model.py":7:0))
            return %0 : {F}""",
        f"%x: {F}", F,
    )
    with pytest.raises(ExecutionError, match=r"model\.py:7: in loss\(\): .* tw\.vjp .*'differentiate'"):
        run(program, [X])


def test_an_op_of_another_dialect_is_an_error() -> None:
    program = module(f'%0 = "other.op"(%x) : ({F}) -> {F}\n return %0 : {F}', f"%x: {F}", F)
    with pytest.raises(ExecutionError, match=r"cannot run other\.op: it is not an op of the tw dialect"):
        run(program, [X])
