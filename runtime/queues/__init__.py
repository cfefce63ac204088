"""Queues and what else steps meet at: barriers, accumulators, mutexes. No operation of theirs holds a thread."""

from thalweg.runtime.queues.accumulator import DenseAccumulator, SparseAccumulator
from thalweg.runtime.queues.barrier import Barrier
from thalweg.runtime.queues.mutex import Mutex
from thalweg.runtime.queues.queue import Queue
from thalweg.runtime.queues.stores import BucketStore, FifoStore, PriorityStore, ShuffleStore, Store
from thalweg.runtime.queues.waiting import Meeting, Result, Ticket, start

__all__ = [
    "Barrier", "BucketStore", "DenseAccumulator", "FifoStore", "Meeting", "Mutex", "PriorityStore", "Queue", "Result",
    "ShuffleStore", "SparseAccumulator", "Store", "Ticket", "start",
]  # fmt: skip
