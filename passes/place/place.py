"""The pass that gives every op its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.build import row_of
from thalweg.dialects.devices import parse
from thalweg.dialects.location import moved
from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.dependences import DEVICE, DEVICES
from thalweg.passes.place.constraints import COLOCATE, constrain, request_of
from thalweg.passes.place.costs import Costs
from thalweg.passes.place.devices import parse_devices
from thalweg.passes.place.simulate import choose, gather, tasks_of
from thalweg.passes.rewriting import bodies, functions, inside, operations


@dataclass(frozen=True)
class Place(Pass):
    """Give every op a device: the attribute `tw.device`, and its location asks for just that.

    Before:
        %w = "tw.variable_handle"() loc("@/device:CPU:1"(…))  %a = "tw.read"(%w)  %b = "tw.exp"(%a)
    After:
        … all three with {tw.device = "/device:CPU:1"}

    An op is where its location asks for, as far as that says; ops on a variable, a queue or another resource are where
    that is, and it is on the first device that its own request allows, in every step. Host ops are on CPUs. Where a
    choice is left, the step is run in thought and each op goes where it would be done first, values' journeys counted
    in; small ops stay with their neighbours.

    `devices` are separated by `;`: `cpu:2` are two CPUs of this process, `/job:ps/task:0..1/cpu:0` one each of two
    tasks. `costs` is a JSON file of seconds by op (`place.costs.key_of`), as measured in earlier steps. The ops in the
    regions of a control op are with it and have no attribute of their own, unless it spans devices or holds host ops.
    """

    name: ClassVar[str] = "place"
    devices: str = "cpu:1"
    costs: str = ""

    def run(self, module: ir.Module) -> bool:
        devices = parse_devices(self.devices)
        costs = Costs.load(self.costs) if self.costs else Costs()
        for block in functions(module):
            placed = list(_placeable(block))
            whole = {i for i, o in enumerate(placed) if o.regions and not spans(o)}
            sets = constrain(placed, devices, whole)
            tasks = tasks_of(placed, costs, devices[0].kind or "CPU", whole)
            gather(tasks, sets)
            for operation, device in zip(placed, choose(tasks, sets), strict=True):
                operation.attributes[DEVICE] = ir.StringAttr.get(str(device))
                operation.location = moved(operation.location, str(device))
        module.operation.attributes[DEVICES] = ir.ArrayAttr.get([ir.StringAttr.get(str(d)) for d in devices])
        return True


def spans(operation: ir.Operation) -> bool:
    """True for an op whose regions are not for one device, or hold host ops: `lower-control` must take it apart.

    After `place` it is decided by the devices that ops got, before it by what they ask for.
    """
    if not operation.regions or operation.name == "tw.cluster":
        return False
    inner = [o for block in bodies(operation) for outer in operations(block) for o in inside(outer)]
    if any(row is not None and row.runs == "host" for row in map(row_of, inner)):
        return True
    if DEVICE in operation.attributes:
        given = {o.attributes[DEVICE] for o in (operation, *inner) if DEVICE in o.attributes}
        return len(given) > 1
    return not _agree({request for o in (operation, *inner) if (request := request_of(o))})


def _agree(requests: set[str]) -> bool:
    """Whether one device could be what all ask for."""
    if len(requests) < 2:
        return True
    if any(r.startswith(COLOCATE) for r in requests):
        return False
    wanted = [parse(r) for r in requests]
    return all(a.matches(b) for a in wanted for b in wanted)


def _placeable(block: ir.Block) -> Iterator[ir.Operation]:
    """The ops that get a device each: all of the block, and of the regions of those that span devices."""
    for operation in operations(block):
        row = row_of(operation)
        if (row is not None and row.terminator) or operation.name == "func.return":
            continue
        yield operation
        if spans(operation):
            for inner in bodies(operation):
                yield from _placeable(inner)
