"""The public names, nothing else. `thalweg/__init__.py` shows them and imports this file when the first one is used."""

from __future__ import annotations

from math import e, inf, nan, pi
from typing import TYPE_CHECKING

from thalweg.cluster import Cluster
from thalweg.dialects.diagnostics import (
    CancelledError,
    CheckpointError,
    DeadlineError,
    ExecutionError,
    GraphError,
    LeakedTensorError,
    LoweringError,
    OutOfRangeError,
    PassError,
    StepError,
    ThalwegError,
    TracingError,
    TypeInferenceError,
    UnavailableError,
    UninitialisedError,
    VerificationError,
)
from thalweg.dialects.types import (
    DType,
    bfloat16,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)
from thalweg.dialects.types import bool_ as bool
from thalweg.frontend import array, data, initializers, io, nn, optim, random, summary, train
from thalweg.frontend.accumulators import Barrier, ConditionalAccumulator, Mutex, SparseConditionalAccumulator
from thalweg.frontend.array import *  # noqa: F403  (155 functions, listed in its __all__)
from thalweg.frontend.array import astype as cast
from thalweg.frontend.branches import case, switch_case
from thalweg.frontend.building import control_dependencies, group, identity, name_scope, placeholder
from thalweg.frontend.control import cond, scan, while_loop
from thalweg.frontend.custom import checkpoint, custom_gradient
from thalweg.frontend.device import Device, device, devices
from thalweg.frontend.dtypes import can_cast, finfo, iinfo, isdtype, result_type
from thalweg.frontend.function import Function, function
from thalweg.frontend.gradient import IndexedSlices, grad, value_and_grad, vjp
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.loops import fold, map
from thalweg.frontend.queues import (
    BucketQueue,
    FIFOQueue,
    PaddingFIFOQueue,
    PriorityQueue,
    RandomShuffleQueue,
    StagingArea,
)
from thalweg.frontend.ragged import (
    boolean_mask,
    dynamic_partition,
    dynamic_stitch,
    lookup,
    merge_partitions,
    unique_with_counts,
)
from thalweg.frontend.saving import restore, save
from thalweg.frontend.session import Session
from thalweg.frontend.sharding import ShardedVariable
from thalweg.frontend.spec import TensorSpec, spec
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.tensor_array import TensorArray
from thalweg.frontend.variable import Variable
from thalweg.runtime.bundle import load
from thalweg.runtime.config import config
from thalweg.runtime.tracing import trace_steps

if TYPE_CHECKING:  # it brings the backends
    from thalweg.shipping.api import export

newaxis = None


__all__ = [
    "Barrier",
    "BucketQueue",
    "CancelledError",
    "CheckpointError",
    "Cluster",
    "ConditionalAccumulator",
    "DType",
    "DeadlineError",
    "Device",
    "ExecutionError",
    "FIFOQueue",
    "Function",
    "Graph",
    "GraphError",
    "IndexedSlices",
    "LeakedTensorError",
    "LoweringError",
    "Mutex",
    "Operation",
    "OutOfRangeError",
    "PaddingFIFOQueue",
    "PassError",
    "PriorityQueue",
    "RandomShuffleQueue",
    "Session",
    "ShardedVariable",
    "SparseConditionalAccumulator",
    "StagingArea",
    "StepError",
    "Tensor",
    "TensorArray",
    "TensorSpec",
    "ThalwegError",
    "TracingError",
    "TypeInferenceError",
    "UnavailableError",
    "UninitialisedError",
    "Variable",
    "VerificationError",
    "bfloat16",
    "bool",
    "boolean_mask",
    "can_cast",
    "case",
    "cast",
    "checkpoint",
    "cond",
    "config",
    "control_dependencies",
    "custom_gradient",
    "data",
    "device",
    "devices",
    "dynamic_partition",
    "dynamic_stitch",
    "e",
    "export",
    "finfo",
    "float8_e4m3fn",
    "float8_e5m2",
    "float16",
    "float32",
    "float64",
    "fold",
    "function",
    "grad",
    "group",
    "identity",
    "iinfo",
    "inf",
    "initializers",
    "int8",
    "int16",
    "int32",
    "int64",
    "io",
    "isdtype",
    "load",
    "lookup",
    "map",
    "merge_partitions",
    "name_scope",
    "nan",
    "newaxis",
    "nn",
    "optim",
    "pi",
    "placeholder",
    "random",
    "restore",
    "result_type",
    "save",
    "scan",
    "spec",
    "string",
    "summary",
    "switch_case",
    "trace_steps",
    "train",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unique_with_counts",
    "value_and_grad",
    "vjp",
    "while_loop",
]
__all__ += array.__all__
