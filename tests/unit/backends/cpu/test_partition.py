"""Programs that are compiled in parts, by several processes."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu import native, partition
from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.jit import compile_program
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module
from thalweg.dialects.diagnostics import LoweringError

TEXT = """@shared = private constant i64 3
define void @k0(ptr %0, i64 %1) {
  ret void
}
define void @k1(ptr %p) {
  %c = load i64, ptr @shared
  ret void
}
define internal void @k0_task(i64 %task) {
  ret void
}
define void @step(ptr %0) {
  call void @k0(ptr %0, i64 1)
  call void @k1(ptr %0)
  ret void
}
declare void @outside(ptr)
!llvm.module.flags = !{!0}
!0 = !{i32 2, !"Debug Info Version", i32 3}
"""


def test_kernels_are_dealt_out_and_the_rest_stays() -> None:
    first, second = partition.partition(TEXT, ["k0", "k1"], 2)
    assert "define void @step" in first and "define internal void @k0_task" in first
    assert "define void @step" not in second and "@k0_task" not in second
    for name in ("k0", "k1"):
        assert (f"define void @{name}(" in first) + (f"define void @{name}(" in second) == 1
        if f"define void @{name}(" in second:
            assert f"declare void @{name}(" in first
    assert "@shared" in second and "declare void @outside" in second


def test_every_part_is_a_module_that_compiles() -> None:
    for parts in (1, 2, 3):
        modules = partition.partition(TEXT, ["k0", "k1"], parts)
        native.initialize()
        machine = native.target_machine("x86-64" if "x86" in native.llvm.get_process_triple() else "generic", "", 1)
        assert all(machine.emit_object(native.optimized(module, machine, 1)) for module in modules)


def test_objects_are_put_together_and_taken_apart() -> None:
    for objects in ([b"\x7fELF"], [b"a", b"", b"ccc"], [b"x" * 300, b"y" * 70000]):
        assert partition.split(partition.join(objects)) == objects


PROGRAM = """func.func @main(%x: tensor<16x24xf32>, %w: tensor<24x24xf32>) -> (tensor<16x24xf32>, tensor<16xf32>) {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
    : (tensor<16x24xf32>, tensor<24x24xf32>) -> tensor<16x24xf32>
  %e = stablehlo.exponential %y : tensor<16x24xf32>
  %s = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [1]
    : (tensor<16x24xf32>, tensor<f32>) -> tensor<16xf32>
  %z = stablehlo.dot_general %e, %w, contracting_dims = [1] x [1]
    : (tensor<16x24xf32>, tensor<24x24xf32>) -> tensor<16x24xf32>
  return %z, %s : tensor<16x24xf32>, tensor<16xf32>
}"""


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_give_the_same_program(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    module, options = import_module(PROGRAM), CpuOptions(threads=2)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) / 5 for s in ((16, 24), (24, 24))]
    whole = compile_stablehlo(module, options)
    monkeypatch.setattr("thalweg.backends.cpu.jit.parts_for", lambda text, processors: parts)
    cut = compile_stablehlo(module, options)
    assert len(partition.split(whole.object_code)) == 1
    assert len(partition.split(cut.object_code)) == parts
    loaded = Executable.deserialize(cut.serialize())
    for program in (cut, loaded):
        for got, wanted in zip(program(arrays), whole(arrays), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_part_that_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = TEXT.replace("%c = load i64, ptr @shared", "%c = load i64, ptr @nowhere")
    monkeypatch.setattr("thalweg.backends.cpu.jit.parts_for", lambda text, processors: 3)
    with pytest.raises(LoweringError, match="nowhere"):
        compile_program(wrong, ["k0", "k1"], CpuOptions(threads=2))


def test_short_programs_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert partition.parts_for("x\n" * 100, 8) == 1
    assert partition.parts_for("x\n" * 10 * partition.LINES_EACH, 2) == 2
    assert partition.parts_for("x\n" * 10 * partition.LINES_EACH, 1) == 1
    monkeypatch.setattr("sys.executable", "/usr/bin/editor")
    assert partition.parts_for("x\n" * 10 * partition.LINES_EACH, 2) == 1
