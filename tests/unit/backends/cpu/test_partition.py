"""Programs in parts: who is in which, and that they make the same program."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu import partition
from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module

VECTOR = (
    "func.func private @{}(%a: memref<4xf32>, %hi: index) {{\n%v = vector.load %a[%c0] : …vector<4xf32>\nreturn\n}}\n"
)
SCALAR = "func.func private @{}(%a: memref<4xf32>, %hi: index) {{\nscf.for %i = %lo to %hi step %c {{\n}}\nreturn\n}}\n"
PLAIN = "func.func private @{}(%a: memref<4xf32>, %hi: index) {{\nmemref.store %v, %a[%c] : memref<4xf32>\nreturn\n}}\n"
STEP = "func.func @step(%a0: memref<64xi8>) {\nreturn\n}\n"


def _kernels(kind: str, *names: str) -> dict[str, str]:
    return {name: kind.format(name) for name in names}


def test_a_short_program_is_one_part() -> None:
    kernels = _kernels(VECTOR, "k0", "k1") | _kernels(PLAIN, "k2")
    (part,) = partition.parts_of(kernels, STEP, "define void @tw_entry() {\n}\n")
    assert part.source == "module {\n" + "".join(kernels.values()) + STEP + "}\n"
    assert part.definitions == "define void @tw_entry() {\n}\n" and part.explicit


def test_loops_over_scalars_are_left_to_llvm() -> None:
    first, second = partition.parts_of(_kernels(VECTOR, "k0") | _kernels(SCALAR, "k1"), STEP, "")
    assert first.explicit and not second.explicit
    assert "func.func private @k1(memref<4xf32>, index)\n" in first.source and SCALAR.format("k1") in second.source


def test_a_program_of_scalar_loops_alone_has_its_step_apart() -> None:
    first, second = partition.parts_of(_kernels(SCALAR, "k0"), STEP, "")
    assert STEP in first.source and SCALAR.format("k0") not in first.source
    assert second.source == f"module {{\n{SCALAR.format('k0')}}}\n"


def test_long_programs_are_cut_and_every_kernel_is_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "LINES_EACH", 8)
    kernels = _kernels(VECTOR, *(f"k{n}" for n in range(7)))
    parts = partition.parts_of(kernels, STEP, "")
    assert len(parts) == 4  # two of four lines each
    for name, text in kernels.items():
        assert sum(text in part.source for part in parts) == 1
        assert (text in parts[0].source) != (f"@{name}(memref<4xf32>, index)\n" in parts[0].source)
    assert [STEP in part.source for part in parts] == [True, False, False, False]


def test_what_is_defined_is_no_longer_declared() -> None:
    text = "declare void @f(ptr)\ndeclare void @k_parallel(ptr, ptr)\ndeclare i32 @g()\n"
    done = partition.with_definitions(text, "define internal void @k_parallel(ptr %a, ptr %b) {\n  ret void\n}\n")
    assert done.startswith("declare void @f(ptr)\ndeclare i32 @g()\ndefine internal void @k_parallel(")


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


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_parts_give_the_same_program(monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    module, options = import_module(PROGRAM), CpuOptions(threads=1, opt_level=level)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) / 5 for s in ((16, 24), (24, 24))]
    whole = compile_stablehlo(module, options)
    monkeypatch.setattr(partition, "LINES_EACH", 1)
    cut = compile_stablehlo(module, options)
    assert len(partition.split(whole.object_code)) == 1
    assert len(partition.split(cut.object_code)) > 1
    loaded = Executable.deserialize(cut.serialize())
    for program in (cut, loaded):
        for got, wanted in zip(program(arrays), whole(arrays), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_the_object_code_is_the_same_whoever_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(PROGRAM)
    monkeypatch.setattr(partition, "LINES_EACH", 1)
    alone, again = (compile_stablehlo(module, CpuOptions(threads=2)).object_code for _ in range(2))
    monkeypatch.setattr("thalweg.backends.cpu.workers.WORTHWHILE", 1)
    assert compile_stablehlo(module, CpuOptions(threads=2)).object_code == alone == again
