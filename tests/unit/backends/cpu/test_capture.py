"""Captured kernels replay to the same bits, and a spoiled one is told; profiles name the same kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thalweg.backends.cpu.capture import capture, replay
from thalweg.backends.cpu.profile import profile
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

PROGRAM = """
func.func @main(%x: tensor<16x32xf32>, %w: tensor<32x8xf32> {tw.alias = 1 : i64})
    -> (tensor<16xf32>, tensor<32x8xf32>) {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %h = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
      : (tensor<16x32xf32>, tensor<32x8xf32>) -> tensor<16x8xf32>
  %t = stablehlo.tanh %h : tensor<16x8xf32>
  %s = stablehlo.reduce(%t init: %zero) applies stablehlo.add across dimensions = [1]
      : (tensor<16x8xf32>, tensor<f32>) -> tensor<16xf32>
  %g = stablehlo.dot_general %x, %t, contracting_dims = [0] x [0]
      : (tensor<16x32xf32>, tensor<16x8xf32>) -> tensor<32x8xf32>
  %n = stablehlo.subtract %w, %g : tensor<32x8xf32>
  return %s, %n : tensor<16xf32>, tensor<32x8xf32>
}"""


def _arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((16, 32), np.float32), rng.standard_normal((32, 8), np.float32)]


def test_captured_kernels_replay_alone(tmp_path: Path) -> None:
    arrays = _arrays()
    before = arrays[1].copy()
    with context.entered():
        names = capture(ir.Module.parse(PROGRAM), arrays, tmp_path)
    np.testing.assert_array_equal(arrays[1], before, err_msg="the caller's array was updated")
    assert names and (tmp_path / "test_kernels.py").exists()
    for name in names:
        replay(tmp_path / name)


def test_a_spoiled_kernel_is_told(tmp_path: Path) -> None:
    with context.entered():
        names = capture(ir.Module.parse(PROGRAM), _arrays(), tmp_path)
    folder = tmp_path / names[-1]
    with np.load(folder / "data.npz") as data:
        arrays = dict(data)
    last = max(key for key in arrays if key.startswith("after"))
    arrays[last] = arrays[last] + 1
    np.savez(folder / "data.npz", **arrays)
    with pytest.raises(AssertionError, match=names[-1]):
        replay(folder)


def test_profile_accounts_for_all_kernels(tmp_path: Path) -> None:
    with context.entered():
        module = ir.Module.parse(PROGRAM)
        rows = profile(module, _arrays(), calls=3)
        names = capture(module, _arrays(), tmp_path)
    assert sorted(row.kernel for row in rows) == sorted(names)
    assert all(row.launches == 1 for row in rows) and abs(sum(row.share for row in rows) - 1) < 1e-6
