"""Training that goes on for long, and on several devices: checkpoints, replication, sharded state. `tw.train`."""

from thalweg.frontend.train.checkpoints import CheckpointManager
from thalweg.frontend.train.coordinator import Coordinator
from thalweg.frontend.train.inputs import (
    batch,
    batch_join,
    bucket_by_sequence_length,
    prefetch,
    shuffle_batch,
    shuffle_batch_join,
    slice_input_producer,
    string_input_producer,
)
from thalweg.frontend.train.monitored import MonitoredSession
from thalweg.frontend.train.queue_runner import QueueRunner, add_queue_runner, start_queue_runners
from thalweg.frontend.train.replicas import AsyncReplicas, SyncReplicas
from thalweg.frontend.train.restoring import restore_checkpoint
from thalweg.frontend.train.retention import KeepBest, KeepEvery, KeepLast
from thalweg.runtime.checkpoints import Checkpoint

__all__ = [
    "AsyncReplicas",
    "Checkpoint",
    "CheckpointManager",
    "Coordinator",
    "KeepBest",
    "KeepEvery",
    "KeepLast",
    "MonitoredSession",
    "QueueRunner",
    "SyncReplicas",
    "add_queue_runner",
    "batch",
    "batch_join",
    "bucket_by_sequence_length",
    "prefetch",
    "restore_checkpoint",
    "shuffle_batch",
    "shuffle_batch_join",
    "slice_input_producer",
    "start_queue_runners",
    "string_input_producer",
]
