"""Running a partitioned program on NumPy, in one thread and in any order that its edges allow.

What the executor does, without threads: a node may run once its operands are there and the nodes that it names in
`tw.after` have run; which of those that may is drawn from `rng`. So a missing edge shows as a wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.mlir import ir
from thalweg.passes.cluster import outlined
from thalweg.passes.dependences import after_of, name_of
from thalweg.passes.partition import FEEDS, FETCHES, parts
from thalweg.passes.rewriting import body_of, operations

Array = np.ndarray


def run_partitioned(
    module: ir.Module, inputs: Sequence[Array], variables: dict[str, Array], rng: np.random.Generator
) -> list[Array]:
    """The results of a module that `partition` and `cluster` have been run on; changes `variables`."""
    with context.entered():
        edges: dict[str, Array] = {}
        devices = [_Device(part, inputs) for part in parts(module)]
        while any(device.left for device in devices):
            ready = [(device, op) for device in devices for op in device.left if device.may_run(op, edges)]
            assert ready, f"nothing can run: {[str(op)[:200] for device in devices for op in device.left]}"
            device, op = ready[rng.integers(len(ready))]
            device.run(op, edges, variables)
        results = {number: array for device in devices for number, array in device.fetched()}
    assert not edges, f"sent, but never received: {list(edges)}"
    assert sorted(results) == [*range(len(results))]
    return [results[number] for number in range(len(results))]


class _Device:
    def __init__(self, part: ir.Operation, inputs: Sequence[Array]) -> None:
        block = body_of(operations(body_of(part))[0])
        *self.left, self._end = operations(block)
        self._part = part
        feeds = ir.DenseI64ArrayAttr(part.attributes[FEEDS])
        self._values = {a: inputs[number] for a, number in zip(block.arguments, feeds, strict=True)}
        self._done: set[str] = set()
        names = {name_of(op) for op in self.left}
        assert all(name in names for op in self.left for name in after_of(op))

    def may_run(self, op: ir.Operation, edges: dict[str, Array]) -> bool:
        if any(o not in self._values for o in op.operands) or not self._done.issuperset(after_of(op)):
            return False
        return op.name != "tw.recv" or ir.StringAttr(op.attributes["edge"]).value in edges

    def run(self, op: ir.Operation, edges: dict[str, Array], variables: dict[str, Array]) -> None:
        row = row_of(op)
        assert row is not None
        operands = [self._values[o] for o in op.operands]
        results: Sequence[Array] = []
        if row.name == "send":
            edge = attributes_of(row, op)["edge"]
            assert edge not in edges
            edges[edge] = operands[0]
        elif row.name == "recv":
            results = [edges.pop(attributes_of(row, op)["edge"])]
        else:
            assert row.name == "cluster", f"{row.name} stands outside of clusters"
            results = run(outlined(op), operands, variables)
        self._values.update(zip(op.results, results, strict=True))
        self._done.add(name_of(op) or "")
        self.left.remove(op)

    def fetched(self) -> list[tuple[int, Array]]:
        numbers = ir.DenseI64ArrayAttr(self._part.attributes[FETCHES])
        return [(number, self._values[v]) for number, v in zip(numbers, self._end.operands, strict=True)]
