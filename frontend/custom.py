"""Saying how a gradient is to be taken: `custom_gradient` replaces it, `checkpoint` recomputes instead of keeping."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import control
from thalweg.frontend.array.conversion import cast, operand
from thalweg.frontend.array.creation import zeros_like
from thalweg.frontend.array.manipulation import broadcast_to
from thalweg.frontend.eager import Plan
from thalweg.frontend.tensor import Tensor, as_tensor
from thalweg.frontend.trace import Trace, current
from thalweg.frontend.tree import Structure, flatten, flatten_as


def must_be_callable(name: str, function: Any) -> None:
    """Say so where a value was given in the place of a function.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(function):
        raise TypeError(
            f"{user_frame()} {name}: takes a function, got {type(function).__name__}. Write lambda x: … and give its "
            "arguments after it."
        )


def function_name(function: Callable[..., Any]) -> str:
    """What messages and programs call a function."""
    return getattr(function, "__name__", type(function).__name__).replace("<lambda>", "lambda")


def call_in_region(
    trace: Trace, row: OpDef, attrs: dict[str, Any], function: Callable[[], Any], label: str, inline: bool
) -> Any:
    """A function without arguments as the one region of an op; returns what the function returned."""
    plan = Plan(None)

    def body(arguments: list[Tensor]) -> list[Tensor]:
        nonlocal plan
        plan = Plan(function())
        return plan.outputs

    results = trace.emit_regions(row, [], attrs, [[]], [body], [label], inline)
    return plan.fill(results)


def as_one(name: str, function: Callable[[], Any]) -> Any:
    """What `function` returns; in a graph, what it assigns happens whenever its results are computed."""
    trace = current()
    if trace is None or not trace.stays_open or trace.scopes[-1] is not trace.root:
        return function()
    return call_in_region(trace, control.call, {"name": name}, function, f"{name}()", inline=True)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function its own gradient. It returns `(value, backward)`; `backward` takes a cotangent per result of the
    value and returns one per argument (None for zero). Keyword arguments are options without a gradient.

    Example:
        >>> @tw.custom_gradient
        ... def clipped(x):                       # the identity, its gradient limited
        ...     return x, lambda dy: tw.clip(dy, -1, 1)
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trace = current()
        if trace is None:
            return function(*args, **kwargs)[0]
        leaves, structure = flatten(args)
        inputs = [as_tensor(leaf) for leaf in leaves]
        value, backward = function(*structure.unflatten(inputs), **kwargs)
        outputs, output_structure = flatten(value)
        results = [as_tensor(leaf) for leaf in outputs]

        def body(cotangents: list[Tensor]) -> list[Tensor]:
            nested = output_structure.unflatten(cotangents)
            found = backward(*nested) if isinstance(nested, tuple | list) else backward(nested)
            return _custom_cotangents(function_name(function), inputs, structure, found)

        attrs = {"inputs": len(inputs)}
        types = [[t.type for t in results]]
        label = f"the gradient of {function_name(function)}()"
        wrapped = trace.emit_regions(control.custom_gradient, [*inputs, *results], attrs, types, [body], [label])
        return output_structure.unflatten(wrapped)

    return call


def _custom_cotangents(name: str, inputs: Sequence[Tensor], structure: Structure, found: Any) -> list[Tensor]:
    """What a custom backward function returned, as one tensor per input."""
    count = len(structure.children)
    if count == 1 and not (isinstance(found, tuple) and len(found) == 1):
        found = (found,)
    given = len(found) if isinstance(found, tuple | list) else 1
    if given != count:
        raise TypeInferenceError(
            f"{user_frame()} the gradient of {name}() returns {given} cotangents for {count} arguments."
        )
    try:
        flat = flatten_as(structure, tuple(found))
    except ValueError as error:
        raise TypeInferenceError(f"{user_frame()} the gradient of {name}(): {error}.") from None
    return [
        zeros_like(x) if c is None else broadcast_to(cast(operand(c), x.dtype), x.type.shape)
        for x, c in zip(inputs, flat, strict=True)
    ]


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose gradient computes its inside again instead of keeping it: less memory, more work."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trace = current()
        if trace is None:
            return function(*args, **kwargs)
        return call_in_region(
            trace,
            control.checkpoint,
            {},
            lambda: function(*args, **kwargs),
            f"{function_name(function)}() under tw.checkpoint",
            inline=False,
        )

    return call
