"""Dense, embedding, convolution, pooling, normalisation and dropout against NumPy."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

RNG = np.random.default_rng(0)


def rng():
    return np.random.default_rng(1)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_dense():
    layer = nn.Dense(3, 4, rng())
    layer.bias.assign(normal(4))
    x = normal(2, 5, 3)
    np.testing.assert_allclose(layer(x), x @ layer.weight.numpy() + layer.bias.numpy(), rtol=1e-5, atol=1e-6)
    assert nn.Dense(3, 4, rng(), bias=False).bias is None


def test_embedding_looks_up_rows():
    layer = nn.Embedding(7, 3, rng())
    ids = np.array([[0, 6], [2, 2]], np.int32)
    np.testing.assert_array_equal(layer(ids), layer.table.numpy()[ids])


def test_the_gradient_of_an_embedding_is_sparse():
    layer = nn.Embedding(7, 3, rng())
    ids = np.array([5, 1, 5], np.int32)
    (gradient,) = tw.function(lambda i: tw.grad(lambda: tw.sum(layer(i) ** 2), wrt=[layer.table])())(ids)
    assert isinstance(gradient, tw.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, ids)
    np.testing.assert_allclose(gradient.values, 2 * layer.table.numpy()[ids], rtol=1e-6)


def convolve(x, weight, strides, low, high, dilations, groups):
    """The definition: a sum over the window, spatial dimension by spatial dimension."""
    spatial = x.ndim - 2
    padded = np.pad(x.astype(float), [(0, 0), *zip(low, high, strict=True), (0, 0)])
    window = weight.shape[:spatial]
    extents = [
        (n - (w - 1) * d - 1) // s + 1
        for n, w, d, s in zip(padded.shape[1:-1], window, dilations, strides, strict=True)
    ]
    inputs, outputs = weight.shape[-2], weight.shape[-1] // groups
    result = np.zeros((x.shape[0], *extents, weight.shape[-1]))
    for place in np.ndindex(*window):
        cut = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilations, extents, strides, strict=True)
        )
        seen = padded[(slice(None), *cut)]
        for g in range(groups):
            part = seen[..., g * inputs : (g + 1) * inputs] @ weight[place][:, g * outputs : (g + 1) * outputs]
            result[..., g * outputs : (g + 1) * outputs] += part
    return result


@pytest.mark.parametrize(
    "shape, weight, options, pads",
    [
        ((2, 7, 6, 3), (3, 3, 3, 4), {}, ((1, 1), (1, 1))),
        ((2, 7, 6, 3), (2, 3, 3, 4), {"stride": 2}, ((0, 0), (1, 1))),
        ((1, 8, 9, 4), (3, 2, 2, 6), {"stride": (1, 2), "padding": "valid", "groups": 2}, ((0, 0), (0, 0))),
        ((1, 9, 2), (3, 2, 5), {"dilation": 2, "padding": [(1, 3)]}, ((1,), (3,))),
        ((1, 4, 5, 3, 2), (2, 2, 2, 2, 3), {"padding": "valid"}, ((0, 0, 0), (0, 0, 0))),
    ],
)
def test_convolution_is_its_definition(shape, weight, options, pads):
    x, w = normal(*shape), normal(*weight)
    spatial = len(shape) - 2

    def each(name):
        value = options.get(name, 1)
        return (value,) * spatial if isinstance(value, int) else value

    expected = convolve(x, w, each("stride"), *pads, each("dilation"), options.get("groups", 1))
    np.testing.assert_allclose(nn.conv(x, w, **options), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "stride", "padding", "cut"),
    [((3, 4), 2, "valid", (0, 0)), ((4, 4), 2, "same", (1, 1)), ((2, 3), (3, 1), [(0, 0), (1, 1)], (0, 1))],
)
def test_transposed_convolution_is_its_definition(window, stride, padding, cut) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 4, 3), np.float32), rng.standard_normal((*window, 3, 7), np.float32)
    steps = (stride, stride) if isinstance(stride, int) else stride
    whole = np.zeros((2, *((n - 1) * s + k for n, s, k in zip((5, 4), steps, window, strict=True)), 7))
    for i, j in np.ndindex(5, 4):
        top, left = i * steps[0], j * steps[1]
        whole[:, top : top + window[0], left : left + window[1]] += np.einsum("nc,hwcf->nhwf", x[:, i, j], w)
    expected = whole[:, cut[0] : whole.shape[1] - cut[0], cut[1] : whole.shape[2] - cut[1]]
    np.testing.assert_allclose(nn.conv_transpose(x, w, stride=stride, padding=padding), expected, rtol=1e-4, atol=1e-4)


def test_same_padding_keeps_the_extents_and_halves_them_with_a_stride_of_two():
    x = np.zeros((1, 7, 8, 2), np.float32)
    assert np.asarray(nn.Conv(2, 5, 3, rng())(x)).shape == (1, 7, 8, 5)
    assert np.asarray(nn.Conv(2, 4, (5, 3), rng(), stride=2, groups=2)(x)).shape == (1, 4, 4, 4)


def test_the_layer_adds_bias_and_activation():
    layer = nn.Conv(1, 2, 1, rng(), activation=nn.relu)
    layer.bias.assign(np.array([0.5, -9.0], np.float32))
    x = normal(1, 3, 3, 1)
    expected = np.maximum(x * layer.weight.numpy()[0, 0] + layer.bias.numpy(), 0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_pooling():
    x = normal(2, 4, 6, 3)
    blocks = x.reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_array_equal(nn.max_pool(x, 2), blocks.max(axis=(2, 4)))
    np.testing.assert_allclose(nn.avg_pool(x, 2), blocks.mean(axis=(2, 4)), rtol=1e-5, atol=1e-6)
    assert np.asarray(nn.max_pool(x, (3, 2), stride=1, padding="same")).shape == (2, 4, 6, 3)


def test_padding_does_not_count_in_an_average():
    ones = np.ones((1, 3, 3, 1), np.float32)
    np.testing.assert_allclose(nn.avg_pool(ones, 2, stride=1, padding="same"), ones, rtol=1e-6)


def test_extents_that_do_not_fit_are_told():
    x = np.zeros((1, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="does not fit 2 spatial dimensions"):
        nn.max_pool(x, (2, 2, 2))
    with pytest.raises(ValueError, match="'same', 'valid' or one pair"):
        nn.conv(x, np.zeros((1, 1, 1, 1), np.float32), padding="full")
    with pytest.raises(ValueError, match="2 groups do not divide 3 inputs"):
        nn.Conv(3, 4, 1, rng(), groups=2)


def test_layer_norm():
    x = normal(4, 6) * 3 + 100
    layer = nn.LayerNorm(6)
    layer.scale.assign(normal(6))
    layer.offset.assign(normal(6))
    exact = x.astype(float)
    exact = (exact - exact.mean(axis=-1, keepdims=True)) / np.sqrt(exact.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x), exact * layer.scale.numpy() + layer.offset.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(nn.layer_norm(x), exact, rtol=1e-3, atol=1e-4)


def test_batch_norm_uses_the_batch_in_training_and_moving_statistics_otherwise():
    layer = nn.BatchNorm(3, momentum=0.8)
    x = normal(5, 4, 3) * 2 + 1
    flat = x.reshape(-1, 3)
    mean, variance = np.zeros(3), np.ones(3)
    train = tw.function(lambda v: layer(v, training=True))
    for _ in range(3):
        y = np.asarray(train(x))
        mean, variance = 0.8 * mean + 0.2 * flat.mean(0), 0.8 * variance + 0.2 * flat.var(0, ddof=1)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.variance, variance, rtol=1e-5)
    np.testing.assert_allclose(layer(x), (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)
    assert [v.name.partition("/")[2].rstrip("_0123456789") for v in layer.trainable] == ["scale", "offset"]


def test_moving_statistics_are_assigned_also_under_a_gradient_and_do_not_take_part_in_it():
    layer = nn.BatchNorm(2)
    x = normal(6, 2)

    @tw.function
    def step(v):
        return tw.grad(lambda: tw.sum(layer(v, training=True) ** 3), wrt=layer.trainable)()

    scale, offset = (np.asarray(g) for g in step(x))
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(scale, 3 * (y**3).sum(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(offset, 3 * (y**2).sum(0), rtol=1e-4)
    np.testing.assert_allclose(layer.mean, 0.1 * x.mean(0), rtol=1e-5, atol=1e-7)


def test_dropout_keeps_the_mean_and_differs_from_call_to_call():
    layer = nn.Dropout(0.25, seed=3)
    ones = np.ones((200, 50), np.float32)
    run = tw.function(lambda x: layer(x, training=True))
    first, second = np.asarray(run(ones)), np.asarray(run(ones))
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (first != second).mean() > 0.3
    np.testing.assert_array_equal(layer(ones), ones)
    again = nn.Dropout(0.25, seed=3)
    np.testing.assert_array_equal(again(ones, training=True), first)


def test_dropout_passes_gradients_where_it_passes_values():
    layer = nn.Dropout(0.5, seed=0)
    x = np.ones(100, np.float32)
    value, gradient = tw.function(
        lambda v: tw.value_and_grad(lambda u: tw.sum(layer(u, training=True)))(v)
    )(x)
    assert float(value) == pytest.approx(float(np.asarray(gradient).sum()))
    assert set(np.unique(np.asarray(gradient))) == {0.0, 2.0}


def test_dropout_rates_are_checked():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            nn.Dropout(rate)
