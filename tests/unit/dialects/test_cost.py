"""Costs from types and attributes alone, against numbers counted by hand."""

from __future__ import annotations

from thalweg.dialects import context
from thalweg.dialects.cost import Cost, costs, flops_and_bytes
from thalweg.dialects.opdef import OPS
from thalweg.dialects.types import TensorType
from thalweg.dialects.verify import parse


def costs_of(body: str, inputs: str) -> list[Cost]:
    with context.entered():
        return costs(parse(f"func.func @main({inputs}) {{ {body} return }}"))


def test_dot_counts_a_multiply_and_an_add_per_pair() -> None:
    (dot,) = costs_of(
        """%0 = "tw.dot_general"(%a, %b) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>,
             rhs_contract = array<i64: 0>, dtype = f32} : (tensor<8x16xf32>, tensor<16x4xf32>) -> tensor<8x4xf32>
             loc("model.py":3:0)""",
        "%a: tensor<8x16xf32>, %b: tensor<16x4xf32>",
    )
    assert (dot.name, dot.flops, dot.bytes) == ("dot_general", 2 * 8 * 16 * 4, 4 * (8 * 16 + 16 * 4 + 8 * 4))
    assert str(dot.where) == "model.py:3:"


def test_conv_counts_the_window_times_input_channels_per_result() -> None:
    (conv,) = costs_of(
        """%0 = "tw.conv_general"(%x, %k) {strides = array<i64: 1, 1>, pad_low = array<i64: 0, 0>,
             pad_high = array<i64: 0, 0>, lhs_dilation = array<i64: 1, 1>, rhs_dilation = array<i64: 1, 1>,
             feature_groups = 1 : i64, batch_groups = 1 : i64, lhs_spec = array<i64: 0, 3, 1, 2>,
             rhs_spec = array<i64: 3, 2, 0, 1>, out_spec = array<i64: 0, 3, 1, 2>, dtype = f32}
           : (tensor<1x5x5x2xf32>, tensor<3x3x2x7xf32>) -> tensor<1x3x3x7xf32>""",
        "%x: tensor<1x5x5x2xf32>, %k: tensor<3x3x2x7xf32>",
    )
    assert conv.flops == 2 * (3 * 3 * 7) * (3 * 3 * 2)


def test_loops_multiply_or_say_per_iteration() -> None:
    found = costs_of(
        """%0:2 = "tw.scan"(%c, %x) ({
          ^bb0(%a: tensor<f32>, %row: tensor<f32>):
            %s = "tw.add"(%a, %row) : (tensor<f32>, tensor<f32>) -> tensor<f32>
            "tw.yield"(%s, %s) : (tensor<f32>, tensor<f32>) -> ()
          }) {carried = 1 : i64, length = 9 : i64, reverse = false}
            : (tensor<f32>, tensor<9xf32>) -> (tensor<f32>, tensor<9xf32>)
          %1 = "tw.while"(%c) ({
          ^bb0(%a: tensor<f32>):
            %p = "tw.less"(%a, %c) : (tensor<f32>, tensor<f32>) -> tensor<i1>
            "tw.yield"(%p) : (tensor<i1>) -> ()
          }, {
          ^bb0(%a: tensor<f32>):
            "tw.yield"(%a) : (tensor<f32>) -> ()
          }) : (tensor<f32>) -> tensor<f32>""",
        "%c: tensor<f32>, %x: tensor<9xf32>",
    )
    by_name = {c.name: c for c in found}
    assert by_name["add"].total_flops == 9
    assert not by_name["add"].per_iteration
    assert by_name["less"].per_iteration


def test_views_are_free_and_a_lookup_reads_only_its_rows() -> None:
    reshape, rows = costs_of(
        """%0 = "tw.reshape"(%t) {shape = array<i64: 4000>} : (tensor<1000x4xf32>) -> tensor<4000xf32>
           %1 = "tw.take_rows"(%t, %i) : (tensor<1000x4xf32>, tensor<3xi32>) -> tensor<3x4xf32>""",
        "%t: tensor<1000x4xf32>, %i: tensor<3xi32>",
    )
    assert (reshape.flops, reshape.bytes) == (0, 0)
    assert rows.bytes == 2 * 3 * 4 * 4 + 3 * 4


def test_every_row_has_a_cost() -> None:
    """Every row with samples is counted without an error (the rules index into operands and attributes)."""
    context.get()
    for row in OPS.values():
        for sample in row.samples:
            operands = [TensorType(a.shape, a.dtype or row.dtypes[0]) for a in sample.operands]
            attrs = row.complete(sample.attrs)
            results = [t for t in row.result_types(operands, attrs) if isinstance(t, TensorType)]
            assert all(n >= 0 for n in flops_and_bytes(row, operands, results, attrs)), row
