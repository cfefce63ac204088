"""Checkpoints: what goes in comes out, and nothing happens by halves."""

import os
import stat

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

import thalweg as tw
from thalweg.frontend import saving


def variables():
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {"w": tw.Variable(w, name="w"), "b": [tw.Variable(np.ones(3), name="b")]}


def test_variables_are_restored_in_place(tmp_path):
    saved, fresh = variables(), variables()
    fresh["w"].assign(np.zeros((2, 3), np.float32))
    tw.save(tmp_path / "ckpt", saved)
    restored = tw.restore(tmp_path / "ckpt", fresh)
    assert restored["w"] is fresh["w"]
    np.testing.assert_array_equal(np.asarray(fresh["w"]), np.asarray(saved["w"]))


def test_names_in_the_file_are_paths(tmp_path):
    tw.save(tmp_path / "ckpt", variables())
    with safe_open(tmp_path / "ckpt", framework="np") as file:
        assert sorted(file.keys()) == ["b.0", "w"]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint64, np.bool_])
def test_every_dtype_keeps_its_bits(tmp_path, dtype):
    array = np.array([0, 1, 3, 2]).astype(dtype)
    tw.save(tmp_path / "a", {"a": array, "scalar": array[1], "empty": array[:0], "strided": array[::2]})
    got = tw.restore(tmp_path / "a", {"a": array, "scalar": array[1], "empty": array[:0], "strided": array[::2]})
    assert np.asarray(got["a"]).dtype == dtype
    np.testing.assert_array_equal(np.asarray(got["a"]), array)
    np.testing.assert_array_equal(np.asarray(got["strided"]), array[::2])
    assert np.asarray(got["scalar"]).shape == () and np.asarray(got["empty"]).shape == (0,)


def test_modules_and_optimizers_are_saved_by_their_variables(tmp_path):
    def make(seed):
        layer = tw.nn.Dense(3, 2, np.random.default_rng(seed))
        optimizer = tw.optim.Momentum(0.1)
        optimizer.prepare(layer.trainable)
        return {"model": layer, "optimizer": optimizer}

    first, second = make(0), make(1)
    first["optimizer"].apply([(np.ones((3, 2), np.float32), first["model"].weight)])
    tw.save(tmp_path / "ckpt", first)
    assert tw.restore(tmp_path / "ckpt", second)["model"] is second["model"]
    slots = second["optimizer"].slots_of(second["model"].weight)
    np.testing.assert_array_equal(np.asarray(slots["velocity"]), 1.0)
    assert int(second["optimizer"].step) == 1
    np.testing.assert_array_equal(np.asarray(second["model"].weight), np.asarray(first["model"].weight))


def test_all_differences_are_listed_and_nothing_is_assigned(tmp_path):
    weight = np.ones((2, 3), np.float32)
    tw.save(tmp_path / "ckpt", {"weight": weight, "b": np.ones(3), "c": np.ones(1), "d": np.ones(2)})
    d = tw.Variable(np.zeros(2), name="d")
    tree = {"weights": weight, "b": np.ones(4), "c": np.ones(1, np.float32), "d": d}
    with pytest.raises(ValueError) as caught:
        tw.restore(tmp_path / "ckpt", tree)
    message = str(caught.value)
    assert "'weights' is not in the file; did you mean 'weight'?" in message
    assert "'b' should be f64[4], the file has f64[3]" in message
    assert "'c' should be f32[1], the file has f64[1]" in message
    assert "'weight' of the file has no place" in message
    np.testing.assert_array_equal(np.asarray(d), np.zeros(2))


def test_a_part_can_be_restored_on_request(tmp_path):
    tw.save(tmp_path / "ckpt", {"a": np.ones(1), "b": np.ones(2)})
    np.testing.assert_array_equal(tw.restore(tmp_path / "ckpt", {"a": np.zeros(1)}, strict=False)["a"], np.ones(1))


def test_a_failed_save_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "ckpt"
    tw.save(path, {"a": np.ones(1)})

    def full_disk(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(saving.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        tw.save(path, {"a": np.zeros(1)})
    assert os.listdir(tmp_path) == ["ckpt"]
    assert tw.restore(path, {"a": np.zeros(1)})["a"].tolist() == [1.0]


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "ckpt"
    tw.save(path, {"a": np.ones(100)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a safetensors file"):
        tw.restore(path, {"a": np.ones(100)})


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        tw.save(tmp_path / "ckpt", {"a": np.ones(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "ckpt").st_mode) == 0o644


def test_names_must_be_unambiguous_and_leaves_arrays(tmp_path):
    with pytest.raises(ValueError, match=r"two leaves are called 'a\.b'"):
        tw.save(tmp_path / "x", {"a.b": np.ones(1), "a": {"b": np.ones(1)}})
    with pytest.raises(TypeError, match="'name' cannot be saved"):
        tw.save(tmp_path / "x", {"name": "text"})
    assert os.listdir(tmp_path) == []
