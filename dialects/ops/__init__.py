"""The rows of the dialect, one file a family. Importing this package fills the table."""

from thalweg.dialects.ops import (
    comm,
    contraction,
    control,
    elementwise,
    indexing,
    ragged,
    random,
    reduce,
    shape,
    sort,
    special,
    state,
    summary,
    tables,
    window,
)

__all__ = [
    "comm",
    "contraction",
    "control",
    "elementwise",
    "indexing",
    "ragged",
    "random",
    "reduce",
    "shape",
    "sort",
    "special",
    "state",
    "summary",
    "tables",
    "window",
]
