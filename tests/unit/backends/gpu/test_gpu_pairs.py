"""Mean and squared deviations, the extreme and its place: in one walk, over rows, over columns, and in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import check, numbers, simulated, sources

import thalweg as tw


def _moments(*axes: int) -> Callable[[tw.Tensor], Any]:
    def function(x: tw.Tensor) -> Any:
        mean = tw.mean(x, axis=axes, keepdims=True)
        return mean, tw.mean((x - mean) ** 2, axis=axes)

    return function


def _places(axis: int) -> Callable[[tw.Tensor], Any]:
    return lambda x: (tw.argmax(x, axis=axis), tw.argmin(x, axis=axis), tw.max(x, axis=axis))


def _special(*shape: int) -> np.ndarray:
    """Few different numbers, with NaN and infinities in some rows and columns."""
    x = np.round(numbers(*shape) * 2)
    x[1, 7], x[1, 5], x[2, 3], x[0] = np.nan, np.nan, np.inf, -np.inf
    return x


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "moments of long rows": (_moments(1), (numbers(3, 8200) + 3,)),
    "moments of columns": (_moments(0, 1), (numbers(5, 41, 70) + 3,)),
    "moments in parts": (_moments(0, 1, 2), (numbers(32, 28, 28, 5) + 3,)),
    "moments of all": (_moments(0, 1), (numbers(300, 300) + 3,)),
    "places in long rows": (_places(1), (_special(3, 8200),)),
    "places in columns": (_places(0), (_special(70, 90),)),
    "places in parts": (lambda x: tw.argmax(x, axis=1), (_special(3, 32768),)),
    "places of integers": (_places(0), ((numbers(70, 9) * 5).astype(np.int32),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted(name: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    function, arguments = PROGRAMS[name]
    check(function, *arguments, folder=tmp_path)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"moments of all"}))  # of all: the sum is in parts already
def test_what_is_long_is_read_once(name: str) -> None:
    function, arguments = PROGRAMS[name]
    texts = [t for t in sources(function, *arguments) if "join_" in t]
    assert texts and all(text.count("tl.load(x0") == 1 for text in texts)


def test_deviations_do_not_cancel(tmp_path: Path) -> None:
    """Where the mean is a thousand times the deviation, sums of squares would have no digit left."""
    pytest.importorskip("triton")
    x = numbers(5000, 4) + 4000
    _, variance = simulated(_moments(0), x, folder=tmp_path)
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=0), 1e-3)


def test_rows_at_hand_are_reduced_twice() -> None:
    (text,) = sources(lambda x: tw.nn.layer_norm(x), numbers(8, 4096))
    assert "join_moments" not in text and text.count("tl.load(") == 1


def test_other_sums_are_no_pairs() -> None:
    def deviations(x: tw.Tensor) -> Any:
        mean = tw.mean(x, axis=0)
        return mean, tw.sum(tw.abs(x - mean), axis=0), tw.sum((x - 2 * mean) ** 2, axis=0)

    assert not any("join_" in text for text in sources(deviations, numbers(100, 70)))
