"""Running programs that JAX exported, and comparing their results with JAX's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.stablehlo.importer import import_module
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects.mlir import ir

NDArray = np.ndarray[Any, Any]
FOLDER = Path(__file__).parent / "programs"

# Largest error allowed, relative to the largest number of a result, by the bytes of the narrowest float returned.
TOLERANCE = {2: 1e-2, 4: 2e-5, 8: 1e-12}


def names() -> list[str]:
    """The exported programs."""
    return sorted(path.stem for path in FOLDER.glob("*.mlir"))


def load(name: str) -> tuple[ir.Module, list[NDArray], list[NDArray]]:
    """The prepared module, its arguments, and what JAX returned for them."""
    with np.load(FOLDER / f"{name}.npz") as archive:
        arguments, results = (
            [archive[f"{kind}{k}"] for k in range(sum(key.startswith(kind) for key in archive))]
            for kind in ("in", "out")
        )
    return import_module(FOLDER / f"{name}.mlir"), arguments, results


def run_native(module: ir.Module, arguments: Sequence[NDArray]) -> list[NDArray]:
    return compile_stablehlo(module)(list(arguments))


def run_interpreted(module: ir.Module, arguments: Sequence[NDArray]) -> list[NDArray]:
    return evaluate(module, arguments)


def compare(got: Sequence[NDArray], wanted: Sequence[NDArray]) -> None:
    """Integers and booleans are equal; floats are close, and infinite or NaN at the same places."""
    assert len(got) == len(wanted)
    widths = [array.itemsize for array in got if array.dtype.kind not in "biuc"]
    tolerance = TOLERANCE[min(widths, default=8)]
    for k, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        assert ours.shape == theirs.shape, f"result {k}"
        if ours.dtype.kind in "biu":
            np.testing.assert_array_equal(ours, theirs, err_msg=f"result {k}")
            continue
        x, y = ours.astype(np.float64), theirs.astype(np.float64)
        finite = np.isfinite(y)
        np.testing.assert_array_equal(x[~finite], y[~finite], err_msg=f"result {k}")
        if finite.any():
            error = np.abs(x[finite] - y[finite]).max() / max(np.abs(y[finite]).max(), 1e-30)
            assert error <= tolerance, f"result {k} differs by {error:.2e} of its largest number"
