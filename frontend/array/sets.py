"""Distinct elements. Eager only: the shapes of the results depend on data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thalweg.frontend.array.searching import host
from thalweg.frontend.tensor import Array, ArrayLike, EagerTensor, Tensor


class UniqueAll(NamedTuple):
    """Distinct values in ascending order, where each is first, which of them each element is, and their counts."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """Distinct values in ascending order and how often each is there."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """Distinct values in ascending order and which one each element is."""

    values: Tensor
    inverse_indices: Tensor


def _unique(name: str, x: ArrayLike) -> UniqueAll:
    data = host(name, x)
    values, first, inverse, counts = np.unique(
        data, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    return UniqueAll(EagerTensor(values), *(_indices(a) for a in (first, inverse.reshape(data.shape), counts)))


def unique_all(x: ArrayLike, /) -> UniqueAll:
    """Distinct values with first places, inverse and counts; every NaN is distinct."""
    return _unique("unique_all", x)


def unique_counts(x: ArrayLike, /) -> UniqueCounts:
    """Distinct values and how often each is there."""
    found = _unique("unique_counts", x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: ArrayLike, /) -> UniqueInverse:
    """Distinct values and which of them each element is."""
    found = _unique("unique_inverse", x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: ArrayLike, /) -> Tensor:
    """Distinct values in ascending order."""
    return _unique("unique_values", x).values


unique = unique_values


def _indices(array: Array) -> Tensor:
    return EagerTensor(np.asarray(array, np.int32))
