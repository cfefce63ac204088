"""A Ray cluster that runs already is joined; what is missing is told."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "support" / "join_ray_cluster.py"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_tasks_are_placed_on_the_nodes_of_a_ray_cluster_or_not_at_all():
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=110)
    assert "sum 360000.0" in done.stdout, done.stderr[-2000:]
    assert "error the Ray cluster has no room for 8 tasks of 1 CPUs and 0 GPUs: it has 2 CPUs" in done.stdout


@pytest.mark.parametrize("package", ["ray", "zmq"])
def test_without_its_packages_the_extra_is_named(package):
    program = f"import sys; sys.modules['{package}'] = None; import thalweg as tw; tw.Cluster(ps=1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "MissingExtraError: clusters need a package that is not installed. Run: pip install" in done.stderr
    assert "thalweg[cluster]" in done.stderr
