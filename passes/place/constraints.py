"""Where each op may be: what was asked for, and what must be together, as sets of devices.

Ops that must be on one device form a set (union-find); the devices that a set may be on are the intersection of those
of its members. What cannot be met is told with the lines of both ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.devices import NO_GPU, Device, parse
from thalweg.dialects.diagnostics import PassError, did_you_mean
from thalweg.dialects.location import scope_of, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType
from thalweg.passes.rewriting import inside

COLOCATE = "colocate:"


def request_of(operation: ir.Operation) -> str:
    """What an op asks for by its location: a name of a device, in full or in part, `colocate:w`, or nothing."""
    return scope_of(operation.location)


@dataclass(frozen=True)
class Limit:
    """Why a set may not be everywhere: an op, what it asks for, and the devices that this allows, as bits."""

    operation: ir.Operation
    asks: str
    allowed: int


class Sets:
    """Disjoint sets of ops by number, each with the devices it may be on.

    Raises (from `limit` and `join`):
        PassError: no device is left; names the lines of both ops and what each asks for.
    """

    def __init__(self, count: int, devices: Sequence[Device]) -> None:
        self.devices = devices
        self._parent = list(range(count))
        self._allowed = [(1 << len(devices)) - 1] * count
        self._limits: list[list[Limit]] = [[] for _ in range(count)]

    def find(self, number: int) -> int:
        """The op that stands for the set of an op."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    def allowed(self, number: int) -> int:
        """The devices that an op's set may be on, as bits."""
        return self._allowed[self.find(number)]

    def limit(self, number: int, limit: Limit) -> None:
        """Narrow the devices of an op's set."""
        root = self.find(number)
        if not self._allowed[root] & limit.allowed:
            self._complain(self._limits[root], [limit], "")
        self._allowed[root] &= limit.allowed
        self._limits[root].append(limit)

    def join(self, a: int, b: int, why: str) -> None:
        """Put two ops on one device. `why` completes the sentence 'both must be on one device, since …'."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if not self._allowed[a] & self._allowed[b]:
            self._complain(self._limits[a], self._limits[b], why)
        if len(self._limits[a]) < len(self._limits[b]):
            a, b = b, a
        self._parent[b] = a
        self._allowed[a] &= self._allowed[b]
        self._limits[a] += self._limits[b]
        self._limits[b] = []

    def _complain(self, ones: Sequence[Limit], others: Sequence[Limit], why: str) -> None:
        """Two limits that cannot both be met; where only more of them together cannot, the first and the last."""
        pairs = ((one, other) for one in ones for other in others if not one.allowed & other.allowed)
        one, other = next(pairs, (ones[0] if ones else others[0], others[-1]))
        if one.operation == other.operation:
            raise PassError(f"{_place(one.operation)} asks for {one.asks}, but {other.asks}. {self.listing()}")
        together = f", since {why}" if why else ""
        raise PassError(
            f"{_place(one.operation)} asks for {one.asks}, and {_place(other.operation)} asks for {other.asks}, but "
            f"both must be on one device{together}. Ask for the same device, or leave one of them out."
        )

    def mask(self, request: str, operation: ir.Operation) -> int:
        """The devices that a request allows, as bits.

        Raises:
            PassError: none, or it is no device's name.
        """
        try:
            wanted = parse(request)
        except ValueError as error:
            raise PassError(f"{_place(operation)}: {error}") from None
        bits = sum(1 << i for i, device in enumerate(self.devices) if device.satisfies(wanted))
        if not bits:
            has_gpus = any(device.kind == "GPU" for device in self.devices)
            hint = f" {NO_GPU}" if wanted.kind == "GPU" and not has_gpus else ""
            raise PassError(f"{_place(operation)} asks for {request}, which is not there. {self.listing()}{hint}")
        return bits

    def beside(self, allowed: int) -> int:
        """Devices, as bits; if none of them is a CPU, those of the same tasks."""
        chosen = [device for i, device in enumerate(self.devices) if allowed >> i & 1]
        if any(device.kind == "CPU" for device in chosen):
            return allowed
        tasks = {device.task_name for device in chosen}
        return sum(1 << i for i, device in enumerate(self.devices) if device.task_name in tasks)

    def listing(self) -> str:
        """The sentence that says which devices there are."""
        names = [str(d) for d in self.devices]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"The devices are {shown}."


def constrain(operations: Sequence[ir.Operation], devices: Sequence[Device], whole: set[int]) -> Sets:
    """The sets of ops that must be together, with the devices that each may be on. Those whose numbers are in `whole`
    take the requests of the ops in their regions for their own.

    Ops on a variable, a queue or another resource go where that is, whatever scope they were made in: a worker's step
    reads and writes what is on a parameter task. Host ops run on CPUs only: one that is made in the scope of an
    accelerator runs on a CPU of that accelerator's task.

    Raises:
        PassError: it cannot be done; see `Sets`.
    """
    sets = Sets(len(operations), devices)
    number = {operation: i for i, operation in enumerate(operations)}
    cpus = sum(1 << i for i, device in enumerate(devices) if device.kind == "CPU")
    for i, operation in enumerate(operations):
        row = row_of(operation)
        if row is not None and row.runs == "host":
            if not cpus:
                raise PassError(f"{_place(operation)} runs on the host, but there is no CPU. {sets.listing()}")
            sets.limit(i, Limit(operation, "a CPU, since it runs on the host", cpus))
        asking = {request_of(o): o for o in (inside(operation) if i in whole else (operation,))}
        for request, one in asking.items():
            if request and not request.startswith(COLOCATE) and not _uses_state(operation):
                allowed = sets.mask(request, one)
                if one is operation and row is not None and row.runs == "host":
                    allowed = sets.beside(allowed)
                sets.limit(i, Limit(one, request, allowed))
    _join_state(operations, number, sets)
    _join_colocated(operations, sets)
    for i, operation in enumerate(operations):
        if is_state(operation):
            # It stays where it is from step to step, whatever else a step does: on the first device that it may be on.
            allowed = sets.allowed(i)
            sets.limit(i, Limit(operation, "the first of its devices", allowed & -allowed))
    return sets


def name_in_graph(operation: ir.Operation) -> str | None:
    """What a program calls an op: `tw.name`, or the name of the variable or resource that it declares."""
    for key in ("tw.name", "name"):
        if key in operation.attributes and isinstance(operation.attributes[key], ir.StringAttr):
            return str(ir.StringAttr(operation.attributes[key]).value)
    return None


def is_state(operation: ir.Operation) -> bool:
    """True for declarations of variables and resources."""
    return any(not isinstance(type_of(r), TensorType) for r in operation.results) and not _uses_state(operation)


def _uses_state(operation: ir.Operation) -> bool:
    return any(not isinstance(type_of(o), TensorType) for o in operation.operands)


def _join_state(operations: Sequence[ir.Operation], number: dict[ir.Operation, int], sets: Sets) -> None:
    """What uses a resource goes with what declares it; one of the same name is the same."""
    declared: dict[tuple[str, str], int] = {}
    for i, operation in enumerate(operations):
        for operand in operation.operands:
            if isinstance(type_of(operand), TensorType) or isinstance(operand.owner, ir.Block):
                continue
            maker = operand.owner.operation
            if maker in number:
                name = name_in_graph(maker)
                sets.join(number[maker], i, f"{operation.name} uses '{name}'" if name else "one uses the other")
        if is_state(operation) and (name := name_in_graph(operation)) is not None:
            first = declared.setdefault((operation.name, name), i)
            sets.join(first, i, f"both are '{name}'")


def _join_colocated(operations: Sequence[ir.Operation], sets: Sets) -> None:
    asking = [(i, o, r) for i, o in enumerate(operations) if (r := request_of(o)).startswith(COLOCATE)]
    if not asking:
        return
    named = {name: i for i, o in reversed(list(enumerate(operations))) if (name := name_in_graph(o)) is not None}
    for i, operation, request in asking:
        if _uses_state(operation):
            continue
        wanted = request.removeprefix(COLOCATE).removesuffix(":0")
        if wanted not in named:
            nearest = did_you_mean(wanted, named) or "."
            raise PassError(f"{_place(operation)} is to be with '{wanted}', which is not there{nearest}")
        sets.join(named[wanted], i, f"{_place(operation)} is to be with '{wanted}'")


def _place(operation: ir.Operation) -> str:
    """The user's line and the op, as the subject of a sentence."""
    where, name = where_of(operation.location), operation.name.removeprefix("tw.")
    label = name_in_graph(operation)
    return f"{where or ''} {name}{f' {label!r}' if label else ''}".strip()
