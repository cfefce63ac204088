"""Variables: tensors that change, shared by all programs that use them."""

from __future__ import annotations

import re
import threading
import weakref
from typing import Any

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import state
from thalweg.dialects.types import DType, TensorType, as_dtype
from thalweg.frontend.array.conversion import fitted
from thalweg.frontend.device import CPU, Device, current_scope
from thalweg.frontend.operators import Operators
from thalweg.frontend.tensor import Array, ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current, suspended

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned_copy(array: Array) -> Array:
    """A C-contiguous copy whose first byte lies on a cache line."""
    storage = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    offset = -storage.ctypes.data % ALIGNMENT
    copy = storage[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class _Names:
    """Names in use, so that each variable of the process has its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken: weakref.WeakValueDictionary[str, Variable] = weakref.WeakValueDictionary()

    def claim(self, wanted: str, owner: Variable) -> str:
        with self.lock:
            name, number = wanted, 0
            while name in self.taken:
                number += 1
                name = f"{wanted}_{number}"
            self.taken[name] = owner
            return name


_names = _Names()


class Variable(Operators):
    """A mutable tensor of fixed shape and dtype that outlives calls.

    Used in an expression it is its present value. In a `tw.function` reads and assignments become part of the program,
    which changes the variable's buffer in place.

    Args:
        initial_value: an array, or a function without arguments that makes one.
        name: its name in programs and checkpoints; a number is appended if it is taken.
        dtype: converted to this; by default the initial value's.
        trainable: whether `Module.trainable` counts it in.

    Raises:
        TracingError: made inside a traced function from traced values.

    Example:
        >>> w = tw.Variable(tw.zeros((2,)), name="w")
        >>> w.assign_add(1.0); w.value
        Tensor([1., 1.], dtype=float32)
    """

    __slots__ = ("__weakref__", "buffer", "name", "scope", "trainable", "where")

    def __init__(self, initial_value: Any, name: str = "variable", dtype: Any = None, trainable: bool = True) -> None:
        self.where = user_frame()
        self.scope = current_scope()  # the device asked for; what reads and assigns the variable follows it
        if callable(initial_value):
            with suspended():
                initial_value = initial_value()
        tensor = as_tensor(initial_value)
        if isinstance(tensor, TracedTensor):
            raise TracingError(
                f"{self.where} a variable is made from a traced tensor {tensor.type}. Variables outlive calls: make it "
                "outside the traced function, or give a function as its initial value: tw.Variable(lambda: …)."
            )
        assert isinstance(tensor, EagerTensor)
        data = tensor.data if dtype is None else tensor.data.astype(as_dtype(dtype).numpy)
        self.buffer: Array = aligned_copy(data)
        self.trainable = trainable
        self.name = _names.claim(re.sub(r"[^\w./:-]", "_", name) or "variable", self)

    @property
    def type(self) -> TensorType:
        """Shape and dtype in one."""
        return array_type(self.buffer)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.buffer.shape)

    @property
    def dtype(self) -> DType:
        return as_dtype(self.buffer.dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.buffer.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.buffer.size

    @property
    def device(self) -> Device:
        """Where its buffer is."""
        return CPU

    @property
    def value(self) -> Tensor:
        """Its value now: later assignments do not change the tensor that you get."""
        trace = current()
        return trace.read(self) if trace is not None else EagerTensor(self.buffer.copy())

    def read(self) -> Tensor:
        """`value`, as a method."""
        return self.value

    as_tensor = read

    def numpy(self) -> Array:
        """A copy of its value as a NumPy array."""
        return self.buffer.copy()

    def assign(self, value: ArrayLike) -> Variable:
        """Make `value` its value; it is broadcast and converted to the variable's shape and dtype where that is safe.

        Raises:
            TypeInferenceError: the value does not fit.
        """
        return self._change(state.assign, value)

    def assign_add(self, value: ArrayLike) -> Variable:
        """Add `value` to it in place."""
        return self._change(state.assign_add, value)

    def assign_sub(self, value: ArrayLike) -> Variable:
        """Subtract `value` from it in place."""
        return self._change(state.assign_sub, value)

    def _change(self, row: OpDef, value: ArrayLike) -> Variable:
        tensor = fitted(value, self.type, f"{row.name} to variable '{self.name}'")
        trace = current()
        if trace is not None:
            trace.assign(row, self, tensor)
            return self
        assert isinstance(tensor, EagerTensor)
        if row is state.assign:
            np.copyto(self.buffer, tensor.data)
        elif row is state.assign_add:
            np.add(self.buffer, tensor.data, out=self.buffer)
        else:
            np.subtract(self.buffer, tensor.data, out=self.buffer)
        return self

    def __len__(self) -> int:
        return len(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.value.__array__(dtype, copy)  # type: ignore[attr-defined,no-any-return]

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)  # type: ignore[call-overload,no-any-return]

    def __float__(self) -> float:
        return float(self.value)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"Variable('{self.name}', {self.type}, {np.array2string(self.buffer, separator=', ', threshold=20)})"
