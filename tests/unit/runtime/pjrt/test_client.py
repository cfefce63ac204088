"""The client of PJRT: arrays there and back, donated memory, and what it says when something is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.pjrt.lower import lower
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExecutionError, UnavailableError
from thalweg.dialects.mlir import ir
from thalweg.runtime.config import Config
from thalweg.runtime.pjrt.client import Client, client_for

os.environ.setdefault("JAX_PLATFORMS", "cpu")
pytest.importorskip("jax")

ADD = """
func.func @main(%w: tensor<4xf64> {tw.variable = "w", tw.alias = 0 : i64}, %x: tensor<4xf64>) -> tensor<4xf64> {
  %0 = stablehlo.add %w, %x : tensor<4xf64>
  return %0 : tensor<4xf64>
}
"""


@pytest.fixture
def client() -> Client:
    return client_for(virtual=True)


@pytest.fixture
def afresh() -> Iterator[None]:
    """A client is made anew, as in a process that has none."""
    client_for.cache_clear()
    yield
    client_for.cache_clear()


def test_what_is_updated_takes_the_memory_of_the_argument(client: Client) -> None:
    with context.entered():
        program = client.compile(lower(ir.Module.parse(ADD)).data, [0])
    w, x = client.put(np.ones(4), [0]), client.put(np.arange(4.0), [0])
    (new,) = program([w, x])
    assert np.asarray(new).tolist() == [1, 2, 3, 4] and np.asarray(new).dtype == np.float64
    assert w.is_deleted() and not x.is_deleted()
    with pytest.raises(ExecutionError, match="the device could not run the program"):
        program([w, x])


def test_arrays_are_copied(client: Client) -> None:
    memory = np.ones(1 << 16, np.float32)
    there = client.put(memory, [0])
    memory[:] = 5
    assert np.asarray(there).max() == 1


def test_what_is_no_program(client: Client) -> None:
    with pytest.raises(ExecutionError, match="the cpu's compiler refuses the program"):
        client.compile(b"ML\xefR nonsense", [0])


def test_more_devices_than_there_are(client: Client) -> None:
    count = len(client.devices)
    with pytest.raises(UnavailableError, match=f"XLA_FLAGS=--xla_force_host_platform_device_count={count + 1}"):
        client.put(np.ones(3), list(range(count + 1)))
    assert client.put(np.ones(3), [count + 1]).shape == (3,), "virtual ones that are used alone share"


def test_without_jax(monkeypatch: pytest.MonkeyPatch, afresh: None) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UnavailableError, match=r"pip install 'thalweg\[tpu\]'"):
        client_for(virtual=True)


def test_options() -> None:
    options = Config()
    options.set_virtual_devices(cpu=2, tpu=3)
    assert options.devices == (*(f"/device:CPU:{k}" for k in range(2)), *(f"/device:TPU:{k}" for k in range(3)))
    with pytest.raises(ValueError, match="virtual_tpus must be a count"):
        options.virtual_tpus = -1
