"""The compact form, and lines of MLIR text with their places."""

from __future__ import annotations

from thalweg.dialects import context
from thalweg.dialects.location import Where
from thalweg.dialects.printing import compact, lines, located
from thalweg.dialects.verify import parse

PROGRAM = """
func.func @main(%x: tensor<2x3xf32>, %p: tensor<i1>) -> (tensor<2x3xf32>, tensor<6xf32>) {
  %0 = "tw.add"(%x, %x) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32> loc("loss"("/home/me/model.py":3:0))
  %1 = "tw.cond"(%p) ({
    %2 = "tw.log"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32> loc(unknown)
    "tw.yield"(%2): (tensor<2x3xf32>) -> () loc(unknown)
  }, {
    "tw.yield"(%x): (tensor<2x3xf32>) -> () loc(unknown)
  }) : (tensor<i1>) -> tensor<2x3xf32> loc(fused["f"("model.py":5:1), "other.py":2:2])
  %3 = "tw.reshape"(%1) {shape = array<i64: 6>} : (tensor<2x3xf32>) -> tensor<6xf32> loc(unknown)
  %4 = "tw.constant"() {value = dense<[true, false]> : tensor<2xi1>} : () -> tensor<2xi1> loc(unknown)
  return %1, %3 : tensor<2x3xf32>, tensor<6xf32> loc(unknown)
} loc(unknown)
"""


def test_compact_form() -> None:
    with context.entered():
        text = compact(parse(PROGRAM))
    assert [line.rstrip() for line in text.splitlines()] == [
        "func main(%arg0: f32[2,3], %arg1: bool[]) -> (f32[2,3], f32[6]):",
        "  %0 = add %arg0, %arg0 : f32[2,3]                        # model.py:3",
        "  %1 = cond %arg1 : f32[2,3]                              # model.py:5",
        "    on_true:",
        "      %2 = log %0 : f32[2,3]",
        "      yield %2",
        "    on_false:",
        "      yield %arg0",
        "  %3 = reshape %1 {shape=[6]} : f32[6]",
        "  %4 = constant {value=[True,False]} : bool[2]",
        "  return %1, %3",
    ]


def test_values_and_types_of_other_dialects() -> None:
    with context.entered():
        module = parse(
            "func.func private @f(%a: tensor<?xf32>) -> (i32, i32) { %0:2 = \"other.op\"(%a) {k = 1 : i8} : "
            "(tensor<?xf32>) -> (i32, i32)\n return %0#0, %0#1 : i32, i32 }"
        )
        texts = [line.text.strip() for line in lines(module)]
    assert texts[1:] == ["%0:2 = other.op %arg0 {k=1 : i8} : i32, i32", "return %0#0, %0#1"]


def test_located_ties_every_line_of_any_text_to_its_place() -> None:
    with context.entered():
        text = parse(PROGRAM).operation.get_asm(enable_debug_info=True)
    found = {line.strip(): where for line, where in located(text)}
    assert not any("loc(" in line for line in found)
    places = {line.partition('"')[2].partition('"')[0]: where for line, where in found.items() if where}
    assert places["tw.add"] == Where("/home/me/model.py", 3, "loss")
    assert any(line.startswith("func.func @main(%arg0: tensor<2x3xf32>, %arg1") for line in found)
    assert found["}) : (tensor<i1>) -> tensor<2x3xf32>"] == Where("model.py", 5, "<module>")
