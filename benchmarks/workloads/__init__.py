"""All workloads, in the order of the table. A file a family; each framework's version stands beside the others'."""

from benchmarks.harness import Workload
from benchmarks.workloads import (
    attention,
    convnet,
    dispatch,
    embedding,
    fused,
    loop,
    lstm,
    matmul,
    mlp,
    models,
    reduced,
    transformer,
)

WORKLOADS: list[Workload] = [
    *mlp.WORKLOADS,
    *convnet.WORKLOADS,
    *lstm.WORKLOADS,
    *transformer.WORKLOADS,
    *attention.WORKLOADS,
    *fused.WORKLOADS,
    *embedding.WORKLOADS,
    *dispatch.WORKLOADS,
    *loop.WORKLOADS,
    *matmul.WORKLOADS,
    *reduced.WORKLOADS,
]

# With --models: these take minutes.
MODELS: list[Workload] = models.WORKLOADS
