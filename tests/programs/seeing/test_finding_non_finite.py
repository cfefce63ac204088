"""Stopping at the first NaN or infinity: in functions, sessions, and steps on several devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import thalweg as tw

pytestmark = pytest.mark.timeout(120)


def line_of(mark: str) -> str:
    """The file and line of this file where `# mark` stands."""
    lines = Path(__file__).read_text().splitlines()
    return f"{Path(__file__).name}:{next(i for i, line in enumerate(lines, 1) if line.endswith(f'# {mark}'))}:"


def test_it_can_be_switched_on_after_the_first_call_and_off_again() -> None:
    @tw.function
    def f(x):
        return tw.sum(1.0 / x)  # by zero

    bad = tw.zeros((2,))
    assert np.isinf(float(f(bad)))
    with tw.config.override(check_infinities=True), pytest.raises(tw.ExecutionError) as caught:
        f(bad)
    assert line_of("by zero") in str(caught.value)
    assert "div made the first infinity: 2 of the 2 elements" in str(caught.value)
    with tw.config.override(check_nans=True):
        assert np.isinf(float(f(bad))), "an infinity is no NaN"
    assert np.isinf(float(f(bad)))


def test_infinities_that_are_written_and_masked_do_not_count() -> None:
    @tw.function
    def f(x):
        return tw.nn.softmax(tw.where(x > 0, x, -tw.inf))

    with tw.config.override(check_infinities=True):
        np.testing.assert_allclose(f(np.float32([1, 1, -5])), [0.5, 0.5, 0.0])


def test_the_infinity_before_the_nan_is_told() -> None:
    @tw.function
    def f(x):
        y = tw.log(x)  # of zero
        return y - y

    with tw.config.override(check_infinities=True), pytest.raises(tw.ExecutionError) as caught:
        f(tw.zeros((2,)))
    assert line_of("of zero") in str(caught.value) and "log made the first infinity" in str(caught.value)


@pytest.mark.parametrize("option", ["check_nans", "check_infinities"])
def test_in_a_step_on_two_devices(option: str) -> None:
    with tw.config.override(virtual_cpus=2):
        graph = tw.Graph()
        with graph.as_default():
            x = tw.placeholder(tw.float32, (2,), name="x")
            with tw.device("/device:CPU:1"):
                y = tw.sqrt(x - 1.0)  # of what may be negative
            with tw.device("/device:CPU:0"):
                z = tw.sum(tw.exp(y), name="z")
        with tw.Session(graph) as session:
            run = session.make_callable(z, [x])
            good, bad = np.float32([1, 2]), np.float32([0, 2])
            assert np.isfinite(float(run(good))) and np.isnan(float(run(bad)))
            with tw.config.override(**{option: True}):
                assert np.isfinite(float(run(good)))
                with pytest.raises(tw.ExecutionError) as caught:
                    run(bad)
            assert np.isnan(float(run(bad)))
    assert line_of("of what may be negative") in str(caught.value) and "sqrt made the first NaN" in str(caught.value)


def test_what_comes_in_is_told_as_such() -> None:
    @tw.function
    def f(x):
        return x * 2.0

    with (
        tw.config.override(check_nans=True),
        pytest.raises(tw.ExecutionError, match="input 0 holds NaN from the start"),
    ):
        f(np.float32([np.nan]))
