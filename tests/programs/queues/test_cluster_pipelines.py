"""Input pipelines on a cluster: files are read by the task that has them, other tasks take batches, the client none."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster():
    with tw.Cluster(ps=1, workers=1) as made:
        yield made


def test_one_task_reads_and_another_one_computes(cluster, tmp_path: Path) -> None:
    """The worker reads files into a queue of the parameter task, which sums batches up."""
    for number in range(4):
        (tmp_path / f"{number}.csv").write_text("n\n" + "\n".join(str(100 * number + k) for k in range(50)))
    graph = tw.Graph()
    with graph.as_default():
        with tw.device("/job:worker/task:0"):
            files = tw.train.string_input_producer(tmp_path / "*.csv", num_epochs=1)
            number = tw.io.CSVReader({"n": tw.int32}).read(files)
        with tw.device("/job:ps/task:0"):
            total = tw.Variable(np.int32(0), name="total_of_cluster_pipeline")
            batch = tw.train.shuffle_batch(number, 10, capacity=64, min_after_dequeue=30)
            add = total.assign_add(tw.sum(batch))
    numbers: Counter[int] = Counter()
    with tw.Session(graph, target=cluster) as session:
        coordinator = tw.train.Coordinator()
        tw.train.start_queue_runners(session, coordinator)
        with coordinator.stop_on_exception():
            while not coordinator.should_stop():
                _, found = session.run([add, batch], timeout=60)
                numbers.update(found.tolist())
        coordinator.join(stop_grace_period=30)
        assert numbers == Counter(100 * f + k for f in range(4) for k in range(50))
        assert int(session.run(total)) == sum(numbers)


def test_a_step_waits_on_another_task_and_is_woken(cluster) -> None:
    graph = tw.Graph()
    with graph.as_default():
        with tw.device("/job:ps/task:0"):
            queue = tw.FIFOQueue(4, [tw.float32], [(2,)], name="across")
        x = tw.placeholder(tw.float32, (2,), name="x")
        with tw.device("/job:worker/task:0"):
            put, taken = queue.enqueue(x * 2), queue.dequeue() + 1
    got: list[object] = []
    with tw.Session(graph, target=cluster) as session:
        waiting = threading.Thread(target=lambda: got.append(session.run(taken, timeout=60).tolist()), daemon=True)
        waiting.start()
        session.run(put, feeds={x: np.ones(2, np.float32)}, timeout=60)
        waiting.join(60)
        assert got == [[3, 3]]
        with pytest.raises(tw.DeadlineError):
            session.run(taken, timeout=0.5)
        session.run(put, feeds={x: np.zeros(2, np.float32)}, timeout=60)
        assert session.run(taken, timeout=60).tolist() == [1, 1], "the step that was given up took nothing"
