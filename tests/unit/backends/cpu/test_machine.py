"""Vector widths follow from processors and features, and code for narrower processors is right."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.jit import host_cpu
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


@pytest.mark.parametrize(
    ("cpu", "features", "expected"),
    [
        ("sapphirerapids", "", Machine(512, 32)),
        ("znver4", "", Machine(512, 32)),
        ("haswell", "", Machine(256, 16)),
        ("znver3", "-avx2", Machine(128, 16)),
        ("x86-64", "", Machine(128, 16)),
        ("x86-64", "+avx2,+fma", Machine(256, 16)),
        ("apple-m1", "", Machine(128, 32)),
        ("generic", "+neon", Machine(128, 32)),
    ],
)
def test_processors(cpu: str, features: str, expected: Machine) -> None:
    found = machine(CpuOptions(cpu=cpu, features=features))
    assert (found.vector_bits, found.registers) == (expected.vector_bits, expected.registers)


def test_this_machine_by_name_and_by_default() -> None:
    name, _ = host_cpu()
    assert machine(CpuOptions(cpu=name)) == machine(CpuOptions())


def test_caches_are_those_of_this_machine_or_fixed() -> None:
    """Code for a processor that is named does not depend on where it is compiled."""
    here, elsewhere = machine(CpuOptions()), machine(CpuOptions(cpu="generic", features="+neon"))
    assert 8 << 10 <= here.first_cache < here.second_cache
    assert (elsewhere.first_cache, elsewhere.second_cache, elsewhere.unroll) == (48 << 10, 1 << 20, 1)


PROGRAM = """func.func @main(%x: tensor<23x40xf32>, %w: tensor<50x40xf32>, %b: tensor<50xf32>) -> tensor<23x50xf32> {
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [1] :
    (tensor<23x40xf32>, tensor<50x40xf32>) -> tensor<23x50xf32>
  %1 = stablehlo.broadcast_in_dim %b, dims = [1] : (tensor<50xf32>) -> tensor<23x50xf32>
  %2 = stablehlo.add %0, %1 : tensor<23x50xf32>
  return %2 : tensor<23x50xf32> }"""


@pytest.mark.parametrize(("cpu", "needs"), [("haswell", "+avx2"), ("x86-64", "+sse2")])
def test_code_for_narrower_processors(cpu: str, needs: str) -> None:
    if needs not in host_cpu()[1].split(","):
        pytest.skip(f"this processor has no {needs[1:]}")
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((23, 40), (50, 40), (50,)))
    with context.entered():
        executable = compile_stablehlo(ir.Module.parse(PROGRAM), CpuOptions(threads=1, cpu=cpu))
    np.testing.assert_allclose(executable([x, w, b])[0], x @ w.T + b, rtol=1e-4, atol=1e-4)
