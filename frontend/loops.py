"""Loops over rows with a name: `map` and `fold`, both of them a `scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.frontend.control import scan
from thalweg.frontend.custom import must_be_callable
from thalweg.frontend.eager import run_traced
from thalweg.frontend.tensor import as_tensor
from thalweg.frontend.trace import current
from thalweg.frontend.tree import flatten, map_structure

__all__ = ["fold", "map"]


def map(function: Callable[[Any], Any], xs: Any, *, parallel_iterations: int | None = None) -> Any:
    """`function` of each row of arrays, the results stacked.

    Args:
        function: takes a row, in the structure of `xs`; returns any nested structure of arrays.
        xs: nested structure of arrays with a common first extent.
        parallel_iterations: as for `tw.while_loop`.

    Raises:
        TypeInferenceError: there is nothing to map over, or first extents differ.

    Example:
        >>> tw.map(lambda row: row / tw.sum(row), x)
    """
    must_be_callable("map", function)
    if not flatten(xs)[0]:
        raise TypeInferenceError(f"{user_frame()} map: xs holds no array, so there are no rows.")
    return scan(lambda _, row: (None, function(row)), None, xs, parallel_iterations=parallel_iterations)[1]


_ROW = object()  # `fold` without an initial value


def fold(
    function: Callable[[Any, Any], Any],
    xs: Any,
    init: Any = _ROW,
    *,
    right: bool = False,
    parallel_iterations: int | None = None,
) -> Any:
    """Combine the rows of arrays to one value: `value = function(value, row)`, row after row.

    Args:
        function: its value keeps structure, shapes and dtypes.
        xs: nested structure of arrays with a common first extent.
        init: the first value; the first row if left out (the last one from the right).
        right: from the last row to the first.
        parallel_iterations: as for `tw.while_loop`.

    Raises:
        TypeInferenceError: there is no row to begin with, or the function changes a type.

    Example:
        >>> tw.fold(lambda total, row: 0.5 * total + row, x)
    """
    must_be_callable("fold", function)
    if init is not _ROW:
        return scan(
            lambda value, row: (function(value, row), None), init, xs, reverse=right,
            parallel_iterations=parallel_iterations,
        )[0]  # fmt: skip
    if current() is None:
        return run_traced("fold", lambda: fold(function, xs, right=right, parallel_iterations=parallel_iterations))
    tensors = map_structure(as_tensor, xs)
    leaves = flatten(tensors)[0]
    if not leaves or any(not t.ndim or not t.type.shape[0] for t in leaves):
        raise TypeInferenceError(f"{user_frame()} fold: there is no first row to begin with; give init.")
    first = map_structure(lambda t: t[-1 if right else 0], tensors)
    rest = map_structure(lambda t: t[:-1] if right else t[1:], tensors)
    return fold(function, rest, first, right=right, parallel_iterations=parallel_iterations)
