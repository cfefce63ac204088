"""Accumulators: gradients of several workers come in, their mean goes out once enough of them are there.

A gradient is computed from parameters as they were at a certain time, its *step*. An accumulator counts how often its
mean was taken, and drops gradients that come from an earlier step: those of slow workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.types import VARIES, TensorType
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Array
from thalweg.runtime.queues.stacking import describe, fits, seen
from thalweg.runtime.queues.waiting import Meeting, Ticket, Values

REDUCTIONS = ("mean", "sum", "row_mean")


class _Take(Ticket):
    """Waits for `required` gradients."""

    __slots__ = ("required",)

    def __init__(self, accumulator: _Accumulator, what: str, done: Done, required: int) -> None:
        super().__init__(accumulator, what, done)
        self.required = required


class _Accumulator(Meeting[_Take]):
    """What dense and sparse accumulators share: counting, dropping the stale, waiting."""

    def __init__(self, kind: str, name: str, type_: TensorType, reduction: str) -> None:
        super().__init__(kind, name)
        self.type = type_
        self.reduction = reduction
        self._line: deque[_Take] = deque()
        self._count = 0
        self._dropped = 0
        self._step = 0
        # Sums of narrow numbers are kept in 32 bits, or the later gradients would be lost in rounding.
        self._wide = type_.dtype.computed.numpy

    def take(self, required: int, done: Done) -> Ticket:
        """`done(values)` when at least `required` gradients are in: all that are in, reduced. Then it is empty, and a
        step further: gradients of earlier steps are dropped from now on."""
        ticket = _Take(self, f"take({required}) from {self}", done, required)
        if required < 1:
            raise StepError(f"{ticket.what}: the number of gradients must be at least 1.")
        self._change(lambda: self._line.append(ticket))
        return ticket

    def count(self) -> int:
        """How many gradients are in."""
        return self._count

    @property
    def step(self) -> int:
        return self._step

    def set_step(self, step: int) -> None:
        """Drop gradients that come from steps before `step`; going back is an error."""
        if step < self._step:
            raise StepError(f"{self}: it is at step {self._step} and cannot go back to {step}.")
        self._change(lambda: self._advance(step))

    def state(self) -> dict[str, int | str]:
        """Numbers to watch: gradients that are in, that were dropped, the step, and how many wait."""
        with self._lock:
            return {
                "kind": self.kind, "size": self._count, "dropped": self._dropped, "step": self._step,
                "waiting_dequeues": len(self._line),
            }  # fmt: skip

    def _apply(self, step: int, add: Callable[[], None]) -> bool:
        taken = False

        def change() -> None:
            nonlocal taken
            taken = step >= self._step
            if taken:
                add()
                self._count += 1
            else:
                self._dropped += 1

        self._change(change)
        return taken

    def _advance(self, step: int) -> None:
        self._step = step

    def _settle(self) -> None:
        while self._line and self._count >= self._line[0].required:
            ticket = self._line.popleft()
            values = self._reduced()
            self._count = 0
            self._step += 1
            self._end(ticket, values)

    def _reduced(self) -> Values:
        """The values of a take; what was summed up is given away."""
        raise NotImplementedError

    def _lines(self) -> Sequence[deque[_Take]]:
        return (self._line,)


class DenseAccumulator(_Accumulator):
    """Of arrays of one type.

    Args:
        reduction: "mean" or "sum".

    Example:
        >>> accumulator = DenseAccumulator("w", TensorType((2,), float32))
        >>> accumulator.apply(gradient, step=0)            # False if it is stale, and was dropped
        >>> accumulator.take(4, done)                      # done((mean,)) when four are in
    """

    def __init__(self, name: str, type_: TensorType, reduction: str = "mean") -> None:
        super().__init__("accumulator", name, type_, reduction)
        self._sum: Array | None = None

    def apply(self, gradient: Array, step: int) -> bool:
        """Add a gradient; False if it was dropped because it comes from an earlier step.

        Raises:
            StepError: of another shape or dtype.
        """
        if not fits(gradient, self.type):
            raise StepError(
                f"apply to {self}: it takes {describe(self.type)}, the gradient is "
                f"{seen(gradient)}."
            )

        def add() -> None:
            if self._sum is None:
                self._sum = np.array(gradient, self._wide)
            else:
                np.add(self._sum, gradient, out=self._sum)

        return self._apply(step, add)

    def _reduced(self) -> Values:
        assert self._sum is not None
        total, self._sum = self._sum, None
        mean = total if self.reduction == "sum" else total / self._count
        return (mean.astype(self.type.dtype.numpy),)


class SparseAccumulator(_Accumulator):
    """Of rows at indices; what is taken has each index once, in order.

    Args:
        type_: of the whole table: its first extent bounds the indices (-1 for no bound), the others are a row's.
        reduction: "mean" divides every row by the number of gradients, as if they were dense, "row_mean" by the number
            of gradients that had the row.
    """

    def __init__(self, name: str, type_: TensorType, reduction: str = "mean") -> None:
        super().__init__("accumulator", name, type_, reduction)
        self._parts: list[tuple[Array, Array]] = []

    def apply(self, indices: Array, values: Array, step: int) -> bool:
        """Add rows `values[i]` at `indices[i]`; an index may be there several times. False if it was dropped.

        Raises:
            StepError: the values are not one row per index, or an index is outside.
        """
        rows, bound = self.type.shape[1:], self.type.shape[0]
        if indices.ndim != 1 or not fits(values, TensorType((len(indices), *rows), self.type.dtype)):
            raise StepError(
                f"apply to {self}: it takes rows of {describe(self.type)}, got indices {list(indices.shape)} and "
                f"values {seen(values)}."
            )
        outside = indices[(indices < 0) | (indices >= bound)] if bound != VARIES else indices[indices < 0]
        if outside.size:
            raise StepError(f"apply to {self}: the index {outside[0]} is outside {describe(self.type)}.")
        part = _merged(indices.astype(np.int64), values.astype(self._wide))
        return self._apply(step, lambda: self._parts.append(part))

    def _reduced(self) -> Values:
        parts, self._parts = self._parts, []
        indices = np.concatenate([p[0] for p in parts])
        unique, values = _merged(indices, np.concatenate([p[1] for p in parts]))
        if self.reduction == "mean":
            values = values / self._count
        elif self.reduction == "row_mean":  # each part has an index at most once; np.unique sorts, as `_merged` does
            values = values / np.unique(indices, return_counts=True)[1].reshape(-1, *[1] * (values.ndim - 1))
        return unique, values.astype(self.type.dtype.numpy)


def _merged(indices: Array, values: Array) -> tuple[Array, Array]:
    """Each index once, in order, with the sum of its rows."""
    unique, places = np.unique(indices, return_inverse=True)
    total = np.zeros((len(unique), *values.shape[1:]), values.dtype)
    np.add.at(total, places, values)
    return unique, total
