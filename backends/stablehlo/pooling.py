"""The gradient of max pooling in elementary ops: slices, comparisons and pads, one set for each place in the window.

`select_and_scatter` says the same in one op that few backends are fast at: it is a search and a scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, constant, elementwise


def max_pool_gradient(
    x: Array, pooled: Array, cotangent: Array, window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int]
) -> Array:
    """Each element of `cotangent` added to where its window of x equals `pooled`, at the first such place.

    Args:
        x: floats.
        pooled: the largest element of each window.
        cotangent: of the shape of `pooled`; its element type is that of the result.
    """
    rank = x.rank
    spans = [(n - 1) * s + 1 for n, s in zip(pooled.shape, strides, strict=True)]
    high = [max(0, sp + w - 1 - lo - n) for sp, w, lo, n in zip(spans, window, pad_low, x.shape, strict=True)]
    padded = x.pad(constant(math.nan, x.element), pad_low, high)  # NaN equals nothing: no padding is ever chosen
    zero, gaps = constant(0, cotangent.element), [s - 1 for s in strides]
    free: Array | None = None  # windows whose place is not found yet
    result: Array | None = None
    for place in np.ndindex(*window):
        bounds = [(p, p + span) for p, span in zip(place, spans, strict=True)]
        hit = padded.slice(*bounds, strides=strides).equals(pooled)
        chosen = hit if free is None else hit & free
        missed = elementwise("not", hit)
        free = missed if free is None else free & missed
        low = [place[d] - pad_low[d] for d in range(rank)]
        rest = [x.shape[d] - low[d] - spans[d] for d in range(rank)]
        part = chosen.select(cotangent, 0).pad(zero, low, rest, gaps)
        result = part if result is None else result + part
    assert result is not None
    return result
