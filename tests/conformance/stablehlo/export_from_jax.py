"""Regenerates programs/: what JAX exports, its arguments and its results.

python tests/conformance/stablehlo/export_from_jax.py [NAME…]
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
from jax_programs import PROGRAMS

FOLDER = Path(__file__).parent / "programs"


def export(name: str) -> None:
    """Write NAME.mlir (StableHLO text without locations) and NAME.npz (in0, in1, …, out0, out1, …)."""
    function, arguments = PROGRAMS[name]
    compiled = jax.jit(function)
    results = jax.tree.leaves(compiled(*arguments))
    (FOLDER / f"{name}.mlir").write_text(compiled.lower(*arguments).as_text())
    arrays = {f"in{k}": np.asarray(a) for k, a in enumerate(arguments)}
    # NumPy's files know no bfloat16: f32 holds its numbers exactly.
    arrays |= {
        f"out{k}": np.asarray(r.astype("float32") if r.dtype == "bfloat16" else r) for k, r in enumerate(results)
    }
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or PROGRAMS:
        export(chosen)
