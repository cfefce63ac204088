"""What this machine's JAX exports, now: portable artefacts of the committed programs, and programs nobody expected."""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from foreign import compare, run_native  # noqa: E402
from jax_programs import PROGRAMS  # noqa: E402
from jax_unusual_programs import UNUSUAL  # noqa: E402

from thalweg.backends.stablehlo.importer import import_module  # noqa: E402
from thalweg.dialects.types import TensorType, float32  # noqa: E402

# Their results are complex, or a call's safety check refuses to export them.
_CALLS = [
    jax.export.DisabledSafetyCheck.custom_call(name)
    for name in ("lapack_sgetrf_ffi", "lapack_sgeqrf_ffi", "lapack_sorgqr_ffi", "ApproxTopK")
]


def expected(function, arguments) -> list[np.ndarray]:
    results = jax.tree.leaves(jax.jit(function)(*arguments))
    return [np.asarray(r.astype("float32") if r.dtype == "bfloat16" else r) for r in results]


@pytest.mark.parametrize("name", PROGRAMS)
def test_portable_artefact(name: str) -> None:
    function, arguments = PROGRAMS[name]
    exported = jax.export.export(jax.jit(function), disabled_checks=_CALLS)(*arguments)
    module = import_module(bytes(exported.mlir_module_serialized))
    compare(run_native(module, arguments), expected(function, arguments))


def as_pairs(array: np.ndarray) -> np.ndarray:
    """Complex arrays as programs take them: real and imaginary part along a new last dimension."""
    return np.stack([array.real, array.imag], -1) if array.dtype.kind == "c" else array


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual(name: str) -> None:
    function, arguments = UNUSUAL[name]
    module = import_module(jax.jit(function).lower(*arguments).as_text())
    compare(run_native(module, [as_pairs(a) for a in arguments]), expected(function, arguments))


def test_shapes_left_open() -> None:
    def function(x):
        return jax.numpy.sort(x, 0) + x.sum(0), jax.numpy.concatenate([x, x]).reshape(-1)

    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("rows, 3"), np.float32)
    data = bytes(jax.export.export(jax.jit(function))(shape).mlir_module_serialized)
    for rows in (1, 5):
        x = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
        module = import_module(data, [TensorType((rows, 3), float32)])
        compare(run_native(module, [x]), expected(function, [x]))
