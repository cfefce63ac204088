"""Stacks: rows come back as they were written, from memory or from the file, and nothing stays behind."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.config import config
from thalweg.runtime.stacks import Stack, account

FLOAT = np.dtype(np.float32)


def rows(count: int, shape: tuple[int, ...] = (4,), dtype: np.dtype = FLOAT) -> list[np.ndarray]:
    return [(np.arange(np.prod(shape, dtype=int)) + 10 * k).reshape(shape).astype(dtype) for k in range(count)]


def written(count: int, shape: tuple[int, ...] = (4,), dtype: np.dtype = FLOAT) -> Stack:
    stack = Stack(count, shape, dtype)
    for index, row in enumerate(rows(count, shape, dtype)):
        stack.write(index, row)
    return stack


@pytest.mark.parametrize("limit", [0, 1, 16, 40, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_rows_come_back(limit: int, dtype: type, shape: tuple[int, ...]) -> None:
    with config.override(stack_limit=limit):
        stack = written(9, shape, np.dtype(dtype))
        wanted = rows(9, shape, np.dtype(dtype))
        np.testing.assert_array_equal(stack.all(), wanted)
        for index in reversed(range(9)):
            np.testing.assert_array_equal(stack.read(index, last=True), wanted[index])


def test_a_limit_keeps_the_newest_rows_in_memory() -> None:
    before = account().used
    with config.override(stack_limit=before + 3 * 16):
        stack = written(10)
        assert stack.spilled == 7
        assert account().used == before + 3 * 16
        for index in (9, 8, 7):
            stack.read(index, last=True)
        assert (stack.spilled, account().used) == (7, before)
        stack.read(6, last=True)
        assert stack.spilled == 6


def test_the_limit_is_one_for_all_stacks() -> None:
    before = account().used
    with config.override(stack_limit=before + 4 * 16):
        first, second = written(3), written(3)
        assert (first.spilled, second.spilled) == (0, 2)
        np.testing.assert_array_equal(second.all(), rows(3))
    assert first.read(0).tolist() == rows(1)[0].tolist()


def test_a_row_that_is_written_again() -> None:
    with config.override(stack_limit=1):
        stack = written(3)
        stack.write(1, np.full(4, 7, np.float32))
        assert stack.read(1).tolist() == [7] * 4
        assert stack.spilled == 3


def test_rows_may_be_of_a_shape_that_only_running_tells() -> None:
    with config.override(stack_limit=1):
        stack = Stack(3, (2**40,), FLOAT)
        for index in range(3):
            stack.write(index, np.full(5, index, np.float32))
        assert stack.read(1).tolist() == [1] * 5
        assert stack.all().shape == (3, 5)


def test_rows_without_elements() -> None:
    with config.override(stack_limit=1):
        assert written(3, (0, 4)).all().shape == (3, 0, 4)


def test_rows_never_written_are_zeros() -> None:
    stack = Stack(3, (2,), FLOAT)
    stack.write(1, np.ones(2, np.float32))
    assert stack.read(0).tolist() == [0, 0]
    assert stack.all().tolist() == [[0, 0], [1, 1], [0, 0]]


def test_an_index_outside_is_an_error() -> None:
    stack = Stack(3, (2,), FLOAT)
    for index in (-1, 3):
        with pytest.raises(StepError, match=f"row {index} is outside a stack of 3 rows"):
            stack.read(index)


def test_nothing_stays_behind(tmp_path: Path) -> None:
    before, files = account().used, len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with config.override(stack_limit=before + 16, spill_dir=str(tmp_path)):
        stack = written(5)
        assert stack.spilled == 4
        assert not list(tmp_path.iterdir()), "the file has no name"
        del stack
    gc.collect()
    assert account().used == before
    if files:
        assert len(os.listdir("/proc/self/fd")) == files


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        config.override(stack_limit=1, spill_dir=str(tmp_path)),
        pytest.raises(StepError, match=r"stack_limit could not be written to '.*': No space.*spill_dir"),
    ):
        written(2)


def test_writes_that_stop_short_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:3], at))
    with config.override(stack_limit=1):
        np.testing.assert_array_equal(written(4).all(), rows(4))


def test_a_limit_is_a_count() -> None:
    with pytest.raises(ValueError, match="stack_limit must be a number of bytes"):
        config.stack_limit = -1
