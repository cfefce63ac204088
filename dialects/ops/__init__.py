"""The rows of the dialect, one file a family. Importing this package fills the table."""

from thalweg.dialects.ops import (
    comm,
    contraction,
    control,
    elementwise,
    indexing,
    random,
    reduce,
    shape,
    sort,
    special,
    state,
    window,
)

__all__ = [
    "comm",
    "contraction",
    "control",
    "elementwise",
    "indexing",
    "random",
    "reduce",
    "shape",
    "sort",
    "special",
    "state",
    "window",
]
