"""Control flow on data: cond, while_loop, scan. In a traced function they become ops with regions.

Outside, `cond` and `while_loop` look at the numbers and run Python; `scan` is traced on the spot and runs as a program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import control as rows
from thalweg.dialects.types import DType, TensorType, bool_
from thalweg.frontend.array.conversion import cast, common_dtype, is_weak, operand
from thalweg.frontend.array.elementwise import astype
from thalweg.frontend.custom import must_be_callable
from thalweg.frontend.dtypes import promote_weak, scalar_kind
from thalweg.frontend.eager import run_traced
from thalweg.frontend.tensor import ArrayLike, Scalar, Tensor, as_tensor
from thalweg.frontend.trace import Trace, current
from thalweg.frontend.tree import Structure, flatten

__all__ = ["cond", "scan", "while_loop"]


def _fail(problem: str) -> TypeInferenceError:
    return TypeInferenceError(f"{user_frame()} {problem}")


def _shown(value: Any) -> str:
    return f"a tensor {value.type}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def predicate(name: str, value: ArrayLike) -> Tensor:
    if isinstance(value, bool | np.bool_):
        return as_tensor(bool(value))
    pred = as_tensor(value)
    if pred.ndim:
        raise _fail(f"{name}: the predicate must be one value, got {pred.type}. Reduce it with tw.any or tw.all.")
    return astype(pred, bool_)


def cond(pred: ArrayLike, on_true: Callable[..., Any], on_false: Callable[..., Any], *operands: Any) -> Any:
    """`on_true(*operands)` where the predicate is true, else `on_false(*operands)`; only one of them runs.

    Args:
        pred: one bool or number. A Python bool chooses while tracing.
        on_true, on_false: return nested structures of arrays, of the same structure, shapes and dtypes.

    Raises:
        TypeInferenceError: the branches differ in what they return.

    Example:
        >>> tw.cond(tw.sum(x) > 0, lambda v: v * 2, lambda v: v - 1, x)
    """
    must_be_callable("cond", on_true)
    must_be_callable("cond", on_false)
    trace = current()
    if trace is None or isinstance(pred, bool | np.bool_):
        return (on_true if bool(predicate("cond", pred)) else on_false)(*operands)
    branches = Branches("cond", "the true branch")

    def body(function: Callable[..., Any], label: str) -> Callable[[list[Tensor]], list[Tensor]]:
        return lambda _: branches.add(function(*operands), label)

    bodies = [body(on_true, "the true branch"), body(on_false, "the false one")]
    return branches.unflatten(branches.emit(trace, predicate("cond", pred), bodies))


def _takes(leaf: Any, dtype: DType) -> bool:
    """Whether a leaf is a Python number that takes this dtype when it meets it: 1 becomes 1.0, but 2.5 never 2."""
    if not is_weak(leaf):
        return False
    kind = scalar_kind(leaf) if isinstance(leaf, Scalar) else leaf._type.dtype.kind
    return promote_weak(dtype, kind) == dtype


class Branches:
    """What the branches of a `cond` or `switch_case` return: the first decides, the others must agree.

    Args:
        name: of the function that has branches, for messages.
        first: what messages call the first branch.
    """

    def __init__(self, name: str, first: str) -> None:
        self._name, self._first = name, first
        self._structure: Structure | None = None
        self._types: list[TensorType] = []

    def add(self, value: Any, label: str) -> list[Tensor]:
        """What the branch that messages call `label` returned, as tensors of the common types.

        Raises:
            TypeInferenceError: it differs from the first branch.
        """
        leaves, structure = flatten(value)
        if self._structure is None:
            tensors = [as_tensor(leaf) for leaf in leaves]
            self._structure, self._types = structure, [t.type for t in tensors]
            return tensors
        if structure != self._structure:
            raise _fail(
                f"{self._name}: the branches return different structures: {self._structure} and {structure}."
            )
        tensors = [
            cast(leaf, t.dtype) if _takes(leaf, t.dtype) and not t.shape else as_tensor(leaf)
            for leaf, t in zip(leaves, self._types, strict=True)
        ]
        for tensor, wanted, path in zip(tensors, self._types, structure.paths("result"), strict=True):
            if tensor.type != wanted:
                raise _fail(
                    f"{self._name}: the branches return different types: {path} is {wanted} in {self._first} and "
                    f"{tensor.type} in {label}. Convert or reshape so that both agree."
                )
        return tensors

    def emit(
        self, trace: Trace, pred: Tensor, bodies: Sequence[Callable[[list[Tensor]], list[Tensor]]]
    ) -> Sequence[Tensor]:
        """A `cond` on the predicate with these two bodies; its results."""
        labels = [f"the true branch of tw.{self._name}", f"the false branch of tw.{self._name}"]
        return trace.emit_regions(rows.cond, [pred], {}, [[], []], bodies, labels)

    def unflatten(self, results: Sequence[Tensor]) -> Any:
        """Results in the structure that the branches return."""
        assert self._structure is not None
        return self._structure.unflatten(results)


class _Carry:
    """The values that go round a loop: their structure and types must stay as they start. A Python number that starts
    one takes the dtype that the body gives it."""

    def __init__(self, name: str, init: Any) -> None:
        self.name = name
        leaves, self.structure = flatten(init)
        self.leaves = [leaf if is_weak(leaf) else operand(leaf) for leaf in leaves]
        self.paths = self.structure.paths("carry")
        self.dtypes: list[DType | None] = [None] * len(leaves)

    def start(self) -> list[Tensor]:
        """The initial values."""
        return [
            as_tensor(leaf) if dtype is None else cast(leaf, dtype)
            for leaf, dtype in zip(self.leaves, self.dtypes, strict=True)
        ]

    def next(self, value: Any, types: Sequence[TensorType]) -> list[Tensor]:
        """What the body returned, checked against the types that it was given.

        Raises:
            _Widen: a Python number must start in another dtype.
            TypeInferenceError: a type has changed.
        """
        leaves, structure = flatten(value)
        if structure != self.structure:
            raise _fail(
                f"{self.name}: the loop starts with the structure {self.structure}, its body returns {structure}."
            )
        tensors = [
            cast(leaf, t.dtype)
            if isinstance(leaf, Scalar) and common_dtype([leaf]).kind == t.dtype.kind
            else as_tensor(leaf)
            for leaf, t in zip(leaves, types, strict=True)
        ]
        for index, (tensor, wanted) in enumerate(zip(tensors, types, strict=True)):
            if tensor.type == wanted:
                continue
            if is_weak(self.leaves[index]) and self.dtypes[index] is None and tensor.type.shape == wanted.shape:
                self.dtypes[index] = tensor.dtype
                raise _Widen
            raise _fail(
                f"{self.name}: {self.paths[index]} starts as {wanted} but the body returns {tensor.type}. Types must "
                "not change from one iteration to the next; convert it in the body, or start with the other type."
            )
        return tensors


class _Widen(Exception):
    """Trace the loop again: a Python number starts in another dtype."""


def _unpacked(init: Any) -> Callable[[Callable[..., Any], Any], Any]:
    """How to call a loop's functions: a tuple or list of loop variables becomes several arguments."""
    if isinstance(init, tuple | list) and not hasattr(init, "_fields"):
        return lambda function, values: function(*values)
    return lambda function, values: function(values)


def while_loop(
    condition: Callable[..., Any], body: Callable[..., Any], init: Any, *, parallel_iterations: int | None = None
) -> Any:
    """Repeat `body` on the loop variables as long as `condition` of them holds.

    Args:
        condition: takes the loop variables, returns one bool.
        body: takes them, returns their next values: same structure, shapes and dtypes.
        init: their first values. The variables of a tuple or list come as separate arguments, all else as one.
        parallel_iterations: how many iterations may be under way at once where the body spans devices or waits for
            host ops; 10 if left out. A loop that stays on one device is native code, which runs one after the other.

    Raises:
        TypeInferenceError: the body changes a structure or a type.

    Example:
        >>> tw.while_loop(lambda i, v: i < 10, lambda i, v: (i + 1, v @ v), (0, x))
    """
    must_be_callable("while_loop", condition)
    must_be_callable("while_loop", body)
    call = _unpacked(init)
    trace = current()
    carry = _Carry("while_loop", init)
    if trace is None:
        return _while_eager(carry, condition, body, call)
    while True:
        try:
            return _while_traced(trace, carry, condition, body, call, _parallel("while_loop", parallel_iterations))
        except _Widen:
            continue


def _while_eager(
    carry: _Carry, condition: Callable[..., Any], body: Callable[..., Any], call: Callable[..., Any]
) -> Any:
    values = carry.start()
    while bool(predicate("while_loop", call(condition, carry.structure.unflatten(values)))):
        try:
            values = carry.next(call(body, carry.structure.unflatten(values)), [v.type for v in values])
        except _Widen:
            values = carry.start()
    return carry.structure.unflatten(values)


def _while_traced(
    trace: Trace,
    carry: _Carry,
    condition: Callable[..., Any],
    body: Callable[..., Any],
    call: Callable[..., Any],
    attrs: dict[str, int],
) -> Any:
    start = carry.start()
    types = [t.type for t in start]

    def test(values: list[Tensor]) -> list[Tensor]:
        return [predicate("while_loop", call(condition, carry.structure.unflatten(values)))]

    def step(values: list[Tensor]) -> list[Tensor]:
        return carry.next(call(body, carry.structure.unflatten(values)), types)

    labels = ["the condition of tw.while_loop", "the body of tw.while_loop"]
    return carry.structure.unflatten(
        trace.emit_regions(rows.while_, start, attrs, [types, types], [test, step], labels)
    )


def _parallel(name: str, iterations: int | None) -> dict[str, int]:
    """The attribute of a loop that says how many iterations may be under way at once."""
    if iterations is None:
        return {}
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise _fail(f"{name}: parallel_iterations must be an integer of at least 1, got {iterations!r}.")
    return {"parallel_iterations": iterations}


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    parallel_iterations: int | None = None,
) -> tuple[Any, Any]:
    """Loop over the rows of arrays: `carry, out = body(carry, row)` for each, the outs stacked.

    Args:
        body: its carry keeps structure, shapes and dtypes; its out may be any nested structure, None for nothing.
        init: the first carry.
        xs: nested structure of arrays with a common first extent; each row has the structure without it.
        length: number of iterations; needed if xs is None.
        reverse: from the last row to the first; the outs stay at their rows.
        parallel_iterations: as for `while_loop`.

    Returns:
        (last carry, stacked outs)

    Example:
        >>> final, stacked = tw.scan(lambda carry, row: (carry + row, carry * row), tw.zeros((3,)), x)
    """
    must_be_callable("scan", body)
    trace = current()
    if trace is None:
        again = functools.partial(
            scan, body, init, xs, length=length, reverse=reverse, parallel_iterations=parallel_iterations
        )
        result: tuple[Any, Any] = run_traced("scan", again)
        return result
    rows_, structure = flatten(xs)
    tensors = [as_tensor(x) for x in rows_]
    count = _length(tensors, structure, length)
    carry = _Carry("scan", init)
    attrs = {"length": count, "reverse": reverse, **_parallel("scan", parallel_iterations)}
    while True:
        try:
            return _scan_traced(trace, carry, body, tensors, structure, attrs)
        except _Widen:
            continue


def _length(tensors: Sequence[Tensor], structure: Structure, length: int | None) -> int:
    if length is None and not tensors:
        raise _fail("scan: give xs, or the number of iterations as length.")
    count = length
    for tensor, path in zip(tensors, structure.paths("xs"), strict=True):
        if not tensor.ndim:
            raise _fail(f"scan: {path} is {tensor.type}, which has no rows.")
        if count is not None and tensor.type.shape[0] != count:
            raise _fail(f"scan: {path} is {tensor.type}, with {tensor.type.shape[0]} rows where {count} are expected.")
        count = tensor.type.shape[0]
    assert count is not None
    return count


def _scan_traced(
    trace: Trace,
    carry: _Carry,
    body: Callable[[Any, Any], tuple[Any, Any]],
    tensors: Sequence[Tensor],
    structure: Structure,
    attrs: dict[str, int],
) -> tuple[Any, Any]:
    start = carry.start()
    types = [t.type for t in start]
    slices = [TensorType(t.type.shape[1:], t.dtype) for t in tensors]
    out_structure = structure

    def step(values: list[Tensor]) -> list[Tensor]:
        nonlocal out_structure
        row = structure.unflatten(values[len(start) :])
        result = body(carry.structure.unflatten(values[: len(start)]), row)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise _fail(f"scan: the body must return a pair (carry, out), it returns {_shown(result)}.")
        outs, out_structure = flatten(result[1])
        return [*carry.next(result[0], types), *(as_tensor(o) for o in outs)]

    attrs = {"carried": len(start), **attrs}
    results = trace.emit_regions(
        rows.scan, [*start, *tensors], attrs, [[*types, *slices]], [step], ["the body of tw.scan"]
    )
    last = carry.structure.unflatten(results[: len(start)])
    return last, out_structure.unflatten(results[len(start) :])
