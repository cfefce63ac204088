"""Types as a user writes them in signatures: `tw.spec((None, 784), tw.float32)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from thalweg.dialects.location import user_frame
from thalweg.dialects.types import DType, TensorType, as_dtype, float32


@dataclass(frozen=True)
class TensorSpec:
    """A shape in which None stands for any extent, and a dtype."""

    shape: tuple[int | None, ...]
    dtype: DType

    is_tree_leaf: ClassVar[bool] = True

    @property
    def type(self) -> TensorType:
        """The type, where every extent is known.

        Raises:
            ValueError: an extent is None.
        """
        if None in self.shape:
            raise ValueError(f"{user_frame()} {self} leaves extents open; give example arrays or a spec with numbers")
        return TensorType(tuple(n for n in self.shape if n is not None), self.dtype)

    def accepts(self, type_: TensorType) -> bool:
        """True if a tensor of this type fits."""
        return (
            type_.dtype == self.dtype
            and type_.rank == len(self.shape)
            and all(want in (None, have) for want, have in zip(self.shape, type_.shape, strict=True))
        )

    def __str__(self) -> str:
        return f"{self.dtype.short}[{','.join('?' if n is None else str(n) for n in self.shape)}]"

    def __repr__(self) -> str:
        return f"spec({self})"


def spec(shape: Sequence[int | None] | int, dtype: Any = float32) -> TensorSpec:
    """A tensor's type for signatures and for `Function.ir`; None extents take any size.

    Example:
        >>> tw.spec((None, 3), tw.float32)
        spec(f32[?,3])
    """
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n is not None and (not isinstance(n, int) or n < 0) for n in extents):
        raise ValueError(f"{user_frame()} extents must be counts or None, got {list(extents)}")
    return TensorSpec(extents, as_dtype(dtype))
