"""The text that MLIR's newer LLVM prints must be readable by llvmlite's: every construct that we emit, and every
literal.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from thalweg.backends.cpu.jit import Code, compile_llvm, float_literals, to_llvm_ir
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fadd float %1, 4.471500e-02", "fadd float %1, 0x3FA6E4E260000000"),
        ("fadd float %1, f0x3F4C422A", "fadd float %1, 0x3FE9884540000000"),
        ("fadd double %1, f0x3FB6E4E260000000", "fadd double %1, 0x3FB6E4E260000000"),
        ("[ -inf, %10 ], phi float [ -inf, %1 ]", "[ 0xFFF0000000000000, %10 ], phi float [ 0xFFF0000000000000, %1 ]"),
        ("store half f0x3C00, ptr %1 ; e+", "store half 0xH3C00, ptr %1 ; e+"),
        ("store bfloat f0x3F80, ptr %1", "store bfloat 0xR3F80, ptr %1"),
        ("store bfloat 1.000000e+00, ptr %1", "store bfloat 0xR3F80, ptr %1"),
        ("fadd float %1, f0x7FC00000", "fadd float %1, 0x7FF8000000000000"),
        ("fadd float %1, +qnan", "fadd float %1, 0x7FF8000000000000"),
        ("call void @inf(ptr %inf)", "call void @inf(ptr %inf)"),
        ("add i32 %1, 17", "add i32 %1, 17"),
    ],
)
def test_float_literals(before: str, after: str) -> None:
    assert float_literals(before) == after


@pytest.mark.parametrize("element", ["f32", "f64", "f16", "bf16"])
def test_constants_of_every_kind_survive(element: str) -> None:
    """Constants go through MLIR, LLVM IR text and machine code with all their bits."""
    dtype = {"f64": np.float64}.get(element, np.float32)
    wide = "f64" if element == "f64" else "f32"
    bits = {"f64": 64, "f32": 32, "f16": 16, "bf16": 16}[element]
    infinity = {64: 0x7FF << 52, 32: 0x7F800000, 16: 0x7C00 if element == "f16" else 0x7F80}[bits]
    texts = ["0.044715", "1.0e-05", "-2.5", "65504.0", "3.0e-8", f"0x{infinity:X}", f"0x{infinity | 1 << (bits - 1):X}"]
    lines = []
    for k, text in enumerate(texts):
        lines += [f"%c{k} = arith.constant {text} : {element}", f"%i{k} = arith.constant {k} : index"]
        if element != wide:
            lines.append(f"%w{k} = arith.extf %c{k} : {element} to {wide}")
        lines.append(f"memref.store %{'c' if element == wide else 'w'}{k}, %out[%i{k}] : memref<{len(texts)}x{wide}>")
    body = "\n".join(lines)
    with context.entered():
        text = to_llvm_ir(f"func.func @f(%out: memref<{len(texts)}x{wide}>) {{\n{body}\nreturn\n}}")
    options = CpuOptions()
    code = Code(compile_llvm(text, options).object_code, "f")
    found = np.zeros(len(texts), dtype)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address("f"))(found.ctypes.data)
    exact = [float(t) for t in texts[:5]] + [np.inf, -np.inf]
    relative = {"f64": 0, "f32": 1e-7, "f16": 2e-3, "bf16": 1e-2}[element]
    np.testing.assert_allclose(found, np.array(exact, dtype), rtol=relative, atol=6e-8 if element == "f16" else 0)


def test_vector_constructs_parse() -> None:
    """One of each vector op that the code generators use."""
    source = """func.func @f(%a: memref<64xf32>, %b: memref<64xi32>, %n: index) {
      %c0 = arith.constant 0 : index
      %mask = vector.constant_mask [5] : vector<16xi1>
      %some = vector.create_mask %n : vector<16xi1>
      %zero = arith.constant dense<0.0> : vector<16xf32>
      %steps = arith.constant dense<[0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]> : vector<16xindex>
      %x = vector.load %a[%c0] : memref<64xf32>, vector<16xf32>
      %y = vector.maskedload %a[%c0], %mask, %zero : memref<64xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
      %g = vector.gather %a[%c0] [%steps], %some, %zero
        : memref<64xf32>, vector<16xindex>, vector<16xi1>, vector<16xf32> into vector<16xf32>
      %s = arith.maximumf %x, %y : vector<16xf32>
      %t = llvm.call_intrinsic "llvm.fptosi.sat.v16i32.v16f32"(%s) : (vector<16xf32>) -> vector<16xi32>
      %m = vector.reduction <maximumf>, %g : vector<16xf32> into f32
      %v = vector.broadcast %m : f32 to vector<16xf32>
      vector.maskedstore %a[%c0], %some, %v : memref<64xf32>, vector<16xi1>, vector<16xf32>
      vector.store %t, %b[%c0] : memref<64xi32>, vector<16xi32>
      vector.scatter %a[%c0] [%steps], %mask, %v : memref<64xf32>, vector<16xindex>, vector<16xi1>, vector<16xf32>
      return
    }"""
    with context.entered():
        text = to_llvm_ir(source)
    assert "masked.gather" in text
    assert b"f" in compile_llvm(text, CpuOptions()).object_code


def test_rejected_text_says_so() -> None:
    with context.entered(), pytest.raises(LoweringError, match="generated code that MLIR rejects"):
        to_llvm_ir("func.func @f() { %0 = arith.addf %1, %1 : f32 return }")
    with pytest.raises(LoweringError, match="LLVM rejects"):
        compile_llvm("define void @f() { ret i32 0 }", CpuOptions())


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_levels(level: int) -> None:
    options = CpuOptions(opt_level=level)
    text = "define i64 @f(i64 %x) {\n  %y = mul i64 %x, 3\n  ret i64 %y\n}"
    code = Code(compile_llvm(text, options).object_code, "f")
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("f"))(5) == 15
