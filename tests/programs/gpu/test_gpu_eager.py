"""What is computed at once, outside any function, on GPUs."""

import numpy as np
import pytest

import thalweg as tw

GPU0, GPU1 = tw.Device("GPU", 0), tw.Device("GPU", 1)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_ops_run_where_the_block_around_asks() -> None:
    with tw.device("gpu:1"):
        y = tw.nn.softmax(X)
    assert y.device == GPU1
    np.testing.assert_allclose(y.numpy(), tw.nn.softmax(X).numpy(), rtol=1e-6)
    with tw.device("cpu:0"):
        assert (y * 2.0).device == tw.Device("CPU", 0)


def test_ops_run_where_their_operands_are() -> None:
    x = tw.asarray(X).to_device("gpu:1")
    z = x * 2.0 + X
    assert z.device == GPU1
    np.testing.assert_array_equal(z.numpy(), 3 * X)
    assert x[0].device == GPU1 and tw.asarray(X).device == tw.Device("CPU", 0)


def test_operands_on_two_gpus_are_an_error_that_says_what_to_do() -> None:
    x, y = tw.asarray(X).to_device("gpu:0"), tw.asarray(X).to_device("gpu:1")
    with pytest.raises(ValueError, match=r"test_gpu_eager.py:\d+.* add\(\) are on .*GPU:0 and .*GPU:1.*to_device"):
        x + y
    with tw.device("gpu:0"):
        assert (x + y).device == GPU0


def test_arrays_are_made_where_they_are_asked_for() -> None:
    made = [tw.zeros((2,), device="gpu:1"), tw.ones_like(X, device="gpu:1"), tw.asarray(X, device="gpu:1")]
    with tw.device("gpu:1"):
        made += [tw.full((2, 2), 7), tw.arange(5), tw.eye(3), tw.linspace(0.0, 1.0, 5), tw.asarray([1.0, 2.0])]
        w = tw.Variable(tw.ones((3,)))
    assert {a.device for a in made} == {GPU1}
    np.testing.assert_array_equal(made[3].numpy(), np.full((2, 2), 7))
    np.testing.assert_array_equal(w.numpy(), np.ones(3))


def test_gradients_are_computed_where_their_arguments_are() -> None:
    x = tw.asarray(X).to_device("gpu:0")
    gradient = tw.grad(lambda t: tw.sum(t * t))(x)
    assert gradient.device == GPU0
    np.testing.assert_array_equal(gradient.numpy(), 2 * X)


def test_a_gpu_that_is_not_there_is_an_error_and_not_the_host() -> None:
    with tw.device("gpu:7"), pytest.raises(ValueError, match=r"no device '/device:GPU:7'.*virtual_devices\(gpu"):
        tw.exp(X)
    with tw.device("/job:ps/task:0/gpu:0"):  # another task's: what is computed at once is computed here
        assert tw.exp(X).device == tw.Device("CPU", 0)
