"""What lives beside programs and is named in them by a handle: the base of queues, readers, accumulators, mutexes.

A resource is used alike in a graph, in a traced function (where its ops become part of the program) and eagerly, where
an op is done at once and this thread waits for it. All of a process's steps share one object per name and container.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.diagnostics import StepError, TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.types import VARIES, DType, ResourceType, TensorType, as_dtype, string, types_to_text
from thalweg.frontend.array.conversion import cast, common_dtype, operand
from thalweg.frontend.device import current_scope
from thalweg.frontend.dtypes import RANK
from thalweg.frontend.graph import Graph
from thalweg.frontend.spec import spec
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor
from thalweg.frontend.trace import Trace, current
from thalweg.runtime.direct import perform
from thalweg.runtime.resources import of_process


class _Names:
    """Names that this process has given, so that two queues called "q" are two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[str, int] = {}

    def claim(self, wanted: str) -> str:
        with self._lock:
            number, name = self._given.get(wanted, 0), wanted
            while name in self._given:  # also a name that was wanted as it is
                name, number = f"{wanted}_{number}", number + 1
            self._given[wanted] = max(number, 1)
            self._given.setdefault(name, 1)
            return name


_names = _Names()


class Resource:
    """A handle's other end, as users hold it.

    Args:
        row: makes the handle.
        attrs: of that row, but for `name` and `container`; None if they are not known yet.
        name: what messages and graphs call it; a number is appended where the name is taken.
        shared_name: whoever gives the same name and container has the same one, in other graphs and sessions, too.
        container: which `reset` it belongs to.
    """

    def __init__(
        self, row: OpDef, attrs: Mapping[str, Any] | None, name: str, shared_name: str | None, container: str
    ) -> None:
        self.row = row
        self.where = user_frame()
        self.scope = current_scope()  # the device asked for; what uses the resource follows it
        self.name = re.sub(r"[^\w./:-]", "_", shared_name or _names.claim(name))
        self.container = container
        self.attrs: dict[str, Any] = {}
        self.type: ResourceType | None = None
        if attrs is not None:
            self._declare(attrs)
        # Nobody else can name it: if it is used eagerly only, what it holds goes with it.
        kind = row.name.removesuffix("_handle")
        self._finalizer = weakref.finalize(self, of_process().drop, container, kind, self.name)
        self._finalizer.atexit = False
        if shared_name is not None:
            self._finalizer.detach()

    def _declare(self, attrs: Mapping[str, Any]) -> None:
        """Fix the attributes of the handle; raises what the row's rule says of them."""
        self.attrs = self.row.complete({**attrs, "name": self.name, "container": self.container})
        try:
            (type_,) = self.row.result_types([], self.attrs)
        except TypeInferenceError as error:
            raise TypeInferenceError(f"{user_frame()} {error}") from None
        assert isinstance(type_, ResourceType)
        self.type = type_

    @staticmethod
    def claim_name(wanted: str) -> str:
        """A name that nothing else in this process has."""
        return _names.claim(wanted)

    def _get(self, row: OpDef, *operands: Operand, name: str | None = None, **attrs: Any) -> tuple[Tensor, ...]:
        """The results of an op on this resource."""
        trace = current()
        if trace is None:
            return self._now(row, operands, attrs)
        with _adding(trace):
            results: tuple[Tensor, ...] = trace.emit_values(row, self._values(trace, operands), attrs)
            _named(trace, name)
            return results

    def _perform(self, row: OpDef, *operands: Operand, name: str | None = None, **attrs: Any) -> Any:
        """An op without results: in a graph the operation to run, else it is done here and there is None."""
        trace = current()
        if trace is None:
            self._now(row, operands, attrs)
            return None
        with _adding(trace):
            operation = trace.perform(row, self._values(trace, operands), attrs)
            _named(trace, name)
            return operation

    def _values(self, trace: Trace, operands: Sequence[Operand]) -> list[Any]:
        return [o.handle(trace) if isinstance(o, Resource) else trace.value_of(o) for o in (self, *operands)]

    def handle(self, trace: Trace) -> ir.Value:
        """What stands for it in a program."""
        self._finalizer.detach()  # the program may run for as long as the process
        return trace.resource(self)

    def found(self) -> Any:
        """The object itself, in this process."""
        return perform(self.row.name, [], self.attrs, of_process())[0]

    def _now(self, row: OpDef, operands: Sequence[Operand], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        return _at_once(row, (self, *operands), attrs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.name}')"


Operand: TypeAlias = Tensor | Resource


def emit_host(row: OpDef, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The results of a host op that uses no resource; outside any trace it runs at once."""
    trace = current()
    return _at_once(row, operands, attrs) if trace is None else trace.emit(row, operands, attrs)


def _at_once(row: OpDef, operands: Sequence[Operand], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """An op now. This thread waits for it."""
    complete = row.complete(attrs)
    try:
        if not complete.get("extents"):  # otherwise it is the op that finds out the types
            row.result_types([o.type for o in operands], complete)  # type: ignore[misc]
        inputs = [o.found() if isinstance(o, Resource) else np.asarray(o) for o in operands]
        results = perform(row.name, inputs, complete, of_process())
    except (StepError, TypeInferenceError) as error:
        raise type(error)(f"{user_frame()} {error}") from None
    return tuple(EagerTensor(np.asarray(r)) for r in results)


def _adding(trace: Trace) -> Any:
    """Nobody else adds to a graph meanwhile."""
    return trace.lock if isinstance(trace, Graph) else contextlib.nullcontext()


def _named(trace: Trace, name: str | None) -> None:
    if name is not None and isinstance(trace, Graph):
        trace.name_latest(name)


def component(value: ArrayLike, dtype: DType, what: str) -> Tensor:
    """A value as a tensor of a dtype; it is converted, unless to a lower kind (float to integer).

    Raises:
        TypeInferenceError: it does not fit.
    """
    if dtype == string:
        return strings(value)
    given = operand(value)
    if RANK[common_dtype([given]).kind] > RANK[dtype.kind]:
        shown = given.type if isinstance(given, Tensor) else given
        raise TypeInferenceError(
            f"{user_frame()} {what}: it takes {dtype.name}, the value is {shown}. Convert it with tw.astype."
        )
    return cast(given, dtype)


def strings(value: Any) -> Tensor:
    """A string tensor of a str or bytes, or of nested lists or arrays of them; text becomes UTF-8.

    Raises:
        TypeError: there is something else in it.
    """
    if isinstance(value, Tensor):
        if value.dtype == string:
            return value
        raise TypeInferenceError(f"{user_frame()} expected strings, got {value.type}.")
    array = np.array(value, object)
    flat = array.reshape(-1)
    for index, element in enumerate(flat):
        if not isinstance(element, str | bytes):
            raise TypeError(f"{user_frame()} expected strings, got {type(element).__name__}: {element!r:.80}")
        flat[index] = element.encode() if isinstance(element, str) else element
    return EagerTensor(flat.reshape(array.shape))


def as_dtypes(dtypes: Any) -> list[DType]:
    """One dtype, or a list of them."""
    return [as_dtype(d) for d in dtypes] if isinstance(dtypes, list | tuple) else [as_dtype(dtypes)]


def component_types(what: str, dtypes: Sequence[DType], shapes: Any) -> list[TensorType]:
    """Types from dtypes and as many shapes, in which None stands for an extent that varies.

    Raises:
        ValueError: there are not as many.
    """
    given = list(shapes)
    if len(dtypes) == 1 and not (given and isinstance(given[0], tuple | list)):
        given = [given]  # one shape for one dtype
    if len(given) != len(dtypes):
        raise ValueError(f"{user_frame()} {what}: {len(dtypes)} dtypes need as many shapes, got {len(given)}.")
    specs = [spec(shape, dtype) for shape, dtype in zip(given, dtypes, strict=True)]
    return [TensorType(tuple(VARIES if n is None else n for n in s.shape), s.dtype) for s in specs]


__all__ = [
    "Resource", "as_dtypes", "component", "component_types", "emit_host", "strings", "types_to_text",
]  # fmt: skip
