"""Under which conditions ops of lowered control flow run: what may not be compiled together with what."""

from __future__ import annotations

from thalweg.dialects.mlir import ir
from thalweg.passes.dependences import Dependences, Node

_MAY_BE_DEAD = frozenset({"switch", "recv"})
_BACK_EDGES = frozenset({"next_iteration_source"})


class Conditions:
    """The conditions of each node of a block, as bits: which outputs of switches must be alive for it to run.

    A switch adds a bit for each predicate and branch, a value that is received one of its own; `merge` is alive when
    one of its inputs is, `exit` when its loop has ended.
    """

    def __init__(self, dependences: Dependences) -> None:
        self._bits: dict[object, int] = {}
        self._of_value: dict[ir.Value, int] = {}
        self._of_node: list[int] = []
        self._nodes = dependences.nodes
        plain = not any(n.row is not None and n.row.family == "dataflow" for n in dependences.nodes)
        for node in dependences.nodes:
            self._of_node.append(0 if plain else self._visit(node))

    def of_node(self, node: Node) -> int:
        """The bits of a node; nodes of the same bits run together or not at all."""
        return self._of_node[node.index]

    def _visit(self, node: Node) -> int:
        name = node.row.name if node.row is not None else ""
        given = [self._of_value.get(v, 0) for v in node.inputs]
        if name == "merge":
            alive = [bits for v, bits in zip(node.inputs, given, strict=True) if not _is_back_edge(v)]
            condition = alive[0] if alive else 0
            for bits in alive:
                condition &= bits
        else:
            condition = 0
            for bits in given:
                condition |= bits
        for earlier in node.order:
            if self._nodes[earlier].operation.name == "tw.pivot":  # dead where its pivot is
                condition |= self._of_node[earlier]
        if name == "exit":
            condition &= ~self._introduced(node.inputs[0])
        for number, result in enumerate(node.operation.results):
            self._of_value[result] = condition | self._own(name, node, number)
        return condition

    def _own(self, name: str, node: Node, number: int) -> int:
        if name not in _MAY_BE_DEAD:
            return 0
        about: object = (node.inputs[1], number) if name == "switch" else node.index
        return self._bits.setdefault(about, 1 << len(self._bits))

    def _introduced(self, value: ir.Value) -> int:
        """The bit that the switch added which a value comes from."""
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "tw.switch":
            return 0
        return self._bits.get((owner.operation.operands[1], ir.OpResult(value).result_number), 0)


def _is_back_edge(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name.removeprefix("tw.") in _BACK_EDGES
