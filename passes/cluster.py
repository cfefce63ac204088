"""Grouping ops of a device into clusters that are compiled whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.context import type_of
from thalweg.dialects.mlir import func_dialect, ir
from thalweg.dialects.ops import comm
from thalweg.passes.base import Pass
from thalweg.passes.dependences import AFTER, DEVICE, NAME, Dependences, name_of, set_after
from thalweg.passes.grouping import Unit, units_of
from thalweg.passes.place.costs import Costs
from thalweg.passes.rewriting import (
    Regions,
    body_of,
    copy,
    copy_operation,
    definition,
    end,
    functions,
    inside,
    substitute,
)


@dataclass(frozen=True)
class Cluster(Pass):
    """Group what lies between host ops into `tw.cluster` regions, each compiled as a whole.

    Before:
        %a = "tw.recv"()  %b = "tw.exp"(%a)  %c = "tw.neg"(%b)  "tw.send"(%c)
    After:
        %a = "tw.recv"()
        %c = "tw.cluster"(%a) ({ ^bb0(%x): %b = "tw.exp"(%x)  %c = "tw.neg"(%b)  "tw.yield"(%c) })
        "tw.send"(%c)

    No cluster waits for a host op that one of its ops need not wait for, unless its results are of no use before; a
    long one is cut behind a value that a host op takes, where more than `grain` microseconds of work would follow.
    Variables are read where their value is used, and cheap work on constants is done there again. The order of what
    the ops of different clusters do to one variable becomes control edges (`tw.after`). Runs on each device's part.
    `costs` is a file of what was measured, as for `place`.
    """

    name: ClassVar[str] = "cluster"
    grain: int = 200
    costs: str = ""

    def run(self, module: ir.Module) -> bool:
        costs = Costs.load(self.costs) if self.costs else Costs()
        return any([_cluster(block, self.grain * 1e-6, costs) for block in functions(module)])


def outlined(cluster: ir.Operation) -> ir.Module:
    """The program of a cluster: a module whose @main takes the cluster's operands and returns its results."""
    body = body_of(cluster)
    module = ir.Module.create(cluster.location)
    with cluster.location:
        with ir.InsertionPoint(module.body):
            inputs, results = [a.type for a in body.arguments], [r.type for r in cluster.results]
            function = func_dialect.FuncOp("main", (inputs, results))
        block = function.add_entry_block()
        with ir.InsertionPoint(block):
            func_dialect.ReturnOp(copy(body, list(block.arguments)))
    return module


def _cluster(block: ir.Block, grain: float, costs: Costs) -> bool:
    dependences = Dependences(block)
    units = units_of(dependences, grain, costs)
    if all(unit.is_host for unit in units):
        return False
    _Emission(dependences, units).run()
    return True


class _Emission:
    """Moves the ops of a block into clusters, in an order that keeps definitions before uses."""

    def __init__(self, dependences: Dependences, units: Sequence[Unit]) -> None:
        self._nodes = dependences.nodes
        self._end = dependences.end
        self._units = units
        self._needs = {unit: self._inputs(unit) for unit in units}
        self._wanted = {*self._end.operands, *(v for values in self._needs.values() for v in values)}
        self._given: dict[ir.Value, ir.Value] = {}  # results of ops in clusters: the clusters' results
        self._made: dict[Unit, ir.Operation] = {}

    def run(self) -> None:
        names = self._names()
        for unit in self._units:
            self._made[unit] = made = self._host_op(unit) if unit.is_host else self._cluster(unit)
            made.attributes[NAME] = ir.StringAttr.get(names[unit])
            makers = {definition(v) for v in made.operands}
            earlier = [names[e] for e in self._made if e in unit.before and self._made[e] not in makers]
            set_after(made, earlier + self._back_edges(unit))
        substitute(self._end, self._given)
        done = {index for unit in self._units for index in unit.members}
        for node in reversed(self._nodes):  # what was copied to where it is used
            if node.index not in done and all(next(r.uses, None) is None for r in node.operation.results):
                node.operation.erase()

    def _back_edges(self, unit: Unit) -> list[str]:
        """Control edges of a host op from host ops further down."""
        later = self._nodes[unit.members[0]].later if unit.is_host else []
        return [name for i in later if (name := name_of(self._nodes[i].operation)) is not None]

    def _inputs(self, unit: Unit) -> list[ir.Value]:
        """The values that a unit takes from outside, each once."""
        nodes = [self._nodes[i] for i in sorted([*unit.members, *unit.copies])]
        own = {result for node in nodes for result in node.operation.results}
        return list(dict.fromkeys(v for node in nodes for v in node.inputs if v not in own))

    def _names(self) -> dict[Unit, str]:
        """Names for all units; host ops keep theirs."""
        names: dict[Unit, str] = {}
        for unit in self._units:
            name = name_of(self._nodes[unit.members[0]].operation) if unit.is_host else None
            if name is not None:
                names[unit] = name
        taken, counts = set(names.values()), Counter[str]()
        for unit in self._units:
            kind = self._nodes[unit.members[0]].operation.name.removeprefix("tw.") if unit.is_host else "cluster"
            while unit not in names:
                name = f"{kind}/{counts[kind]}"
                counts[kind] += 1
                if name not in taken:
                    names[unit] = name
        return names

    def _host_op(self, unit: Unit) -> ir.Operation:
        operation = self._nodes[unit.members[0]].operation
        substitute(operation, self._given)
        operation.move_before(self._end)
        return operation

    def _cluster(self, unit: Unit) -> ir.Operation:
        outside = self._needs[unit]
        results = [r for i in unit.members for r in self._nodes[i].operation.results if r in self._wanted]
        operands = [self._given.get(v, v) for v in outside]
        first = self._nodes[unit.members[0]].operation
        device = first.attributes.get(DEVICE, None)
        with first.location, ir.InsertionPoint(self._end):
            regions = Regions([type_of(v) for v in operands])
            mapping = dict(zip(outside, regions.blocks[0].arguments, strict=True))
            self._fill(regions.blocks[0], unit, mapping)
            with ir.InsertionPoint(regions.blocks[0]):
                end(*(mapping.get(v, v) for v in results))
            made = regions.finish(comm.cluster, operands, {})
        if device is not None:
            made.attributes[DEVICE] = device
        self._given.update(zip(results, made.results, strict=True))
        return made

    def _fill(self, block: ir.Block, unit: Unit, mapping: dict[ir.Value, ir.Value]) -> None:
        """Move members and copy what is free, in program order."""
        for index in sorted([*unit.members, *unit.copies]):
            operation = self._nodes[index].operation
            if index in unit.copies:
                with ir.InsertionPoint(block), operation.location:
                    operation = copy_operation(operation, mapping)
            else:
                block.append(operation)
            for inner in inside(operation):
                substitute(inner, mapping)
                for attribute in (AFTER, DEVICE):
                    if attribute in inner.attributes:
                        del inner.attributes[attribute]
