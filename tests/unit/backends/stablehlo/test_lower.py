"""Lowering of modules: signatures, locations, control flow, refusals. Op by op it is tested in tests/conformance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, elementwise, shape, special
from thalweg.dialects.types import TensorType, float32
from thalweg.dialects.verify import parse, walk

F = TensorType((2, 3), float32)
SCALAR = TensorType((), float32)


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def names(module: ir.Module) -> list[str]:
    return [o.name for o in walk(module.body)]


def test_signature_and_argument_attributes_stay() -> None:
    module = parse("""
        func.func @main(%x: tensor<2xf32>, %w: tensor<2xf32> {tw.alias = 1 : i64, tw.variable = "w"})
            -> (tensor<2xf32>, tensor<2xf32>) {
          %0 = "tw.add"(%x, %w) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
          return %x, %0 : tensor<2xf32>, tensor<2xf32>
        }""")
    text = str(lower_module(module))
    assert '%arg1: tensor<2xf32> {tw.alias = 1 : i64, tw.variable = "w"}' in text
    assert "stablehlo.add %arg0, %arg1" in text
    assert "tw.add" in str(module), "the module given is not changed"


@pytest.mark.parametrize("op", ["add", "atan2"])
def test_every_op_carries_the_users_line(op: str) -> None:
    module = parse(f"""
        func.func @main(%x: tensor<2xf32>) -> tensor<2xi32> {{
          %0 = "tw.{op}"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("net"("model.py":7:0))
          %1 = "tw.lgamma"(%0) : (tensor<2xf32>) -> tensor<2xf32> loc("net"("model.py":8:0))
          %2 = "tw.convert"(%1) <{{dtype = i32}}> : (tensor<2xf32>) -> tensor<2xi32> loc("net"("model.py":9:0))
          return %2 : tensor<2xi32> loc("net"("model.py":10:0))
        }}""")
    inner = [o for o in walk(lower_module(module).body) if o.name != "func.func"]
    assert len(inner) > 20
    assert all('"model.py":' in str(o.location) for o in inner)


def test_special_functions_leave_no_chlo() -> None:
    module = ir.Module.create()
    _function(module, [F], lambda x: [elementwise.erf(special.lgamma(elementwise.asinh(x)))])
    found = names(lower_module(module))
    assert found and all(n.startswith(("stablehlo.", "func.")) for n in found)


def test_loop_and_branch_use_values_from_outside() -> None:
    def main(x: ir.Value, start: ir.Value) -> Sequence[ir.Value]:
        ten = shape.constant(value=np.float32(10))

        def condition(total: ir.Value) -> list[ir.Value]:
            return [elementwise.less(total, ten)]

        def body(total: ir.Value) -> list[ir.Value]:
            return [elementwise.add(total, start)]

        (total,) = build_with_regions(control.while_, [start], {}, [[SCALAR], [SCALAR]], [condition, body])
        is_odd = elementwise.greater(total, ten)
        regions = [lambda: [elementwise.neg(x), total], lambda: [x, ten]]
        return build_with_regions(control.cond, [is_odd], {}, [[], []], regions)

    module = ir.Module.create()
    _function(module, [F, SCALAR], main)
    lowered = lower_module(module)
    assert {"stablehlo.while", "stablehlo.if"} <= set(names(lowered))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for start, total in ((3.0, 12.0), (5.0, 10.0)):
        y, z = evaluate(lowered, [x, np.float32(start)])
        assert np.array_equal(y, -x if total > 10 else x)
        assert z == total


def test_an_op_for_an_earlier_pass_names_line_and_pass() -> None:
    module = parse("""
        func.func @main() -> tensor<2xf32> {
          %0 = "tw.variable_handle"() <{name = "w", shape = array<i64: 2>, dtype = f32}>
               : () -> !tw.variable<tensor<2xf32>> loc("step"("train.py":12:0))
          %1 = "tw.read"(%0) : (!tw.variable<tensor<2xf32>>) -> tensor<2xf32>
          return %1 : tensor<2xf32>
        }""")
    with pytest.raises(LoweringError, match=r"train.py:12: in step\(\): tw.variable_handle cannot .* 'functionalize'"):
        lower_module(module)


def test_a_foreign_op_is_refused() -> None:
    module = ir.Module.parse("""
        func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
          %0 = "tw.adn"(%x) : (tensor<2xf32>) -> tensor<2xf32> loc("model.py":3:0)
          return %0 : tensor<2xf32>
        }""")
    with pytest.raises(LoweringError, match=r"model.py:3: tw.adn is not an op of the tw dialect"):
        lower_module(module)


def test_five_thousand_ops_take_well_under_a_second() -> None:
    def main(x: ir.Value) -> Sequence[ir.Value]:
        for _ in range(1250):
            y = elementwise.tanh(x)
            x = shape.transpose(shape.transpose(elementwise.mul(x, y), permutation=(1, 0)), permutation=(1, 0))
        return [x]

    module = ir.Module.create()
    _function(module, [F], main)
    started = time.perf_counter()
    assert names(lower_module(module)).count("stablehlo.tanh") == 1250
    assert time.perf_counter() - started < 2


def test_random_bits_match_the_reference_inside_a_program() -> None:
    from thalweg.dialects.ops import random

    module = ir.Module.create()
    key = shape.constant
    _function(module, [], lambda: [random.random_bits(key(value=np.array([7, 9], np.uint32)), shape=(2, 3))])
    assert callable(random.random_bits.reference)
    wanted = random.random_bits.reference(np.array([7, 9], np.uint32), **random.random_bits.complete({"shape": (2, 3)}))
    assert np.array_equal(evaluate(lower_module(module), [])[0], wanted)


def _function(module: ir.Module, types: Sequence[TensorType], main: object) -> None:
    """Add @main, whose body is what the Python function `main` builds."""
    assert callable(main)
    inputs = [context.to_mlir(t) for t in types]
    with ir.InsertionPoint(module.body):
        function = ir.Operation.create("func.func", attributes={"sym_name": ir.StringAttr.get("main")}, regions=1)
    block = function.regions[0].blocks.append(*inputs)
    with ir.InsertionPoint(block):
        results = list(main(*block.arguments))
        ir.Operation.create("func.return", operands=results)
    signature = ir.FunctionType.get(inputs, [r.type for r in results])
    function.attributes["function_type"] = ir.TypeAttr.get(signature)
