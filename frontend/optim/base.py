"""What optimisers share: slots, the learning rate, and the update of rows for sparse gradients.

An optimiser is one method, `rule`, a pure function from gradient, value and slots to the next value and slots, written
with array functions. Dense gradients apply it to whole variables. Sparse ones (`IndexedSlices`, of an embedding) apply
the same rule to the rows that were looked up, and leave all other rows alone: their slots do not decay, which is what
"lazy" Adam means. Neither knows about devices or the compiler; a user's own optimiser is written the same way:

    class SignSGD(tw.optim.Optimizer):
        def rule(self, gradient, value, *, rate, step):
            return (value - rate * tw.sign(gradient),)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from thalweg.dialects.location import user_frame
from thalweg.frontend import array as xp
from thalweg.frontend.building import group
from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.graph import Operation
from thalweg.frontend.optim.sparse import combine, read_rows, write_rows
from thalweg.frontend.sharding import beside, scope_of
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.variable import Variable

Schedule = Callable[[Tensor], Any]  # from the number of the step, int32[], to the learning rate
Rate = float | Variable | Schedule


class Optimizer:
    """Base of optimisers.

    Args:
        rate: the learning rate: a number, a variable (assign it to change the rate without tracing again), or a
            schedule.
        slots: names of what is kept per variable, and the number that it starts with.
    """

    def __init__(self, rate: Rate, **slots: float) -> None:
        self.rate = rate
        self.slots = slots
        self.step = Variable(np.zeros((), np.int32), name="step", trainable=False)
        self._slots: dict[str, tuple[Variable, dict[str, Variable]]] = {}

    def apply(self, pairs: Iterable[tuple[Tensor | IndexedSlices, Variable]]) -> Operation | None:
        """Update each variable by its gradient, and count the step. Inside a trace the updates are part of the program.

        Returns:
            In a `tw.Graph` the operation that does it all; elsewhere None, since it has been done.

        Raises:
            ValueError: a gradient does not have its variable's shape, or a variable comes twice.
        """
        pairs = list(pairs)
        _check(pairs)
        step = xp.asarray(self.step)
        rate = self.rate(step) if callable(self.rate) else self.rate
        done: list[Any] = []
        for gradient, variable in pairs:
            with beside(variable):
                state = [variable, *self.slots_of(variable).values()]
                scalars = {"rate": _as(rate, variable), "step": step}
                if isinstance(gradient, IndexedSlices):
                    done += self.apply_rows(gradient, state, scalars)
                else:
                    values = self.rule(gradient, *(xp.asarray(s) for s in state), **scalars)
                    done += [target.assign(value) for target, value in zip(state, values, strict=True)]
        done.append(self.step.assign_add(1))
        operations = [o for o in done if isinstance(o, Operation)]
        return group(*operations, name=type(self).__name__) if operations else None

    def rule(self, gradient: Tensor, value: Tensor, *slots: Tensor, rate: Any, step: Tensor) -> tuple[Tensor, ...]:
        """The next value and slots. All arrays have the same shape; `step` counts from 0; `rate` is a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no rule(self, gradient, value, *slots, rate, step)")

    def apply_rows(self, gradient: IndexedSlices, state: list[Variable], scalars: Mapping[str, Any]) -> list[Any]:
        """The rule on the rows that a sparse gradient names; duplicates are summed first."""
        rows = combine(gradient)
        values = self.rule(rows.values, *(read_rows(s, rows.indices) for s in state), **scalars)
        return [write_rows(target, rows.indices, value) for target, value in zip(state, values, strict=True)]

    def slots_of(self, variable: Variable) -> dict[str, Variable]:
        """The slots of a variable by name; made when first asked for, with the variable's shape and dtype."""
        if variable.name not in self._slots:
            made = {}
            for name, initial in self.slots.items():
                value = np.full(variable.shape, initial, variable.dtype.numpy)
                with scope_of(variable):
                    made[name] = Variable(value, name=f"{variable.name}/{name}", trainable=False)
                made[name].part = variable.part
            self._slots[variable.name] = (variable, made)  # holds the variable, so that its name stays its own
        return self._slots[variable.name][1]

    def prepare(self, variables: Iterable[Variable]) -> None:
        """Make the slots of these variables now instead of in the first `apply`.

        For `tw.restore`, which needs something to restore into, and for warm starts, which do not trace the `apply`.
        """
        for variable in variables:
            self.slots_of(variable)

    def variables(self) -> dict[str, Variable]:
        """For `tw.save`: the step, and all slots by the number of their variable in the order of `apply` or `prepare`;
        the shards of one variable have one number.

        Numbers, not names: a variable's name depends on what else there is in the process.
        """
        found = {"step": self.step}
        shards: dict[str, list[int]] = {}  # by the variable, or by the one that it is a piece of
        for variable, slots in self._slots.values():
            pieces = shards.setdefault(variable.part.name if variable.part else variable.name, [len(shards), -1])
            pieces[1] += 1
            piece = f".shard_{pieces[1]}" if variable.part else ""
            found |= {f"{pieces[0]}.{name}{piece}": slot for name, slot in slots.items()}
        return found


def _as(rate: Any, variable: Variable) -> Any:
    """A computed rate in the variable's dtype, so that it does not promote the update; numbers never do."""
    return rate if isinstance(rate, int | float) else xp.astype(xp.asarray(rate), variable.dtype)


def _check(pairs: list[tuple[Tensor | IndexedSlices, Variable]]) -> None:
    seen: set[int] = set()
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], Variable):
            seen_instead = ", ".join(type(p).__name__ for p in (pair if isinstance(pair, tuple | list) else [pair]))
            raise TypeError(
                f"{user_frame()} apply: takes pairs (gradient, variable), got ({seen_instead}). "
                "Use zip(gradients, variables)."
            )
        gradient, variable = pair
        if gradient is None:
            raise TypeError(
                f"{user_frame()} apply: the gradient of '{variable.name}' is None. Leave the variable out, or ask for "
                "its gradient with wrt=[…]."
            )
        if id(variable) in seen:
            raise ValueError(
                f"{user_frame()} apply: variable '{variable.name}' comes twice. Add its gradients up first."
            )
        seen.add(id(variable))
        shape = gradient.dense_shape if isinstance(gradient, IndexedSlices) else np.shape(gradient)
        if tuple(shape) != tuple(variable.shape):
            raise ValueError(
                f"{user_frame()} apply: the gradient of '{variable.name}' has shape {tuple(shape)}, "
                f"the variable {tuple(variable.shape)}."
            )
