"""Branches among many: `switch_case` by number, `case` by the first predicate that holds. Both are trees of `cond`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import int64
from thalweg.frontend.array.elementwise import astype, less
from thalweg.frontend.control import Branches, predicate
from thalweg.frontend.custom import must_be_callable
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, as_tensor
from thalweg.frontend.trace import Trace, current

__all__ = ["case", "switch_case"]

Function = Callable[..., Any]


def _fail(problem: str) -> TypeInferenceError:
    return TypeInferenceError(f"{user_frame()} {problem}")


def switch_case(
    index: ArrayLike,
    branches: Sequence[Function] | Mapping[int, Function],
    *operands: Any,
    default: Function | None = None,
) -> Any:
    """`branches[index](*operands)`; only that one runs.

    Args:
        index: one integer. A Python integer chooses while tracing.
        branches: functions that return nested structures of the same structure, shapes and dtypes; a list, or a
            dictionary by index.
        default: runs for an index that has no branch. Without it the nearest branch at or below the index runs, the
            first one for an index below all.

    Raises:
        TypeInferenceError: the branches differ in what they return, or there are none.

    Example:
        >>> tw.switch_case(i, [lambda v: v, lambda v: v * 2, lambda v: v ** 2], x)
    """
    known = dict(sorted(branches.items() if isinstance(branches, Mapping) else enumerate(branches)))
    if not known:
        raise _fail("switch_case: there are no branches.")
    for function in (*known.values(), *([default] if default is not None else ())):
        must_be_callable("switch_case", function)
    starts = _starts(known, default)
    trace = current()
    if trace is None or isinstance(index, int | np.integer):
        return starts[_place(_known(_index(index)), [k for k, _, _ in starts])][2](*operands)
    made = Branches("switch_case", starts[0][1])
    return made.unflatten(_tree(trace, made, _index(index), starts, operands))


Start = tuple[int, str, Function]  # from this index on, what messages call the branch, the branch


def _starts(known: Mapping[int, Function], default: Function | None) -> list[Start]:
    """The branches in order of the indices from which on they run; the first one also runs below its index."""
    named = [(key, f"branch {key}", function) for key, function in known.items()]
    if default is None:
        return named
    starts: list[Start] = [(named[0][0] - 1, "the default", default)]
    for key, label, function in named:
        if starts[-1][0] == key:  # the default only ran up to here
            starts.pop()
        starts += [(key, label, function), (key + 1, "the default", default)]
    return starts


def _index(value: ArrayLike) -> Tensor:
    index = as_tensor(value)
    if index.ndim or not index.dtype.is_integer:
        raise _fail(f"switch_case: the index must be one integer, got {index.type}.")
    return index


def _known(index: Tensor) -> int:
    assert isinstance(index, EagerTensor)
    return int(index)


def _place(index: int, keys: Sequence[int]) -> int:
    return max(0, sum(key <= index for key in keys) - 1)


def _tree(
    trace: Trace, made: Branches, index: Tensor, starts: Sequence[Start], operands: Sequence[Any]
) -> Sequence[Tensor]:
    """The branches as a balanced tree of conds, so that n of them take log n decisions."""
    if len(starts) == 1:
        return made.add(starts[0][2](*operands), starts[0][1])
    middle = len(starts) // 2
    halves = starts[:middle], starts[middle:]
    below = less(astype(index, int64), starts[middle][0])

    def body(half: Sequence[Start]) -> Callable[[list[Tensor]], list[Tensor]]:
        return lambda _: [*_tree(trace, made, index, half, operands)]

    return made.emit(trace, below, [body(half) for half in halves])


def case(pairs: Sequence[tuple[ArrayLike, Function]], default: Function, *operands: Any) -> Any:
    """The function beside the first predicate that holds, `default` where none does; only that one runs.

    Args:
        pairs: (predicate, function) pairs. A Python bool chooses while tracing.
        default: runs where no predicate holds.

    Raises:
        TypeInferenceError: the functions differ in what they return.

    Example:
        >>> tw.case([(x < 0, lambda: -x), (x > 9, lambda: x * 0 + 9)], lambda: x)
    """
    left: list[tuple[Tensor, str, Function]] = []
    must_be_callable("case", default)
    last: tuple[str, Function] = "the default", default
    for number, (pred, function) in enumerate(pairs):
        must_be_callable("case", function)
        checked = predicate("case", pred)
        if current() is None or isinstance(pred, bool | np.bool_):
            if bool(checked):
                last = f"function {number}", function
                break
        else:
            left.append((checked, f"function {number}", function))
    if not left:
        return last[1](*operands)
    trace = current()
    assert trace is not None
    made = Branches("case", left[0][1])
    return made.unflatten(_chain(trace, made, left, last, operands))


def _chain(
    trace: Trace,
    made: Branches,
    left: Sequence[tuple[Tensor, str, Function]],
    last: tuple[str, Function],
    operands: Sequence[Any],
) -> Sequence[Tensor]:
    if not left:
        return made.add(last[1](*operands), last[0])
    (pred, label, function), *rest = left
    bodies: list[Callable[[list[Tensor]], list[Tensor]]] = [
        lambda _: made.add(function(*operands), label),
        lambda _: [*_chain(trace, made, rest, last, operands)],
    ]
    return made.emit(trace, pred, bodies)
