"""Checkpoints that the tasks of a session write and read themselves."""

import threading

import numpy as np
import pytest

import thalweg as tw
from thalweg.runtime import checkpoints as disk


@pytest.fixture(autouse=True)
def devices():
    tw.config.set_virtual_devices(cpu=3)
    yield
    tw.config.set_virtual_devices(cpu=1)


class Model:
    """A variable on each of two devices, and a sharded table."""

    def __init__(self, shards=2, value=0.0):
        self.graph = tw.Graph()
        with self.graph.as_default():
            with tw.device("/device:CPU:1"):
                self.a = tw.Variable(np.full((100, 4), value, np.float32), name="a")
            with tw.device("/device:CPU:2"):
                self.b = tw.Variable(np.full(7, value), name="b")
            self.table = tw.ShardedVariable((11, 2), shards, devices=["/device:CPU:1", "/device:CPU:2"])
            self.step = tw.group(self.a.assign_add(1.0), self.b.assign_add(1.0))
        self.tree = {"a": self.a, "b": self.b, "table": self.table}


@pytest.mark.timeout(60)
def test_saved_restored_and_resharded(tmp_path):
    first, second = Model(2), Model(3, value=-1.0)
    first.table.assign(np.arange(22).reshape(11, 2))
    with tw.Session(first.graph) as session:
        manager = tw.train.CheckpointManager(tmp_path, first.tree, session=session)
        for step in (1, 2):
            session.run(first.step)
            manager.save(step, {"loss": 1 / step})
        manager.close()
    assert [(c.step, c.metrics) for c in manager.checkpoints] == [(1, {"loss": 1.0}), (2, {"loss": 0.5})]
    with tw.Session(second.graph) as session:
        restored = tw.train.CheckpointManager(tmp_path, second.tree, session=session)
        assert restored.restore(allow_unused=False).step == 2
        assert (np.asarray(session.run(second.a)) == 2).all() and (np.asarray(session.run(second.b)) == 2).all()
        np.testing.assert_array_equal(second.table.numpy(), first.table.numpy())
        session.run(second.step)
        restored.save(3)
        restored.close()
    # What sessions write, processes read.
    whole = {"table": tw.Variable(np.zeros((11, 2), np.float32)), "a": tw.Variable(np.zeros((100, 4), np.float32))}
    tw.train.CheckpointManager(tmp_path, whole).restore()
    assert (whole["a"].numpy() == 3).all()
    np.testing.assert_array_equal(whole["table"].numpy(), first.table.numpy())


@pytest.mark.timeout(60)
def test_training_goes_on_while_a_copy_is_written(tmp_path, monkeypatch):
    go, writing = threading.Event(), threading.Event()
    original = disk.write_part

    def slow(*args):
        writing.set()
        assert go.wait(20)
        return original(*args)

    monkeypatch.setattr(disk, "write_part", slow)
    model = Model()
    with tw.Session(model.graph) as session:
        manager = tw.train.CheckpointManager(tmp_path, model.tree, session=session)
        session.run(model.step)
        manager.save(1)
        assert writing.wait(20)
        for _ in range(5):
            session.run(model.step)
        assert manager.latest is None
        go.set()
        manager.wait()
        assert (np.asarray(session.run(model.b)) == 6).all()
        manager.restore()
        assert (np.asarray(session.run(model.a)) == 1).all() and (np.asarray(session.run(model.b)) == 1).all()


@pytest.mark.timeout(60)
def test_faults_are_told_and_spoil_nothing(tmp_path, monkeypatch):
    model = Model()
    with tw.Session(model.graph) as session:
        manager = tw.train.CheckpointManager(tmp_path, model.tree, session=session)
        session.run(model.step)
        manager.save(1)
        manager.wait()

        def full(*args):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(disk, "write_part", full)
            session.run(model.step)
            manager.save(2)
            with pytest.raises(tw.CheckpointError, match=r"checkpoint of step 2 failed.*No space left"):
                manager.wait()
        assert [c.step for c in manager.checkpoints] == [1] and len(list(tmp_path.iterdir())) == 1
        path = manager.latest.path / "part-0.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(tw.CheckpointError, match="is damaged"):
            manager.restore()
        assert (np.asarray(session.run(model.b)) == 2).all(), "nothing was assigned"
        manager.close()
