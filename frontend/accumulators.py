"""Where workers meet: accumulators of gradients, barriers by key, and mutexes.

    sums = tw.ConditionalAccumulator(tw.float32, (64, 10), name="w_gradient")
    apply = sums.apply_grad(gradient, local_step)          # by each worker
    mean = sums.take_grad(4)                               # when four are in
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import elementwise
from thalweg.dialects.ops import queue as rows
from thalweg.dialects.types import VARIES, as_dtype, int64, string, types_to_text
from thalweg.frontend.building import control_dependencies, group
from thalweg.frontend.eager import emit
from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.queues import fresh
from thalweg.frontend.resource import Resource, as_dtypes, component, component_types
from thalweg.frontend.tensor import ArrayLike, Tensor
from thalweg.frontend.trace import current
from thalweg.frontend.tree import leaves_of, map_structure


class _Accumulator(Resource):
    """What both kinds of accumulators do."""

    sparse = False

    def __init__(
        self,
        dtype: Any,
        shape: Sequence[int | None],
        reduction: str = "mean",
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        (self._type,) = component_types("an accumulator", [as_dtype(dtype)], [tuple(shape)])
        attrs = {"types": types_to_text([self._type]), "reduction": reduction.lower(), "sparse": self.sparse}
        super().__init__(rows.accumulator_handle, attrs, name or "accumulator", shared_name, container)

    def __str__(self) -> str:
        return f"accumulator '{self.name}'"

    def num_accumulated(self, name: str | None = None) -> Tensor:
        """How many gradients are in: i32[]."""
        return self._get(rows.accumulator_count, name=name)[0]

    def set_global_step(self, step: ArrayLike, name: str | None = None) -> Any:
        """Drop gradients of steps before `step` from now on; going back is an error."""
        return self._perform(rows.accumulator_set_step, self._step(step), name=name)

    def _step(self, step: ArrayLike) -> Tensor:
        return component(step, int64, f"a step of {self}")


class ConditionalAccumulator(_Accumulator):
    """Gradients come in, and their mean goes out once enough of them are in.

    It counts its takes: that is its step. A gradient says from which step its parameters were; it is dropped if the
    accumulator is further: slow workers do not hold up the others, and what they bring late does no harm.

    Args:
        dtype, shape: of the gradients.
        reduction: "mean" or "sum".
        name, shared_name, container: as for queues.

    Example:
        >>> sums = tw.ConditionalAccumulator(tw.float32, (2,))
        >>> sums.apply_grad([1.0, 2.0]); sums.apply_grad([3.0, 4.0]); sums.take_grad(2)
        Tensor([2., 3.], dtype=float32)
    """

    def apply_grad(self, grad: ArrayLike, local_step: ArrayLike = 0, name: str | None = None) -> Any:
        """Add a gradient that was computed with the parameters of `local_step`.

        Returns:
            In a graph the `tw.Operation`; elsewhere None.
        """
        gradient = component(grad, self._type.dtype, f"apply_grad to {self}")
        return self._perform(rows.accumulator_apply, gradient, self._step(local_step), name=name)

    def take_grad(self, num_required: int, timeout: float = 0, name: str | None = None) -> Tensor:
        """The mean of all gradients that are in; waits until there are `num_required`. Then the accumulator is empty,
        and a step further."""
        extents = fresh(self._type.shape.count(VARIES))
        return self._get(
            rows.accumulator_take, required=num_required, extents=extents, timeout=timeout, name=name
        )[0]  # fmt: skip


class SparseConditionalAccumulator(_Accumulator):
    """As `ConditionalAccumulator`, for gradients of a few rows of a table.

    Args:
        shape: of the table; None as its first extent for any number of rows.
        reduction: "mean" divides by the number of gradients, as if they were dense; "row_mean" each row by the number
            of gradients that have it; or "sum".

    Example:
        >>> sums.apply_indexed_slices_grad(tw.IndexedSlices(indices, values), local_step)
        >>> slices = sums.take_indexed_slices_grad(4)      # each index once, in order
    """

    sparse = True

    def apply_indexed_slices_grad(
        self, grad: IndexedSlices, local_step: ArrayLike = 0, name: str | None = None
    ) -> Any:
        """Add a gradient that was computed with the parameters of `local_step`."""
        return self.apply_grad(grad.indices, grad.values, local_step, name=name)

    def apply_grad(
        self, grad_indices: ArrayLike, grad_values: ArrayLike, local_step: ArrayLike = 0, name: str | None = None
    ) -> Any:
        """`apply_indexed_slices_grad`, with indices and rows apart."""
        what = f"apply_grad to {self}"
        indices = component(grad_indices, int64, what)
        values = component(grad_values, self._type.dtype, what)
        return self._perform(rows.accumulator_apply_rows, indices, values, self._step(local_step), name=name)

    def take_indexed_slices_grad(
        self, num_required: int, timeout: float = 0, name: str | None = None
    ) -> IndexedSlices:
        """The mean of all gradients that are in; waits until there are `num_required`."""
        indices, values = self.take_grad(num_required, timeout, name)
        return IndexedSlices(indices, values, self._type.shape)

    def take_grad(self, num_required: int, timeout: float = 0, name: str | None = None) -> tuple[Tensor, Tensor]:
        """`take_indexed_slices_grad`, with indices and rows apart."""
        indices, values = self._get(
            rows.accumulator_take_rows, required=num_required, extents=fresh(1), timeout=timeout, name=name
        )
        return indices, values


class Barrier(Resource):
    """Puts elements together whose components come in separately, under a key.

    Args:
        dtypes, shapes: of the components.
        key: dtype of the keys: `tw.string` or `tw.int64`.

    Example:
        >>> barrier = tw.Barrier([tw.float32, tw.int32], [(), ()], key=tw.int64)
        >>> barrier.insert_many(0, [7, 8], [0.7, 0.8]); barrier.insert_many(1, [8], [80])
        >>> order, keys, (x, y) = barrier.take_many(1)     # the element of key 8
    """

    def __init__(
        self,
        dtypes: Any,
        shapes: Any,
        key: Any = string,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        self._types = component_types("a barrier", as_dtypes(dtypes), shapes)
        attrs = {"types": types_to_text(self._types), "key": as_dtype(key)}
        super().__init__(rows.barrier_handle, attrs, name or "barrier", shared_name, container)

    def __str__(self) -> str:
        return f"barrier '{self.name}'"

    def insert_many(self, component_index: int, keys: ArrayLike, values: ArrayLike, name: str | None = None) -> Any:
        """Give component number `component_index` of the elements under `keys`, a row each.

        Raises:
            StepError: a key has that component already; nothing is inserted.
            CancelledError: the barrier is closed, and a key is new.
        """
        what = f"insert_many to {self}"
        if not 0 <= component_index < len(self._types):
            raise ValueError(f"{user_frame()} {what}: an element has {len(self._types)} components.")
        given = component(keys, self.attrs["key"], what)
        rows_given = component(values, self._types[component_index].dtype, what)
        return self._perform(rows.barrier_insert, given, rows_given, component=component_index, name=name)

    def take_many(
        self, count: int, allow_small_batch: bool = False, timeout: float = 0, name: str | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """`count` complete elements, in the order in which their keys first came.

        Args:
            allow_small_batch: of a closed barrier take what is left, at least one.

        Returns:
            The numbers of the keys in the order of their coming, the keys, and the components, all stacked.
        """
        extents = fresh(allow_small_batch + sum(t.shape.count(VARIES) for t in self._types))
        order, keys, *values = self._get(
            rows.barrier_take, count=count, partial=allow_small_batch, extents=extents, timeout=timeout, name=name
        )
        return order, keys, tuple(values)

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Any:
        """Take no new keys. Elements that lack components may still be completed, unless they are cancelled."""
        return self._perform(rows.barrier_close, name=name, cancel_pending=cancel_pending_enqueues)

    def ready_size(self, name: str | None = None) -> Tensor:
        """How many elements are complete: i32[]."""
        return self._get(rows.barrier_size, name=name, complete=True)[0]

    def incomplete_size(self, name: str | None = None) -> Tensor:
        """How many keys lack a component: i32[]."""
        return self._get(rows.barrier_size, name=name, complete=False)[0]


class Mutex(Resource):
    """Held by one step (or thread) at a time; who comes first is served first, and no thread is held while it waits.

    A step that fails while it holds the mutex lets it go.

    Example:
        >>> with mutex.held():                             # eagerly
        ...     update()
        >>> result = mutex.execute(lambda: v.assign(f(v.value)))    # in a graph: one step at a time
    """

    def __init__(self, name: str | None = None, shared_name: str | None = None, container: str = "") -> None:
        super().__init__(rows.mutex_handle, {}, name or "mutex", shared_name, container)

    def __str__(self) -> str:
        return f"mutex '{self.name}'"

    def acquire(self, timeout: float = 0, name: str | None = None) -> Tensor:
        """Wait until it is free, and hold it. Returns what to release it with: i64[]."""
        return self._get(rows.mutex_acquire, timeout=timeout, name=name)[0]

    def release(self, holder: Tensor, name: str | None = None) -> Any:
        """Let the next one have it.

        Raises:
            StepError: it was released before.
        """
        return self._perform(rows.mutex_release, holder, name=name)

    @contextmanager
    def held(self) -> Iterator[Tensor]:
        """Hold it for a block of eager code."""
        if current() is not None:
            raise TracingError(f"{user_frame()} held() is for eager code; in a graph use {self}.execute(function).")
        holder = self.acquire()
        try:
            yield holder
        finally:
            self.release(holder)

    def execute(self, function: Any) -> Any:
        """Call `function`, and have what it adds to the graph run while the mutex is held.

        Returns:
            What the function returned; in a graph its tensors come after the release.
        """
        graph = current()
        if not isinstance(graph, Graph):
            holder = self.acquire()
            try:
                return function()
            finally:
                self.release(holder)
        holder = self.acquire()
        with control_dependencies([holder]):
            result = function()
        with control_dependencies([leaf for leaf in leaves_of(result) if isinstance(leaf, Tensor | Operation)]):
            release = self.release(holder)
        with control_dependencies([release]):
            return map_structure(_after, result)


def _after(leaf: Any) -> Any:
    """The same tensor or operation, available once the control dependencies of now are met."""
    if isinstance(leaf, Operation):
        return group(leaf)
    return emit(elementwise.barrier, leaf) if isinstance(leaf, Tensor) else leaf
