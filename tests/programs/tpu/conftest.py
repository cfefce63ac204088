"""PJRT's CPU devices, four of them, in the place of TPUs. The real library of TPUs is never woken."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()

jax = pytest.importorskip("jax")


@pytest.fixture
def four_devices() -> None:
    """Skips where another test woke PJRT before, with fewer devices."""
    if len(jax.local_devices()) < 4:
        pytest.skip("PJRT has fewer than four devices in this process")
