"""Managers of checkpoints: asynchronous and atomic, kept by policies, restored in whole or in part."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend.train import CheckpointManager, KeepBest, KeepEvery, KeepLast
from thalweg.frontend.train import checkpoints as module
from thalweg.frontend.train.restoring import restore_checkpoint
from thalweg.runtime import checkpoints as disk
from thalweg.runtime import tensorfile
from thalweg.runtime.checkpoints import Part

WRITER = Path(__file__).parents[3] / "support" / "checkpoint_writer.py"


def tree(value=0.0):
    return {"w": tw.Variable(np.full((4, 3), value), name="w"), "b": [tw.Variable(np.full(3, value), name="b")]}


def number(variables):
    """The number that all variables are full of."""
    values = np.concatenate([np.ravel(variables["w"].numpy()), variables["b"][0].numpy()])
    assert (values == values[0]).all(), "a checkpoint is of one moment"
    return values[0]


def fill(variables, value):
    variables["w"].assign(np.full((4, 3), value))
    variables["b"][0].assign(np.full(3, value))


def test_the_newest_is_restored(tmp_path):
    variables = tree()
    with CheckpointManager(tmp_path / "run", variables, files=2) as manager:
        assert manager.restore() is None and manager.latest is None
        for step in (1, 2, 30):
            fill(variables, step)
            manager.save(step, {"loss": 1 / step})
        fill(variables, -1)
        assert manager.restore().step == 30
    assert number(variables) == 30
    fresh = tree()
    found = CheckpointManager(tmp_path / "run", fresh).restore(allow_unused=False)
    assert (found.step, found.metrics, number(fresh)) == (30, {"loss": 1 / 30}, 30)


def test_saving_copies_and_returns_and_the_next_one_waits(tmp_path, monkeypatch):
    go, writing = threading.Event(), threading.Event()
    original = disk.commit

    def slow(*args):
        writing.set()
        assert go.wait(10)
        return original(*args)

    monkeypatch.setattr(module.disk, "commit", slow)
    variables = tree(1.0)
    manager = CheckpointManager(tmp_path, variables)
    manager.save(1)
    assert writing.wait(10) and manager.latest is None
    fill(variables, 2.0)
    second = threading.Thread(target=manager.save, args=(2,))
    second.start()
    time.sleep(0.05)
    assert second.is_alive(), "one at a time"
    go.set()
    second.join(10)
    manager.close()
    fresh = tree()
    for step, checkpoint in zip((1, 2), manager.checkpoints, strict=True):
        restore_checkpoint(checkpoint, fresh)
        assert number(fresh) == checkpoint.step == step
    with pytest.raises(tw.CheckpointError, match="the manager is closed"):
        manager.save(3)


def test_policies(tmp_path):
    variables = tree()

    def round_steps(checkpoints):
        return [c for c in checkpoints if c.step % 5 == 0]

    keep = [KeepLast(2), KeepBest("accuracy", 2, highest=True), KeepBest("loss"), round_steps]
    manager = CheckpointManager(tmp_path, variables, keep=keep, asynchronous=False)
    accuracy = {1: 0.1, 2: 0.9, 3: float("nan"), 4: 0.8, 5: 0.2, 6: 0.3, 7: 0.9, 8: 0.0, 9: 0.1}
    for step, value in accuracy.items():
        manager.save(step, {"accuracy": value, **({"loss": 0.0} if step == 3 else {})})
    assert [c.step for c in manager.checkpoints] == [2, 3, 5, 7, 8, 9]
    everything = CheckpointManager(tmp_path / "all", variables, keep=None, asynchronous=False)
    for step in range(8):
        everything.save(step)
    assert len(everything.checkpoints) == 8
    with pytest.raises(ValueError, match="keep at least 1"):
        KeepLast(0)


def test_one_of_every_so_many_hours():
    hours = [0, 1, 2.5, 3, 6.1, 6.2, 8]
    found = [disk.Checkpoint(Path(str(h)), step, h * 3600) for step, h in enumerate(hours)]
    assert [c.time / 3600 for c in KeepEvery(3)(found)] == [0, 3, 6.1]


def test_optimizers_and_models(tmp_path):
    def make(seed):
        layer = tw.nn.Dense(3, 2, np.random.default_rng(seed))
        optimizer = tw.optim.Adam(0.1)
        optimizer.prepare(layer.trainable)
        return {"model": layer, "optimizer": optimizer}

    first, second = make(0), make(1)
    first["optimizer"].apply([(np.ones((3, 2), np.float32), first["model"].weight)])
    CheckpointManager(tmp_path, first, asynchronous=False).save(1)
    CheckpointManager(tmp_path, second).restore()
    for a, b in zip(first["optimizer"].variables().values(), second["optimizer"].variables().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


class Shards:
    """A table in pieces, as a sharded variable has it."""

    def __init__(self, table, count):
        self.pieces = {}
        for k in range(count):
            rows = range(k, len(table), count)
            self.pieces[f"shard_{k}"] = piece = _Piece(table[rows.start :: count], name="shard")
            piece.part = Part("", table.shape, rows)

    def variables(self):
        return self.pieces


class _Piece(tw.Variable):
    pass


@pytest.mark.parametrize(("saved", "restored"), [(2, 3), (3, 1), (1, 4)])
def test_what_was_sharded_is_restored_over_another_number_of_shards(tmp_path, saved, restored):
    table = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    CheckpointManager(tmp_path, {"t": Shards(table, saved)}, asynchronous=False, files=2).save(1)
    fresh = Shards(np.zeros_like(table), restored)
    CheckpointManager(tmp_path, {"t": fresh}).restore()
    for piece in fresh.pieces.values():
        np.testing.assert_array_equal(piece.numpy(), table[piece.part.rows.start :: restored])
    whole = tw.Variable(np.zeros_like(table), name="whole")
    CheckpointManager(tmp_path, {"t": whole}).restore()
    np.testing.assert_array_equal(whole.numpy(), table)


# Transfer


def test_a_part_of_a_checkpoint_under_other_names(tmp_path):
    old = {"encoder": {"0": tw.Variable(np.full(2, 7.0)), "1": tw.Variable(np.full(3, 8.0))}, "head": tw.Variable(1.0)}
    CheckpointManager(tmp_path, old, asynchronous=False).save(1)
    checkpoint = CheckpointManager(tmp_path, {}).latest
    new = {"body": {"0": tw.Variable(np.zeros(2)), "1": tw.Variable(np.zeros(3))}, "top": tw.Variable(np.full(4, 3.0))}
    with pytest.raises(tw.CheckpointError, match=r"'body\.0' is not in the checkpoint.*\n.*'body\.1'.*\n.*'top'"):
        restore_checkpoint(checkpoint, new)
    assert restore_checkpoint(checkpoint.path, new, rename={"body": "encoder"}, allow_missing=True) == ["top"]
    assert new["body"]["0"].numpy().tolist() == [7, 7] and new["top"].numpy().tolist() == [3] * 4
    by_function = {"x": tw.Variable(np.zeros(3))}
    assert restore_checkpoint(checkpoint, by_function, rename=lambda name: "encoder.1") == []
    assert by_function["x"].numpy().tolist() == [8, 8, 8]
    with pytest.raises(tw.CheckpointError, match=r"'encoder\.0' of the checkpoint has no place"):
        restore_checkpoint(checkpoint, by_function, rename=lambda name: "encoder.1", allow_unused=False)


def test_nothing_is_assigned_unless_all_fits(tmp_path):
    CheckpointManager(tmp_path, {"a": np.ones(2), "b": np.ones(3)}, asynchronous=False).save(1)
    a, b = tw.Variable(np.zeros(2)), tw.Variable(np.zeros((3, 1)))
    with pytest.raises(tw.CheckpointError, match=r"'b' should be f64\[3,1\], the checkpoint has f64\[3\]"):
        CheckpointManager(tmp_path, {"a": a, "b": b}).restore()
    assert a.numpy().tolist() == [0, 0]
    with pytest.raises(TypeError, match="'a' is a ndarray; checkpoints are restored into variables"):
        CheckpointManager(tmp_path, {"a": np.zeros(2)}).restore()


def test_files_of_tw_save_are_restored_too(tmp_path):
    tw.save(tmp_path / "x.safetensors", {"w": np.ones(3)})
    w = tw.Variable(np.zeros(3))
    restore_checkpoint(tmp_path / "x.safetensors", {"w": w})
    assert w.numpy().tolist() == [1, 1, 1]


# Faults


def damage(checkpoint):
    path = checkpoint.path / "part-0.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken_on_request(tmp_path):
    variables = tree()
    manager = CheckpointManager(tmp_path, variables, asynchronous=False)
    for step in (1, 2, 3):
        fill(variables, step)
        manager.save(step)
    first, second, third = manager.checkpoints
    damage(third)
    (second.path / "index.json").write_text("{")
    with pytest.raises(tw.CheckpointError, match=r"step-00000003/part-0\.safetensors is damaged"):
        manager.restore()
    assert number(variables) == 3
    with pytest.warns(UserWarning, match="is damaged") as warned:
        assert manager.restore(fall_back=True).step == 1
    assert len(warned) == 2 and number(variables) == 1
    damage(first)
    with pytest.warns(UserWarning), pytest.raises(tw.CheckpointError, match=r"every checkpoint in .* is damaged"):
        manager.restore(fall_back=True)


def test_a_failure_on_the_thread_is_raised_at_the_next_call_and_spoils_nothing(tmp_path, monkeypatch):
    variables = tree(1.0)
    manager = CheckpointManager(tmp_path, variables)
    manager.save(1)
    manager.wait()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tensorfile.os, "fsync", full)
        manager.save(2)
        with pytest.raises(tw.CheckpointError, match=r"checkpoint of step 2 failed: .*No space left.*as they were"):
            manager.save(3)
    assert [c.step for c in manager.checkpoints] == [1] and len(os.listdir(tmp_path)) == 1
    manager.save(4)
    manager.close()
    assert [c.step for c in manager.checkpoints] == [1, 4]


def start_writer(folder, *arguments):
    command = [sys.executable, str(WRITER), str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def restored_from(folder):
    """The number that the newest checkpoint in a folder is full of."""
    variables = {name: tw.Variable(np.zeros(20_000, np.float32), name=name) for name in ("a", "b", "c")}
    found = CheckpointManager(folder, variables).restore(allow_unused=False)
    values = np.unique(np.concatenate([v.numpy() for v in variables.values()]))
    assert values.tolist() == [found.step]
    return found.step


@pytest.mark.timeout(120)
def test_killed_at_any_moment_the_last_complete_one_is_there(tmp_path):
    rng = random.Random(0)
    for trial in range(4):
        folder = tmp_path / str(trial)
        process = start_writer(folder)
        assert process.stdout.readline().strip() == "1"
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        told = [int(line) for line in process.stdout.read().split()] or [1]
        process.wait()
        assert restored_from(folder) in (told[-1], told[-1] + 1), "what was told to be on disk is there"
        survivor = CheckpointManager(folder, {"a": np.ones(1)}, asynchronous=False, keep=None)
        survivor.save(10_000)
        assert all((p / disk.INDEX).exists() for p in folder.iterdir()), "the debris is gone"


@pytest.mark.timeout(60)
def test_a_full_disk(tmp_path):
    process = start_writer(tmp_path, "50000")
    lines = process.communicate()[0].splitlines()
    assert lines[:2] == ["1", "2"] and "checkpoint of step 3 failed" in lines[2] and "File too large" in lines[2]
    assert restored_from(tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == ["step-00000001", "step-00000002"]


def test_every_prefix_of_what_a_save_does_leaves_a_good_state(tmp_path, monkeypatch):
    """The process stops after each of the system calls that change the disk, one after the other."""
    variables = tree(1.0)

    class Killed(BaseException):
        pass

    for moment in range(40):
        folder = tmp_path / str(moment)
        fill(variables, 1.0)
        CheckpointManager(folder, variables, asynchronous=False, keep=[KeepLast(1)]).save(1)
        calls = 0

        def counted(original, moment=moment):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls > moment:
                    raise Killed
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for name in ("replace", "fsync", "unlink", "rmdir", "mkdir"):
                patched.setattr(os, name, counted(getattr(os, name)))
            patched.setattr(disk.shutil, "rmtree", counted(disk.shutil.rmtree))
            fill(variables, 2.0)
            try:
                CheckpointManager(folder, variables, asynchronous=False, keep=[KeepLast(1)]).save(2)
                complete = True
            except Killed:
                complete = False
        fresh = tree()
        found = CheckpointManager(folder, fresh).restore()
        assert number(fresh) == found.step and found.step in ((2,) if complete else (1, 2))
        if complete:
            break
    assert complete and moment > 10
