"""Gradients. `tw.grad(f)` traces f into a region and asks for its pullback; a pass turns that into plain ops.

Works inside traced functions and, by tracing on the spot, outside; nests to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thalweg.dialects.context import type_of
from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import any_open, is_written
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control
from thalweg.dialects.types import TensorType
from thalweg.frontend.array.conversion import cast, operand
from thalweg.frontend.array.creation import zeros
from thalweg.frontend.array.elementwise import stop_gradient
from thalweg.frontend.array.manipulation import broadcast_to
from thalweg.frontend.custom import function_name, must_be_callable
from thalweg.frontend.eager import Plan, run_traced
from thalweg.frontend.tensor import EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import Trace, current
from thalweg.frontend.tree import flatten
from thalweg.frontend.variable import Variable

_LOOKUPS = ("tw.take_rows", "tw.lookup_rows")
__all__ = ["IndexedSlices", "grad", "stop_gradient", "value_and_grad", "vjp"]


@dataclass(frozen=True)
class IndexedSlices:
    """A sparse gradient: `values[i]` belongs to row `indices[i]` of a tensor of `dense_shape`; rows may repeat.

    It is what the gradient with respect to a variable is, of which only rows are looked up.
    """

    indices: Tensor  # int32[n]
    values: Tensor  # [n, *dense_shape[1:]]
    dense_shape: tuple[int, ...] = field(metadata={"static": True})

    def dense(self) -> Tensor:
        """The same gradient as a tensor of `dense_shape`."""
        return zeros(self.dense_shape, dtype=self.values.dtype).at[self.indices].add(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.dense(), dtype)


def _shown(value: Any) -> str:
    return f"a tensor {value.type}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def grad(
    function: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Any = None,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """The gradient of a function that returns a scalar. See `value_and_grad`; with `has_aux` it returns (grads, aux).

    Example:
        >>> tw.grad(lambda w: tw.sum(w ** 2))(tw.asarray([1.0, 2.0]))
        Tensor([2., 4.], dtype=float32)
    """
    must_be_callable("grad", function)
    both = value_and_grad(function, argnums, wrt=wrt, has_aux=has_aux)

    @functools.wraps(function, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(
    function: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Any = None,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """A function that returns `(value, grads)`.

    Args:
        function: returns a floating-point scalar, or (scalar, aux) with `has_aux`.
        argnums: which positional arguments; an int gives one gradient, a sequence a tuple of them. Each has the
            structure of its argument. By default 0, or none if `wrt` is given.
        wrt: variables, as any nested structure: the gradients come in the same structure, an `IndexedSlices` for a
            variable of which only rows are looked up. With `argnums` too, grads is (of arguments, of variables).
        has_aux: the function's second result is passed along: `((value, aux), grads)`.

    Raises:
        TypeInferenceError: the value is no scalar, or an argument is not floating-point.
    """

    must_be_callable("value_and_grad", function)

    @functools.wraps(function, updated=())
    def both(*args: Any, **kwargs: Any) -> Any:
        trace = current()
        request = _Request(function, args, kwargs, argnums, wrt, has_aux)
        if trace is None:
            return run_traced(f"grad_{function_name(function)}", lambda: _differentiate(request))
        return _differentiate(request)

    return both


class _Request:
    """What is to be differentiated, with respect to what."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int] | None,
        wrt: Any,
        has_aux: bool,
    ) -> None:
        self.function, self.args, self.kwargs, self.has_aux = function, args, kwargs, has_aux
        self.name = function_name(function)
        self.of_variables = wrt is not None
        self.of_arguments = argnums is not None or wrt is None
        self.single = not isinstance(argnums, Sequence)
        given = [0 if argnums is None else argnums] if not isinstance(argnums, Sequence) else list(argnums)
        self.positions = self._positions(given) if self.of_arguments else []
        self.leaves, self.structure = flatten([args[p] for p in self.positions])
        self.variables, self.variable_structure = flatten(wrt)
        wrong = [v for v in self.variables if not isinstance(v, Variable)]
        if wrong:
            raise TypeInferenceError(
                f"{user_frame()} gradient of {self.name}(): wrt takes variables, got {_shown(wrong[0])}. "
                "For arguments of the function use argnums."
            )

    def _positions(self, given: Sequence[int]) -> list[int]:
        count = len(self.args)
        for p in given:
            if not -count <= p < count:
                raise TypeInferenceError(
                    f"{user_frame()} gradient of {self.name}(): argnums {p} needs that positional argument, "
                    f"got {count}. For variables use wrt=[…]."
                )
        return [p % count for p in given]

    def paths(self) -> list[str]:
        """What to call each leaf."""
        found = []
        for position, child in zip(self.positions, self.structure.children, strict=True):
            found += child.paths(f"argument {position}")
        return found

    def primals(self) -> list[Tensor]:
        """The arguments' leaves as tensors, all floating-point."""
        tensors = [as_tensor(leaf) for leaf in self.leaves]
        for path, tensor in zip(self.paths(), tensors, strict=True):
            if not tensor.dtype.is_floating:
                raise TypeInferenceError(
                    f"{user_frame()} gradient of {self.name}(): {path} is {tensor.type}: only floating-point tensors "
                    "have gradients. Convert it with tw.astype, or leave it out of argnums."
                )
        return tensors

    def call(self, arguments: Sequence[Tensor]) -> Any:
        """The function on other leaves."""
        replaced = list(self.args)
        for position, value in zip(self.positions, self.structure.unflatten(arguments), strict=True):
            replaced[position] = value
        return self.function(*replaced, **self.kwargs)

    def scalar(self, value: Any) -> Tensor:
        """The function's value, checked."""
        if isinstance(value, tuple | list | dict) or value is None:
            raise TypeInferenceError(
                f"{user_frame()} gradient of {self.name}(): it returns a {type(value).__name__}, but "
                "gradients are of a "
                "floating-point scalar. Return that alone, or (scalar, anything) with has_aux=True."
            )
        tensor = as_tensor(value)
        if tensor.ndim or not tensor.dtype.is_floating:
            raise TypeInferenceError(
                f"{user_frame()} gradient of {self.name}(): it returns {tensor.type}, but gradients are of a "
                "floating-point scalar. Reduce it with tw.sum or tw.mean, or use tw.vjp."
            )
        return tensor


def _trace() -> Trace:
    trace = current()
    assert trace is not None
    return trace


def _differentiate(request: _Request) -> Any:
    trace = _trace()
    primals = request.primals()
    variables = list(dict.fromkeys(request.variables))
    attrs: dict[str, Any] = {"aux": 0}
    given: list[TracedTensor] = []
    aux = Plan(None)

    def body(arguments: list[Tensor]) -> list[Tensor]:
        nonlocal aux
        given.extend(a for a in arguments if isinstance(a, TracedTensor))
        with trace.differentiating(dict(zip(variables, arguments[len(primals) :], strict=True))):
            result = request.call(arguments[: len(primals)])
            value = request.scalar(result[0] if request.has_aux else result)
            aux = Plan(result[1] if request.has_aux else None)
        attrs["aux"] = len(aux.outputs)
        return [value, *aux.outputs]

    operands = [*primals, *(trace.read(v) for v in variables)]
    types = [[t.type for t in operands]]
    label = f"{request.name}() under tw.grad"
    value, *rest = trace.emit_regions(control.vjp, operands, attrs, types, [body], [label], inline=True)
    sparse = [_rows_used(a.value) if i >= len(primals) else -1 for i, a in enumerate(given)]
    one = cast(1.0, value.dtype)
    flat = iter(
        trace.emit_values(
            control.pullback,
            [rest[-1], trace.value_of(one)],
            {"wrt": range(len(operands)), "rows": sparse if any(r >= 0 for r in sparse) else ()},
        )
    )
    grads = [
        next(flat) if rows < 0 else IndexedSlices(next(flat), next(flat), t.type.shape)
        for rows, t in zip(sparse, operands, strict=True)
    ]
    answer = (value, aux.fill(rest[:-1])) if request.has_aux else value
    return answer, _arranged(request, grads[: len(primals)], dict(zip(variables, grads[len(primals) :], strict=True)))


def _arranged(request: _Request, of_arguments: list[Any], of_variables: dict[Variable, Any]) -> Any:
    """The gradients in the structures in which they were asked for."""
    arguments = tuple(request.structure.unflatten(of_arguments))
    first = arguments[0] if request.single and request.of_arguments else arguments
    if not request.of_variables:
        return first
    variables = request.variable_structure.unflatten([of_variables[v] for v in request.variables])
    return (first, variables) if request.of_arguments else variables


def _rows_used(argument: ir.Value) -> int:
    """How many rows the region takes from a table that it uses for nothing else; -1 if it does anything else."""
    sizes, on_host = list[int](), False
    for use in argument.uses:
        operation = use.owner.operation
        if operation.name not in _LOOKUPS or use.operand_number != 0 or not _runs_once(operation):
            return -1
        indices = type_of(operation.operands[1])
        assert isinstance(indices, TensorType)
        sizes.append(indices.size)
        on_host = on_host or operation.name == "tw.lookup_rows"
    if on_host and any_open(sizes) and len(sizes) > 1:
        (rows,) = _trace().open_extents(1)  # there is no sum of several unknown numbers
    else:
        rows = sum(sizes)
    return rows if sizes and is_written(rows) else -1


def _runs_once(operation: ir.Operation) -> bool:
    """True if the operation is in the vjp's region itself, or in calls in it: not in a loop or a branch."""
    parent = operation.parent.operation
    while parent.name == "tw.call":
        parent = parent.parent.operation
    return bool(parent.name == "tw.vjp")


def vjp(function: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The function's value and its pullback: cotangents of the value in, cotangents of the arguments out.

    Outside a traced function each call of the pullback runs the function again, with the variables' values of now.

    Returns:
        (value, pullback): `pullback(cotangents)` takes the structure of the value (cotangents of integer results are
        ignored) and gives a tuple with one entry per argument, None for leaves that are not floating-point.

    Example:
        >>> y, pullback = tw.vjp(lambda a, b: a * b, tw.asarray(2.0), tw.asarray(3.0))
        >>> pullback(1.0)
        (Tensor(3., dtype=float32), Tensor(2., dtype=float32))
    """
    must_be_callable("vjp", function)
    if current() is not None:
        return _vjp(function, args)
    frozen: dict[Variable, EagerTensor] = {}
    value = run_traced(f"vjp_{function_name(function)}", lambda: function(*args), frozen)

    def pullback(cotangents: Any) -> tuple[Any, ...]:
        def run() -> tuple[Any, ...]:
            return _vjp(function, args)[1](cotangents)

        if current() is not None:
            return run()
        result: tuple[Any, ...] = run_traced(f"pullback_{function_name(function)}", run, frozen)
        return result

    return value, pullback


def _vjp(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    trace = _trace()
    leaves, structure = flatten(args)
    tensors = [as_tensor(leaf) for leaf in leaves]
    places = [i for i, t in enumerate(tensors) if t.dtype.is_floating]
    plan = Plan(None)

    def body(arguments: list[Tensor]) -> list[Tensor]:
        nonlocal plan
        replaced: list[Any] = list(tensors)
        for place, argument in zip(places, arguments, strict=True):
            replaced[place] = argument
        plan = Plan(function(*structure.unflatten(replaced)))
        return plan.outputs

    operands = [tensors[p] for p in places]
    label = f"{function_name(function)}() under tw.vjp"
    types = [[t.type for t in operands]]
    *results, handle = trace.emit_regions(control.vjp, operands, {"aux": 0}, types, [body], [label], inline=True)
    value = plan.fill(results)

    def pullback(cotangents: Any) -> tuple[Any, ...]:
        given = _cotangents(function_name(function), value, results, cotangents)
        values = [handle, *(_trace().value_of(t) for t in given)]
        flat = _trace().emit_values(control.pullback, values, {"wrt": range(len(operands))})
        found: list[Any] = [None] * len(leaves)
        for place, cotangent in zip(places, flat, strict=True):
            found[place] = cotangent
        answer: tuple[Any, ...] = structure.unflatten(found)
        return answer

    return value, pullback


def _cotangents(name: str, value: Any, results: Sequence[Tensor], cotangents: Any) -> list[Tensor]:
    """Cotangents of the floating-point results, in order, checked against them."""
    leaves, structure = flatten(value)
    given, found = flatten(cotangents)
    if found != structure:
        raise TypeInferenceError(
            f"{user_frame()} pullback of {name}(): the value has the structure {structure}, the cotangents {found}."
        )
    checked = []
    for leaf, cotangent, path in zip(leaves, given, structure.paths("value"), strict=True):
        if not any(leaf is r for r in results) or not leaf.dtype.is_floating:
            continue
        tensor = cast(operand(cotangent), leaf.dtype)
        if tensor.type.shape not in ((), leaf.type.shape):
            raise TypeInferenceError(
                f"{user_frame()} pullback of {name}(): {path} is {leaf.type}, its cotangent {tensor.type}."
            )
        checked.append(broadcast_to(tensor, leaf.type.shape))
    return checked
