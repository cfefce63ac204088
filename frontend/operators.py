"""Python's operators, for everything that stands for an array: tensors and variables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.dialects.location import user_frame

if TYPE_CHECKING:
    from thalweg.frontend.array.updates import At
    from thalweg.frontend.tensor import Tensor

# The array functions behind the operators. They need tensors and tensors need them: `thalweg.frontend.array` fills
# this when it is imported.
functions: Any = SimpleNamespace()


class Operators:
    """Operators as calls of the array functions; a Python scalar on either side takes the array's dtype."""

    __slots__ = ()
    __array_priority__ = 1000  # `ndarray + tensor` comes here

    def __add__(self, other: Any) -> Tensor:
        return functions.add(self, other) if _fits(other) else NotImplemented

    def __radd__(self, other: Any) -> Tensor:
        return functions.add(other, self) if _fits(other) else NotImplemented

    def __sub__(self, other: Any) -> Tensor:
        return functions.subtract(self, other) if _fits(other) else NotImplemented

    def __rsub__(self, other: Any) -> Tensor:
        return functions.subtract(other, self) if _fits(other) else NotImplemented

    def __mul__(self, other: Any) -> Tensor:
        return functions.multiply(self, other) if _fits(other) else NotImplemented

    def __rmul__(self, other: Any) -> Tensor:
        return functions.multiply(other, self) if _fits(other) else NotImplemented

    def __truediv__(self, other: Any) -> Tensor:
        return functions.divide(self, other) if _fits(other) else NotImplemented

    def __rtruediv__(self, other: Any) -> Tensor:
        return functions.divide(other, self) if _fits(other) else NotImplemented

    def __floordiv__(self, other: Any) -> Tensor:
        return functions.floor_divide(self, other) if _fits(other) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Tensor:
        return functions.floor_divide(other, self) if _fits(other) else NotImplemented

    def __mod__(self, other: Any) -> Tensor:
        return functions.remainder(self, other) if _fits(other) else NotImplemented

    def __rmod__(self, other: Any) -> Tensor:
        return functions.remainder(other, self) if _fits(other) else NotImplemented

    def __pow__(self, other: Any) -> Tensor:
        return functions.pow(self, other) if _fits(other) else NotImplemented

    def __rpow__(self, other: Any) -> Tensor:
        return functions.pow(other, self) if _fits(other) else NotImplemented

    def __matmul__(self, other: Any) -> Tensor:
        return functions.matmul(self, other) if _fits(other) else NotImplemented

    def __rmatmul__(self, other: Any) -> Tensor:
        return functions.matmul(other, self) if _fits(other) else NotImplemented

    def __and__(self, other: Any) -> Tensor:
        return functions.bitwise_and(self, other) if _fits(other) else NotImplemented

    def __rand__(self, other: Any) -> Tensor:
        return functions.bitwise_and(other, self) if _fits(other) else NotImplemented

    def __or__(self, other: Any) -> Tensor:
        return functions.bitwise_or(self, other) if _fits(other) else NotImplemented

    def __ror__(self, other: Any) -> Tensor:
        return functions.bitwise_or(other, self) if _fits(other) else NotImplemented

    def __xor__(self, other: Any) -> Tensor:
        return functions.bitwise_xor(self, other) if _fits(other) else NotImplemented

    def __rxor__(self, other: Any) -> Tensor:
        return functions.bitwise_xor(other, self) if _fits(other) else NotImplemented

    def __lshift__(self, other: Any) -> Tensor:
        return functions.bitwise_left_shift(self, other) if _fits(other) else NotImplemented

    def __rlshift__(self, other: Any) -> Tensor:
        return functions.bitwise_left_shift(other, self) if _fits(other) else NotImplemented

    def __rshift__(self, other: Any) -> Tensor:
        return functions.bitwise_right_shift(self, other) if _fits(other) else NotImplemented

    def __rrshift__(self, other: Any) -> Tensor:
        return functions.bitwise_right_shift(other, self) if _fits(other) else NotImplemented

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return functions.equal(self, other) if _fits(other) else NotImplemented

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return functions.not_equal(self, other) if _fits(other) else NotImplemented

    def __lt__(self, other: Any) -> Tensor:
        return functions.less(self, other) if _fits(other) else NotImplemented

    def __le__(self, other: Any) -> Tensor:
        return functions.less_equal(self, other) if _fits(other) else NotImplemented

    def __gt__(self, other: Any) -> Tensor:
        return functions.greater(self, other) if _fits(other) else NotImplemented

    def __ge__(self, other: Any) -> Tensor:
        return functions.greater_equal(self, other) if _fits(other) else NotImplemented

    # Comparison is by element, identity by `is`: hashing by identity lets tensors be keys (of feeds, for one).
    __hash__ = object.__hash__

    def __neg__(self) -> Tensor:
        return functions.negative(self)  # type: ignore[no-any-return]

    def __pos__(self) -> Tensor:
        return functions.positive(self)  # type: ignore[no-any-return]

    def __abs__(self) -> Tensor:
        return functions.abs(self)  # type: ignore[no-any-return]

    def __invert__(self) -> Tensor:
        return functions.bitwise_invert(self)  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Tensor:
        return functions.getitem(self, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        instead = "w.assign(w.at[key].set(value))" if hasattr(self, "assign") else "x = x.at[key].set(value)"
        raise TypeError(f"{user_frame()} elements cannot be assigned: a tensor never changes. Write {instead}.")

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix."""
        return functions.matrix_transpose_2d(self)  # type: ignore[no-any-return]

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped."""
        return functions.matrix_transpose(self)  # type: ignore[no-any-return]

    @property
    def at(self) -> At:
        """`x.at[index].set(value)` and its kin: a changed copy; x stays as it is."""
        return functions.At(self)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype."""
        return functions.astype(self, dtype)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Tensor:
        """The elements in row-major order under another shape; one extent may be -1."""
        extents = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return functions.reshape(self, extents)  # type: ignore[no-any-return]


def _fits(other: Any) -> bool:
    return isinstance(other, _OPERANDS)


_OPERANDS = (Operators, bool, int, float, np.ndarray, np.generic, list, tuple)
