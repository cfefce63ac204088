"""Files of named arrays: any safetensors reader reads ours, we read theirs, and nothing is there by halves."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from thalweg.runtime import tensorfile
from thalweg.runtime.tensorfile import TensorFile, TensorFileError, digest_of, replacing, write

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float16),
    "strided": np.arange(20, dtype=np.uint8)[::3],
    "mask": np.array([True, False]),
}


def test_other_readers_of_the_format_read_it(tmp_path):
    write(tmp_path / "x", ARRAYS, {"step": "3"})
    found = safetensors.numpy.load_file(tmp_path / "x")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    with safetensors.safe_open(tmp_path / "x", framework="np") as file:
        assert file.metadata() == {"format": "thalweg", "step": "3"}


def test_files_of_other_writers_are_read(tmp_path):
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in ARRAYS.items()}, tmp_path / "x")
    with TensorFile(tmp_path / "x") as file:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file.read(name), array)


def test_bits_are_kept_and_told_by_their_digest(tmp_path):
    array = np.array([0.1, -0.0, np.nan], ml_dtypes.bfloat16)
    digests = write(tmp_path / "x", {"a": array, "b": array[::-1]})
    with TensorFile(tmp_path / "x") as file:
        assert file.read("a").tobytes() == array.tobytes()
        assert digest_of(file.read("b")) == digests["b"] != digests["a"] == digest_of(array)


def test_what_is_replaced_stays_until_the_new_file_is_complete(tmp_path):
    path = tmp_path / "x"
    write(path, {"a": np.ones(3)})
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        assert [p for p in os.listdir(tmp_path) if p.startswith(".x.")]
        raise RuntimeError
    assert os.listdir(tmp_path) == ["x"]
    with TensorFile(path) as found:
        np.testing.assert_array_equal(found.read("a"), np.ones(3))


@pytest.mark.parametrize("kept", [0, 4, 8, 20, -1])
def test_a_file_that_ends_early(tmp_path, kept):
    write(tmp_path / "x", ARRAYS)
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[:kept])
    with pytest.raises(TensorFileError):
        TensorFile(tmp_path / "x")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1]},
        3,
    ],
)
def test_a_header_that_cannot_be_true(tmp_path, entry):
    text = json.dumps({"a": entry}).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(TensorFileError, match="its header cannot be read"):
        TensorFile(tmp_path / "x")


def test_large_arrays_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorfile, "_PIECE", 100)
    array = np.random.default_rng(0).normal(size=(33, 7))
    digests = write(tmp_path / "x", {"a": array})
    with TensorFile(tmp_path / "x") as file:
        np.testing.assert_array_equal(file.read("a"), array)
    assert digests == {"a": digest_of(array)}
