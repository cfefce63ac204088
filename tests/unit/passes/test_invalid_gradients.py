"""What cannot be differentiated is told with the user's line and what to do."""

from __future__ import annotations

import pytest
from ir_programs import program

from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import Where
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, dataflow, indexing, special, state
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.types import TensorType, float32, int32
from thalweg.passes.pipeline import run
from thalweg.passes.rewriting import array

V = ir.Value
ONE = TensorType((3,), float32)
TABLE = TensorType((9, 3), float32)


def vjp(body: object, *primals: V) -> list[V]:
    return list(build_with_regions(control.vjp, primals, {"aux": 0}, [[type_of(p) for p in primals]], [body]))


def fails(module: ir.Module, pipeline: str = "optimize") -> str:
    with pytest.raises(PassError) as caught:
        run(module, pipeline)
    return str(caught.value)


def test_an_op_without_derivative_names_the_line() -> None:
    def main(x: V, g: V) -> V:
        def body(a: V) -> list[V]:
            with Where("model.py", 12, "loss").location():
                return [special.digamma(a)]

        *_, tape = vjp(body, x)
        return control.pullback(tape, g, wrt=(0,))

    message = fails(program([ONE, ONE], main))
    assert message == (
        "model.py:12: in loss(): digamma: has no derivative: its derivative, the trigamma function, is not an op."
    )


def test_a_sparse_cotangent_of_a_table_used_otherwise() -> None:
    def main(table: V, g: V) -> list[V]:
        *_, tape = vjp(lambda t: [ew.exp(t)], table)
        return list(control.pullback(tape, g, wrt=(0,), rows=(2,)))

    assert "Ask for a dense one." in fails(program([TABLE, TABLE], main))


def test_a_sparse_cotangent_with_another_number_of_rows() -> None:
    def main(table: V, indices: V, g: V) -> list[V]:
        *_, tape = vjp(lambda t: [indexing.take_rows(t, indices)], table)
        return list(control.pullback(tape, g, wrt=(0,), rows=(5,)))

    types = [TABLE, TensorType((2,), int32), TensorType((2, 3), float32)]
    assert "5 rows are asked for, but the function looks up 2." in fails(program(types, main))


def test_state_inside_what_is_differentiated_needs_hoist_state() -> None:
    def main(x: V, g: V) -> V:
        w = state.variable_handle(name="w", shape=(3,), dtype=float32)

        def body(a: V) -> list[V]:
            state.assign(w, ew.mul(a, state.read(w)))
            return [ew.mul(a, state.read(w))]

        *_, tape = vjp(body, x)
        return control.pullback(tape, g, wrt=(0,))

    assert run(program([ONE, ONE], main), "hoist-state,differentiate")


@pytest.mark.parametrize("place", ["condition", "custom gradient"])
def test_assignments_where_they_have_no_meaning(place: str) -> None:
    def main(x: V) -> list[V]:
        w = state.variable_handle(name="w", shape=(), dtype=int32)

        def assigns(*values: V) -> list[V]:
            state.assign(w, array(1, int32))
            if place == "condition":
                return [ew.less(values[0], array(9, int32))]
            return list(values)

        if place == "condition":
            return list(build_with_regions(control.while_, [x], {}, [[type_of(x)]] * 2, [assigns, lambda i: [i]]))
        return list(build_with_regions(control.custom_gradient, [x, x], {"inputs": 1}, [[type_of(x)]], [assigns]))

    message = fails(program([TensorType((), int32)], main), "hoist-state")
    assert "assigns the variable 'w'" in message and ("Assign in the body" in message or "outside it" in message)


def test_a_region_with_state_cannot_be_functionalized() -> None:
    def main(x: V) -> list[V]:
        w = state.variable_handle(name="w", shape=(3,), dtype=float32)
        return list(build_with_regions(control.checkpoint, [], {}, [[]], [lambda: [ew.add(x, state.read(w))]]))

    assert "Run hoist-state first" in fails(program([ONE], main), "functionalize")


def test_a_host_op_in_a_loop_names_the_line() -> None:
    def main(x: V, g: V) -> V:
        def step(i: V, v: V) -> list[V]:
            with Where("model.py", 12, "loss").location():
                return [ew.add(i, array(1, int32)), dataflow.pivot(v)]

        def body(a: V) -> list[V]:
            start = [array(0, int32), a]
            types = [type_of(v) for v in start]
            ends = build_with_regions(
                control.while_, start, {}, [types, types], [lambda i, v: [ew.less(i, array(3, int32))], step]
            )
            return [ends[1]]

        *_, tape = vjp(body, x)
        return control.pullback(tape, g, wrt=(0,))

    message = fails(program([ONE, ONE], main))
    assert message.startswith("model.py:12: in loss(): pivot: has no derivative: it runs on the host.")
