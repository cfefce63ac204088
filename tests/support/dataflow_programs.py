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
from thalweg.passes.cluster import outlined
from thalweg.passes.dependences import after_of, name_of
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.rewriting import functions, operations
from thalweg.runtime.executor import Executor
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

Program = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def loaded(module: ir.Module, device: str = "/device:CPU:0") -> LoadedPartition:
    """A module of host ops and clusters as a plan."""
    with context.entered():
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
        fetches = tuple((k, endpoints[v]) for k, v in enumerate(end.operands))
    return LoadedPartition(PartitionPlan(device, tuple(nodes), tuple(range(len(block.arguments))), fetches), tuple(programs))


def execute(module: ir.Module, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Lower all control of a module (in place), then run it with the executor."""
    run_passes(module, "lower-control{all=true},cluster")
    return execute_loaded([loaded(module)], arrays)


def execute_loaded(partitions: Sequence[LoadedPartition], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run partitions as one step; nothing of it may be left afterwards."""
    rendezvous = LocalRendezvous()
    found = Executor(partitions).run(Step(1, Resources(), rendezvous), arrays)
    assert rendezvous.pending() == 0, "values that nobody received"
    return [found[k] for k in range(len(found))]
