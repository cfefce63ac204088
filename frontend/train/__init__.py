"""Training that goes on for long, and on several devices: checkpoints, replication, sharded state. `tw.train`."""

from thalweg.frontend.train.checkpoints import CheckpointManager
from thalweg.frontend.train.restoring import restore_checkpoint
from thalweg.frontend.train.retention import KeepBest, KeepEvery, KeepLast
from thalweg.runtime.checkpoints import Checkpoint

__all__ = ["Checkpoint", "CheckpointManager", "KeepBest", "KeepEvery", "KeepLast", "restore_checkpoint"]
