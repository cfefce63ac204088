"""The verbs that passes are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ir_programs import program

from thalweg.dialects import context
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, shape
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.types import TensorType, bool_, float32, int32
from thalweg.dialects.verify import verify
from thalweg.passes import rewriting as rw

V = ir.Value
ONE = TensorType((3,), float32)


@pytest.fixture(autouse=True)
def entered() -> Iterator[None]:
    with context.entered():
        yield


def branch(x: V, y: V) -> V:
    pred = rw.array(True, bool_)
    return build_with_regions(
        control.cond, [pred], {}, [[], []], [lambda: [ew.add(ew.exp(x), y)], lambda: [ew.sin(x)]]
    )[0]


def main_block(module: ir.Module) -> ir.Block:
    return rw.functions(module)[0]


def test_captures_are_found_once_and_in_order() -> None:
    module = program([ONE, ONE], branch)
    block = main_block(module)
    cond = rw.operations(block)[1]
    x, y = block.arguments
    assert rw.captures(*rw.bodies(cond)) == [x, y]
    assert rw.captures(rw.body_of(cond, 1)) == [x]
    assert rw.captures(block) == []


def test_copy_replaces_outer_values_by_the_mapping_and_tells_what_became_of_inner_ones() -> None:
    module = program([ONE, ONE], branch)
    block = main_block(module)
    cond = rw.operations(block)[1]
    x, y = block.arguments
    body = rw.body_of(cond)
    mapping = {x: y}
    with ir.InsertionPoint(cond):
        (result,) = rw.copy(body, [], mapping)
    made = rw.definition(result)
    assert made is not None and made.name == "tw.add" and made.operands[1] == y
    assert rw.definition(made.operands[0]).operands[0] == y
    assert mapping[rw.yields(body)[0]] == result
    verify(module)


def test_splice_moves_the_ops_out() -> None:
    module = program([ONE, ONE], branch)
    cond = rw.operations(main_block(module))[1]
    rw.replace(cond, rw.splice(rw.body_of(cond), cond, []))
    assert [o.name for o in rw.operations(main_block(module))] == ["tw.constant", "tw.exp", "tw.add", "func.return"]
    verify(module)


def test_insert_arguments_keeps_the_others() -> None:
    def body(x: V, y: V) -> V:
        return build_with_regions(
            control.scan, [x, y], {"carried": 2, "length": 4}, [[type_of(x), type_of(y)]],
            [lambda a, b: [ew.exp(a), ew.sin(b)]],
        )[1]

    module = program([ONE, ONE], body)
    scan = rw.operations(main_block(module))[0]
    inner = rw.body_of(scan)
    x, y = main_block(module).arguments
    (added,) = rw.insert_arguments(inner, 1, [x])
    ends = rw.yields(inner)
    rw.set_yields(inner, [ends[0], added, ends[1]])
    made = rw.recreate(scan, [x, x, y], carried=3)
    rw.replace(scan, [made.results[0], made.results[2]])
    verify(module)
    names = [o.operands[0].arg_number for o in rw.operations(rw.body_of(made))[:2]]
    assert names == [0, 2]


def test_regions_are_filled_before_their_op_exists() -> None:
    def body(x: V) -> V:
        regions = rw.Regions([type_of(x)])
        with ir.InsertionPoint(regions.blocks[0]):
            rw.end(ew.exp(regions.blocks[0].arguments[0]))
        return regions.finish(control.scan, [x], {"carried": 1, "length": 2}).results[0]

    assert '"tw.scan"(%arg0)' in str(program([ONE], body))


def test_constant_number_sees_through_broadcasts() -> None:
    def body(x: V) -> list[V]:
        filled, mixed = rw.full_like(x, 2.5), shape.constant(value=np.array([1, 2, 3], np.float32))
        empty = shape.constant(value=np.zeros((0,), np.float32))
        assert rw.constant_number(filled) == 2.5
        assert rw.constant_number(rw.array(7, int32)) == 7
        assert rw.constant_number(mixed) is None
        assert rw.constant_number(empty) is None
        assert rw.constant_number(x) is None
        return [filled, mixed]

    program([ONE], body)


def test_one_use() -> None:
    def body(x: V, y: V) -> V:
        return ew.add(x, ew.mul(y, y))

    module = program([ONE, ONE], body)
    x, y = main_block(module).arguments
    assert rw.has_one_use(x) and not rw.has_one_use(y)
