"""How array functions are compared with NumPy: eagerly, and in a traced function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.dialects.types import as_dtype
from thalweg.frontend.array import asarray
from thalweg.frontend.function import function
from thalweg.frontend.tree import leaves_of

# A dtype of each kind and width that promotion treats differently.
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint32", "uint8", "bool")
FLOATS = ("float64", "float32", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int8", "uint32", "uint8")


def draw(shape: tuple[int, ...], dtype: str, low: float = -3, high: float = 3, seed: int = 0) -> np.ndarray:
    """Reproducible values of a dtype; unsigned ones from zero up."""
    wanted = as_dtype(dtype).numpy
    values = np.random.default_rng(seed).uniform(low, high, shape)
    if dtype == "bool":
        return values > 0
    if as_dtype(dtype).is_integer:
        values = np.rint(np.abs(values) if as_dtype(dtype).kind == "u" else values)
    return values.astype(wanted)


def tolerance(dtype: np.dtype) -> float:
    """A few units in the last place."""
    kind = as_dtype(dtype)
    return {"float64": 1e-12, "float32": 2e-5, "float16": 1e-2, "bfloat16": 6e-2}.get(kind.name, 0.0)


def check(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray, dtype: Any = None) -> None:
    """`ours` on tensors gives, eagerly and traced, the shapes and values of `theirs` on NumPy arrays.

    The dtype must be `dtype`, or what NumPy gives if that is None.
    """
    expected = [np.asarray(e) for e in leaves_of(theirs(*arrays))]
    for call in (ours, function(ours)):
        results = leaves_of(call(*[asarray(a) for a in arrays]))
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            kind = wanted.dtype if dtype is None else as_dtype(dtype).numpy
            assert result.dtype.numpy == kind, f"dtype {result.dtype} instead of {kind}"
            assert result.shape == wanted.shape
            wide = np.float64 if kind.kind not in "iub" else kind
            np.testing.assert_allclose(
                np.asarray(result).astype(wide), wanted.astype(wide), rtol=tolerance(kind), atol=tolerance(kind)
            )
