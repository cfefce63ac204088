"""Variables: tensors that change, shared by all programs that use them."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.location import Where, user_frame, without_scopes
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import state
from thalweg.dialects.types import DType, TensorType, as_dtype
from thalweg.frontend.array.conversion import cast, fitted
from thalweg.frontend.device import COLOCATE, Device, asked_for, current_scope
from thalweg.frontend.operators import Operators
from thalweg.frontend.program import Program, compiler
from thalweg.frontend.tensor import Array, ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current, suspended
from thalweg.runtime.checkpoints import Part
from thalweg.runtime.locks import SharedLock
from thalweg.runtime.residence import Residence

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
_initialising = threading.RLock()  # held while a variable gets its memory, which may run programs of other variables


def _initial_tensor(value: Any, dtype: Any, where: Where) -> Tensor:
    """An initial value as a tensor that nobody else writes to."""
    tensor = as_tensor(value)
    if isinstance(tensor, TracedTensor):
        if not tensor.scope.trace.stays_open or tensor.scope is not tensor.scope.trace.root:
            raise TracingError(
                f"{where} a variable is made from a traced tensor {tensor.type}. Variables outlive calls: make it "
                "outside the traced function, or give a function as its initial value: tw.Variable(lambda: …)."
            )
        return tensor if dtype is None else cast(tensor, as_dtype(dtype))
    assert isinstance(tensor, EagerTensor)
    if dtype is not None:
        return EagerTensor(tensor.data.astype(as_dtype(dtype).numpy))
    return EagerTensor(tensor.data.copy()) if tensor.borrowed else tensor


class Variable(Operators):
    """A mutable tensor of fixed shape and dtype that outlives calls.

    Used in an expression it is its present value. In a `tw.function` reads and assignments become part of the program,
    which changes the variable's buffer in place.

    In a `tw.Graph` a variable gets its memory when it is first used in a run, from the program that computes its
    initial value; what assigns it is an operation to run.

    Args:
        initial_value: an array, or a function without arguments that makes one. In a graph also a tensor of it.
        name: its name in programs and checkpoints; a number is appended if it is taken.
        dtype: converted to this; by default the initial value's.
        trainable: whether `Module.trainable` counts it in.
        container: the home from which `Session.reset` gives it its initial value again. Variables made in a graph are
            in the container "" by default, others in none.

    Raises:
        TracingError: made inside a traced function from traced values.

    Example:
        >>> w = tw.Variable(tw.zeros((2,)), name="w")
        >>> w.assign_add(1.0); w.value
        Tensor([1., 1.], dtype=float32)
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_initial",
        "_type",
        "container",
        "lock",
        "name",
        "part",
        "residence",
        "scope",
        "trainable",
        "where",
    )

    def __init__(
        self,
        initial_value: Any,
        name: str = "variable",
        dtype: Any = None,
        trainable: bool = True,
        container: str | None = None,
    ) -> None:
        self.where = user_frame()
        self.scope = current_scope()  # the device asked for; what reads and assigns the variable follows it
        self.trainable = trainable
        self.part: Part | None = None  # what it is a piece of, where it is a shard
        self.lock = SharedLock()  # held by programs that use the buffer while others may
        self.residence = Residence(self.lock.changed)  # whether an accelerator has a newer value than the buffer
        trace = current()
        in_graph = trace is not None and trace.stays_open
        self.container = "" if container is None and in_graph else container
        if callable(initial_value):
            with nullcontext() if in_graph else suspended():
                initial_value = initial_value()
        tensor = _initial_tensor(initial_value, dtype, self.where)
        self._type = tensor.type
        self._buffer: Array | None = None
        self._initial: Tensor | None = tensor
        if not in_graph:
            self.initialise()
        self.name = _names.claim(re.sub(r"[^\w./:-]", "_", name) or "variable", self)
        if in_graph:
            assert trace is not None
            trace.handle(self)

    @property
    def buffer(self) -> Array:
        """Its memory, made and filled at the first use. It stays where it is: compiled programs are bound to it. If an
        accelerator has a newer value, it comes here first."""
        buffer = self._buffer
        if buffer is None:
            return self.initialise()
        if self.residence.host_is_old:
            with self.lock.reading():
                self.residence.to_host(buffer)
        return buffer

    def initialise(self) -> Array:
        """Give it its initial value, if it has none yet; gives its memory."""
        with _initialising:
            if self._buffer is None:
                self._buffer = aligned_copy(self._initial_array())
                if self.container is None:
                    self._initial = None  # not needed again
            return self._buffer

    def reset(self) -> None:
        """Give it its initial value again.

        Raises:
            TracingError: it is in no container, so its initial value has not been kept.
        """
        if self._initial is None:
            raise TracingError(
                f"{user_frame()} variable '{self.name}' cannot be reset: its initial value has not been kept. Make it "
                "with container='…'."
            )
        if self._buffer is not None:
            value = self._initial_array()
            with self.lock.writing():
                np.copyto(self._buffer, value)
                self.residence.changed_on_host()

    def initial_program(self) -> Program | None:
        """The program that computes the initial value, a program without inputs; None if it is known."""
        initial = self._initial
        if not isinstance(initial, TracedTensor):
            return None
        return initial.scope.trace.program_of(f"{self.name}/initial", initial)

    def first_assignment(self) -> Program | None:
        """The program that assigns the initial value, for a task that is to run it; None if the value is here."""
        program = self.initial_program() if self._buffer is None else None
        if program is None:
            return None
        from thalweg.frontend.subgraph import assigning  # which needs variables

        return assigning(program, self)

    def _initial_array(self) -> Array:
        program = self.initial_program()
        if program is None:
            assert isinstance(self._initial, EagerTensor)
            return self._initial.data
        with suspended():
            for variable in program.variables:
                variable.initialise()
            with context.entered():  # computed here, wherever the variable is to live
                program = replace(program, module=without_scopes(program.module))
            (value,) = compiler().compile(program)([])
        return value

    @property
    def type(self) -> TensorType:
        """Shape and dtype in one."""
        return self._type

    @property
    def shape(self) -> tuple[int, ...]:
        return self._type.shape

    @property
    def dtype(self) -> DType:
        return self._type.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._type.rank

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._type.size

    @property
    def device(self) -> Device:
        """Where its buffer is, or will be in a graph for a cluster."""
        beside = _names.taken.get(self.scope.removeprefix(COLOCATE)) if self.scope.startswith(COLOCATE) else None
        return asked_for(self.scope) if beside is None else beside.device

    @property
    def value(self) -> Tensor:
        """Its value now: later assignments do not change the tensor that you get."""
        trace = current()
        return trace.read(self) if trace is not None else EagerTensor(self.numpy())

    def read(self) -> Tensor:
        """`value`, as a method."""
        return self.value

    as_tensor = read

    def numpy(self) -> Array:
        """A copy of its value as a NumPy array."""
        buffer = self.buffer
        with self.lock.reading():
            self.residence.to_host(buffer)
            return buffer.copy()

    def assign(self, value: ArrayLike) -> Any:
        """Make `value` its value; it is broadcast and converted to the variable's shape and dtype where that is safe.

        Returns:
            The variable; in a `tw.Graph` the `tw.Operation` that does it when it is run.

        Raises:
            TypeInferenceError: the value does not fit.
        """
        return self._change(state.assign, value)

    def assign_add(self, value: ArrayLike) -> Any:
        """Add `value` to it in place."""
        return self._change(state.assign_add, value)

    def assign_sub(self, value: ArrayLike) -> Any:
        """Subtract `value` from it in place."""
        return self._change(state.assign_sub, value)

    def _change(self, row: OpDef, value: ArrayLike) -> Any:
        tensor = fitted(value, self.type, f"{row.name} to variable '{self.name}'")
        trace = current()
        if trace is not None:
            return trace.assign(row, self, tensor)
        assert isinstance(tensor, EagerTensor)
        buffer = self.buffer
        with self.lock.writing():
            self.residence.to_host(buffer)
            if row is state.assign:
                np.copyto(buffer, tensor.data)
            elif row is state.assign_add:
                np.add(buffer, tensor.data, out=buffer)
            else:
                np.subtract(buffer, tensor.data, out=buffer)
            self.residence.changed_on_host()
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
        return f"Variable('{self.name}', {self.type}, {np.array2string(self.numpy(), separator=', ', threshold=20)})"


def variables_in(containers: Sequence[str] | None) -> list[Variable]:
    """The variables of the process that are in these containers, in any by default."""
    with _names.lock:
        every = list(_names.taken.values())
    return [v for v in every if v.container is not None and (containers is None or v.container in containers)]
