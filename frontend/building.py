"""What a graph has beside array functions: placeholders, names, and order without data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.extents import axis
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import graph as rows
from thalweg.dialects.types import as_dtype, float32
from thalweg.frontend.extent import code_of
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.spec import spec
from thalweg.frontend.tensor import ArrayLike, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current
from thalweg.frontend.tree import leaves_of
from thalweg.frontend.variable import Variable

__all__ = ["control_dependencies", "group", "identity", "name_scope", "placeholder"]


def _graph(what: str) -> Graph:
    trace = current()
    if not isinstance(trace, Graph):
        inside = f"not in {trace.root.label}" if trace is not None else "not here"
        raise TracingError(f"{user_frame()} {what} belongs in a graph, {inside}. Use `with graph.as_default():`.")
    return trace


def placeholder(
    dtype: Any = float32, shape: int | Sequence[int | str | None] = (), name: str = "placeholder"
) -> Tensor:
    """A tensor that is fed when the graph is run.

    Args:
        dtype: of the tensor.
        shape: None stands for an extent that each run may choose. Those at one position (the first of each, say) are
            taken for the same size; extents with names, ("rows", 4), are the same where their names are.
        name: of its operation.

    Raises:
        TracingError: there is no graph to put it in.

    Example:
        >>> x = tw.placeholder(tw.float32, (None, 784), name="x")
        >>> session.run(y, feeds={x: images})
    """
    graph = _graph("tw.placeholder")
    given = (shape,) if isinstance(shape, int) else shape
    extents = [graph.named_extent(n) if isinstance(n, str) else n for n in given]
    wanted = spec([None if n is None else code_of(n) for n in extents], as_dtype(dtype))
    sizes = tuple(axis(i) if n is None else n for i, n in enumerate(wanted.shape))
    made: Tensor = graph.named(
        name, lambda: graph.emit(rows.placeholder, [], {"shape": sizes, "dtype": wanted.dtype})[0]
    )
    return made


def identity(x: ArrayLike, *, name: str | None = None) -> Tensor:
    """The tensor itself; in a graph an operation of its own with this name.

    Example:
        >>> y = tw.identity(x @ w + b, name="logits")
    """
    tensor = as_tensor(x)
    trace = current()
    return tensor if trace is None else trace.named(name or "identity", lambda: tensor)


@contextmanager
def name_scope(name: str) -> Iterator[str]:
    """Put `name/` before the names of the ops of a block; outside a graph it does nothing. Gives the full name.

    Example:
        >>> with tw.name_scope("layer"):
        ...     y = tw.exp(x, name="y")                    # called "layer/y"
    """
    trace = current()
    if isinstance(trace, Graph):
        with trace.scope(name) as full:
            yield full
    else:
        yield name


@contextmanager
def control_dependencies(inputs: Sequence[Any] | None) -> Iterator[None]:
    """Run the ops that are added in a block after `inputs`, and run `inputs` wherever they are run.

    In a traced function, where everything happens in the order in which it is written, it does nothing.

    Args:
        inputs: operations, tensors, or their names; None forgets the blocks around.

    Example:
        >>> with tw.control_dependencies([w.assign_add(1.0)]):
        ...     after = w.value
    """
    trace = current()
    if not isinstance(trace, Graph):
        yield
        return
    with trace.ordered(None if inputs is None else operations_of(trace, inputs)):
        yield


def group(*inputs: Any, name: str = "group") -> Operation:
    """One operation that stands for several: running it runs all of them.

    Args:
        inputs: operations, tensors, variables' assignments, nested structures of these; None among them is skipped.

    Example:
        >>> train = tw.group(opt.apply(pairs), counter.assign_add(1))
    """
    graph = _graph("tw.group")
    with graph.lock, graph.ordered(operations_of(graph, inputs)):
        graph.emit_values(rows.no_op, [], {})
        return graph.name_latest(name)


def operations_of(graph: Graph, values: Any) -> list[Operation]:
    """The operations that nested tensors, operations and names stand for."""
    found = []
    for value in leaves_of(values):
        if isinstance(value, str):
            value = graph.operation(value.rpartition(":")[0] or value)
        elif isinstance(value, Variable):
            value = graph.read(value)
        if isinstance(value, TracedTensor):
            maker = graph.maker_of(value.value) if value.scope is graph.root else None
            if maker is None:
                raise TracingError(f"{user_frame()} {value!r} is no result of an operation of {graph.root.label}")
            value = maker
        if not isinstance(value, Operation) or value.graph is not graph:
            where = f" of {value.graph.root.label}" if isinstance(value, Operation) else ""
            raise TracingError(
                f"{user_frame()} expected operations and tensors of {graph.root.label}, got {value!r:.80}{where}"
            )
        found.append(value)
    return found
