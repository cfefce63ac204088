"""Steps of graphs in Python files: what a session would run for a tensor or an operation, or for all of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.dialects.attributes import array_type
from thalweg.dialects.extents import any_open
from thalweg.dialects.types import TensorType
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.subgraph import Fetch, cut, placeholders
from thalweg.frontend.tensor import TracedTensor
from thalweg.tools.loading import LoadError, Subject


def is_of_a_graph(found: Any) -> bool:
    """Whether a value is a graph, or something of one."""
    if isinstance(found, TracedTensor):
        return isinstance(found.scope.trace, Graph) and found.scope is found.scope.trace.root
    return isinstance(found, Graph | Operation)


def step_of(found: Any, name: str, label: str, types: Sequence[TensorType] | None = None) -> Subject:
    """The program that a session makes to run `found`; of a graph, to run all its operations.

    Args:
        name: what the program is called.
        label: what messages call it: `model.py:loss`.
        types: of the placeholders that it needs, in the order of the graph; for those with open extents.

    Raises:
        LoadError: the types do not fit.
    """
    graph, fetches = _of(found)
    feeds = placeholders(graph, fetches)
    program = cut(graph, name, fetches, feeds)
    if types is not None:
        program = _sized(program, types, label, [graph.name_of(f) for f in feeds])
    return Subject(
        name=name,
        dialect="tw",
        module=program.module,
        inputs=(*program.inputs, *map(array_type, program.constants)),
        names=tuple(graph.name_of(f).removesuffix(":0") for f in feeds),
        constants=program.constants,
        variables={v.name: v.buffer for v in program.variables},
    )


def _of(found: Any) -> tuple[Graph, list[Fetch]]:
    if isinstance(found, Graph):
        operations = found.operations()
        used = {value for operation in operations for value in operation.values}
        return found, [f for o in operations if o.type != "placeholder" for f in _ends(o, used)]
    return (found.graph if isinstance(found, Operation) else found.scope.trace), [found]


def _ends(operation: Operation, used: set[Any]) -> list[Fetch]:
    """What must be fetched of an operation to see it: results that nobody takes, or what it does."""
    return [t for t in operation.outputs if t.value not in used] or [operation]


def _sized(program: Any, types: Sequence[TensorType], label: str, names: Sequence[str]) -> Any:
    """The program for placeholders of these types."""
    from thalweg.sized import specialised

    fits = len(types) == len(program.inputs) and all(
        given.dtype == wanted.dtype and given.rank == wanted.rank
        for given, wanted in zip(types, program.inputs, strict=True)
    )
    if not fits:
        wanted = ", ".join(f"{name} {type_}" for name, type_ in zip(names, program.inputs, strict=True)) or "nothing"
        raise LoadError(f"{label} is fed {wanted}. Give --shapes of these, in this order.")
    return specialised(program, types) if any(any_open(t.shape) for t in program.inputs) else program
