"""Reductions and scans of Triton's interpreter by whole slices.

The interpreter calls the function that combines two elements once for each element, at 0.2 ms a call. Such functions
work on tiles as they do on numbers: they are called here for two slices at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Combine = Callable[[Sequence[Array], Sequence[Array]], list[Array]]


def install(reduce_ops: Any, scan_ops: Any) -> None:
    """Give the interpreter's classes `ReduceOps` and `ScanOps` another way for functions that they do not know."""
    one_by_one = reduce_ops.generic_reduce

    def generic_reduce(self: Any, tiles: Sequence[Any]) -> list[Any]:
        if self.axis is None or tiles[0].handle.data.ndim == 1:  # the result is a number
            return list(one_by_one(self, tiles))
        results = reduced([tile.handle.data for tile in tiles], self.axis, _combining(self, tiles))
        if self.keep_dims:
            results = [np.expand_dims(result, self.axis) for result in results]
        return [self.to_tensor(result, tile.dtype) for result, tile in zip(results, tiles, strict=True)]

    def generic_scan(self: Any, tiles: Sequence[Any]) -> list[Any]:
        results = scanned([tile.handle.data for tile in tiles], self.axis, _combining(self, tiles))
        return [self.to_tensor(result, tile.dtype) for result, tile in zip(results, tiles, strict=True)]

    reduce_ops.generic_reduce, scan_ops.generic_scan = generic_reduce, generic_scan


def _combining(ops: Any, tiles: Sequence[Any]) -> Combine:
    """The function of a reduction or scan, on arrays."""

    def combine(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
        arguments = [ops.to_tensor(x, tile.dtype) for side in (a, b) for x, tile in zip(side, tiles, strict=True)]
        found = ops.combine_fn.fn(*arguments)
        found = found if isinstance(found, tuple) else (found,)
        return [tensor.handle.data.astype(x.dtype) for tensor, x in zip(found, a, strict=True)]

    return combine


def reduced(arrays: Sequence[Array], axis: int, combine: Combine) -> list[Array]:
    """Arrays of a power of two elements along an axis, combined to one: neighbours first, in order, as a tree.

    Example:
        >>> reduced([np.arange(8)], 0, lambda a, b: [a[0] + b[0]])
        [28]
    """
    found = [np.moveaxis(array, axis, -1) for array in arrays]
    while found[0].shape[-1] > 1:
        found = combine([x[..., 0::2] for x in found], [x[..., 1::2] for x in found])
    return [x[..., 0] for x in found]


def scanned(arrays: Sequence[Array], axis: int, combine: Combine) -> list[Array]:
    """What arrays of a power of two elements come to along an axis, from its beginning to each element.

    Example:
        >>> scanned([np.arange(8)], 0, lambda a, b: [a[0] + b[0]])
        [array([ 0,  1,  3,  6, 10, 15, 21, 28])]
    """
    found = [np.moveaxis(array, axis, -1).copy() for array in arrays]
    distance = 1
    while distance < found[0].shape[-1]:
        combined = combine([np.roll(x, distance, -1) for x in found], found)  # whole: Triton knows powers of two only
        for x, later in zip(found, combined, strict=True):
            x[..., distance:] = later[..., distance:]
        distance *= 2
    return [np.moveaxis(x, -1, axis) for x in found]
