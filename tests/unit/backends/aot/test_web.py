"""Kernels in the form that WebAssembly's engines run best."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from thalweg.backends.aot.web import for_engines

# Two rows of a product: numbers 512 elements apart, one vector of columns.
KERNEL = """
define void @k0_contract(ptr %0, ptr %1, i64 %2, i64 %3) {
entry:
  br label %4

4:                                                ; preds = %4, %entry
  %5 = phi i64 [ %18, %4 ], [ %2, %entry ]
  %6 = phi <4 x float> [ %13, %4 ], [ zeroinitializer, %entry ]
  %7 = getelementptr <4 x float>, ptr %1, i64 %5
  %8 = load <4 x float>, ptr %7, align 4
  %9 = getelementptr inbounds nuw float, ptr %0, i64 %5
  %10 = load float, ptr %9, align 4
  %11 = insertelement <4 x float> %8, float %10, i32 0
  %12 = fmul contract <4 x float> %11, %8
  %13 = fadd contract <4 x float> %6, %12
  %14 = add i64 %5, 512
  %15 = getelementptr inbounds nuw float, ptr %0, i64 %14
  %16 = load float, ptr %15, align 4
  store float %16, ptr %1, align 4
  %18 = add i64 %5, STEP
  %19 = icmp slt i64 %18, %3
  br i1 %19, label %4, label %20

20:
  ret void
}
"""


def test_constants_of_addresses_go_to_the_load() -> None:
    text = for_engines(KERNEL.replace("STEP", "1"))
    assert "%base15 = getelementptr float, ptr %0, i64 %5" in text
    assert "%15 = getelementptr nuw i8, ptr %kept15, i64 2048" in text


def test_a_row_is_read_after_the_sum_before_it() -> None:
    text = for_engines(KERNEL.replace("STEP", "1"))
    assert '%kept9 = call ptr asm "", "=r,0"(ptr %base9)' in text  # no sum yet
    assert '%kept15 = call ptr asm "", "=r,0,r"(ptr %base15, <4 x float> %13)' in text


def test_what_may_be_negative_keeps_its_constant() -> None:
    """A loop that counts down: the address without its constant might lie below all memory."""
    text = for_engines(KERNEL.replace("STEP", "-1"))
    assert "i64 2048" not in text
    assert "getelementptr float, ptr %0, i64 %14" in text  # still after the sum


@pytest.mark.parametrize("step", ["1", "-1"])
def test_the_result_is_code_for_webassembly(step: str) -> None:
    text = for_engines(KERNEL.replace("STEP", step))
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_triple("wasm32-unknown-unknown").create_target_machine(features="+simd128", opt=2)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    assembly = machine.emit_assembly(module)
    assert ("load\t2048" in assembly) == (step == "1")
