"""Compiling one small StableHLO program, and running it natively and in StableHLO's interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.stablehlo.importer import import_module
from thalweg.backends.stablehlo.interpreter import evaluate, numpy_dtype

RANDOM = np.random.default_rng(0)


def tensor(shape: Sequence[int], element: str) -> str:
    return "tensor<" + "".join(f"{n}x" for n in shape) + element + ">"


def numbers(shape: Sequence[int], element: str) -> np.ndarray:
    """Numbers of which some are equal, some negative where the type has them."""
    values = np.round(RANDOM.standard_normal(shape) * 20)
    if element == "i1":
        return values > 0
    return (np.abs(values) if element.startswith("u") else values).astype(numpy_dtype(element))


def native(text: str, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    return compile_stablehlo(import_module(text))(list(arguments))


def agree(text: str, arguments: Sequence[np.ndarray]) -> None:
    """The native program and the interpreter give the same bits."""
    module = import_module(text)
    for got, wanted in zip(compile_stablehlo(module)(list(arguments)), evaluate(module, arguments), strict=True):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)
