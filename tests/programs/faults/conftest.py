"""One cluster for the tests of this folder, and what they do to it."""

import os
import signal
import time

import pytest

import thalweg as tw


class Victims:
    """A cluster whose tasks are killed.

    `kill` and `freeze` take names of tasks; what was frozen goes on when the test is over.
    """

    ps = "/job:ps/task:0"
    workers = ("/job:worker/task:0", "/job:worker/task:1")

    def __init__(self):
        self.cluster = tw.Cluster(ps=1, workers=2, max_restarts=-1)

    def pid(self, task):
        return self.cluster.health()[task]["pid"]

    def kill(self, task):
        os.kill(self.pid(task), signal.SIGKILL)

    def until(self, condition, seconds=20, every=0.02):
        """Wait until a condition holds, looking `every` so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(every)

    def is_idle(self):
        """No step runs, and no value waits."""
        return not any(task["running"] or task["pending"] for task in self.cluster.health().values())


@pytest.fixture(scope="session")
def victims():
    pytest.importorskip("ray")
    pytest.importorskip("zmq")
    made = Victims()
    yield made
    made.cluster.close()


@pytest.fixture
def graph(victims):
    """An empty graph for the cluster; afterwards nothing runs there and all state is dropped."""
    made = tw.Graph()
    with made.as_default():
        yield made
    victims.cluster.wait()
    victims.until(victims.is_idle)
    victims.cluster.reset()
