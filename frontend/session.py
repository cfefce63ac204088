"""`tw.Session`: runs any part of a graph, as often and from as many threads as you like.

    with tw.Session(graph) as session:
        session.run(y, feeds={x: images})
        step = session.make_callable([train, loss], [x, labels])      # the quick way: nothing is looked up

The first run with some fetches and feeds cuts what they need out of the graph (`subgraph.py`) and has it compiled;
later ones find it by what was asked for. The graph may grow meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from thalweg.dialects.diagnostics import GraphError, did_you_mean
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import TensorType, string
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.program import Abortable, Array, Executable, compiler
from thalweg.frontend.resource import strings
from thalweg.frontend.subgraph import Fetch, cut, described
from thalweg.frontend.tensor import EagerTensor, Tensor, TracedTensor
from thalweg.frontend.trace import current, suspended
from thalweg.frontend.tree import Structure, flatten
from thalweg.frontend.variable import Variable, variables_in
from thalweg.runtime.config import config
from thalweg.runtime.gpu.array import on_host
from thalweg.runtime.resources import of_process


class _Step:
    """What a session runs for one choice of fetches and feeds."""

    __slots__ = ("_direct", "_one", "executable", "feeds", "fetched")

    def __init__(self, executable: Executable, feeds: Sequence[TracedTensor], fetched: Sequence[Fetch]) -> None:
        self.executable = executable
        self.feeds = tuple(feeds)
        self.fetched = tuple(f for f in fetched if not isinstance(f, Operation))
        self._direct = executable.direct
        self._one = len(self.fetched) == 1

    def run(self, values: Sequence[Any], timeout: float | None = None) -> Sequence[Array]:
        """The fetched arrays for values of the feeds, in order."""
        if self._direct is not None:
            result = self._direct(*[v.data if type(v) is EagerTensor else v for v in values])
            if result is not NotImplemented:
                return (result,) if self._one else result
        arrays = [_fitting(v, t) for v, t in zip(values, self.feeds, strict=True)]
        found = self.executable(arrays) if timeout is None else self.executable(arrays, timeout)
        return [on_host(array) for array in found]


class _Request:
    """What a user asked for: a step, and how its results become the value that he gets."""

    __slots__ = ("_constants", "_places", "_single", "_structure", "step")

    def __init__(self, step: _Step, structure: Structure, leaves: Sequence[Fetch | EagerTensor]) -> None:
        self.step = step
        self._structure = structure
        places = {id(f): i for i, f in enumerate(step.fetched)}
        self._constants = [leaf if isinstance(leaf, EagerTensor) else None for leaf in leaves]
        self._places = [places.get(id(leaf)) for leaf in leaves]
        self._single = structure.is_leaf and self._places == [0]

    def value(self, arrays: Sequence[Array]) -> Any:
        """The user's structure with results in the places of what was fetched."""
        if self._single:
            return EagerTensor(arrays[0])
        tensors = [EagerTensor(a) for a in arrays]
        return self._structure.unflatten(
            [c if p is None else tensors[p] for p, c in zip(self._places, self._constants, strict=True)]
        )


class Session:
    """Runs parts of a graph over the variables, queues and devices of a process or a cluster.

    Args:
        graph: by default the one that is being built here.
        target: where it runs: this process, or a `tw.Cluster`.

    Raises:
        GraphError: there is no graph.

    Example:
        >>> with tw.Session(graph) as session:
        ...     session.run({"loss": loss, "train": train_op}, feeds={x: images})
        {'loss': Tensor(0.3, dtype=float32), 'train': None}
    """

    def __init__(self, graph: Graph | None = None, target: Any = None) -> None:
        if graph is None:
            here = current()
            if not isinstance(here, Graph):
                raise GraphError(f"{user_frame()} tw.Session: give it a graph: tw.Session(graph).")
            graph = here
        if not isinstance(graph, Graph):
            raise GraphError(f"{user_frame()} tw.Session takes a tw.Graph, got {type(graph).__name__}.")
        self.graph = graph
        self.target = target
        self._closed = False
        self._requests: dict[Any, _Request] = {}  # by fetches and feeds as they were written
        self._steps: dict[Any, _Step] = {}  # by what these stand for
        self._kept: list[Any] = []  # what the keys of requests name by its id
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, fetches: Any, feeds: Mapping[Any, Any] | None = None, timeout: float | None = None) -> Any:
        """Compute what is fetched.

        Args:
            fetches: tensors, operations, variables, or names ("y:0" a tensor, "train" an operation), and nested
                structures of these.
            feeds: values by tensor or name. Any tensor can be fed; what it was computed from is then not needed.
            timeout: in seconds; for steps that wait for queues or for other tasks.

        Returns:
            The structure of `fetches`, with a tensor for each tensor and variable, and None for each operation.

        Raises:
            GraphError: an unknown name, a placeholder without a value, a value that does not fit.
            StepError: an operation failed, or the time was over.
        """
        given = feeds or {}
        key = (self._mode(), _key(fetches), *[_key(k) for k in given])
        request = self._requests.get(key)
        if request is None or self._closed:
            request = self._prepare(key, fetches, list(given))
        return request.value(request.step.run(list(given.values()), timeout))

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] = ()) -> Callable[..., Any]:
        """A function of the values of `feed_list`, in order, that gives what `run` would: compiled now, and called
        without looking anything up.

        Example:
            >>> step = session.make_callable(loss, [x, labels])
            >>> step(images, numbers)
        """
        names = list(feed_list)
        request = self._prepare((self._mode(), _key(fetches), *map(_key, names)), fetches, names)
        step, value = request.step, request.value
        run = step.run

        def call(*values: Any) -> Any:
            if self._closed:
                raise self._is_closed()
            if len(values) != len(names):
                raise GraphError(f"{user_frame()} the callable takes {len(names)} values, got {len(values)}.")
            return value(run(values))

        return call

    def measure_costs(self, fetches: Any, feeds: Mapping[Any, Any] | None = None, runs: int = 10) -> dict[str, float]:
        """How long the operations of a step take, for later placements. Runs it, effects included, once and then
        `runs` times.

        Returns:
            Seconds by what an operation is known by: its name, or what it is and your line.

        Example:
            >>> costs = session.measure_costs(train, {x: images, labels: numbers})
            >>> Path("costs.json").write_text(json.dumps(costs))
            >>> tw.config.placement_costs = "costs.json"       # what is compiled from now on is placed by them
        """
        if self._closed:
            raise self._is_closed()
        given = feeds or {}
        wanted = [f for f in map(self._fetch, flatten(fetches)[0]) if not isinstance(f, EagerTensor)]
        fed = [self._feed(feed) for feed in given]
        step = self._step(list(dict.fromkeys(wanted)), fed)
        arrays = [_fitting(v, t) for v, t in zip(given.values(), step.feeds, strict=True)]
        program = cut(self.graph, f"{self.graph.name}_step", list(dict.fromkeys(wanted)), fed)
        with suspended():
            return compiler().measure(program, arrays, runs, self.target)

    def reset(self, containers: Sequence[str] | None = None) -> None:
        """Empty containers: close their queues and drop what is in them, give their variables their initial values.

        Args:
            containers: all of them by default; "" is the one of what was made in graphs without a container.

        Raises:
            GraphError: the session is closed.
        """
        if self._closed:
            raise self._is_closed()
        if self.target is not None:
            self.target.reset(containers)
            return
        of_process().reset(containers)
        for variable in variables_in(containers):
            variable.reset()

    def close(self) -> None:
        """End the session; its graph and its variables stay. What waits in other threads fails with CancelledError."""
        with self._lock:  # what is compiled just now finds it closed
            self._closed = True
            steps = list(self._steps.values())
            self._requests.clear()
            self._steps.clear()
            self._kept.clear()
        for step in steps:
            if isinstance(step.executable, Abortable):
                step.executable.abort("the session has been closed.")

    # Steps

    def _prepare(self, key: Any, fetches: Any, feeds: Sequence[Any]) -> _Request:
        """The step for a request that was not seen before."""
        if self._closed:
            raise self._is_closed()
        leaves, structure = flatten(fetches)
        wanted = [self._fetch(leaf) for leaf in leaves]
        given = [self._feed(feed) for feed in feeds]
        if len({t.value for t in given}) < len(given):
            raise GraphError(f"{user_frame()} run: a tensor is fed twice, by its handle and by its name.")
        step = self._step(list(dict.fromkeys(f for f in wanted if not isinstance(f, EagerTensor))), given)
        request = _Request(step, structure, wanted)
        with self._lock:
            self._kept.append((fetches, feeds))
            return self._requests.setdefault(key, request)

    def _step(self, fetches: Sequence[Fetch], feeds: Sequence[TracedTensor]) -> _Step:
        key = (self._mode(), tuple(map(id, fetches)), tuple(map(id, feeds)))
        found = self._steps.get(key)
        if found is None:
            program = cut(self.graph, f"{self.graph.name}_step", fetches, feeds)
            with suspended():
                if self.target is None:
                    for variable in program.variables:
                        variable.initialise()
                executable = compiler().compile(program, **({} if self.target is None else {"target": self.target}))
            with self._lock:
                if self._closed:
                    raise self._is_closed()
                found = self._steps.setdefault(key, _Step(executable, feeds, fetches))
        return found

    def _mode(self) -> str:
        """The options that steps are made with; those of this process look at them in each call."""
        return config.checking if self.target is not None else ""

    def _is_closed(self) -> GraphError:
        return GraphError(f"{user_frame()} run: the session is closed. Make another tw.Session of its graph.")

    # What users write

    def _fetch(self, value: Any) -> Fetch | EagerTensor:
        """What a fetch stands for."""
        if isinstance(value, str):
            return self._named(value)
        if isinstance(value, EagerTensor | Variable):
            return value
        if isinstance(value, Operation):
            if value.graph is not self.graph:
                raise GraphError(f"{user_frame()} run: {value!r} belongs to {value.graph.root.label}, another graph.")
            return value
        if isinstance(value, TracedTensor):
            return self._own(value, "fetched")
        raise GraphError(
            f"{user_frame()} run: tensors, operations, variables and names can be fetched, got {type(value).__name__}: "
            f"{value!r:.80}."
        )

    def _feed(self, value: Any) -> TracedTensor:
        """What a feed stands for."""
        if isinstance(value, str):
            value = self.graph.tensor(value if ":" in value else f"{value}:0")
        if isinstance(value, TracedTensor):
            return self._own(value, "fed")
        if isinstance(value, Variable):
            raise GraphError(f"{user_frame()} run: a variable cannot be fed. Assign '{value.name}', or feed a tensor.")
        kind = type(value).__name__
        raise GraphError(f"{user_frame()} run: tensors and their names can be fed, got {kind}: {value!r:.80}.")

    def _own(self, tensor: TracedTensor, done: str) -> TracedTensor:
        if tensor.scope is not self.graph.root:
            scope = tensor.scope
            inside = "another graph" if isinstance(scope.trace, Graph) and scope is scope.trace.root else scope.label
            raise GraphError(
                f"{user_frame()} run: a tensor {tensor.type}, made at {str(tensor.where).removesuffix(':')}, cannot be "
                f"{done}: it belongs to {inside}, not to {self.graph.root.label}."
            )
        kept = self.graph.tensor_of(tensor.value)
        return tensor if kept is None else kept

    def _named(self, name: str) -> Fetch:
        variables = {v.name: v for v in self.graph.variables()}
        base = name.removesuffix(":0")
        operations = {o.name: o for o in self.graph.operations()}
        if base in variables and base not in operations:
            return variables[base]
        if ":" in name:
            return self.graph.tensor(name)
        if name in operations:
            return operations[name]
        nearest = did_you_mean(name, [*operations, *variables]) or "."
        raise GraphError(f"{user_frame()} run: {self.graph.root.label} has no operation or variable '{name}'{nearest}")


def _key(value: Any) -> Any:
    """A key for what a user wrote: equal for the same handles, names and structure."""
    kind = type(value)
    if kind is TracedTensor or kind is Operation or kind is Variable:
        return id(value)
    if kind is str:
        return value
    if kind is list or kind is tuple:
        return kind, *[_key(v) for v in value]
    if kind is dict:
        return kind, tuple(value), *[_key(v) for v in value.values()]
    leaves, structure = flatten(value)
    return structure, *[v if isinstance(v, str) else id(v) for v in leaves]


def _fitting(value: Any, tensor: TracedTensor) -> Array:
    """A value as an array of the tensor's type.

    Raises:
        GraphError: it does not fit.
    """
    wanted: TensorType = tensor.type
    if wanted.dtype == string:
        array = np.asarray(strings(value))
    elif isinstance(value, Variable | Tensor | np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype != wanted.dtype.numpy:
            raise _unfit(tensor, f"a value of dtype {array.dtype.name}", "Convert it with .astype.")
    else:
        given = np.asarray(value)  # Python numbers take the dtype, if they are of its kind and it can hold them
        if given.size and not np.can_cast(given.dtype, wanted.dtype.numpy, "same_kind"):
            raise _unfit(tensor, f"{value!r:.60}", "Convert it, or feed another tensor.")
        array = given.astype(wanted.dtype.numpy)
        if not _holds(array, given):
            raise _unfit(tensor, f"{value!r:.60}", "It is out of range.")
    fits = zip(array.shape, wanted.shape, strict=False)
    if array.ndim != wanted.rank or any(n != m and not is_open(m) for n, m in fits):
        raise _unfit(tensor, f"a value of shape {array.shape}", "Reshape it, or feed another tensor.")
    return np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray makes a vector of a number


def _holds(array: Array, given: Array) -> bool:
    """Whether integers survived their conversion."""
    return not (given.dtype.kind in "iu" and array.dtype.kind in "iu") or bool((array == given).all())


def _unfit(tensor: TracedTensor, seen: str, advice: str) -> GraphError:
    made = str(tensor.where).removesuffix(":")
    wanted = f"{described(tensor)} must be {tensor.type} (made at {made})"
    return GraphError(f"{user_frame()} run: the feed of {wanted}, got {seen}. {advice}")
