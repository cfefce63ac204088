"""Input pipelines in a graph: producers of file names and rows, batches, shuffling, buckets, prefetching.

    files = tw.train.string_input_producer(["train-*.csv"], num_epochs=3)
    x, y = tw.io.CSVReader({"x": tw.float32, "y": tw.int32}).read(files)
    xs, ys = tw.train.shuffle_batch([x, y], 32, capacity=2000, min_after_dequeue=1000)

Each function adds a queue, and a queue runner that fills it: call `start_queue_runners` before the first step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import reader as rows
from thalweg.dialects.types import string
from thalweg.frontend.building import control_dependencies
from thalweg.frontend.graph import Operation
from thalweg.frontend.io.readers import matching_files
from thalweg.frontend.queues import (
    BucketQueue,
    FIFOQueue,
    PaddingFIFOQueue,
    QueueBase,
    RandomShuffleQueue,
)
from thalweg.frontend.resource import Resource, emit_host
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor
from thalweg.frontend.train.queue_runner import QueueRunner, add_queue_runner
from thalweg.frontend.tree import Structure, flatten

Tensors = Any  # a nested structure of tensors


def string_input_producer(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    capacity: int = 32,
    name: str = "files",
) -> FIFOQueue:
    """A queue of the names of files, epoch after epoch. Patterns are looked up where the queue is, in each epoch.

    Args:
        num_epochs: after so many the queue is closed; None for any number.
        shuffle: in each epoch another order, which depends on `seed` only.
    """
    queue = FIFOQueue(capacity, string, shapes=(), name=name)
    names = matching_files(files, shuffle, seed, num_epochs)
    _filled(queue, [queue.enqueue_many([names])])
    return queue


def slice_input_producer(
    tensors: Tensors,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    name: str = "slices",
) -> Tensors:
    """One row of each tensor at a time, epoch after epoch.

    Args:
        tensors: a structure of tensors with equal first extents.
        shuffle: in a random order; epochs are mixed at their borders.

    Returns:
        The structure, with a row for each tensor.
    """
    values, structure = _given(tensors)
    if any(v.ndim == 0 or is_open(v.type.shape[0]) for v in values):
        raise TypeInferenceError(f"{user_frame()} slice_input_producer: every tensor needs a number of rows.")
    count, dtypes, shapes = values[0].shape[0], [v.dtype for v in values], [_shape(v)[1:] for v in values]
    queue: QueueBase
    if shuffle:
        queue = RandomShuffleQueue(max(capacity, 2 * count), count - 1, dtypes, shapes, seed, name)
    else:
        queue = FIFOQueue(max(capacity, count), dtypes, shapes, name)
    attrs = {"name": Resource.claim_name(f"{name}_epochs"), "container": "", "limit": num_epochs or 0}
    (epoch,) = emit_host(rows.count_up_to, [], attrs)
    with control_dependencies([epoch]):
        fill = queue.enqueue_many(values)
    _filled(queue, [fill])
    return _structured(queue.dequeue(), structure)


def batch(
    tensors: Tensors,
    batch_size: int,
    num_threads: int = 1,
    capacity: int = 32,
    enqueue_many: bool = False,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    name: str = "batch",
) -> Tensors:
    """Batches of what `tensors` is, run after run.

    Args:
        tensors: a structure of tensors, an element each time they are computed.
        num_threads: that compute elements. With more than one their order is left open.
        capacity: elements that are kept ready.
        enqueue_many: the tensors hold an element per row.
        dynamic_pad: open extents are padded to the largest of the batch.
        allow_smaller_final_batch: at the end of the data the last batch has what is left; its first extent is open.

    Returns:
        The structure, with a new first extent of `batch_size`.
    """
    return batch_join([tensors] * num_threads, batch_size, capacity, enqueue_many, dynamic_pad,
                      allow_smaller_final_batch, name)  # fmt: skip


def batch_join(
    tensors_list: Sequence[Tensors],
    batch_size: int,
    capacity: int = 32,
    enqueue_many: bool = False,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    name: str = "batch",
) -> Tensors:
    """As `batch`, from several sources with the same structure, a thread each: several files at once, say."""
    kind = PaddingFIFOQueue if dynamic_pad else FIFOQueue
    return _batches(
        tensors_list, batch_size, enqueue_many, allow_smaller_final_batch,
        lambda dtypes, shapes: kind(max(capacity, batch_size), dtypes, shapes, name),
    )  # fmt: skip


def shuffle_batch(
    tensors: Tensors,
    batch_size: int,
    capacity: int,
    min_after_dequeue: int,
    num_threads: int = 1,
    seed: int | None = None,
    enqueue_many: bool = False,
    allow_smaller_final_batch: bool = False,
    name: str = "shuffle_batch",
) -> Tensors:
    """As `batch`, of elements in random order; `min_after_dequeue` stay behind to be mixed with later ones."""
    return shuffle_batch_join([tensors] * num_threads, batch_size, capacity, min_after_dequeue, seed, enqueue_many,
                              allow_smaller_final_batch, name)  # fmt: skip


def shuffle_batch_join(
    tensors_list: Sequence[Tensors],
    batch_size: int,
    capacity: int,
    min_after_dequeue: int,
    seed: int | None = None,
    enqueue_many: bool = False,
    allow_smaller_final_batch: bool = False,
    name: str = "shuffle_batch",
) -> Tensors:
    """As `shuffle_batch`, from several sources."""
    return _batches(
        tensors_list, batch_size, enqueue_many, allow_smaller_final_batch,
        lambda dtypes, shapes: RandomShuffleQueue(capacity, min_after_dequeue, dtypes, shapes, seed, name),
    )  # fmt: skip


def bucket_by_sequence_length(
    length: ArrayLike,
    tensors: Tensors,
    batch_size: int,
    bucket_boundaries: Sequence[int],
    num_threads: int = 1,
    capacity: int = 32,
    allow_smaller_final_batch: bool = False,
    name: str = "buckets",
) -> tuple[Tensor, Tensors]:
    """Batches of sequences of like length, padded to the longest of each batch.

    Args:
        length: of the sequence: i32[].
        tensors: a structure of tensors, whose open extents are padded.
        bucket_boundaries: ascending lengths; the first bucket holds those below the first.

    Returns:
        The lengths, i32[batch_size], and the structure.
    """
    values, structure = _given(tensors)
    size = max(capacity, batch_size * (len(bucket_boundaries) + 1))
    queue = BucketQueue(size, bucket_boundaries, [v.dtype for v in values], [_shape(v) for v in values], name)
    _filled(queue, [queue.enqueue((length, *values)) for _ in range(num_threads)])
    lengths, *found = queue.dequeue_up_to(batch_size) if allow_smaller_final_batch else queue.dequeue_many(batch_size)
    return lengths, structure.unflatten(found)


def prefetch(tensors: Tensors, capacity: int = 2, name: str = "prefetch") -> Tensors:
    """The same tensors, computed ahead: up to `capacity` times before they are used, while a step computes on those of
    before. Input and computation overlap."""
    values, structure = _given(tensors)
    queue = FIFOQueue(capacity, [v.dtype for v in values], [_shape(v) for v in values], name)
    _filled(queue, [queue.enqueue(values)])
    return _structured(queue.dequeue(), structure)


def _batches(
    tensors_list: Sequence[Tensors], batch_size: int, enqueue_many: bool, partial: bool,
    make: Callable[[list[Any], list[Any]], QueueBase],
) -> Tensors:  # fmt: skip
    sources = [_given(tensors) for tensors in tensors_list]
    values, structure = sources[0]
    shapes = [_shape(v)[1:] if enqueue_many else _shape(v) for v in values]
    queue = make([v.dtype for v in values], shapes)
    add = queue.enqueue_many if enqueue_many else queue.enqueue
    _filled(queue, [add(given) for given, _ in sources])
    found = queue.dequeue_up_to(batch_size) if partial else queue.dequeue_many(batch_size)
    return _structured(found, structure)


def _given(tensors: Tensors) -> tuple[list[Tensor], Structure]:
    leaves, structure = flatten(tensors)
    if not leaves:
        raise ValueError(f"{user_frame()} give at least one tensor.")
    return [as_tensor(leaf) for leaf in leaves], structure


def _shape(value: Tensor) -> tuple[int | None, ...]:
    return tuple(None if is_open(n) else n for n in value.type.shape)


def _structured(found: Any, structure: Structure) -> Tensors:
    return structure.unflatten(list(found) if isinstance(found, tuple) else [found])


def _filled(queue: QueueBase, operations: Sequence[Operation]) -> None:
    add_queue_runner(QueueRunner(queue, operations))
