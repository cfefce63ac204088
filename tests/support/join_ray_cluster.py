"""A program that joins a Ray cluster of two nodes, reserves processors and runs a step: for tests/programs/cluster."""

import os

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
from ray.cluster_utils import Cluster as RayCluster

import thalweg as tw
from thalweg.dialects.diagnostics import UnavailableError


def main() -> None:
    options = {"include_dashboard": False, "object_store_memory": 80 << 20}
    nodes = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1, **options})
    try:
        nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
        with tw.Cluster(ps=1, workers=1, address=nodes.address, cpus=1) as cluster:
            graph = tw.Graph()
            with graph.as_default():
                with tw.device("/job:ps/task:0"):
                    w = tw.Variable(np.full((300, 200), 2, np.float32), name="w")
                with tw.device("/job:worker/task:0"):
                    y = tw.sum(w * 3.0)
            with tw.Session(graph, target=cluster) as session:
                print("sum", float(session.run(y)))
        try:
            tw.Cluster(ps=1, workers=7, address=nodes.address, cpus=1, timeout=3)
        except UnavailableError as error:
            print("error", error)
    finally:
        nodes.shutdown()


if __name__ == "__main__":
    main()
