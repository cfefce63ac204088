"""Arrays of tensors for loops: written and read element by element, stacked at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import DType, TensorType, as_dtype, float32, int32
from thalweg.frontend.array.conversion import cast, is_weak
from thalweg.frontend.array.creation import zeros
from thalweg.frontend.array.elementwise import astype
from thalweg.frontend.array.indexing import dynamic_slice, dynamic_update_slice, take
from thalweg.frontend.array.manipulation import reshape
from thalweg.frontend.array.updates import At
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, as_tensor

__all__ = ["TensorArray"]


@dataclass(frozen=True, init=False)
class TensorArray:
    """`size` tensors of one shape and dtype, zeros at first.

    A value like any other: `write` returns a new array, which in a compiled program takes the place of the old one. It
    goes through loops, branches, functions and gradients as a structure of one tensor.

    Args:
        dtype: of the elements.
        size: how many.
        element_shape: of each.

    Example:
        >>> def body(i, squares):
        ...     return i + 1, squares.write(i, i * i)
        >>> _, squares = tw.while_loop(lambda i, _: i < 5, body, (0, tw.TensorArray(tw.int32, 5)))
        >>> squares.stack()
        Tensor([0, 1, 4, 9, 16], dtype=int32)

    An index that is known when the program is built must lie inside. One that is computed is moved to the nearest
    element by `read` and `write`; `scatter` drops it.
    """

    elements: Tensor

    def __init__(self, dtype: Any = float32, size: int = 0, element_shape: Sequence[int] = ()) -> None:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 0:
            raise _fail(f"the size must be an integer known when the program is built, got {size!r}.")
        object.__setattr__(self, "elements", zeros((int(size), *element_shape), dtype=as_dtype(dtype)))

    @classmethod
    def of(cls, elements: ArrayLike) -> TensorArray:
        """The array whose elements are the rows of a tensor.

        Raises:
            TypeInferenceError: a scalar has no rows.
        """
        tensor = as_tensor(elements)
        if not tensor.ndim:
            raise _fail(f"unstack: {tensor.type} has no rows.")
        made = object.__new__(cls)
        object.__setattr__(made, "elements", tensor)
        return made

    @property
    def dtype(self) -> DType:
        """Of the elements."""
        return self.elements.dtype

    @property
    def element_shape(self) -> tuple[int, ...]:
        """Of each element."""
        return self.elements.shape[1:]

    def size(self) -> int:
        """The number of elements."""
        return self.elements.shape[0]

    def __len__(self) -> int:
        return self.size()

    def read(self, index: ArrayLike) -> Tensor:
        """Element `index`."""
        window = dynamic_slice(self.elements, self._starts("read", index), (1, *self.element_shape))
        return reshape(window, self.element_shape)

    def write(self, index: ArrayLike, value: ArrayLike) -> TensorArray:
        """The array with `value` as element `index`.

        Raises:
            TypeInferenceError: the value is no element, or the index is known to be outside.
        """
        element = self._element("write", value, self.element_shape)
        update = reshape(element, (1, *self.element_shape))
        return self.of(dynamic_update_slice(self.elements, update, self._starts("write", index)))

    def stack(self) -> Tensor:
        """All elements as one tensor, `(size, *element_shape)`."""
        return self.elements

    def unstack(self, values: ArrayLike) -> TensorArray:
        """The array whose elements are the rows of `values`, `(size, *element_shape)`.

        Raises:
            TypeInferenceError: another size, shape or dtype.
        """
        return self.of(self._element("unstack", values, self.elements.shape))

    def gather(self, indices: ArrayLike) -> Tensor:
        """Several elements as one tensor, `(*indices.shape, *element_shape)`."""
        return take(self.elements, self._indices("gather", indices), axis=0)

    def scatter(self, indices: ArrayLike, values: ArrayLike) -> TensorArray:
        """The array with the rows of `values` as the elements `indices`; indices outside are dropped.

        Raises:
            TypeInferenceError: the values are no elements, one for each index.
        """
        places = self._indices("scatter", indices)
        rows = self._element("scatter", values, (*places.type.shape, *self.element_shape))
        return self.of(At(self.elements)[places].set(rows))

    def _starts(self, name: str, index: ArrayLike) -> list[Tensor]:
        place = self._indices(name, index)
        if place.ndim:
            raise _fail(f"{name}: takes one index, got {place.type}.")
        zero = as_tensor(np.int32(0))
        return [astype(place, int32), *[zero] * len(self.element_shape)]

    def _indices(self, name: str, indices: ArrayLike) -> Tensor:
        places = as_tensor(indices)
        if not places.dtype.is_integer:
            raise _fail(f"{name}: indices must be integers, got {places.type}.")
        if isinstance(places, EagerTensor):
            outside = [int(i) for i in np.ravel(places.numpy()) if not 0 <= i < self.size()]
            if outside:
                raise _fail(f"{name}: index {outside[0]} is outside an array of {self.size()} elements.")
        return places

    def _element(self, name: str, value: ArrayLike, shape: Sequence[int]) -> Tensor:
        wanted = TensorType(tuple(shape), self.dtype)
        tensor = cast(value, self.dtype) if is_weak(value) else as_tensor(value)
        if tensor.type != wanted:
            raise _fail(f"{name}: takes {wanted}, got {tensor.type}. Convert or reshape it.")
        return tensor


def _fail(problem: str) -> TypeInferenceError:
    return TypeInferenceError(f"{user_frame()} TensorArray: {problem}")
