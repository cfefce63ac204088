"""Laws of the dialect, one file a family, as a table; importing this package fills it."""

from thalweg.passes.algebra import contraction, elementwise, indexing, reduce, shape  # noqa: F401
from thalweg.passes.algebra.laws import LAWS, Law, first_that_holds

__all__ = ["LAWS", "Law", "first_that_holds"]
