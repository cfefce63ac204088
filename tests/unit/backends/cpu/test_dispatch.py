"""The native entry: what it takes, what it leaves to the ordinary way, reference counts, threads."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from typing import Any

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.dispatch import Box, available, box_of
from thalweg.backends.cpu.executable import Executable
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

PROGRAM = """
func.func @main(%x: tensor<2x3xf32>, %y: tensor<2x3xf32>, %v: tensor<3xf32> {tw.alias = 2 : i64})
    -> (tensor<2x3xf32>, tensor<f32>, tensor<3xf32>) {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %sum = stablehlo.add %x, %y : tensor<2x3xf32>
  %all = stablehlo.reduce(%sum init: %zero) applies stablehlo.add across dimensions = [0, 1]
      : (tensor<2x3xf32>, tensor<f32>) -> tensor<f32>
  %rows = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0]
      : (tensor<2x3xf32>, tensor<f32>) -> tensor<3xf32>
  %new = stablehlo.add %v, %rows : tensor<3xf32>
  return %sum, %all, %new : tensor<2x3xf32>, tensor<f32>, tensor<3xf32>
}"""

pytestmark = pytest.mark.skipif(not available(), reason="this interpreter lays objects out in another way")


def _program() -> Executable:
    with context.entered():
        return compile_stablehlo(ir.Module.parse(PROGRAM))


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)


def test_results_are_fresh_and_the_bound_array_changes_in_place() -> None:
    variable = np.zeros(3, np.float32)
    direct = _program().direct([variable])
    assert direct is not None
    x, y = _arrays()
    first, total = direct.call(x, y)
    second, _ = direct.call(x, y)
    np.testing.assert_array_equal(first, x + y)
    assert total == (x + y).sum() and total.shape == ()
    assert not np.shares_memory(first, second) and first.flags.owndata
    np.testing.assert_array_equal(variable, 2 * x.sum(0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: x[:, :2],
        lambda x: x[:1],
        lambda x: np.asfortranarray(x),
        lambda x: x.reshape(3, 2),
        lambda x: x.reshape(6),
        lambda x: x.view(np.int32),
        lambda x: x.astype(">f4"),
        lambda x: np.ma.masked_array(x),
        lambda x: np.frombuffer(b"?" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3),
        lambda x: None,
    ],
    ids=["f64", "list", "narrow", "short", "fortran", "shape", "rank", "i32", "bytes", "subclass", "unaligned", "none"],
)
def test_anything_else_is_left_to_the_ordinary_way_and_changes_nothing(spoil: Any) -> None:
    variable = np.zeros(3, np.float32)
    direct = _program().direct([variable])
    assert direct is not None
    x, y = _arrays()
    assert direct.call(spoil(x), y) is NotImplemented
    assert direct.call(y, spoil(x)) is NotImplemented
    assert direct.call(x) is NotImplemented
    assert direct.call(x, y, y) is NotImplemented
    assert not variable.any()


def test_reference_counts_stay() -> None:
    direct = _program().direct([np.zeros(3, np.float32)])
    assert direct is not None
    x, y = _arrays()
    watched: list[Any] = [x, y, np.dtype(np.float32), NotImplemented]
    gc.collect()
    before = [sys.getrefcount(o) for o in watched]
    for _ in range(20_000):
        direct.call(x, y)
        direct.call(x, None)
    gc.collect()
    assert [abs(sys.getrefcount(o) - n) < 50 for o, n in zip(watched, before, strict=True)] == [True] * 4


LARGE = """
func.func @main(%x: tensor<256x256xf32>) -> (tensor<256x256xf32>, tensor<256x2xf32>) {
  %sum = stablehlo.add %x, %x : tensor<256x256xf32>
  %part = stablehlo.slice %x [0:256, 0:2] : (tensor<256x256xf32>) -> tensor<256x2xf32>
  return %sum, %part : tensor<256x256xf32>, tensor<256x2xf32>
}"""


def test_large_results_that_nobody_holds_are_given_again_by_programs_with_variables() -> None:
    with context.entered():
        program = compile_stablehlo(ir.Module.parse(LARGE))
    plain, direct = program.direct([]), program.direct([], [(other_reader(), False)])
    assert plain is not None and direct is not None
    x = np.arange(1 << 16, dtype=np.float32).reshape(256, 256)

    def seen(array: np.ndarray) -> int:
        np.testing.assert_array_equal(array, 2 * x)
        return id(array)

    first = seen(direct.call(x)[0])
    assert seen(direct.call(x)[0]) == first
    held = direct.call(x)[0][3:5]  # a part of it keeps it away
    assert seen(direct.call(x + 1)[0] - 2) and seen(held.base) == first
    np.testing.assert_array_equal(held, 2 * x[3:5])
    spoiled = direct.call(x)[0]
    spoiled.flags.writeable = False
    frozen = id(spoiled)
    del spoiled
    assert seen(direct.call(x)[0]) != frozen
    (kept,) = direct._kept[-1]
    counts = [sys.getrefcount(kept)]
    del direct
    counts.append(sys.getrefcount(kept))
    assert counts == [3, 2]
    assert plain._kept[-1] == []


@pytest.mark.timeout(60)
def test_calls_from_several_threads_lose_no_update() -> None:
    variable = np.zeros(3, np.float32)
    direct = _program().direct([variable])
    assert direct is not None
    x, y = _arrays()
    done = []

    def work() -> None:
        count = 0
        while count < 2000:
            count += direct.call(x, y) is not NotImplemented
        done.append(count)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(variable, sum(done) * x.sum(0))


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("holders, wanted, free_to_write, free_to_read", [
    (0, 0, True, True), (2, 0, False, True), (-1, 0, False, False), (0, 1, False, False), (2, 1, False, False),
])
def test_the_quick_way_needs_all_locks(
    write: bool, holders: int, wanted: int, free_to_write: bool, free_to_read: bool
) -> None:
    """Of another lock that was free nothing is left either way."""
    other, words = (ctypes.c_int32 * 4)(), (ctypes.c_int32 * 4)(holders, wanted)
    direct = _program().direct([np.zeros(3, np.float32)], [(other, True), (words, write), (other_reader(), False)])
    assert direct is not None
    entered = direct.call(*_arrays()) is not NotImplemented
    assert entered == (free_to_write if write else free_to_read)
    assert ([*other[:2]], [*words[:2]]) == ([0, 0], [holders, wanted])


def other_reader() -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * 4)(1, 0)


ADD = """
func.func @main(%x: tensor<2x3xf32>, %y: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %sum = stablehlo.add %x, %y : tensor<2x3xf32>
  return %sum : tensor<2x3xf32>
}"""


class Holder:
    """As the frontend's tensors are."""

    __slots__ = ("__weakref__", "array", "flag")

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.flag = array, False


class Loose:
    """Its instances keep what they hold in a dictionary."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.flag = array, False


class Derived(Holder):
    __slots__ = ()


def _boxed() -> Any:
    box = box_of(Holder, Holder)
    assert isinstance(box, Box)
    with context.entered():
        direct = compile_stablehlo(ir.Module.parse(ADD)).direct([], (), box)
    assert direct is not None
    return direct


def test_boxes_are_taken_and_given() -> None:
    direct, (x, y) = _boxed(), _arrays()
    for arguments in [(x, y), (Holder(x), y), (x, Holder(y)), (Holder(x), Holder(y))]:
        result = direct.boxed(*arguments)
        assert type(result) is Holder and result.flag is False
        np.testing.assert_array_equal(result.array, x + y)
        np.testing.assert_array_equal(direct.call(*arguments), x + y)


@pytest.mark.parametrize("argument", [
    Derived(_arrays()[0]), Holder(np.zeros(3)), Holder([1.0]), Holder.__new__(Holder),  # type: ignore[arg-type]
], ids=["subclass", "shape", "list", "empty"])  # fmt: skip
def test_other_boxes_go_the_ordinary_way(argument: Any) -> None:
    direct, (_, y) = _boxed(), _arrays()
    assert direct.boxed(argument, y) is NotImplemented
    assert direct.call(y, argument) is NotImplemented


def test_boxes_whose_array_does_not_show_are_none() -> None:
    assert box_of(Loose, Loose) is None
    assert box_of(Holder, Derived) is None  # type: ignore[arg-type]


def test_several_results_come_in_no_box() -> None:
    direct = _program().direct([np.zeros(3, np.float32)], (), box_of(Holder, Holder))
    assert direct is not None and direct.boxed is None


def test_reference_counts_of_boxes_stay() -> None:
    direct, (x, y) = _boxed(), _arrays()
    held = Holder(x)
    watched: list[Any] = [x, y, held, Holder, False, np.dtype(np.float32)]
    gc.collect()
    before = [sys.getrefcount(o) for o in watched]
    for _ in range(20_000):
        direct.boxed(held, y)
        direct.boxed(held, None)
    gc.collect()
    assert [abs(sys.getrefcount(o) - n) < 50 for o, n in zip(watched, before, strict=True)] == [True] * 6
