"""The rows of the dialect, one file a family. Importing this package fills the table."""

from thalweg.dialects.ops import contraction, control, elementwise, reduce, shape, state, window

__all__ = ["contraction", "control", "elementwise", "reduce", "shape", "state", "window"]
