"""Types as plain Python values: what inference rules, the tracer and the runtime speak. MLIR types are made from them.

`DType` is one of the element types of the dialect; `TensorType` a static shape with an element type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from thalweg.dialects.extents import show


@dataclass(frozen=True)
class DType:
    """An element type. `name` is the array API's name, `mlir` the text in signless MLIR-with-signedness form.

    Example:
        >>> float32.mlir, float32.itemsize
        ('f32', 4)
    """

    name: str
    short: str  # as errors print it: f32, i64, u8, bool
    mlir: str  # as the dialect prints it: f32, i64, ui8, i1
    kind: str  # 'f' float, 'i' signed, 'u' unsigned, 'b' bool, 's' string
    digits: int = 0  # of floats: significant binary digits, with the leading one that is not stored

    @cached_property
    def numpy(self) -> np.dtype:
        """The NumPy dtype that holds it (through ml_dtypes where NumPy has none)."""
        if self.is_foreign:
            import ml_dtypes  # takes as long to import as to run an exported model a thousand times

            found: np.dtype = np.dtype(getattr(ml_dtypes, self.name))
            return found
        return np.dtype(object if self.name == "string" else self.name)

    @property
    def is_foreign(self) -> bool:
        """NumPy does not have it: readers of its buffers see bits, and files of its own cannot hold it."""
        return self.kind == "f" and not hasattr(np, self.name)

    @property
    def itemsize(self) -> int:
        """Bytes per element in memory (bool takes one)."""
        return int(self.numpy.itemsize)

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def computed(self) -> DType:
        """The dtype in which backends compute before they round, once: float32 for narrower floats."""
        return float32 if self.is_floating and self.itemsize < 4 else self

    @property
    def largest(self) -> float:
        """Of floats: infinity, or the largest number where there is no infinity (float8_e4m3fn)."""
        if not self.name.endswith("fn"):
            return math.inf
        import ml_dtypes

        return float(ml_dtypes.finfo(self.numpy).max)

    def __repr__(self) -> str:
        return f"thalweg.{self.name}"


float64 = DType("float64", "f64", "f64", "f", 53)
float32 = DType("float32", "f32", "f32", "f", 24)
float16 = DType("float16", "f16", "f16", "f", 11)
bfloat16 = DType("bfloat16", "bf16", "bf16", "f", 8)
float8_e4m3fn = DType("float8_e4m3fn", "f8_e4m3fn", "f8E4M3FN", "f", 4)
float8_e5m2 = DType("float8_e5m2", "f8_e5m2", "f8E5M2", "f", 3)
int8 = DType("int8", "i8", "i8", "i")
int16 = DType("int16", "i16", "i16", "i")
int32 = DType("int32", "i32", "i32", "i")
int64 = DType("int64", "i64", "i64", "i")
uint8 = DType("uint8", "u8", "ui8", "u")
uint16 = DType("uint16", "u16", "ui16", "u")
uint32 = DType("uint32", "u32", "ui32", "u")
uint64 = DType("uint64", "u64", "ui64", "u")
bool_ = DType("bool", "bool", "i1", "b")
# Bytes of any length, NumPy arrays of objects. Only host ops know it, so it is not among DTYPES.
string = DType("string", "string", "!tw.string", "s")

FLOATS8 = (float8_e4m3fn, float8_e5m2)
FLOATS = (float64, float32, float16, bfloat16, *FLOATS8)
SIGNED = (int64, int32, int16, int8)
UNSIGNED = (uint64, uint32, uint16, uint8)
INTEGERS = SIGNED + UNSIGNED
DTYPES = FLOATS + INTEGERS + (bool_,)

_BY_MLIR = {d.mlir: d for d in (*DTYPES, string)}
_BY_SHORT = {d.short: d for d in (*DTYPES, string)}
_BY_NUMPY = {d.numpy: d for d in (*DTYPES, string) if not d.is_foreign}
_BY_NAME = {d.name: d for d in (*DTYPES, string)}


def dtype_from_mlir(text: str) -> DType:
    """The dtype that MLIR prints as `text` ('f32', 'ui8', 'i1')."""
    try:
        return _BY_MLIR[text]
    except KeyError:
        raise TypeError(f"element type {text} is not one of {', '.join(_BY_MLIR)}") from None


def as_dtype(value: object) -> DType:
    """The `DType` for a DType, its name, a NumPy dtype or a Python scalar type."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if value is bool:
        return bool_
    try:
        found = np.dtype(value)  # type: ignore[call-overload]
        return _BY_NUMPY.get(found) or _BY_NAME[found.name]
    except (KeyError, TypeError):
        raise TypeError(f"{value!r} is not a dtype of thalweg; the dtypes are {', '.join(_BY_NAME)}") from None


@dataclass(frozen=True)
class TensorType:
    """A static shape and an element type; prints as `f32[2,3]`."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a dense row-major buffer."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def __str__(self) -> str:
        return f"{self.dtype.short}[{','.join(map(show, self.shape))}]"


@dataclass(frozen=True)
class VariableType:
    """A mutable tensor: `!tw.variable<tensor<...>>`."""

    tensor: TensorType

    def __str__(self) -> str:
        return f"variable<{self.tensor}>"


@dataclass(frozen=True)
class TapeType:
    """The handle that `tw.vjp` leaves for `tw.pullback`: `!tw.tape<(primals) -> (floating-point results)>`."""

    primals: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]

    def __str__(self) -> str:
        return f"tape<({', '.join(map(str, self.primals))}) -> ({', '.join(map(str, self.outputs))})>"


@dataclass(frozen=True)
class ResourceType:
    """A handle of what lives beside the program, with the types that go through it: `!tw.queue<tensor<4xf32>>`.

    `kind` is what it is: queue, accumulator, barrier, reader.
    """

    kind: str
    components: tuple[TensorType, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}<{', '.join(map(str, self.components))}>"


VARIES = -1  # in a component of a resource: an extent that differs from element to element; `?` in text


def types_to_text(types: Iterable[TensorType]) -> str:
    """Types as one text, for attributes.

    Example:
        >>> types_to_text([TensorType((4, VARIES), float32), TensorType((), string)])
        'f32[4,?]; string[]'
    """
    return "; ".join(str(t).replace(str(VARIES), "?") for t in types)


@lru_cache(maxsize=512)
def types_from_text(text: str) -> tuple[TensorType, ...]:
    """What `types_to_text` wrote.

    Raises:
        ValueError: it did not.
    """
    found = []
    for part in filter(None, text.split("; ")):
        match = re.fullmatch(r"(\w+)\[((?:(?:\d+|\?),?)*)\]", part)
        if match is None or match[1] not in _BY_SHORT:
            raise ValueError(f"'{part}' is not a type; write for example 'f32[4,?]'")
        shape = tuple(VARIES if n == "?" else int(n) for n in match[2].split(",") if n)
        found.append(TensorType(shape, _BY_SHORT[match[1]]))
    return tuple(found)


Type = TensorType | VariableType | TapeType | ResourceType
