"""Eager computation: outside a trace an array function runs at once, as a compiled program that is kept.

`@array_function` marks the public array functions. Inside a trace they just add their ops. Outside, the first call
with given types and options traces the whole function (a softmax is one program, not six) and compiles it; further
calls look it up. What a call costs then is the making of its key, about a microsecond, and the program.

It runs on the device that `tw.device` asks for, else on the GPU that its operands are on, else on the host. What has
no operands (zeros, ones, a range) is made on the host, and moved.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.types import DType
from thalweg.frontend.device import Device, asked_here, regardless
from thalweg.frontend.operators import Operators
from thalweg.frontend.program import Executable, Program, compiler, eager_programs
from thalweg.frontend.resident import ResidentTensor, place_of, tensor_over
from thalweg.frontend.tensor import Array, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import Trace, _thread, current
from thalweg.frontend.tree import Structure, flatten
from thalweg.runtime.gpu.array import on_host

P = ParamSpec("P")
R = TypeVar("R")


class Plan:
    """How the results of a program become the value that its Python function returned.

    Traced leaves are results of the program; all others (eager tensors, numbers, strings) are returned as they were.
    """

    def __init__(self, value: Any) -> None:
        leaves, structure = flatten(value)
        self.structure: Structure = structure
        self.outputs: list[Tensor] = []
        self._leaves: list[Any] = []
        for leaf in leaves:
            tensor = as_tensor(leaf) if isinstance(leaf, Operators) else leaf
            if isinstance(tensor, TracedTensor):
                self._leaves.append(len(self.outputs))
                self.outputs.append(tensor)
            else:
                self._leaves.append((tensor,))
        self._single = structure.is_leaf and bool(self.outputs)

    @classmethod
    def stored(cls, structure: Structure, results: list[int]) -> Plan:
        """The plan whose leaves are these results of the program."""
        plan = cls(None)
        plan.structure, plan._leaves = structure, list(results)
        plan._single = structure.is_leaf
        return plan

    @property
    def is_single(self) -> bool:
        """The value is one result of the program."""
        return self._single

    @property
    def results(self) -> list[int] | None:
        """Which result of the program each leaf is; None if a leaf is none."""
        return list(self._leaves) if all(type(leaf) is int for leaf in self._leaves) else None

    def rebuild(self, arrays: Sequence[Array]) -> Any:
        """The function's value from the program's results."""
        return tensor_over(arrays[0]) if self._single else self.fill([tensor_over(a) for a in arrays])

    def fill(self, tensors: Sequence[Tensor]) -> Any:
        """The function's value from one tensor per output."""
        return self.structure.unflatten([tensors[leaf] if type(leaf) is int else leaf[0] for leaf in self._leaves])

    def release(self) -> Plan:
        """Forget the traced tensors, which are of no use once the trace is finished."""
        self.outputs = []
        return self


class Compiled:
    """An executable with the plan for its results."""

    __slots__ = ("_anywhere", "_direct", "_executable", "_one", "_tensor", "_then", "plan")

    def __init__(self, executable: Executable, plan: Plan, results: int, then: Device | None = None) -> None:
        self._executable = executable
        self._direct = executable.direct if then is None else None
        self._then = then  # the results are moved to this GPU
        self._anywhere = getattr(executable, "takes_device_arrays", False)
        self._one = results == 1
        self._tensor = self._one and plan.is_single
        self.plan = plan

    @property
    def quick(self) -> Callable[..., Any] | None:
        """The quick way from tensors or arrays to the function's value, where that is one tensor and the executable
        makes it itself; NotImplemented for a call that must go another way."""
        boxed = getattr(self._executable, "boxed", None) if self._tensor and self._direct is not None else None
        return cast("Callable[..., Any] | None", boxed)

    def run(self, arrays: Sequence[Any]) -> Any:
        """The function's value for the inputs' arrays."""
        result = self.try_directly(arrays)
        if result is not NotImplemented:
            return result
        results = self._executable(arrays if self._anywhere else [on_host(a) for a in arrays])
        if self._then is not None:
            results = [compiler().put(array, self._then) for array in results]
        return self.plan.rebuild(results)

    def try_directly(self, arrays: Sequence[Any]) -> Any:
        """The same if the arrays are exactly those of the program, NotImplemented otherwise."""
        if self._direct is None:
            return NotImplemented
        result = self._direct(*arrays)
        if result is NotImplemented:
            return result
        if self._tensor:
            return EagerTensor(result)
        return self.plan.rebuild((result,) if self._one else result)


def scalar_array(value: bool | int | float) -> Array:
    """A Python number as the 0-dimensional array that stands for it when it is data: 64 bits, so nothing is lost."""
    return np.array(value, np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float64)


def array_function(function: Callable[P, R]) -> Callable[P, R]:
    """Make a public array function of one that adds ops to the current trace.

    Parameters annotated `ArrayLike` are data, `Sequence[ArrayLike]` sequences of data; all others are options and part
    of the key. Each takes `name=`, too, which in a `tw.Graph` names the operation that gives the result.
    """
    data = _data_parameters(function)
    name = function.__name__
    has_name = "name" in inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        label = kwargs.pop("name", None) if kwargs and not has_name else None
        trace = _thread.trace
        if trace is not None:
            if label is not None:
                return cast("R", trace.named(str(label), lambda: function(*args, **kwargs)))
            return function(*args, **kwargs)
        arrays: list[Any] = []
        key = [
            name,
            asked_here(),
            *[
                _data_key(value, arrays) if position in data else _option_key(value)
                for position, value in enumerate(args)
            ],
        ]
        for keyword, value in kwargs.items():
            key.append((keyword, _data_key(value, arrays) if keyword in data else _option_key(value)))
        programs = eager_programs()
        complete = (function, *key)
        compiled = programs.get(complete)
        if compiled is None:
            place = place_of(f"{name}()", asked_here(), arrays)
            compiled = programs[complete] = _compile(function, data, args, kwargs, arrays, place)
        result: R = compiled.run(arrays)
        return result

    return call


def _data_parameters(function: Callable[..., Any]) -> frozenset[int | str]:
    """Positions and names of the parameters that are data."""
    found: list[int | str] = []
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        if "ArrayLike" in str(parameter.annotation):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                found += range(position, position + 64)
            found += [position, parameter.name]
    return frozenset(found)


def _data_key(value: Any, arrays: list[Any]) -> Any:
    if type(value) is EagerTensor:
        data = value.data
        arrays.append(data)
        return data.shape, data.dtype
    if type(value) is ResidentTensor:
        arrays.append(value.held)
        return value.held.shape, value.held.dtype, value.held.device
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        arrays.append(scalar_array(value))
        return (int, _reach(value)) if type(value) is int else type(value)
    if isinstance(value, list | tuple) and _is_sequence_of_arrays(value):
        return tuple([_data_key(v, arrays) for v in value])
    data = _buffer(value)
    arrays.append(data)
    return data.shape, data.dtype


def _reach(value: int) -> int:
    """Equal for numbers that the same integer dtypes hold: what decides whether a number fits beside a tensor."""
    if 0 <= value < 128:
        return 7
    bits = (value if value >= 0 else ~value).bit_length()
    reach = next(b for b in (7, 8, 15, 16, 31, 32, 63, bits) if bits <= b)
    return reach if value >= 0 else -reach


def _buffer(value: Any) -> Array:
    """The array of a piece of data: of a variable its very buffer, since the program reads it at once."""
    own = isinstance(value, Operators) and not isinstance(value, Tensor)
    buffer: Array | None = getattr(value, "buffer", None) if own else None
    return _eager(value).data if buffer is None else buffer


def _eager(value: Any) -> EagerTensor:
    tensor = as_tensor(value)
    if isinstance(tensor, TracedTensor):
        _ = Trace("eager").value_of(tensor)  # raises: a traced tensor has escaped from its trace
    assert isinstance(tensor, EagerTensor)
    return tensor


def _is_sequence_of_arrays(value: Sequence[Any]) -> bool:
    return any(isinstance(v, Operators | np.ndarray) for v in value)


def _option_key(value: Any) -> Any:
    kind = type(value)
    if kind is int or kind is str or value is None or kind is DType:
        return value
    if kind is tuple or kind is list:
        return kind, tuple([_option_key(v) for v in value])
    return kind, value


def _compile(
    function: Callable[..., Any], data: frozenset[int | str], args: Sequence[Any], kwargs: Mapping[str, Any],
    arrays: Sequence[Any], place: Device | None,
) -> Compiled:  # fmt: skip
    if any(type(v) is int and _reach(v) != 7 for v in (*args, *kwargs.values())):
        # Once with the numbers themselves: one that does not fit the dtype it takes on is an error, and does not wrap.
        _trial(function, data, args, kwargs)
    trace = Trace(function.__name__, label=f"{function.__name__}()")
    with regardless(place if arrays else None), trace.recording():
        given = [_placeholder(trace, v) if i in data else v for i, v in enumerate(args)]
        named = {k: _placeholder(trace, v) if k in data else v for k, v in kwargs.items()}
        plan = Plan(function(*given, **named))
        program = trace.finish(plan.outputs)
    then = place if not arrays and place is not None and place.kind == "GPU" else None
    return Compiled(compiler().compile(program), plan.release(), len(program.outputs), then)


def _trial(
    function: Callable[..., Any], data: frozenset[int | str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Trace with integers as literals, and drop the trace."""
    trace = Trace(function.__name__, label=f"{function.__name__}()")

    def stand_in(value: Any) -> Any:
        return value if type(value) is int else _placeholder(trace, value)

    with trace.recording():
        given = [stand_in(v) if i in data else v for i, v in enumerate(args)]
        function(*given, **{k: stand_in(v) if k in data else v for k, v in kwargs.items()})


def _placeholder(trace: Trace, value: Any) -> Any:
    """What stands for a piece of data in a trace, in the order in which `_data_key` collects arrays."""
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return trace.argument(array_type(scalar_array(value)), weak=True)
    if isinstance(value, list | tuple) and _is_sequence_of_arrays(value):
        return type(value)([_placeholder(trace, v) for v in value])
    return trace.argument(value.type if type(value) is ResidentTensor else array_type(_buffer(value)))


def emit(row: OpDef, *operands: Tensor, **attrs: Any) -> Tensor:
    """One op with one result, on tensors of fitting types: added to the current trace, or run at once outside any."""
    (result,) = emit_all(row, *operands, **attrs)
    return result


def emit_all(row: OpDef, *operands: Tensor, **attrs: Any) -> tuple[Tensor, ...]:
    """`emit` for an op with any number of results."""
    trace = current()
    return _run(row, operands, attrs) if trace is None else trace.emit(row, operands, attrs)


def _run(row: OpDef, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    arrays: list[Any] = []
    types = [_data_key(t, arrays) for t in operands]
    options = {k: (v.tobytes(), v.shape, v.dtype) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    key = (row, asked_here(), *types, *[(k, _option_key(v)) for k, v in options.items()])
    programs = eager_programs()
    compiled = programs.get(key)
    if compiled is None:
        trace = Trace(row.name)
        with regardless(place_of(row.name, asked_here(), arrays)), trace.recording():
            given = [_placeholder(trace, t) for t in operands]
            plan = Plan(trace.emit(row, given, attrs))
            program = trace.finish(plan.outputs)
        compiled = programs[key] = Compiled(compiler().compile(program), plan.release(), len(program.outputs))
    result: tuple[Tensor, ...] = compiled.run(arrays)
    return result


class _Recent:
    """Executables by the text of their program, the most recently used ones."""

    limit = 256

    def __init__(self) -> None:
        self.entries: OrderedDict[Any, Executable] = OrderedDict()


def run_traced(name: str, function: Callable[[], Any], frozen: dict[Any, EagerTensor] | None = None) -> Any:
    """Trace `function` now, run the program at once, return what the function returned.

    Eager tensors that it uses become inputs, so a program is compiled once however often it is traced with other
    numbers. With `frozen`, variables are read from there (and into there, at their first use).
    """
    place = place_of(f"{name}()", asked_here(), ())
    trace, plan, program = _traced(name, function, frozen, place)
    if not asked_here():
        place = place_of(f"{name}()", "", [t.held for t in trace.captured])
        if place is not None:  # which is known only now
            trace, plan, program = _traced(name, function, frozen, place)
    recent: _Recent = eager_programs().setdefault(_Recent, _Recent())
    key = (str(program.module), str(place), program.variables)
    executable = recent.entries.pop(key, None)
    if executable is None:
        executable = compiler().compile(program)
    recent.entries[key] = executable
    while len(recent.entries) > recent.limit:
        recent.entries.popitem(last=False)
    anywhere = getattr(executable, "takes_device_arrays", False)
    return plan.release().rebuild(executable([t.held if anywhere else t.data for t in trace.captured]))


def _traced(
    name: str, function: Callable[[], Any], frozen: dict[Any, EagerTensor] | None, place: Device | None
) -> tuple[Trace, Plan, Program]:
    trace = Trace(name, label=f"{name}()", capture="inputs")
    trace.frozen = frozen
    with regardless(place), trace.recording():
        plan = Plan(function())
        return trace, plan, trace.finish(plan.outputs)
