"""Virtual GPUs: memory of the host, kernels in Triton's interpreter. No real GPU is woken."""

from collections.abc import Iterator

import pytest

import thalweg as tw

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def two_gpus() -> Iterator[None]:
    with tw.config.override(virtual_gpus=2):
        yield
