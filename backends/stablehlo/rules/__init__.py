"""The rules, one file for each family of the dialect. Importing this package fills `table.LOWERINGS`."""

from thalweg.backends.stablehlo.rules import (
    contraction,
    control,
    elementwise,
    indexing,
    random,
    reduce,
    shape,
    sort,
    state,
    window,
)

__all__ = [
    "contraction",
    "control",
    "elementwise",
    "indexing",
    "random",
    "reduce",
    "shape",
    "sort",
    "state",
    "window",
]
