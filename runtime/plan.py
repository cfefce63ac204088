"""What one device does in a step, as plain data: nodes, what each waits for, what goes in and what comes out.

The compiler makes a plan from each partition of a step (`steps.py`); the executor runs it. Nothing here knows MLIR, so
that a task can run plans without the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Value: TypeAlias = Any  # an array, a resource, or DEAD
Endpoint: TypeAlias = tuple[int, int]  # (id of a node, number of its output)
Program: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]  # a compiled cluster, bound to its variables

FEED: Final = -1  # in an endpoint, in the place of a node: the partition's own inputs
CLUSTER: Final = "cluster"

# Ops that decide at run time what runs. A plan with one of them goes through `frames.py`.
DATAFLOW: Final = frozenset(
    {"switch", "merge", "enter", "exit", "next_iteration_source", "next_iteration_sink", "loop_cond", "pivot"}
)


class Dead:
    """The type of `DEAD`: what stands for a value on a branch that is not taken. There is one, in every process."""

    __slots__ = ()
    _only: Dead | None = None

    def __new__(cls) -> Dead:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __reduce__(self) -> tuple[type[Dead], tuple[()]]:
        return Dead, ()

    def __repr__(self) -> str:
        return "DEAD"


DEAD: Final = Dead()


@dataclass(frozen=True, slots=True)
class Node:
    """One op of a plan.

    Args:
        id: its place in the plan's `nodes`.
        op: the row's name ("enqueue"), or "cluster".
        name: unique in the step; for errors and traces.
        attrs: the row's attributes as Python values. A cluster has `program` (which of the plan's programs), `reads`
            and `writes` (names of the variables that it touches).
        inputs: where its operands come from; `(FEED, k)` is the partition's k-th input.
        after: nodes that must have run before.
        outputs: how many values it gives.
        where: the user's line, as `file.py:12: in f():`.
    """

    id: int
    op: str
    name: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Endpoint, ...] = ()
    after: tuple[int, ...] = ()
    outputs: int = 1
    where: str = ""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What one device does in a step.

    Args:
        device: its full name.
        nodes: in any order; `nodes[i].id == i`.
        feeds: which of the step's inputs each input of the partition is.
        fetches: which of the step's outputs come from here, and from which endpoint.

    Example:
        >>> a = Node(0, "double", "a", inputs=((FEED, 0),))
        >>> PartitionPlan("/job:localhost/task:0/device:CPU:0", (a,), feeds=(0,), fetches=((0, (0, 0)),))
    """

    device: str
    nodes: tuple[Node, ...]
    feeds: tuple[int, ...] = ()
    fetches: tuple[tuple[int, Endpoint], ...] = ()

    @property
    def is_dataflow(self) -> bool:
        """Whether values may be dead or loops turn, so that `frames.py` must run it."""
        return any(node.op in DATAFLOW for node in self.nodes)


@dataclass(frozen=True)
class LoadedPartition:
    """A plan with the programs of its clusters, ready to run.

    The executor holds the locks of a cluster's variables around its program, unless the program has a true attribute
    `locks`: then it does so itself. A program that only starts its work has a method `settle`, which waits for it: it
    is called while a trace is made, so that the trace shows how long the work takes.
    """

    plan: PartitionPlan
    programs: tuple[Program, ...] = ()
