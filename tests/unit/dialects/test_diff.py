"""Structural difference of modules: names do not count, ops and operands do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thalweg.dialects import context
from thalweg.dialects.diff import diff
from thalweg.dialects.verify import parse

F = "tensor<3xf32>"
TWO = f"({F}, {F}) -> {F}"
HEAD = f"func.func @main(%x: {F}, %y: {F}) -> {F} {{\n"


@pytest.fixture(autouse=True)
def _entered() -> Iterator[None]:
    with context.entered():
        yield


def changes(left: str, right: str) -> list[str]:
    return [str(e) for e in diff(parse(HEAD + left + "}"), parse(HEAD + right + "}")) if e.change != "same"]


BASE = f"""%0 = "tw.exp"(%x) : ({F}) -> {F}
  %1 = "tw.sub"(%0, %y) : {TWO}
  return %1 : {F}
"""


def test_renumbering_is_no_difference() -> None:
    assert changes(BASE, BASE.replace("%0", "%a").replace("%1", "%b")) == []


def test_a_swapped_operand_is_one() -> None:
    assert changes(BASE, BASE.replace("(%0, %y)", "(%y, %0)")) == [
        "-   %1 = sub %0, %arg1 : f32[3]\n+   %1 = sub %arg1, %0 : f32[3]"
    ]


def test_a_replaced_op_is_told_once_and_its_users_are_the_same() -> None:
    assert changes(BASE, BASE.replace("exp", "log")) == ["-   %0 = exp %arg0 : f32[3]", "+   %0 = log %arg0 : f32[3]"]


def test_an_inserted_op_does_not_disturb_what_follows() -> None:
    inserted = f'%u = "tw.neg"(%y) : ({F}) -> {F}\n' + BASE
    assert changes(BASE, inserted) == ["+   %0 = neg %arg1 : f32[3]"]
    assert changes(inserted, BASE) == ["-   %0 = neg %arg1 : f32[3]"]


def test_attributes_count() -> None:
    reverse = f'%0 = "tw.reverse"(%x) {{axes = array<i64: 0>}} : ({F}) -> {F}\n return %0 : {F}\n'
    assert changes(reverse, reverse.replace("<i64: 0>", "<i64>")) == [
        "-   %0 = reverse %arg0 {axes=[0]} : f32[3]",
        "+   %0 = reverse %arg0 {axes=[]} : f32[3]",
    ]
