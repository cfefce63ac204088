"""What a cotangent is multiplied by is computed, and kept, where an activation's operands are."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import compiled, normal

from thalweg.backends.cpu.backend import main_function
from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.slopes import keep_slopes
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

WIDE, DEEP = "tensor<33x50xf32>", "tensor<33x70xf32>"
SHAPES = ((33, 50), (50, 70), (70, 50))

# z -> an activation h, and g times its derivative as reverse mode writes it.
TANH = "%h = stablehlo.tanh %z : T\n%a = stablehlo.multiply %h, %h : T\n%b = stablehlo.subtract %one, %a : T\n"
TANH += "%d = stablehlo.multiply %g, %b : T\n"
GELU = "%t = stablehlo.tanh %z : T\n%u = stablehlo.add %one, %t : T\n%h = stablehlo.multiply %z, %u : T\n"
GELU_GRADIENT = """%a = stablehlo.multiply %g, %u : T
%b = stablehlo.multiply %z, %g : T
%tt = stablehlo.multiply %t, %t : T
%c = stablehlo.subtract %one, %tt : T
%e = stablehlo.multiply %b, %c : T
%f = stablehlo.negate %e : T
%d = stablehlo.subtract %a, %f : T
"""
SPLIT = {"tanh": ("%h = stablehlo.tanh %z : T\n", TANH.split("\n", 1)[1]), "gelu": (GELU, GELU_GRADIENT)}


def program(name: str, results: str = "%d") -> str:
    """h = activation(x . w); g = (h . v) . v^T; d = g * activation'."""
    forward, backward = SPLIT[name]
    count = results.count("%")
    kinds = ", ".join([DEEP] * count)
    return f"""func.func @main(%x: {WIDE}, %w: tensor<50x70xf32>, %v: tensor<70x50xf32>) -> ({kinds}) {{
%one = stablehlo.constant dense<1.0> : {DEEP}
%z = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : ({WIDE}, tensor<50x70xf32>) -> {DEEP}
{forward.replace("T", DEEP)}
%y = stablehlo.dot_general %h, %v, contracting_dims = [1] x [0] : ({DEEP}, tensor<70x50xf32>) -> {WIDE}
%g = stablehlo.dot_general %y, %v, contracting_dims = [1] x [1] : ({WIDE}, tensor<70x50xf32>) -> {DEEP}
{backward.replace("T", DEEP)}return {results} : {kinds} }}"""


def graphs_of(text: str) -> tuple[Graph, list[Value]]:
    """The graph, and the values that it had before."""
    with context.entered():
        module = legalize(ir.Module.parse(text))
        graph = read_function(main_function(module))
        before = list(graph.values)
        return keep_slopes(graph), before


def ops(value: Value) -> list[str]:
    """What a value and those that it is computed from do, up to products."""
    if value.kind == "contract" or value.generic is None:
        return [value.kind]
    return [op.name for op in value.generic.body.ops] + [name for o in value.operands for name in ops(o)]


def test_a_slope_is_kept_instead_of_the_sums() -> None:
    text = program("gelu")
    (d,) = graphs_of(text)[0].outputs
    g, slope = d.operands
    assert ops(d)[0] == "arith.mulf" and g.kind == "contract" and "math.tanh" in ops(slope)
    assert "arith.negf" in ops(slope)  # all of it
    arrays = [normal(*shape, seed=k) * np.float32(0.3) for k, shape in enumerate(SHAPES)]
    with context.entered():
        (expected,) = evaluate(ir.Module.parse(text), arrays)
    np.testing.assert_allclose(compiled(text)(arrays)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("tanh", "%d"),  # h is there in any case, and the rest is short
        ("gelu", "%d, %e"),  # something in between is needed, too
        ("gelu", "%d, %g"),
        ("gelu", "%d, %z"),  # the sums are there in any case
    ],
)
def test_others_stay(name: str, results: str) -> None:
    graph, before = graphs_of(program(name, results))
    assert graph.values == before
