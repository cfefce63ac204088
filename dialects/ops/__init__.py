"""The rows of the dialect, one file a family. Importing this package fills the table."""

from thalweg.dialects.ops import control, elementwise, shape, state

__all__ = ["control", "elementwise", "shape", "state"]
