"""Tensors: `EagerTensor` holds numbers, `TracedTensor` stands for a value of a program that is being traced.

Both are `tw.Tensor`, immutable, and do the same things; what needs the numbers (`bool(x)`, `float(x)`, `np.asarray(x)`)
works on eager ones and is a `TracingError` on traced ones that says what to use instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import TracingError, TypeInferenceError
from thalweg.dialects.extents import any_open, is_open
from thalweg.dialects.location import Where, scope_of, user_frame
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import DType, TensorType, as_dtype
from thalweg.frontend.device import CPU, Device, asked_for, check_device
from thalweg.frontend.dtypes import DEFAULT_INT, default_dtype, scalar_kind
from thalweg.frontend.extent import shown_shape
from thalweg.frontend.hints import MissingAttributeError
from thalweg.frontend.operators import Operators
from thalweg.runtime.gpu.dlpack import host_array, host_capsule

if TYPE_CHECKING:
    from thalweg.frontend.trace import Scope

Array: TypeAlias = np.ndarray[Any, Any]
ArrayLike: TypeAlias = Any  # a Tensor, a Variable, a NumPy array, a Python scalar or nested lists of these

Scalar = (bool, int, float)


class Tensor(Operators):
    """An n-dimensional array of one dtype. Make one with `tw.asarray`, `tw.zeros`…"""

    __slots__ = ()

    @property
    def type(self) -> TensorType:
        """Shape and dtype in one."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.type.rank

    @property
    def size(self) -> Any:
        """Number of elements."""
        return self.type.size

    @property
    def device(self) -> Device:
        """Where the numbers are."""
        return CPU

    if not TYPE_CHECKING:  # who checks types is told by the checker

        def __getattr__(self, name: str) -> Any:
            raise MissingAttributeError(name=name, obj=self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{user_frame()} len() of a 0-dimensional tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The array API standard's way to find the functions: the package itself."""
        import thalweg

        return thalweg

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """This tensor: what is traced is where the scope around it asks for."""
        check_device(device)
        return self


class EagerTensor(Tensor):
    """A tensor whose numbers are here, in a C-contiguous NumPy buffer that nobody writes to."""

    __slots__ = ("__weakref__", "borrowed", "data")

    def __init__(self, data: Array, borrowed: bool = False) -> None:
        self.data = data
        self.borrowed = borrowed  # the buffer is a user's array, good for one operation: to be copied if it is kept

    @property
    def type(self) -> TensorType:
        return array_type(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def dtype(self) -> DType:
        return as_dtype(self.data.dtype)

    @property
    def held(self) -> Any:
        """The array that holds the numbers, wherever they are."""
        return self.data

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """A tensor with these numbers on a device of this process; this one, if it is there."""
        from thalweg.frontend.resident import moved  # which needs tensors

        return moved(self, check_device(device))

    def numpy(self) -> Array:
        """The numbers as a read-only NumPy array, not copied."""
        view = self.data.view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy or (dtype is not None and np.dtype(dtype) != self.data.dtype):
            return self.data.astype(dtype if dtype is not None else self.data.dtype, copy=True)
        return self.numpy()

    def __dlpack__(self, **options: Any) -> Any:
        return host_capsule(self.data) if self.dtype.is_foreign else self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the host, in DLPack's numbers

    def item(self) -> bool | int | float:
        """The one element as a Python scalar."""
        value: bool | int | float = self.data.item()
        return value

    def tolist(self) -> Any:
        """The elements as nested lists of Python scalars."""
        return self.data.tolist()

    def __bool__(self) -> bool:
        return bool(self._one("bool"))

    def __int__(self) -> int:
        return int(self._one("int"))

    def __float__(self) -> float:
        return float(self._one("float"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise TypeError(f"{user_frame()} a tensor {self.type} cannot be an index: its dtype is no integer")
        return int(self._one("an index"))

    def __complex__(self) -> complex:
        return complex(float(self))

    def _one(self, wanted: str) -> Any:
        if self.data.size != 1 or (self.data.ndim and wanted != "bool"):
            raise TypeError(
                f"{user_frame()} {wanted} of a tensor {self.type}: only a 0-dimensional one is one number. "
                "Reduce it first: tw.any, tw.all, tw.sum…"
            )
        return self.data.item()

    def __format__(self, spec: str) -> str:
        return format(self.data.item(), spec) if spec and self.data.size == 1 else str(self)

    def __str__(self) -> str:
        return str(self.data)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=200)
        shape = f", shape={self.shape}" if self.data.size == 0 or "..." in body else ""
        return f"Tensor({body}{shape}, dtype={self.dtype.name})"

    def __reduce__(self) -> Any:
        return EagerTensor, (self.data,)


class TracedTensor(Tensor):
    """A value of the program that is being traced: shape and dtype, but no numbers yet.

    A weak one stands for a Python number given to a traced function: it is held in 64 bits and takes the dtype of what
    it meets.
    """

    __slots__ = ("__weakref__", "_type", "scope", "value", "weak", "where")

    def __init__(self, value: ir.Value, type_: TensorType, scope: Scope, where: Where, weak: bool = False) -> None:
        self.value = value
        self._type = type_
        self.scope = scope
        self.where = where
        self.weak = weak

    @property
    def type(self) -> TensorType:
        if self.weak:
            return TensorType((), default_dtype(self._type.dtype.kind))
        return self._type

    @property
    def device(self) -> Device:
        """The device that was asked for, where the trace that made it is at home if none was."""
        owner = self.value.owner
        return CPU if isinstance(owner, ir.Block) else asked_for(scope_of(owner.operation.location))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents; one that is open until a graph is run prints as None."""
        shape = self.type.shape
        return shown_shape(shape) if any_open(shape) else shape

    @property
    def size(self) -> Any:
        """Number of elements; None where an extent is open."""
        return None if any_open(self.type.shape) else self.type.size

    def __len__(self) -> int:
        if self.type.shape and is_open(self.type.shape[0]):
            raise self._no_numbers("len()", "Its first extent is open until the graph is run: use tw.extent(x, 0).")
        return super().__len__()

    @property
    def name(self) -> str:
        """Its name in its `tw.Graph`: "y:0" is the first result of the operation "y".

        Raises:
            TracingError: it belongs to no graph.
        """
        return self.scope.trace.name_of(self)

    def _no_numbers(self, wanted: str, instead: str) -> TracingError:
        here = user_frame()
        made = ""
        if not self.scope.is_argument(self.value) and self.where != here:
            made = f" (computed at {str(self.where).removesuffix(':')})"
        if self.scope.trace.stays_open:
            instead = f"Get them with tw.Session(graph).run(…). {instead}"
        return TracingError(
            f"{here} {wanted} of a traced tensor {self.type}{made}: its numbers are known when the program runs, not "
            f"while {self.scope.label} is traced. {instead}"
        )

    def __bool__(self) -> bool:
        raise self._no_numbers(
            "the truth value",
            "For `if` use tw.cond(pred, on_true, on_false, *operands) or tw.where(pred, a, b), for `while` use "
            "tw.while_loop, for `and`, `or`, `not` use &, |, ~. An option that is no data can be static: "
            "tw.function(f, static=('name',)).",
        )

    def __int__(self) -> int:
        raise self._no_numbers("int()", "Use tw.astype(x, tw.int32), or make a number that is no data static.")

    def __float__(self) -> float:
        raise self._no_numbers("float()", "Use tw.astype(x, tw.float32), or make a number that is no data static.")

    def __index__(self) -> int:
        raise self._no_numbers(
            "a Python index",
            "To pick elements use x[i], tw.take or tw.dynamic_slice; for `range` use tw.scan or tw.while_loop.",
        )

    def item(self) -> Any:
        raise self._no_numbers("item()", "Return the tensor from the function and read it outside.")

    def numpy(self) -> Array:
        """Known outside a trace only."""
        raise self._no_numbers("numpy()", "Return the tensor from the function and read it outside.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise self._no_numbers("a NumPy array", "Use the functions of `thalweg`, or return it and convert outside.")

    def __dlpack__(self, **options: Any) -> Any:
        raise self._no_numbers("a DLPack capsule", "Return it from the function and export it outside.")

    def __format__(self, how: str) -> str:
        if how:
            raise self._no_numbers(f"formatting (:{how})", "Return the tensor from the function and print it outside.")
        return str(self)

    def __repr__(self) -> str:
        return f"Tensor({self.type}, traced in {self.scope.label})"


def from_numpy(array: Any, copy: bool = False) -> EagerTensor:
    """An eager tensor over a NumPy array, not copied if it is C-contiguous and `copy` is False.

    Raises:
        TypeError: its dtype is none of ours.
    """
    data = np.array(array, order="C") if copy else np.asarray(array, order="C")
    try:
        as_dtype(data.dtype)
    except TypeError as error:
        raise TypeError(f"{user_frame()} {error}") from None
    if data.dtype == object and not all(isinstance(element, bytes) for element in data.flat):
        raise TypeError(f"{user_frame()} an array of objects is no tensor, unless all of them are bytes: strings")
    return EagerTensor(data)


def as_tensor(value: ArrayLike) -> Tensor:
    """The tensor for anything array-like: Python floats become float32, Python integers int32 (int64 if they must).

    Raises:
        TypeError: it is nothing of the kind.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Scalar):
        return from_numpy(_number(value))
    if isinstance(value, np.ndarray | np.generic):
        tensor = from_numpy(value)
        tensor.borrowed = True
        return tensor
    if hasattr(value, "as_tensor"):  # a Variable: its value now
        read: Tensor = value.as_tensor()
        return read
    if isinstance(value, list | tuple):
        return _from_nested(value)
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        from thalweg.frontend.resident import adopted  # which needs tensors

        on_gpu = adopted(value)
        if on_gpu is not None:
            return on_gpu
        return from_numpy(np.asarray(value) if hasattr(value, "__array__") else host_array(value))
    raise TypeError(f"{user_frame()} expected something array-like, got {type(value).__name__}: {value!r:.80}")


def _number(value: bool | int | float) -> Array:
    dtype = default_dtype(scalar_kind(value))
    if dtype == DEFAULT_INT and not -(2**31) <= value < 2**31:
        if not -(2**63) <= value < 2**63:
            raise TypeInferenceError(f"{user_frame()} {value} is outside the range of int64. Write it as a float.")
        return np.array(value, np.int64)
    return np.array(value, dtype.numpy)


def _from_nested(value: list[Any] | tuple[Any, ...]) -> Tensor:
    if _holds_tensors(value):
        from thalweg.frontend.array.manipulation import stack

        return stack([as_tensor(v) for v in value])
    try:
        array = np.array(value)
    except ValueError as error:
        raise TypeError(f"{user_frame()} the nested lists are ragged: {error}") from None
    if array.dtype.kind in "iu" and not _holds_arrays(value) and (array.size == 0 or np.abs(array).max() < 2**31):
        array = array.astype(DEFAULT_INT.numpy)
    elif array.dtype == np.float64 and not _holds_arrays(value):
        array = array.astype(np.float32)
    return from_numpy(array)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensors(v) for v in value)
    return isinstance(value, Operators)


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_arrays(v) for v in value)
    return isinstance(value, np.ndarray | np.generic) and not isinstance(value, float)  # np.float64 is a Python float
