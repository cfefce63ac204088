"""Contexts: where an op of a lowered branch or loop stands, and how values get there.

Everything that an op in a branch or iteration takes must be dead where the op is not to run. So no value just flows in
from outside: the context *brings* it, through a switch into a branch, through a constant enter into a loop, and through
both into a loop's body, which is dead in the last iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import dataflow
from thalweg.passes.dataflow.emission import Emitter
from thalweg.passes.distribute_loops import gate_name

Key = tuple[ir.Value, str]


class Context:
    """The top level of a function: everything is alive, once."""

    frame = ""
    parent: Context | None = None

    def bring(self, value: ir.Value, device: str) -> ir.Value:
        """A value of the parent context, on `device`, as this context sees it."""
        return value

    def bring_from_top(self, value: ir.Value, device: str) -> ir.Value:
        """A value of the top level as this context sees it."""
        return value if self.parent is None else self.bring(self.parent.bring_from_top(value, device), device)

    def pivot(self, device: str) -> str:
        """The name of an op on `device` that is alive where this context is; empty at the top level."""
        return ""


@dataclass
class Branches:
    """What the two branches of a `cond` share: a switch gives each its side."""

    emit: Emitter
    outer: Context
    pred: ir.Value
    name: str
    marker: ir.Operation
    after: list[str]
    switches: dict[Key, ir.Operation] = field(default_factory=dict)

    def switch(self, value: ir.Value, device: str) -> ir.Operation:
        """The switch of a value on a device."""
        key = value, device
        if key not in self.switches:
            self.switches[key] = self.emit(
                dataflow.switch, [value, self.pred], {}, before=self.marker, device=device, frame=self.outer.frame,
                after=self.after,
            )  # fmt: skip
        return self.switches[key]


class Branch(Context):
    """A branch of a `cond`; `side` is 1 for the one that runs where the predicate is true."""

    def __init__(self, branches: Branches, side: int) -> None:
        self.parent = branches.outer
        self.frame = branches.outer.frame
        self._branches = branches
        self._side = side
        self._pivots: dict[str, str] = {}

    def bring(self, value: ir.Value, device: str) -> ir.Value:
        result: ir.Value = self._branches.switch(value, device).results[self._side]
        return result

    def pivot(self, device: str) -> str:
        if device not in self._pivots:
            name = f"{self._branches.name}/{'true' if self._side else 'false'}{device}"
            self._branches.emit(
                dataflow.pivot, [self.bring(self._branches.pred, device)], {}, before=self._branches.marker,
                device=device, frame=self.frame, name=name,
            )  # fmt: skip
            self._pivots[device] = name
        return self._pivots[device]


class LoopHead(Context):
    """The condition of a loop: runs in every iteration."""

    def __init__(self, emit: Emitter, parent: Context, frame: str, parallel: int, marker: ir.Operation) -> None:
        self.parent = parent
        self.frame = frame
        self.emit = emit
        self.parallel = parallel
        self.after: list[str] = []
        self.marker = marker
        self._enters: dict[Key, ir.Value] = {}

    def enter(self, value: ir.Value, device: str, constant: bool) -> ir.Value:
        """Bring a value of the parent context into the loop: to the first iteration, or to all."""
        attrs = {"frame": self.frame, "constant": constant, "parallel_iterations": self.parallel}
        assert self.parent is not None
        made = self.emit(
            dataflow.enter, [value], attrs, before=self.marker, device=device, frame=self.parent.frame,
            after=self.after,
        )  # fmt: skip
        result: ir.Value = made.results[0]
        return result

    def bring(self, value: ir.Value, device: str) -> ir.Value:
        key = value, device
        if key not in self._enters:
            self._enters[key] = self.enter(value, device, constant=True)
        return self._enters[key]

    def pivot(self, device: str) -> str:
        return gate_name(self.frame, device)


class LoopBody(Context):
    """The body of a loop: dead in the last iteration."""

    def __init__(self, head: LoopHead, goes_on: ir.Value, gates: dict[str, ir.Value], marker: ir.Operation) -> None:
        self.parent = head.parent
        self.frame = head.frame
        self._head = head
        self._goes_on = goes_on
        self._gates = gates
        self._marker = marker
        self._switches: dict[Key, ir.Operation] = {}
        self._pivots: dict[str, str] = {}

    def switch(self, value: ir.Value, device: str) -> ir.Operation:
        """The switch of a value of the condition: its first result leaves the loop, its second goes into the body."""
        key = value, device
        if key not in self._switches:
            self._switches[key] = self._head.emit(
                dataflow.switch, [value, self._goes_on], {}, before=self._marker, device=device, frame=self.frame
            )
        return self._switches[key]

    def bring(self, value: ir.Value, device: str) -> ir.Value:
        result: ir.Value = self.switch(self._head.bring(value, device), device).results[1]
        return result

    def pivot(self, device: str) -> str:
        if device not in self._pivots:
            name = f"{self.frame}/body{device}"
            alive = self.switch(self._gates[device], device).results[1]
            self._head.emit(
                dataflow.pivot, [alive], {}, before=self._marker, device=device, frame=self.frame, name=name
            )
            self._pivots[device] = name
        return self._pivots[device]
