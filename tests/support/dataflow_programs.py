"""Lowered programs run by the executor without code generation: clusters are done by the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from thalweg.backends.reference.interpreter import Interpreter
from thalweg.dialects import context
from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse
from thalweg.passes.cluster import outlined
from thalweg.passes.dependences import DEVICE, after_of, name_of
from thalweg.passes.partition import FEEDS, FETCHES, parts
from thalweg.passes.rewriting import functions, operations
from thalweg.runtime.executor import Executor
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

Program = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def loaded(module: ir.Module) -> LoadedPartition:
    """A module of host ops and clusters, perhaps of one device of several, as a plan."""
    with context.entered():
        attributes = module.operation.attributes
        (block,) = functions(module)
        *body, end = operations(block)
        endpoints = {argument: (FEED, number) for number, argument in enumerate(block.arguments)}
        endpoints |= {result: (i, k) for i, operation in enumerate(body) for k, result in enumerate(operation.results)}
        numbers = {name_of(operation): i for i, operation in enumerate(body)}
        nodes: list[Node] = []
        programs: list[Program] = []
        for number, operation in enumerate(body):
            row = row_of(operation)
            assert row is not None
            attrs = attributes_of(row, operation)
            if row.name == "cluster":
                attrs = {"program": len(programs)}
                programs.append(Interpreter(outlined(operation)))
            nodes.append(
                Node(
                    number, row.name, name_of(operation) or f"{row.name}/{number}", attrs,
                    tuple(endpoints[o] for o in operation.operands), tuple(numbers[n] for n in after_of(operation)),
                    len(operation.results), str(where_of(operation.location) or ""),
                )
            )  # fmt: skip
        given = [tuple(ir.DenseI64ArrayAttr(attributes[n])) if n in attributes else None for n in (FEEDS, FETCHES)]
        device = ir.StringAttr(attributes[DEVICE]).value if DEVICE in attributes else "/device:CPU:0"
        feeds = tuple(range(len(block.arguments))) if given[0] is None else given[0]
        numbered = range(len(end.operands)) if given[1] is None else given[1]
        fetches = tuple((k, endpoints[v]) for k, v in zip(numbered, end.operands, strict=True))
    return LoadedPartition(PartitionPlan(device, tuple(nodes), feeds, fetches), tuple(programs))


def loaded_parts(module: ir.Module) -> list[LoadedPartition]:
    """The parts of a partitioned module, each read from its text."""
    with context.entered():
        modules = [parse(part.get_asm(enable_debug_info=True)) for part in parts(module)]
    return [loaded(m) for m in modules]


def execute_loaded(partitions: Sequence[LoadedPartition], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run partitions as one step; nothing of it may be left afterwards."""
    rendezvous = LocalRendezvous()
    found = Executor(partitions).run(Step(1, Resources(), rendezvous), arrays)
    assert rendezvous.pending() == 0, "values that nobody received"
    return [found[k] for k in range(len(found))]
