"""Which ops of a device go into one cluster: decided here, carried out by the pass `cluster`.

Ops that wait for the same host ops go together: none of them is held up by another, and no cycle can come of it, since
a path from one of them through a host op leads only to ops that wait for more. Refinements: cheap work on constants is
done again wherever it is used; a variable is read where its value is used; a small group that only one other group
needs joins it; a long group is cut behind values that a host op takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from thalweg.dialects.build import row_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.passes.conditions import Conditions
from thalweg.passes.dependences import Dependences, Node
from thalweg.passes.distribute_loops import frame_of
from thalweg.passes.place.costs import Costs, grows, is_cheap
from thalweg.passes.rewriting import inside

Key: TypeAlias = tuple[int, int]  # host ops that a node waits for, and the conditions that it runs under, as bits


@dataclass(eq=False)
class Unit:
    """A cluster to be, or one host op: the nodes that it does, free nodes that it does as well, and the units that it
    comes after."""

    members: list[int]
    is_host: bool = False
    sends: bool = False
    copies: set[int] = field(default_factory=set)
    before: set[Unit] = field(default_factory=set)


def units_of(dependences: Dependences, grain: float, costs: Costs) -> list[Unit]:
    """The clusters and host ops of a block, each after those that it comes after, else as in the program. `grain` is
    what counts as much work, in seconds.

    Raises:
        PassError: a compiled op holds a host op in a region.
    """
    places = Places(dependences)
    work = _Work(dependences.nodes, costs)
    groups = _merged(places, work, grain)
    pieces = [piece for members in groups for piece in _cut(members, places, work, grain)]
    units = _units(pieces, places)
    order = _ordered(units)
    if len(order) < len(units):  # branches can make groups wait for each other: those are not grouped at all
        sound = set(order)
        pieces = [p for u in units if not u.is_host for p in ([u.members] if u in sound else [[m] for m in u.members])]
        order = _ordered(_units(pieces, places))
    return order


def is_host(operation: ir.Operation) -> bool:
    """True for what the executor does itself.

    Raises:
        PassError: the op is compiled but holds a host op in a region: it has not been lowered.
    """
    row = row_of(operation)
    if row is None or row.runs == "host" or row.name == "cluster":
        return True
    for inner in inside(operation) if operation.regions else ():
        inner_row = row_of(inner)
        if inner_row is not None and inner_row.runs == "host":
            where = where_of(inner.location)
            raise PassError(
                f"{where or ''} {inner_row.name} runs on the host, but stands inside of {row.name}, which is compiled. "
                "Run the pass lower-control first."
            )
    return False


class Places:
    """Where each node of a block may be done, and what must come before what once that is settled.

    `host` are host ops; `free` nodes are done again by whoever uses them, and `placed` only where a host op or the
    caller takes their result. Nodes with the same `keys` may be one cluster.
    """

    def __init__(self, dependences: Dependences) -> None:
        self.dependences = dependences
        self.nodes = dependences.nodes
        self.host = {n.index for n in self.nodes if is_host(n.operation)}
        self.free: set[int] = set()
        for node in self.nodes:
            if self._is_free(node):
                self.free.add(node.index)
        self.returned = {m for v in dependences.end.operands if (m := dependences.maker(v)) is not None}
        self.placed = [self._is_placed(n) for n in self.nodes]
        self.keys = self._find_keys()
        for node in self.nodes:
            if node.operation.name == "tw.read":
                self._sink(node)
        self.before: list[set[int]] = []
        for node in self.nodes:
            self.before.append(self._before(node))
        self.after: list[set[int]] = [set() for _ in self.nodes]
        for index, earlier_ones in enumerate(self.before):
            for earlier in earlier_ones if self.placed[index] else ():
                self.after[earlier].add(index)

    def _is_free(self, node: Node) -> bool:
        makers = [self.dependences.maker(value) for value in node.inputs]
        return (
            not node.order
            and node.index not in self.host
            and is_cheap(node.operation)
            and (all(m is not None and m in self.free for m in makers) or grows(node.operation))
        )

    def _is_placed(self, node: Node) -> bool:
        if node.index not in self.free:
            return True
        used = node.index in self.returned or not self.host.isdisjoint(self.dependences.users[node.index])
        return used and node.operation.name != "tw.variable_handle"

    def _find_keys(self) -> list[Key]:
        conditions = Conditions(self.dependences)
        bit = {index: 1 << k for k, index in enumerate(sorted(self.host))}
        waits: list[int] = []
        for node in self.nodes:
            bits = 0
            for earlier in node.before:
                bits |= waits[earlier] | bit.get(earlier, 0)
            waits.append(bits)
        return [(waits[n.index], conditions.of_node(n)) for n in self.nodes]

    def _sink(self, read: Node) -> None:
        """Read where the value is used, if that is in one place and holds up no assignment.

        In more than one place it stays a read of its own, whose value is passed on: two reads could differ, where other
        steps write at the same time.
        """
        users = [self.nodes[u] for u in self.dependences.users[read.index]]
        keys = {self.keys[u.index] for u in users if read.index in u.data}
        if len(keys) != 1 or any(u.index in self.host for u in users) or read.index in self.returned:
            return
        (key,) = keys
        later = [u for u in users if read.index in u.order]
        writes = all(set(u.writes) & set(read.reads) for u in later)
        if writes and all(not key[0] & ~self.keys[u.index][0] and not key[1] for u in later):
            self.keys[read.index] = key

    def _before(self, node: Node) -> set[int]:
        found: set[int] = set()
        for d in node.before:
            if d in self.free and node.index not in self.host:  # compiled ops do free nodes themselves
                found |= self.before[d]  # what a free node spreads need not be free
            elif self.placed[d]:
                found.add(d)
        return found


class _Work:
    """Seconds that nodes take, looked up once each."""

    def __init__(self, nodes: Sequence[Node], costs: Costs) -> None:
        self._nodes = nodes
        self._costs = costs
        self._known: dict[int, float] = {}

    def of(self, members: Iterable[int]) -> float:
        return sum(self._one(m) for m in members)

    def _one(self, index: int) -> float:
        if index not in self._known:
            self._known[index] = self._costs.seconds(self._nodes[index].operation)
        return self._known[index]


def _merged(places: Places, work: _Work, grain: float) -> list[list[int]]:
    """Nodes that wait for the same; then small groups whose results only one other group takes as part of that one.

    The small group then waits for more, and nobody notices: the other is the only one to need it. A group that writes
    must run even where its user is dead, so the two must run under the same conditions.
    """
    groups: dict[Key, list[int]] = {}
    for node in places.nodes:
        if places.placed[node.index] and node.index not in places.host:
            groups.setdefault(places.keys[node.index], []).append(node.index)
    at: dict[int, Key] = {index: key for key, members in groups.items() for index in members}
    seconds = {key: work.of(members) for key, members in groups.items()}
    held_up = dict.fromkeys(groups, 0.0)  # work that could have begun earlier than the group it has joined
    for key in sorted(groups, key=lambda k: -k[0].bit_count()):  # users wait for more, so they come first here
        members = groups[key]
        users = {at.get(u) for m in members for u in places.after[m]} - {key}
        if not users and not key[0] and not places.returned.intersection(members):  # a counter, say: nobody takes it
            once = [k for k, g in groups.items() if k != key and not frame_of(places.nodes[g[0]].operation)]
            users = {max(once, key=lambda k: seconds[k])} if once else set()
        if len(users) != 1:
            continue
        (user,) = users
        if user is None or held_up[user] + seconds[key] > grain:
            continue
        if user[1] != key[1] and any(places.nodes[m].writes for m in members):
            continue
        held_up[user] += seconds[key]
        groups[user] += members
        seconds[user] += seconds[key]
        at.update((m, user) for m in groups.pop(key))
    return [sorted(members) for members in groups.values()]


def _cut(members: list[int], places: Places, work: _Work, grain: float) -> list[list[int]]:
    """A long group in pieces, so that what a host op takes is there before work that it does not need is done."""
    taken = [m for m in members if not places.host.isdisjoint(places.after[m])]
    if not taken or work.of(members) <= grain:
        return [members]
    left, piece, pieces = set(members), set[int](), []
    for end in (*taken, None):
        more = _closure(end, places, left) if end is not None else set(left)
        if piece and work.of(more) > grain:
            pieces.append(sorted(piece))
            piece = set()
        piece |= more
        left -= more
    return [*pieces, sorted(piece)] if piece else pieces


def _closure(end: int, places: Places, within: set[int]) -> set[int]:
    """What of `within` must be done for `end`, itself included."""
    found: set[int] = set()
    pending = [end] if end in within else []
    while pending:
        index = pending.pop()
        if index not in found:
            found.add(index)
            pending += [e for e in places.before[index] if e in within]
    return found


def _units(groups: Iterable[list[int]], places: Places) -> list[Unit]:
    units = [Unit(members) for members in groups]
    for index in sorted(places.host):
        units.append(Unit([index], is_host=True, sends=places.nodes[index].operation.name == "tw.send"))
    at = {index: unit for unit in units for index in unit.members}
    for unit in units:
        for index in unit.members:
            unit.before.update(at[e] for e in places.before[index])
            if not unit.is_host:
                _add_copies(unit, places.nodes[index], places)
        unit.before.discard(unit)
        unit.copies.difference_update(unit.members)
    return units


def _add_copies(unit: Unit, node: Node, places: Places) -> None:
    pending = list(node.data)
    while pending:
        index = pending.pop()
        if index in places.free and index not in unit.copies:
            unit.copies.add(index)
            pending += places.nodes[index].data


def _ordered(units: Sequence[Unit]) -> list[Unit]:
    """The units, each after those that it comes after, what is sent as early as can be, else as in the program; those
    in cycles, and what comes after them, are left out."""
    missing = {unit: len(unit.before) for unit in units}
    users: dict[Unit, list[Unit]] = {unit: [] for unit in units}
    for unit in units:
        for earlier in unit.before:
            users[earlier].append(unit)
    ready = [(not unit.sends, unit.members[-1], unit) for unit in units if not missing[unit]]
    heapq.heapify(ready)
    order = []
    while ready:
        unit = heapq.heappop(ready)[-1]
        order.append(unit)
        for user in users[unit]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (not user.sends, user.members[-1], user))
    return order
