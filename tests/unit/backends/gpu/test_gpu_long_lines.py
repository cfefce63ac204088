"""Long lines in several launches: sorts by runs and merges, top-k, running sums by blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gpu_programs import check, lowered, numbers, sources

import thalweg as tw
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.dialects import context

pytest.importorskip("triton")

MANY_EQUAL = np.random.default_rng(1).integers(0, 50, (3, 1500)).astype(np.int32)


def test_a_long_line_is_sorted_by_runs_that_are_merged() -> None:
    first, *merges = sources(lambda x: tw.sort(x), numbers(1500))
    assert "for start in range(0, 256, SIDE):" in first  # comparisons with one run, not with the line
    assert [f"pair = i // {2 * run}" in m for m, run in zip(merges, (256, 512, 1024), strict=True)] == [True] * 3


@pytest.mark.parametrize("count", [513, 1024, 1500])
def test_sorted_values(count: int, tmp_path: Path) -> None:
    check(lambda x: tw.sort(x), numbers(count), folder=tmp_path)


def test_of_equal_elements_the_earlier_comes_first(tmp_path: Path) -> None:
    """Places move with values; along either axis, upwards and downwards; one of the results alone, too."""
    along = lambda x: (tw.argsort(x, axis=1), tw.sort(x, axis=1))  # noqa: E731
    check(along, MANY_EQUAL, folder=tmp_path)
    check(lambda x: tw.argsort(x, axis=0, descending=True), np.ascontiguousarray(MANY_EQUAL.T), folder=tmp_path)


def test_nan_and_infinities_go_where_the_host_puts_them(tmp_path: Path) -> None:
    x = numbers(700)
    x[::7], x[1::50], x[2::50], x[3::50] = np.nan, np.inf, -np.inf, -0.0
    check(lambda x: tw.sort(x), x, folder=tmp_path)


@pytest.mark.parametrize("k", [1, 10, 300])
def test_the_first_of_long_lines(k: int, tmp_path: Path) -> None:
    check(lambda x: tw.top_k(x, k), MANY_EQUAL, folder=tmp_path)


def test_of_runs_no_more_is_kept_than_is_wanted() -> None:
    _, first, second, *_ = sources(lambda x: tw.top_k(x, 10)[0], numbers(1500))
    assert "kept = i_ok & (rank < 10)" in first
    assert "there = i_ok & (i % 256 < 10)" in second


def test_long_sorts_in_loops(tmp_path: Path) -> None:
    body = lambda i, x: (i + 1, tw.sort(x) * -1)  # noqa: E731
    check(lambda x: tw.while_loop(lambda i, x: i < 2, body, (0, x))[1], numbers(600), folder=tmp_path)


@pytest.mark.parametrize("shape, axis", [((8200,), 0), ((2, 8192), 1), ((8195, 2), 0)])
def test_long_running_sums(shape: tuple[int, ...], axis: int, tmp_path: Path) -> None:
    check(lambda x: tw.cumulative_sum(x, axis=axis), numbers(*shape), folder=tmp_path, error=1e-3)


def test_running_extremes_and_products_from_either_end(tmp_path: Path) -> None:
    x = numbers(8200, 2)
    check(lambda x: tw.cumulative_max(x, axis=0, reverse=True), x, folder=tmp_path)
    check(lambda x: tw.cumulative_prod(1 + x[::-1] / 100, axis=0)[::-1], x, folder=tmp_path, error=1e-3)
    check(lambda x: tw.cumulative_sum(x, axis=0), MANY_EQUAL.reshape(-1).repeat(2), folder=tmp_path)


def test_blocks_run_beside_each_other() -> None:
    assert sum("tl.associative_scan" in source for source in sources(tw.cumulative_sum, numbers(8200))) == 2
    assert sum("tl.associative_scan" in source for source in sources(tw.cumulative_sum, numbers(8000))) == 1


@pytest.mark.parametrize("chip", ["sm_90", "gfx942"])
def test_they_compile(chip: str, tmp_path: Path) -> None:
    with context.entered():
        found = lowered(lambda x: tw.top_k(x, 100), MANY_EQUAL, folder=tmp_path, chip=chip)
        for kernel in found.kernels[:3]:
            assert compile_kernel(kernel.text, found.options).image.binary
