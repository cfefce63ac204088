"""Messages, and how their values become bytes.

A message on the wire is a header in MessagePack, and frames with the bytes of its larger values. Per value the header
says how to read it:

    ["dead"]                             nothing: the branch was not taken
    ["f32", [2, 3], "here", bytes]       a dense array, row-major, little-endian
    ["f32", [900, 900], "frame"]         the same, in the next frame
    ["string", [2], "frame"]             two frames: the lengths as u32, the bytes one after another
    ["f32", [900, 900], "shared", …]     in the sender's memory (`memory.py`)

Nothing is pickled: what a task receives cannot run code there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from thalweg.dialects.types import DTYPES, as_dtype
from thalweg.runtime.plan import DEAD, Array, Value

Buffer: TypeAlias = Any  # bytes, a memoryview: whatever has the buffer protocol
Recipe: TypeAlias = list[Any]  # how to read one value, as the header has it

_BY_SHORT = {d.short: d.numpy for d in DTYPES}
_SHORT = {d.numpy: d.short for d in DTYPES}
SMALL: Final = 1 << 16  # bytes: up to here a copy costs less than minding whose memory it is
TINY: Final = 1 << 12  # bytes: up to here a value travels inside the header


class Message(NamedTuple):
    """What one task tells another.

    Args:
        kind: what it is: "tensor", "run", "abort"… The receiver gives it its meaning.
        step: the step that it belongs to, 0 for none.
        key: what it is about: an edge with its tag, the handle of a program.
        values: arrays (any dtype of the dialect, strings as arrays of bytes objects), or DEAD. They are the
            transport's until they arrive: nobody may write to them any more.
        note: numbers, strings, bytes, None, and lists and dictionaries of them.
        source: the sender's address; the transport fills it in.
    """

    kind: str
    step: int = 0
    key: str = ""
    values: tuple[Value, ...] = ()
    note: Any = None
    source: str = ""


class Lender(Protocol):
    """Puts arrays where the receiver can read them without a frame."""

    def lend(self, array: Array) -> Recipe | None:
        """Where the array's bytes now are; None if there is no room, or it is not worth it."""
        ...


class Borrower(Protocol):
    """Finds arrays that were lent."""

    def borrow(self, shape: tuple[int, ...], dtype: np.dtype[Any], place: Sequence[Any]) -> Array:
        """The lent array, read-only, without a copy. The lender has its memory back when nobody refers to it."""
        ...


def encode(values: Sequence[Value], lender: Lender | None = None) -> tuple[list[Recipe], list[Buffer]]:
    """How to read the values, and their frames.

    Raises:
        TypeError: a value is neither an array of the dialect's dtypes nor DEAD.
    """
    recipes: list[Recipe] = []
    frames: list[Buffer] = []
    for value in values:
        if value is DEAD:
            recipes.append(["dead"])
            continue
        array = value if isinstance(value, np.ndarray) else _as_array(value)
        shape, short = list(array.shape), _SHORT.get(array.dtype)
        if short is None:
            recipes.append(["string", shape, "frame"])
            frames.extend(_strings(array))
        elif array.nbytes <= TINY:
            recipes.append([short, shape, "here", array.tobytes()])
        elif lender is not None and (place := lender.lend(array)) is not None:
            recipes.append([short, shape, "shared", *place])
        else:
            recipes.append([short, shape, "frame"])
            frames.append(_bytes(array))
    return recipes, frames


def decode(recipes: Sequence[Recipe], frames: Sequence[Buffer], borrower: Borrower | None = None) -> tuple[Value, ...]:
    """The values again. What comes out of frames is freshly allocated, aligned and writable.

    Raises:
        ValueError: frames and header do not fit.
    """
    left = iter(frames)
    return tuple([_decode(recipe, left, borrower) for recipe in recipes])


def _decode(recipe: Recipe, frames: Iterator[Buffer], borrower: Borrower | None) -> Value:
    if recipe[0] == "dead":
        return DEAD
    short, shape, form = recipe[:3]
    if short == "string":
        return _from_strings(tuple(shape), _next(frames), _next(frames))
    dtype = _BY_SHORT[short]
    if form == "here":
        return np.frombuffer(bytearray(recipe[3]), dtype).reshape(shape)
    if form == "shared":
        if borrower is None:
            raise ValueError("a value was lent by a task that cannot lend to this one")
        return borrower.borrow(tuple(shape), dtype, recipe[3:])
    frame = np.frombuffer(_next(frames), np.uint8)
    array = np.empty(shape, dtype)
    if frame.nbytes != array.nbytes:
        raise ValueError(f"{frame.nbytes} bytes came for {short}{shape}, which has {array.nbytes}")
    array.reshape(-1).view(np.uint8)[:] = frame
    return array


def _next(frames: Iterator[Buffer]) -> Buffer:
    for frame in frames:
        return frame
    raise ValueError("a frame is missing")


def _as_array(value: Value) -> Array:
    array = np.asarray(value)
    if array.dtype != object:
        as_dtype(array.dtype)
        return array
    raise TypeError(f"a {type(value).__name__} cannot leave its task: only tensors are sent. Colocate what uses it.")


def _bytes(array: Array) -> Buffer:
    """The array's bytes in row-major order: a copy if they are few or scattered."""
    if array.nbytes <= SMALL:
        return array.tobytes()
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def _strings(array: Array) -> tuple[bytes, bytes]:
    parts = [part.encode() if isinstance(part, str) else bytes(part) for part in _checked(array)]
    return np.array([len(part) for part in parts], "<u4").tobytes(), b"".join(parts)


def _checked(array: Array) -> list[Any]:
    parts: list[Any] = array.reshape(-1).tolist()
    for part in parts:
        if not isinstance(part, bytes | str):
            raise TypeError(f"an array of dtype {array.dtype} that holds a {type(part).__name__} cannot leave its task")
    return parts


def _from_strings(shape: tuple[int, ...], lengths: Buffer, text: Buffer) -> Array:
    array = np.empty(math.prod(shape), object)
    sizes = np.frombuffer(lengths, "<u4")
    ends = np.cumsum(sizes, dtype=np.int64)
    data = bytes(text)
    if len(sizes) != array.size or (len(ends) and ends[-1] != len(data)):
        raise ValueError(f"{len(sizes)} strings in {len(data)} bytes came for string{list(shape)}")
    for i, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        array[i] = data[end - size : end]
    return array.reshape(shape)
