"""Queues and the like from the attributes of their handles: made by whoever needs one first, found by all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.types import TensorType, types_from_text, types_to_text
from thalweg.runtime.queues.accumulator import DenseAccumulator, SparseAccumulator
from thalweg.runtime.queues.barrier import Barrier
from thalweg.runtime.queues.mutex import Mutex
from thalweg.runtime.queues.queue import Queue
from thalweg.runtime.queues.stores import BucketStore, FifoStore, PriorityStore, ShuffleStore, Store
from thalweg.runtime.resources import Resources

Attrs = Mapping[str, Any]


def queue(resources: Resources, attrs: Attrs) -> Queue:
    """The queue of a `queue_handle`.

    Raises:
        StepError: there is another one of that name.
    """
    name, components = attrs["name"], types_from_text(attrs["types"])

    def make() -> Queue:
        discipline = attrs["discipline"]
        kind = "queue" if discipline == "fifo" else f"{discipline} queue"
        padded = discipline in ("padding", "bucket")
        return Queue(name, components, attrs["capacity"], _store(discipline, attrs), padded, kind)

    found = resources.get_or_create(attrs["container"], "queue", name, make)
    _expect_same("queue", name, found.components, components)
    if found.capacity != attrs["capacity"]:
        raise StepError(f"queue '{name}' has the capacity {found.capacity}, not {attrs['capacity']}.")
    return found


def _store(discipline: str, attrs: Attrs) -> Store:
    match discipline:
        case "shuffle":
            return ShuffleStore(attrs["least"], attrs["seed"] if attrs["seed"] >= 0 else None)
        case "priority":
            return PriorityStore()
        case "bucket":
            return BucketStore(attrs["boundaries"])
    return FifoStore()


def accumulator(resources: Resources, attrs: Attrs) -> DenseAccumulator | SparseAccumulator:
    """The accumulator of an `accumulator_handle`."""
    (type_,) = types = types_from_text(attrs["types"])
    kind = SparseAccumulator if attrs["sparse"] else DenseAccumulator
    found = resources.get_or_create(
        attrs["container"], "accumulator", attrs["name"], lambda: kind(attrs["name"], type_, attrs["reduction"])
    )
    _expect_same("accumulator", attrs["name"], (found.type,), types)
    return found


def barrier(resources: Resources, attrs: Attrs) -> Barrier:
    """The barrier of a `barrier_handle`."""
    components = types_from_text(attrs["types"])
    found = resources.get_or_create(
        attrs["container"], "barrier", attrs["name"], lambda: Barrier(attrs["name"], components, attrs["key"])
    )
    _expect_same("barrier", attrs["name"], found.components, components)
    return found


def mutex(resources: Resources, attrs: Attrs) -> Mutex:
    """The mutex of a `mutex_handle`."""
    return resources.get_or_create(attrs["container"], "mutex", attrs["name"], lambda: Mutex(attrs["name"]))


def _expect_same(kind: str, name: str, found: tuple[TensorType, ...], wanted: tuple[TensorType, ...]) -> None:
    if found != wanted:
        raise StepError(
            f"{kind} '{name}' takes ({types_to_text(found)}), not ({types_to_text(wanted)}). Two of one name must be "
            "declared alike."
        )
