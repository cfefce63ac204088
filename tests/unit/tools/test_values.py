"""Inputs from files, in order or by name; random ones; results to files."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, bfloat16, float32, int32
from thalweg.tools.loading import LoadError, Subject
from thalweg.tools.values import bind, read_npz, save_npz

A, B = TensorType((2,), float32), TensorType((), int32)


def subject(**changes: object) -> Subject:
    with context.entered():
        module = ir.Module.create()
    return Subject("p", "tw", module, **{"inputs": (A, B), **changes})  # type: ignore[arg-type]


def test_in_order_with_numpys_wide_defaults_made_to_fit() -> None:
    inputs, _ = bind(subject(), {"arr_0": np.array([1.0, 2.0]), "arr_1": np.array(3)}, 0, "in.npz")
    assert [(i.dtype.name, i.shape) for i in inputs] == [("float32", (2,)), ("int32", ())]


def test_by_name_in_any_order() -> None:
    given = {"n": np.int32(3), "x": np.float32([1, 2])}
    inputs, _ = bind(subject(names=("x", "n")), given, 0, "in.npz")
    assert inputs[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": np.ones(2)}, "takes 2 inputs, the file has 1: a"),
        ({"a": np.ones(3), "b": np.array(1)}, r"'a' must be f32\[2\], the file has f64\[3\]"),
        ({"a": np.ones(2), "b": np.array(1.5)}, r"'b' must be i32\[\], the file has f64\[\]"),
        ({"a": np.ones(2), "b": np.array(2**40)}, r"'b' must be i32\[\], the file has i64\[\]"),
        ({"x": np.ones(2), "m": np.array(1)}, "no input is called 'm'. They are x, n"),
        ({"x": np.ones(2)}, "the input 'n' is missing; the file has x"),
    ],
)
def test_what_does_not_fit(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        bind(subject(names=("x", "n")), given, 0, "in.npz")


def test_examples_then_random_numbers_from_the_seed() -> None:
    example = (np.float32([7, 8]), np.int32(9))
    assert bind(subject(examples=example), {}, 0, "")[0][1] == 9
    first, again, other = (bind(subject(), {}, seed, "")[0][0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert np.abs(first).max() <= 1


def test_files_round_trip_and_bfloat16_goes_as_float32(tmp_path: Path) -> None:
    path = str(tmp_path / "values")  # no suffix: the name is taken as it is
    save_npz(path, {"a": np.arange(3), "b": np.ones(2, ml_dtypes.bfloat16)})
    found = read_npz(path)
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].dtype == np.float32
    inputs, _ = bind(subject(inputs=(TensorType((2,), bfloat16),)), {"b": found["b"]}, 0, path)
    assert inputs[0].dtype.name == "bfloat16"


def test_a_file_that_is_no_npz_and_one_that_wants_to_run_code(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(LoadError, match=r"text\.npz: not an \.npz file"):
        read_npz(str(tmp_path / "text.npz"))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(LoadError, match=r"not an \.npz file of arrays"):
        read_npz(str(tmp_path / "objects.npz"))
