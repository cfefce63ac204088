"""Choosing devices by running the step in thought: each op in turn goes where it would be done first.

What an op waits for and how long values travel to it are counted in; what was asked for leaves no choice. Small ops are
not worth a journey: they stay with what gives them the most data, or go with what takes their result.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.dialects.context import type_of
from thalweg.dialects.devices import Device
from thalweg.dialects.mlir import ir
from thalweg.passes.place.constraints import Sets, is_state
from thalweg.passes.place.costs import BETWEEN_TASKS, WITHIN_TASK, Costs, Link, is_cheap, link, nbytes
from thalweg.passes.rewriting import bodies, captures

LOAD = 64  # latencies of work that small ops may pile up around one another before they are looked at one by one


@dataclass
class Task:
    """An op as the simulation sees it: how long it takes, and the ops whose values it takes, with their bytes. What is
    fed to it comes from the first device, and what is fetched goes there."""

    operation: ir.Operation
    seconds: float
    fed: int = 0
    fetched: int = 0
    inputs: dict[int, int] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)


def tasks_of(operations: Sequence[ir.Operation], costs: Costs, kind: str, whole: set[int]) -> list[Task]:
    """The tasks of ops that stand in the order of the program; those in `whole` count with what is in their regions."""
    if not operations:
        return []
    tasks: list[Task] = []
    made_by: dict[ir.Value, int] = {}
    for index, operation in enumerate(operations):
        inner = bool(operation.regions) and index not in whole
        tasks.append(Task(operation, 0.0 if inner else costs.seconds(operation, kind)))
        values = list(operation.operands)
        if operation.regions:
            values += [] if inner else captures(*bodies(operation))
            made_by.update((a, index) for b in bodies(operation) for a in b.arguments)
        for value in values:
            maker, size = made_by.get(value), nbytes(type_of(value))
            if maker is None:
                tasks[index].fed += size
            elif maker != index:
                tasks[index].inputs[maker] = tasks[index].inputs.get(maker, 0) + size
        made_by.update((r, index) for r in operation.results)
        for maker, size in tasks[index].inputs.items():
            tasks[maker].users[index] = size
    *_, end = operations[0].block.operations
    for value in end.operands:
        if value in made_by:
            tasks[made_by[value]].fetched += nbytes(type_of(value))
    return tasks


def gather(tasks: Sequence[Task], sets: Sets) -> None:
    """Join small ops that may be anywhere their neighbours may be to what gives them the most data; those that take
    nothing from others, constants and what is made of the step's inputs, to what takes the most from them."""
    latency = _latency(sets.devices)
    free = _free(tasks)
    load: dict[int, float] = {}
    for index, task in enumerate(tasks):
        root = sets.find(index)
        load[root] = load.get(root, 0.0) + task.seconds
    forward = [(i, _nearest(t, free)) for i, t in enumerate(tasks) if t.inputs]
    backward = [(i, max(t.users, key=t.users.__getitem__)) for i, t in enumerate(tasks) if t.users and not t.inputs]
    for index, neighbour in (*forward, *reversed(backward)):
        if tasks[index].seconds >= latency or is_state(tasks[index].operation):
            continue
        own, other = sets.find(index), sets.find(neighbour)
        fits = sets.allowed(own) & sets.allowed(other) == sets.allowed(other)
        if own != other and fits and load[own] + load[other] <= LOAD * latency:
            sets.join(neighbour, index, "")
            load[sets.find(index)] = load[own] + load[other]


def _free(tasks: Sequence[Task]) -> list[bool]:
    """Which ops are done again wherever they are used, so that nothing need be near them: small work on constants."""
    free: list[bool] = []
    for task in tasks:
        free.append(not task.fed and is_cheap(task.operation) and all(free[maker] for maker in task.inputs))
    return free


def _nearest(task: Task, free: Sequence[bool]) -> int:
    """What gives a task the most data, of what is not free if there is such."""
    return max(task.inputs, key=lambda maker: (not free[maker], task.inputs[maker]))


def choose(tasks: Sequence[Task], sets: Sets) -> list[Device]:
    """A device for each op."""
    return _Simulation(tasks, sets).run()


class _Simulation:
    def __init__(self, tasks: Sequence[Task], sets: Sets) -> None:
        self._tasks, self._sets, self._devices = tasks, sets, sets.devices
        self._roots = [sets.find(i) for i in range(len(tasks))]
        self._links = {(a, b): link(a, b) for a in sets.devices for b in sets.devices} if len(sets.devices) < 64 else {}
        self._load: dict[int, float] = {}
        self._chosen: dict[int, int] = {}  # device of each set, by number
        for index, task in enumerate(tasks):
            root = self._roots[index]
            self._load[root] = self._load.get(root, 0.0) + task.seconds
            allowed = sets.allowed(root)
            if allowed.bit_count() == 1:
                self._chosen[root] = allowed.bit_length() - 1
        self._wish = self._wishes()
        self._free = [0.0] * len(sets.devices)
        self._done = [0.0] * len(tasks)

    def run(self) -> list[Device]:
        urgency = self._urgency()
        missing = [len(t.inputs) for t in self._tasks]
        ready = [(-urgency[i], i) for i, m in enumerate(missing) if not m]
        heapq.heapify(ready)
        while ready:
            _, index = heapq.heappop(ready)
            self._start(index)
            for user in self._tasks[index].users:
                missing[user] -= 1
                if not missing[user]:
                    heapq.heappush(ready, (-urgency[user], user))
        return [self._devices[self._chosen[root]] for root in self._roots]

    def _start(self, index: int) -> None:
        root, task = self._roots[index], self._tasks[index]
        if root not in self._chosen:
            self._chosen[root] = min(self._candidates(root), key=lambda d: (self._score(index, d), d))
        device = self._chosen[root]
        self._free[device] = self._done[index] = self._begin(index, device) + task.seconds

    def _candidates(self, root: int) -> list[int]:
        allowed = self._sets.allowed(root)
        return [i for i in range(len(self._devices)) if allowed >> i & 1]

    def _begin(self, index: int, device: int) -> float:
        """When an op could begin on a device: the device is free and all values have arrived."""
        task, begin = self._tasks[index], self._free[device]
        if task.fed:
            begin = max(begin, self._travel(0, device, task.fed))
        for maker, size in task.inputs.items():
            begin = max(begin, self._done[maker] + self._travel(self._chosen[self._roots[maker]], device, size))
        return begin

    def _score(self, index: int, device: int) -> float:
        """When what belongs to an op would be done on a device, and its result be where it is wanted."""
        root = self._roots[index]
        score = self._begin(index, device) + self._load[root]
        if root in self._wish:
            where, size = self._wish[root]
            score += self._travel(device, where, size)
        return score

    def _travel(self, source: int, target: int, size: float) -> float:
        way = self._way(source, target)
        return way.seconds(size) if way is not None else 0.0

    def _way(self, source: int, target: int) -> Link | None:
        ends = self._devices[source], self._devices[target]
        return self._links[ends] if self._links else link(*ends)

    def _wishes(self) -> dict[int, tuple[int, int]]:
        """For each set that may choose, the device that the most of its results is wanted on, and how many bytes:
        that of the nearest users which have no choice, or the first for what is fetched."""
        wishes: dict[int, tuple[int, int]] = {}
        for index in reversed(range(len(self._tasks))):
            root = self._roots[index]
            if root in self._chosen:
                continue
            found = [(0, self._tasks[index].fetched)] if self._tasks[index].fetched else []
            for user, size in self._tasks[index].users.items():
                other = self._roots[user]
                if other in self._chosen:
                    found.append((self._chosen[other], size))
                elif other != root and other in wishes:
                    found.append((wishes[other][0], min(size, wishes[other][1])))
            for device, size in found:
                if root not in wishes or size > wishes[root][1]:
                    wishes[root] = device, size
        return wishes

    def _urgency(self) -> list[float]:
        """For each op the time from its beginning to the end of the step, if all were on one device."""
        urgency = [0.0] * len(self._tasks)
        for index in reversed(range(len(self._tasks))):
            task = self._tasks[index]
            urgency[index] = task.seconds + max((urgency[u] for u in task.users), default=0.0)
        return urgency


def _latency(devices: Sequence[Device]) -> float:
    one_task = len({(d.job, d.task) for d in devices}) == 1
    return (WITHIN_TASK if one_task else BETWEEN_TASKS).latency
