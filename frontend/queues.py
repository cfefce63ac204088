"""Queues: where steps hand data to each other, wait for it, and hold each other back.

    queue = tw.RandomShuffleQueue(1000, min_after_dequeue=500, dtypes=[tw.float32, tw.int32], shapes=[(784,), ()])
    fill = queue.enqueue_many([images, labels])            # in a graph: to be run by other threads
    x, y = queue.dequeue_many(32)

An element is a tuple of tensors, one per dtype; where there is one dtype, it is that tensor. Enqueues wait while the
queue is full, dequeues while it is empty; neither holds a thread of the runtime while it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import queue as rows
from thalweg.dialects.types import VARIES, DType, TensorType, int32, int64, types_to_text
from thalweg.frontend.resource import Resource, as_dtypes, component, component_types
from thalweg.frontend.tensor import ArrayLike, Tensor
from thalweg.frontend.trace import current

Element = Any  # a tensor, or a tuple of them


def fresh(count: int) -> tuple[int, ...]:
    """Extents that are known when the op has run; eagerly they need no names."""
    trace = current()
    return trace.open_extents(count) if trace is not None else (0,) * count


class QueueBase(Resource):
    """What all queues do.

    Args:
        capacity: elements that it takes before enqueues wait.
        dtypes: of an element's components, or one dtype.
        shapes: of the components, None in them for extents that vary; if left out, as in the first enqueue.
        name: what graphs and messages call it.
        shared_name: graphs and sessions that give the same name share the queue.
        container: what a reset drops together.
    """

    discipline = "fifo"

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any = None,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
        **attrs: Any,
    ) -> None:
        self.capacity = capacity
        self.dtypes = self._dtypes(as_dtypes(dtypes))
        self._options = {"discipline": self.discipline, "capacity": capacity, **attrs}
        super().__init__(rows.queue_handle, None, name or f"{self.discipline}_queue", shared_name, container)
        if shapes is not None:
            self._fix(self._types(as_dtypes(dtypes), shapes))

    def _dtypes(self, dtypes: list[DType]) -> list[DType]:
        return dtypes

    def _types(self, dtypes: list[DType], shapes: Any) -> list[TensorType]:
        return component_types(str(self), dtypes, shapes)

    def _fix(self, types: Sequence[TensorType]) -> None:
        self._declare({**self._options, "types": types_to_text(types)})

    def __str__(self) -> str:
        return f"queue '{self.name}'"

    @property
    def components(self) -> tuple[TensorType, ...]:
        """The types of an element's components.

        Raises:
            TypeInferenceError: no shapes were given, and nothing was enqueued.
        """
        if self.type is None:
            raise TypeInferenceError(
                f"{user_frame()} the shapes of the elements of {self} are not known. Give shapes=, or enqueue first."
            )
        return self.type.components

    # Adding

    def enqueue(self, element: Element, timeout: float = 0, name: str | None = None) -> Any:
        """Add one element; waits while the queue is full.

        Args:
            element: a value per component: a list or tuple; or the value, if there is one component.
            timeout: seconds after which it fails with DeadlineError; 0 for never.

        Returns:
            In a graph the `tw.Operation`; elsewhere None.

        Raises:
            TypeInferenceError: it does not fit the queue.
            CancelledError: the queue is closed.
        """
        values = self._given(element, "enqueue")
        if self.type is None:
            self._fix([_declared(v.type, 0) for v in values])
        return self._perform(rows.enqueue, *values, timeout=timeout, name=name)

    def enqueue_many(self, elements: Element, timeout: float = 0, name: str | None = None) -> Any:
        """Add the rows of the values as elements, all of them or (if they are no more than the capacity) none."""
        values = self._given(elements, "enqueue_many")
        if self.type is None:
            if any(v.ndim == 0 for v in values):
                raise TypeInferenceError(f"{user_frame()} enqueue_many to {self}: a value has no rows.")
            self._fix([_declared(v.type, 1) for v in values])
        return self._perform(rows.enqueue_many, *values, timeout=timeout, name=name)

    def _given(self, element: Element, what: str) -> list[Tensor]:
        values: list[ArrayLike] = list(element) if self._is_listed(element, what) else [element]
        if len(values) != len(self.dtypes):
            raise TypeInferenceError(
                f"{user_frame()} {what} to {self}: an element has {len(self.dtypes)} components, "
                f"{len(values)} were given."
            )
        return [component(v, d, f"{what} to {self}") for v, d in zip(values, self.dtypes, strict=True)]

    def _is_listed(self, element: Element, what: str) -> bool:
        """Whether it is a list of components, and not the value of the only one."""
        if len(self.dtypes) > 1:
            return True
        if not isinstance(element, list | tuple) or len(element) != 1:
            return False
        wanted = self.type.components[0].rank + (what == "enqueue_many") if self.type else None
        return wanted != _rank(element)

    # Taking

    def dequeue(self, timeout: float = 0, name: str | None = None) -> Element:
        """The next element; waits while there is none.

        Raises:
            OutOfRangeError: the queue is closed and empty.
        """
        return self._taken(rows.dequeue, self._varying(), timeout, name)

    def dequeue_many(self, count: int, timeout: float = 0, name: str | None = None) -> Element:
        """`count` elements, each component stacked along a new first dimension; all or none.

        Raises:
            OutOfRangeError: the queue is closed and has fewer.
            TypeInferenceError: extents vary, and the queue does not pad.
        """
        return self._taken(rows.dequeue_many, self._stackable(), timeout, name, count=count)

    def dequeue_up_to(self, count: int, timeout: float = 0, name: str | None = None) -> Element:
        """As `dequeue_many`, but of a closed queue what is left, at least one. The first extent is open."""
        return self._taken(rows.dequeue_up_to, 1 + self._stackable(), timeout, name, count=count)

    def _varying(self) -> int:
        return sum(t.shape.count(VARIES) for t in self.components)

    def _stackable(self) -> int:
        varying = self._varying()
        if varying and self.discipline not in ("padding", "bucket"):
            shown = types_to_text(self.components)
            raise TypeInferenceError(
                f"{user_frame()} the elements of {self} ({shown}) have extents that vary: they cannot be stacked. Give "
                "their shapes, or use tw.PaddingFIFOQueue."
            )
        return varying

    def _taken(self, row: OpDef, extents: int, timeout: float, name: str | None, **attrs: Any) -> Element:
        found = self._get(row, timeout=timeout, name=name, extents=fresh(extents), **attrs)
        return found[0] if len(found) == 1 else found

    # The queue itself

    def size(self, name: str | None = None) -> Tensor:
        """How many elements are in it: i32[]."""
        assert self.components is not None
        return self._get(rows.queue_size, name=name)[0]

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Any:
        """Take no more elements. Later enqueues fail with CancelledError, those that wait now finish unless they are
        cancelled, too. Dequeues go on while there are elements; then they fail with OutOfRangeError."""
        assert self.components is not None
        return self._perform(rows.queue_close, name=name, cancel_pending=cancel_pending_enqueues)

    def is_closed(self, name: str | None = None) -> Tensor:
        """Whether it was closed: bool[]."""
        assert self.components is not None
        return self._get(rows.queue_is_closed, name=name)[0]


def _rank(value: ArrayLike) -> int:
    """The number of dimensions of nested lists, arrays and numbers."""
    if isinstance(value, list | tuple):
        return 1 + (_rank(value[0]) if value else 0)
    return int(getattr(value, "ndim", 0))


def _declared(type_: TensorType, skip: int) -> TensorType:
    """The component that a value stands for; extents that are open in a graph vary."""
    return type_.with_shape(tuple(VARIES if is_open(n) else n for n in type_.shape[skip:]))


class FIFOQueue(QueueBase):
    """First in, first out.

    Example:
        >>> queue = tw.FIFOQueue(8, [tw.float32], shapes=[(4,)])
        >>> queue.enqueue_many(tw.ones((3, 4))); queue.dequeue_many(2).shape
        (2, 4)
    """


class RandomShuffleQueue(QueueBase):
    """Elements come out in a random order. At least `min_after_dequeue` stay behind, until the queue is closed, so that
    they mix. With the same `seed` and the same order of operations the order is the same."""

    discipline = "shuffle"

    def __init__(
        self,
        capacity: int,
        min_after_dequeue: int,
        dtypes: Any,
        shapes: Any = None,
        seed: int | None = None,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        if not 0 <= min_after_dequeue < capacity:
            raise ValueError(
                f"{user_frame()} min_after_dequeue={min_after_dequeue} must be below the capacity {capacity}, and not "
                "negative."
            )
        given = -1 if seed is None else seed
        super().__init__(capacity, dtypes, shapes, name, shared_name, container, least=min_after_dequeue, seed=given)


class PaddingFIFOQueue(QueueBase):
    """First in, first out; None in the shapes stands for extents that vary. What is dequeued together is padded with
    zeros (empty strings, False) to the largest of its elements.

    Example:
        >>> queue = tw.PaddingFIFOQueue(8, [tw.int32], shapes=[(None,)])
        >>> queue.enqueue([1, 2]); queue.enqueue([3]); queue.dequeue_many(2)
        Tensor([[1, 2], [3, 0]], dtype=int32)
    """

    discipline = "padding"


class PriorityQueue(QueueBase):
    """The element with the smallest priority comes out first; equal ones in the order in which they came.

    An element begins with its priority, an int64 that `dtypes` and `shapes` do not list.

    Example:
        >>> queue = tw.PriorityQueue(8, [tw.float32], [()])
        >>> queue.enqueue((5, 0.5)); queue.enqueue((1, 0.1)); queue.dequeue()
        (Tensor(1, dtype=int64), Tensor(0.1, dtype=float32))
    """

    discipline = "priority"

    def _dtypes(self, dtypes: list[DType]) -> list[DType]:
        return [int64, *dtypes]

    def _types(self, dtypes: list[DType], shapes: Any) -> list[TensorType]:
        return [TensorType((), int64), *super()._types(dtypes, shapes)]


class BucketQueue(QueueBase):
    """Elements of like length together: what is dequeued together comes from one bucket, the fullest, and is padded.

    An element begins with its length, an int32 that `dtypes` and `shapes` do not list.

    Args:
        boundaries: ascending lengths. The first bucket holds those below the first, the last those from the last on.

    Example:
        >>> queue = tw.BucketQueue(64, [10, 20], [tw.int32], [(None,)])
        >>> lengths, sentences = queue.dequeue_many(16)
    """

    discipline = "bucket"

    def __init__(
        self,
        capacity: int,
        boundaries: Sequence[int],
        dtypes: Any,
        shapes: Any = None,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        if list(boundaries) != sorted(set(boundaries)) or not boundaries:
            raise ValueError(f"{user_frame()} the boundaries must ascend, got {list(boundaries)}.")
        super().__init__(capacity, dtypes, shapes, name, shared_name, container, boundaries=tuple(boundaries))

    def _dtypes(self, dtypes: list[DType]) -> list[DType]:
        return [int32, *dtypes]

    def _types(self, dtypes: list[DType], shapes: Any) -> list[TensorType]:
        return [TensorType((), int32), *super()._types(dtypes, shapes)]


class StagingArea(QueueBase):
    """A small queue between two halves of a step: one puts what the other takes in a later step, so that copying or
    reading for the next step overlaps with this one.

    Example:
        >>> area = tw.StagingArea([tw.float32], [(32, 784)], capacity=2)
        >>> put = area.put(batch); x = area.get()
    """

    def __init__(
        self,
        dtypes: Any,
        shapes: Any = None,
        capacity: int = 1,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        super().__init__(capacity, dtypes, shapes, name or "staging_area", shared_name, container)

    put = QueueBase.enqueue
    get = QueueBase.dequeue
