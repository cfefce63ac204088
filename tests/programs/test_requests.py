"""What users of other frameworks ask for in vain (docs/what-users-ask.md), each request a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.compiler import Driver
from thalweg.dialects.diagnostics import ExecutionError, LeakedTensorError, LoweringError
from thalweg.runtime.config import Config


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path) -> Iterator[None]:
    with tw.config.override(cache_dir=tmp_path):
        yield


def _mlp_step():  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    w1, w2 = (rng.standard_normal(s).astype(np.float32) * 0.1 for s in ((96, 200), (200, 10)))

    def loss(w1, w2, x):  # type: ignore[no-untyped-def]
        return tw.mean(tw.nn.softmax_cross_entropy(tw.nn.relu(x @ w1) @ w2, tw.argmax(x[:, :10], axis=1)))

    def step(w1, w2, x):  # type: ignore[no-untyped-def]
        return tw.value_and_grad(loss, argnums=(0, 1))(w1, w2, x)

    return step, (w1, w2, rng.standard_normal((256, 96)).astype(np.float32))


def test_one_determinism_switch_holds_over_runs_and_thread_counts() -> None:
    step, arguments = _mlp_step()
    program = tw.function(step).program(*arguments)
    results = []
    for threads in (1, 2, 3):
        options = Config(threads=threads, deterministic=True, cache=False)
        compiled = Driver(options).compile(program)
        results += [b"".join(a.tobytes() for a in compiled(list(arguments))) for _ in range(3)]
    assert len(set(results)) == 1


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_an_optimisation_level_changes_time_not_meaning(level: int) -> None:
    step, arguments = _mlp_step()
    program = tw.function(step).program(*arguments)
    found = Driver(Config(opt_level=level, cache=False)).compile(program)(list(arguments))
    wanted = Driver(Config(opt_level=2, cache=False)).compile(program)(list(arguments))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_op_and_line_that_made_the_first_nan_forward() -> None:
    @tw.function
    def f(x):  # type: ignore[no-untyped-def]
        y = tw.log(x - 2)  # the line that the message must name
        return tw.sum(y * 2)

    with tw.config.override(check_nans=True):
        assert np.isfinite(float(f(tw.asarray(np.float32(5)))))
        with pytest.raises(ExecutionError, match=r"test_requests\.py:\d+") as caught:
            f(tw.asarray(np.float32(1)))
    assert "log" in str(caught.value)
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "message must name" in text)
    assert f"test_requests.py:{line}" in str(caught.value)


def test_the_op_and_line_that_made_the_first_nan_backward() -> None:
    @tw.function
    def f(x):  # type: ignore[no-untyped-def]
        return tw.grad(lambda x: tw.sum(tw.sqrt(x) * x))(x)  # 0 * (1 / sqrt(0)): finite forward, NaN backward

    with tw.config.override(check_nans=True), pytest.raises(ExecutionError, match=r"test_requests\.py:\d+"):
        f(tw.zeros((2,)))


def test_checking_for_nans_leaves_variables_and_numbers_alone() -> None:
    w = tw.Variable(tw.ones((3,)), name="nan_free")

    @tw.function
    def f(x):  # type: ignore[no-untyped-def]
        w.assign_add(x)
        return w.read() * 2

    with tw.config.override(check_nans=True):
        np.testing.assert_array_equal(f(tw.ones((3,))), [4, 4, 4])
    np.testing.assert_array_equal(w.value, [2, 2, 2])


def test_explain_names_the_argument_that_made_it_trace_again() -> None:
    @tw.function
    def f(x, y):  # type: ignore[no-untyped-def]
        return x + y

    f(tw.ones((2, 3)), tw.ones((2, 3)))
    reason = str(f.explain(tw.ones((2, 3)), tw.ones((1, 3))))
    assert "y" in reason and "f32[2,3]" in reason and "f32[1,3]" in reason


def test_a_leaked_tensor_names_its_line_and_its_function() -> None:
    kept = []

    @tw.function
    def careless(x):  # type: ignore[no-untyped-def]
        kept.append(x * 2)  # the tensor that escapes
        return x

    careless(tw.ones((2,)))
    with pytest.raises(LeakedTensorError, match="careless") as caught:
        kept[0] + 1
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "that escapes" in text)
    assert f":{line}" in str(caught.value)


def test_reverse_mode_through_a_loop_whose_trip_count_nobody_knows() -> None:
    def newton(a):  # type: ignore[no-untyped-def]
        return tw.while_loop(lambda x: tw.abs(x * x - a) > 1e-6 * a, lambda x: 0.5 * (x + a / x), a)

    a = tw.asarray(np.array(7.0, np.float64))
    np.testing.assert_allclose(float(tw.grad(newton)(a)), 0.5 / np.sqrt(7.0), rtol=1e-5)


def test_a_failed_lowering_names_op_place_and_what_to_do() -> None:
    from thalweg.backends.cpu.backend import compile_stablehlo
    from thalweg.dialects import context
    from thalweg.dialects.mlir import ir

    text = """func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = stablehlo.custom_call @my_vendor_kernel(%x) : (tensor<4xf32>) -> tensor<4xf32> loc("layer.py":12:3)
      return %0 : tensor<4xf32>
    }"""
    with context.entered(), pytest.raises(LoweringError, match="my_vendor_kernel") as caught:
        compile_stablehlo(ir.Module.parse(text))
    assert "layer.py:12" in str(caught.value).replace('"', "")
