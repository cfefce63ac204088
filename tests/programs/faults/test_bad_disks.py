"""Disks that are full and files that are damaged, where tasks write and read the checkpoints."""

import resource
import threading
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from cluster_in_process import ClusterInProcess

import thalweg as tw
from thalweg.runtime import checkpoints

pytestmark = pytest.mark.timeout(120)


@contextmanager
def full_after(size, *pids):
    """Processes that cannot write files of more bytes than that, as on a disk that is full."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


class State:
    """A variable on the parameter task and one on a worker."""

    def __init__(self, victims):
        with tw.device(victims.ps):
            w = tw.Variable(tw.zeros((600_000,)), name="w")
            add = w.assign_add(tw.ones(w.shape))
        with tw.device(victims.workers[0]):
            v = tw.Variable(tw.zeros((10,)), name="v")
            self.add = tw.group(add, v.assign_add(tw.ones(v.shape)))
        self.tree = {"w": w, "v": v}

    def values(self, session):
        """The value that all elements of both variables have."""
        found = {float(n) for t in self.tree.values() for n in np.unique(np.asarray(session.run(t)))}
        (value,) = found
        return value


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_disk_that_is_full_on_one_task(victims, graph, tmp_path, size):
    state = State(victims)
    with tw.Session(graph, target=victims.cluster) as session:
        manager = tw.train.CheckpointManager(tmp_path, state.tree, session=session)
        session.run(state.add)
        manager.save(1)
        manager.wait()
        session.run(state.add)
        with full_after(size, victims.pid(victims.ps)):
            manager.save(2)
            session.run(state.add)  # training goes on
            with pytest.raises(tw.CheckpointError, match=r"step 2.*File too large.*\[/job:ps/task:0\]"):
                manager.wait()
        assert [c.step for c in manager.checkpoints] == [1]
        manager.save(3)
        manager.close()
        manager.restore()
        assert state.values(session) == 3


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_shard_that_is_damaged_is_told_and_nothing_is_assigned(victims, graph, tmp_path):
    state = State(victims)
    with tw.Session(graph, target=victims.cluster) as session:
        manager = tw.train.CheckpointManager(tmp_path, state.tree, session=session, asynchronous=False)
        for step in (1, 2):
            session.run(state.add)
            manager.save(step)
        session.run(state.add)
        shard = max(manager.latest.path.glob("*.safetensors"), key=lambda path: path.stat().st_size)
        damage(shard, -5)
        with pytest.raises(tw.CheckpointError, match=rf"{shard.name}.*is damaged"):
            manager.restore()
        assert state.values(session) == 3
        with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged.*the one before|before it is restored"):
            manager.restore(fall_back=True)
        assert state.values(session) == 1


def test_a_session_that_recovers_takes_the_checkpoint_before_a_damaged_one(victims, graph, tmp_path):
    state = State(victims)
    with tw.train.MonitoredSession(
        graph, tmp_path, state.tree, target=victims.cluster, save_steps=2, asynchronous=False
    ) as session:
        for _ in range(5):
            session.run(state.add)
        damage(session.manager.latest.path / "index.json", 30)
        victims.kill(victims.ps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session.run(state.add)
        assert session.recovered >= 1 and session.step == 3
        assert state.values(session.session) == 3


def test_a_task_that_is_still_writing_for_a_save_that_failed_leaves_the_next_one_alone(tmp_path, monkeypatch):
    graph, write, going_on = tw.Graph(), checkpoints.write_part, threading.Event()
    writing = []

    def slow(folder, file, arrays, parts=None):
        writing.append(file)
        if len(writing) <= 2:
            if "w" in arrays:
                while len(writing) < 2:
                    time.sleep(0.01)
                raise OSError(28, "No space left on device")
            going_on.wait(20)
        return write(folder, file, arrays, parts)

    monkeypatch.setattr(checkpoints, "write_part", slow)
    with graph.as_default():
        with tw.device("/job:ps/task:0"):
            w = tw.Variable(tw.ones((3,)), name="w")
        with tw.device("/job:worker/task:0"):
            v = tw.Variable(tw.ones((3,)), name="v")
    with ClusterInProcess({"ps": 1, "worker": 1}) as cluster, tw.Session(graph, target=cluster) as session:
        manager = tw.train.CheckpointManager(tmp_path, {"w": w, "v": v}, session=session)
        manager.save(1)
        with pytest.raises(tw.CheckpointError, match="No space left"):
            manager.wait()
        copy = manager._store.snapshot

        def copied(leaves):
            made = copy(leaves)
            going_on.set()
            time.sleep(0.3)
            return made

        monkeypatch.setattr(manager._store, "snapshot", copied)
        manager.save(2)  # copies, and the first save ends only then
        manager.close()
        manager.latest.verify()
        assert manager.latest.step == 2
