"""Messages that are lost, late, repeated or overtaken, and cables that are cut: no wrong number, no lost update, no
hang, over whole programs. All tasks are in this process, so that each link can be spoiled by itself."""

import itertools
import time

import numpy as np
import pytest
from cluster_in_process import ClusterInProcess
from deadlines import Background, within

import thalweg as tw
from thalweg.dialects.diagnostics import UnavailableError, UninitialisedError
from thalweg.runtime.transport.faults import FaultyLink

pytestmark = pytest.mark.timeout(120)

PS, WORKERS = "/job:ps/task:0", ("/job:worker/task:0", "/job:worker/task:1")
JOBS = {"ps": 1, "worker": 2}


class CutLink:
    """A link that loses all that goes to some addresses."""

    def __init__(self, link):
        self._link = link
        self.cut = set()

    def __getattr__(self, name):
        return getattr(self._link, name)

    def send(self, address, frames):
        if address not in self.cut:
            self._link.send(address, frames)


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


class Program:
    """Workers compute on what the parameter task has, and on each other's results; both change its variables."""

    def __init__(self):
        self.graph = tw.Graph()
        with self.graph.as_default():
            self.x = tw.placeholder(tw.float32, (100,), name="x")
            with tw.device(PS):
                self.total = tw.Variable(tw.zeros((100,)), name="total")
                self.count = tw.Variable(tw.zeros(()), name="count")
            with tw.device(WORKERS[0]):
                double = self.x * 2.0
            with tw.device(WORKERS[1]):
                more = double + self.x
            with tw.device(PS):
                self.add = tw.group(self.total.assign_add(more), self.count.assign_add(tw.ones(())))
            with tw.device(WORKERS[0]):
                self.echo = tw.sum(more - double)

    def run(self, session, number, **options):
        value = np.full(100, number, np.float32)
        echo, _ = session.run([self.echo, self.add], {self.x: value}, **options)
        return float(echo)


@pytest.mark.parametrize(
    "faults",
    [
        {"lose": 0.1, "repeat": 0.2, "delay": 0.02},
        *(pytest.param(f, marks=pytest.mark.slow) for f in ({"lose": 0.15}, {"repeat": 0.4}, {"delay": 0.05})),
    ],
)
def test_no_update_is_lost_and_none_comes_twice(faults):
    seeds = itertools.count(1)
    links = []

    def spoiled(link, name):
        links.append(FaultyLink(link, **faults, seed=next(seeds)))
        return links[-1]

    program = Program()
    with ClusterInProcess(JOBS, spoiled) as cluster, tw.Session(program.graph, target=cluster) as session:
        threads = [Background(lambda n=n: program.run(session, n)) for n in range(60)]
        for number, thread in enumerate(threads):
            thread.join(60)
            assert thread.error is None and thread.result == 100 * number
        assert float(session.run(program.count)) == 60
        np.testing.assert_array_equal(session.run(program.total), np.full(100, 3.0 * sum(range(60))))
        until(cluster.is_idle)
    assert "delay" in faults or sum(link.lost + link.repeated for link in links) > 20


def cuttable(patience):
    """A cluster, and its links by process."""
    links = {}
    cluster = ClusterInProcess(JOBS, lambda link, name: links.setdefault(name, CutLink(link)), patience)
    return cluster, links


def test_a_cable_between_two_tasks_is_cut():
    """Both answer the master, but one waits for what the other cannot send."""
    cluster, links = cuttable(patience=1.0)
    program = Program()
    with cluster, tw.Session(program.graph, target=cluster) as session:
        assert program.run(session, 1) == 100
        until(lambda: not any(server._transport.unacknowledged() for server in cluster.servers.values()))
        links[WORKERS[0]].cut.add(links[WORKERS[1]].address)
        with within(15):
            error = Background(lambda: program.run(session, 2)).failed(15)
        assert isinstance(error, UnavailableError)
        assert f"{WORKERS[1]} does not answer" in str(error) and f"{WORKERS[0]} does not reach it" in str(error)
        with pytest.raises(UnavailableError, match=WORKERS[1]):
            program.run(session, 2)
        until(lambda: not cluster.servers[WORKERS[1]].health()["running"])
        links.pop(WORKERS[1])
        cluster.restart(WORKERS[1])
        assert program.run(session, 3) == 300


@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_cable_between_the_master_and_a_task_is_cut(direction):
    cluster, links = cuttable(patience=1.0)
    program = Program()
    with cluster, tw.Session(program.graph, target=cluster) as session:
        program.run(session, 1)
        source, target = ("master", PS) if direction == "to" else (PS, "master")
        links[source].cut.add(links[target].address)
        error = Background(lambda: program.run(session, 2)).failed(15)
        assert isinstance(error, UnavailableError) and f"{PS} does not answer" in str(error)
        until(lambda: not any(server.health()["running"] for server in cluster.servers.values()))


def test_a_task_is_replaced_before_anybody_noticed_that_it_died():
    """Whoever waits for its former life is told."""
    cluster, _ = cuttable(patience=60.0)
    graph = tw.Graph()
    with graph.as_default(), tw.device(WORKERS[0]):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="q")
        taken = queue.dequeue()
    with cluster, tw.Session(graph, target=cluster) as session:
        waiting = Background(lambda: session.run(taken))
        until(lambda: cluster.servers[WORKERS[0]].health()["running"])
        cluster.servers[WORKERS[0]]._transport.close(timeout=0)
        cluster.servers[WORKERS[0]] = cluster._server(WORKERS[0])
        cluster._master.adopt({WORKERS[0]: cluster.servers[WORKERS[0]].address})
        error = waiting.failed(5)
        assert isinstance(error, UnavailableError) and f"{WORKERS[0]} has died" in str(error)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
def test_tasks_die_on_a_bad_network(seed):
    """Every run ends, and gives the right number or an error that names a task; what succeeded since the parameters
    were last lost was counted once."""
    seeds = itertools.count(100 * seed)
    program, rng = Program(), np.random.default_rng(seed)
    cluster = ClusterInProcess(JOBS, lambda link, _: FaultyLink(link, 0.05, 0.1, 0.01, next(seeds)))
    with cluster, tw.Session(program.graph, target=cluster) as session:
        program.run(session, 0)
        for _ in range(4):
            threads = [Background(lambda n=n: program.run(session, n)) for n in range(12)]
            time.sleep(rng.uniform(0, 0.05))
            task = str(rng.choice(cluster.tasks))
            cluster.restart(task)
            for number, thread in enumerate(threads):
                thread.join(30)
                assert not thread.is_alive(), "it hangs"
                if thread.error is None:
                    assert thread.result == 100 * number
                else:
                    assert isinstance(thread.error, UnavailableError | UninitialisedError), thread.error
                    assert "/job:" in str(thread.error)
            if task == PS:
                with pytest.raises(UninitialisedError, match="no value yet"):
                    session.run(program.count)
                cluster.initialise(program.total, program.count)
            until(cluster.is_idle)  # a run that failed may have left its update to come
            before = float(session.run(program.count))
            threads = [Background(lambda n=n: program.run(session, n)) for n in range(10)]
            for number, thread in enumerate(threads):
                thread.join(30)
                assert thread.error is None and thread.result == 100 * number
            assert float(session.run(program.count)) == before + 10
            until(cluster.is_idle)  # nothing runs, and nothing waits for a step that was given up


def test_what_a_task_sent_may_be_lost_with_it():
    """A task that has done its part, and said so, dies before all that it sent has arrived."""
    cluster, links = cuttable(patience=60.0)
    program = Program()
    with cluster, tw.Session(program.graph, target=cluster) as session:
        program.run(session, 1)
        links[WORKERS[1]].cut |= {links[PS].address, links[WORKERS[0]].address}
        done = cluster.servers[WORKERS[1]].health()["steps"]
        waiting = Background(lambda: program.run(session, 2))
        until(lambda: cluster.servers[WORKERS[1]].health()["steps"] > done)
        time.sleep(0.1)  # the master has its answer
        links.pop(WORKERS[1])
        cluster.restart(WORKERS[1])
        error = waiting.failed(5)
        assert isinstance(error, UnavailableError) and f"{WORKERS[1]} has died" in str(error)
        assert program.run(session, 3) == 300


def test_values_for_steps_that_are_over_are_not_kept():
    cluster, links = cuttable(patience=60.0)
    program = Program()
    with cluster, tw.Session(program.graph, target=cluster) as session:
        program.run(session, 1)
        links[WORKERS[0]].cut.add(links[WORKERS[1]].address)
        with pytest.raises(tw.DeadlineError):
            program.run(session, 2, timeout=0.3)
        links[WORKERS[0]].cut.clear()  # now what was sent for the step arrives
        until(lambda: not cluster.servers[WORKERS[0]]._transport.unacknowledged())
        until(cluster.is_idle)
        assert program.run(session, 3) == 300
