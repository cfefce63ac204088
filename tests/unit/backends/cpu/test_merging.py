"""Short rows that all tensors of a kernel have side by side are walked as one."""

from __future__ import annotations

import numpy as np
from cpu_programs import main
from emit_programs import native, numbers

from thalweg.backends.cpu.backend import stages
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module

ROWS = "40x2x31x10xf32"
COLUMNS = "2x31x10xf32"


def program(columns: str, dims: str) -> str:
    return main(
        [ROWS, columns],
        [ROWS, "2x31x10x40xf32"],
        f"""%b = stablehlo.broadcast_in_dim %1, dims = {dims} : (tensor<{columns}>) -> tensor<{ROWS}>
    %s = stablehlo.subtract %0, %b : tensor<{ROWS}>
    %r = stablehlo.abs %s : tensor<{ROWS}>
    %t = stablehlo.transpose %s, dims = [1, 2, 3, 0] : (tensor<{ROWS}>) -> tensor<2x31x10x40xf32>
    return %r, %t : tensor<{ROWS}>, tensor<2x31x10x40xf32>""",
    )


def test_columns_of_three_dimensions() -> None:
    x, y = numbers((40, 2, 31, 10), "f32"), numbers((2, 31, 10), "f32")
    text = program(COLUMNS, "[1, 2, 3]")
    sizes, turned = native(text, [x, y])
    np.testing.assert_array_equal(sizes, np.abs(x - y))
    np.testing.assert_array_equal(turned, np.transpose(x - y, (1, 2, 3, 0)))
    assert "into memref<620xf32>" in stages(import_module(text), CpuOptions(threads=1))["kernels"]


def test_columns_of_some_dimensions() -> None:
    x, y = numbers((40, 2, 31, 10), "f32"), numbers((2, 10), "f32")
    sizes, turned = native(program("2x10xf32", "[1, 3]"), [x, y])
    wanted = x - y[:, None, :]
    np.testing.assert_array_equal(sizes, np.abs(wanted))
    np.testing.assert_array_equal(turned, np.transpose(wanted, (1, 2, 3, 0)))
