"""More rows of `benchmarks.sweep`: what models are made of beside products, and shapes and types that no other row has.

Programs are written with what all three namespaces have, as a user would write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.sweep_rows import Arrays, Row, data

Maker = Callable[[], Arrays]


def _with(arguments: Maker, *more: Callable[[np.random.Generator], np.ndarray]) -> Maker:
    """`arguments`, and what `more` make of a generator."""

    def make() -> Arrays:
        rng = np.random.default_rng(1)
        return (*arguments(), *(each(rng) for each in more))

    return make


def _integers(high: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.integers(0, high, shape)


def _truths(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.random(shape) < 0.5


# Normalisation.


def _rms(xp: Any, x: Any, g: Any) -> Any:
    return x * xp.rsqrt(xp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * g


def _unit(xp: Any, x: Any) -> Any:
    return x / (xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True)) + 1e-6)


def _groups(xp: Any, x: Any, g: Any, b: Any) -> Any:
    """Of images [n, c, h, w] in 8 groups of channels."""
    n, c, h, w = x.shape
    y = xp.reshape(x, (n, 8, c // 8 * h * w))
    mean = xp.mean(y, axis=-1, keepdims=True)
    y = (y - mean) * xp.rsqrt(xp.mean((y - mean) ** 2, axis=-1, keepdims=True) + 1e-5)
    return xp.reshape(y, (n, c, h, w)) * g + b


def _batch(xp: Any, x: Any, g: Any, b: Any) -> Any:
    """Of [..., c], in training, with relu."""
    axes = tuple(range(x.ndim - 1))
    mean = xp.mean(x, axis=axes)
    var = xp.mean((x - mean) ** 2, axis=axes)
    return xp.relu((x - mean) * xp.rsqrt(var + 1e-5) * g + b)


def _instance(xp: Any, x: Any) -> Any:
    mean = xp.mean(x, axis=(2, 3), keepdims=True)
    return (x - mean) * xp.rsqrt(xp.mean((x - mean) ** 2, axis=(2, 3), keepdims=True) + 1e-5)


def _norms() -> Iterator[Row]:
    for rows, width in ((1024, 768), (333, 1001), (4096, 64), (20000, 20)):
        args = data((rows, width), (width,))
        yield Row("norms", f"rmsnorm {rows}x{width}", _rms, args)
        yield Row("norms", f"rmsnorm gradient {rows}x{width}", _times(_rms), _cotangent(args), True)
        yield Row("norms", f"unit rows {rows}x{width}", _unit, data((rows, width)))
    yield Row("norms", "rmsnorm bf16", _rms, data((1024, 768), (768,), dtype="bf16"), rtol=3e-2)
    yield Row("norms", "unit rows gradient 1024x768", _times(_unit), data((1024, 768), (1024, 768)), True)
    for shape in ((8, 64, 28, 28), (2, 32, 56, 55)):
        name = "x".join(map(str, shape))
        args = data(shape, (shape[1], 1, 1), (shape[1], 1, 1))
        yield Row("norms", f"groupnorm {name}", _groups, args)
        yield Row("norms", f"groupnorm gradient {name}", _times(_groups), _cotangent(args), True)
        yield Row("norms", f"instance norm {name}", _instance, data(shape))
        yield Row("norms", f"instance norm gradient {name}", _times(_instance), data(shape, shape), True)
    for shape in ((8, 28, 28, 64), (64, 7, 7, 512), (4096, 100)):
        name = "x".join(map(str, shape))
        args = data(shape, (shape[-1],), (shape[-1],))
        yield Row("norms", f"batchnorm relu {name}", _batch, args)
        yield Row("norms", f"batchnorm relu gradient {name}", _times(_batch), _cotangent(args), True)


def _times(program: Callable[..., Any]) -> Callable[..., Any]:
    """`program` times its last argument, so that its gradient has something to start from."""
    return lambda xp, *a: program(xp, *a[:-1]) * a[-1]


def _cotangent(arguments: Maker) -> Maker:
    """`arguments`, and one like the first."""

    def make() -> Arrays:
        made = arguments()
        return (*made, np.random.default_rng(2).standard_normal(made[0].shape).astype(made[0].dtype))

    return make


# Losses.


def _smoothed(xp: Any, x: Any, labels: Any) -> Any:
    logs = xp.log_softmax(x, axis=-1)
    picked = xp.take_along_axis(logs, labels[:, None], axis=-1)[:, 0]
    return -xp.mean(0.9 * picked + 0.1 * xp.mean(logs, axis=-1))


def _softplus(xp: Any, x: Any) -> Any:
    return xp.relu(x) + xp.log1p(xp.exp(-xp.abs(x)))


def _focal(xp: Any, x: Any, y: Any) -> Any:
    p = xp.sigmoid(x)
    loss = _softplus(xp, x) - x * y
    right = p * y + (1 - p) * (1 - y)
    return xp.mean((0.25 * y + 0.75 * (1 - y)) * (1 - right) ** 2 * loss)


def _binary(xp: Any, x: Any, y: Any) -> Any:
    return xp.mean(_softplus(xp, x) - x * y)


def _huber(xp: Any, x: Any, y: Any) -> Any:
    e = xp.abs(x - y)
    return xp.mean(xp.where(e < 1, 0.5 * e * e, e - 0.5))


def _divergence(xp: Any, x: Any, y: Any) -> Any:
    p, q = xp.log_softmax(x, axis=-1), xp.log_softmax(y, axis=-1)
    return xp.mean(xp.sum(xp.exp(p) * (p - q), axis=-1))


def _contrast(xp: Any, x: Any) -> Any:
    """The logits of pairs: each row and column should choose the diagonal."""
    rows, columns = xp.logsumexp(x, axis=1), xp.logsumexp(x, axis=0)
    return xp.mean(rows + columns)


def _variation(xp: Any, x: Any) -> Any:
    return xp.mean(xp.abs(x[:, 1:] - x[:, :-1])) + xp.mean(xp.abs(x[:, :, 1:] - x[:, :, :-1]))


def _losses() -> Iterator[Row]:
    pair = data((512, 999), (512, 999))
    images = data((8, 112, 113, 3))
    both = (False, True)
    for gradient in both:
        end = " gradient" if gradient else ""
        for rows, classes in ((256, 1000), (4000, 33)):
            args = _with(data((rows, classes)), _integers(classes, rows))
            yield Row("losses", f"label smoothing {rows}x{classes}{end}", _smoothed, args, gradient)
        yield Row("losses", f"focal{end}", _focal, data((512, 999), (512, 999), low=0.0), gradient)
        yield Row("losses", f"binary{end}", _binary, data((512, 999), (512, 999), low=0.0), gradient)
        yield Row("losses", f"huber{end}", _huber, pair, gradient)
        yield Row("losses", f"divergence{end}", _divergence, pair, gradient)
        yield Row("losses", f"contrast{end}", _contrast, data((700, 700)), gradient)
        yield Row("losses", f"variation{end}", _variation, images, gradient)
    accurate = lambda xp, x, y: xp.mean(xp.astype(xp.argmax(x, axis=-1) == y, xp.float32))  # noqa: E731
    yield Row("losses", "accuracy", accurate, _with(data((2000, 100)), _integers(100, 2000)))


# Activations, gates, masks.


def _activations() -> Iterator[Row]:
    forms: dict[str, Callable[..., Any]] = {
        "gelu tanh": lambda xp, x: 0.5 * x * (1 + xp.tanh(0.7978845608 * (x + 0.044715 * x**3))),
        "quick gelu": lambda xp, x: x * xp.sigmoid(1.702 * x),
        "mish": lambda xp, x: x * xp.tanh(_softplus(xp, x)),
        "hard swish": lambda xp, x: x * xp.clip(x + 3, 0, 6) / 6,
        "softplus": _softplus,
        "elu": lambda xp, x: xp.where(x > 0, x, xp.expm1(xp.clip(x, -100, 0))),
        "leaky relu": lambda xp, x: xp.where(x > 0, x, 0.01 * x),
        "swiglu": lambda xp, x: xp.silu(x[..., :500]) * x[..., 500:],
    }
    for name, form in forms.items():
        yield Row("activations", name, form, data((500, 1000)))
        yield Row("activations", f"{name} gradient", form, data((500, 1000)), True)
    yield Row("activations", "gelu tanh bf16", forms["gelu tanh"], data((500, 1000), dtype="bf16"), rtol=5e-2)
    yield Row("activations", "quick gelu f16", forms["quick gelu"], data((500, 1000), dtype="f16"), rtol=5e-2)
    yield Row("activations", "mish f64", forms["mish"], data((500, 1000), dtype="f64"))

    def lstm(xp: Any, gates: Any, c: Any) -> Any:
        i, f, g, o = xp.split(gates, 4, axis=-1)
        return xp.sigmoid(o) * xp.tanh(xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g))

    def residual(xp: Any, x: Any, y: Any, scale: Any, keep: Any) -> Any:
        return x + y * scale * xp.astype(keep, xp.float32) / 0.9

    def excite(xp: Any, x: Any, v: Any, w: Any) -> Any:
        s = xp.relu(xp.mean(x, axis=(1, 2)) @ v)
        return x * xp.sigmoid(s @ w)[:, None, None, :]

    gates = data((128, 2048), (128, 512))
    scaled = _with(data((1000, 768), (1000, 768), (768,)), _truths(1000, 768))
    images = data((8, 28, 28, 64), (64, 16), (16, 64))
    for gradient in (False, True):
        end = " gradient" if gradient else ""
        yield Row("activations", f"lstm gates{end}", lstm, gates, gradient)
        yield Row("activations", f"layer scale, mask{end}", residual, scaled, gradient)
        yield Row("activations", f"squeeze-excite{end}", excite, images, gradient, rtol=1e-2)


def _masks() -> Iterator[Row]:
    def masked(xp: Any, x: Any, keep: Any) -> Any:
        return xp.softmax(xp.where(keep, x, -1e9), axis=-1)

    def causal(xp: Any, x: Any) -> Any:
        n = x.shape[-1]
        i = xp.arange(n)
        return xp.softmax(xp.where(i[:, None] >= i[None, :], x, -1e9), axis=-1)

    def sloped(xp: Any, x: Any) -> Any:
        n = x.shape[-1]
        i = xp.astype(xp.arange(n), xp.float32)
        return xp.softmax(x - xp.abs(i[:, None] - i[None, :]) * 0.1, axis=-1)

    def chain(xp: Any, x: Any) -> Any:
        low = xp.where(x < -1, -1.0 + 0 * x, x)
        return xp.where(low > 1, low * 0.5, xp.where(low > 0.5, low - 0.1, low + 0.1))

    def rotated(xp: Any, x: Any, cos: Any, sin: Any) -> Any:
        half = x.shape[-1] // 2
        return x * cos + xp.concat([-x[..., half:], x[..., :half]], axis=-1) * sin

    def paired(xp: Any, x: Any, cos: Any, sin: Any) -> Any:
        a, b = x[..., ::2], x[..., 1::2]
        return xp.reshape(xp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1), x.shape)

    scores = data((4, 8, 128, 128))
    yield Row("masks", "masked softmax", masked, _with(scores, _truths(4, 1, 1, 128)))
    yield Row(
        "masks", "masked softmax gradient", _times(masked), _cotangent(_with(scores, _truths(4, 1, 1, 128))), True
    )
    yield Row("masks", "causal softmax", causal, scores)
    yield Row("masks", "causal softmax gradient", _times(causal), data((4, 8, 128, 128), (4, 8, 128, 128)), True)
    yield Row("masks", "sloped softmax", sloped, scores)
    yield Row("masks", "chain of where", chain, data((1000, 999)))
    turned = data((4, 12, 128, 64), (128, 64), (128, 64))
    yield Row("masks", "rotary", rotated, turned)
    yield Row("masks", "rotary gradient", _times(rotated), _cotangent(turned), True)
    turned = data((4, 12, 128, 64), (128, 32), (128, 32))
    yield Row("masks", "rotary pairs", paired, turned)
    yield Row("masks", "rotary pairs gradient", _times(paired), _cotangent(turned), True)


# Shapes, types, indices.


def _shapes() -> Iterator[Row]:
    deep = (3, 5, 7, 4, 9, 11, 2)
    for axes in ((0, 2, 4), (1, 3, 5), (6,), (0, 1, 2, 3, 4, 5, 6)):
        yield Row("shapes", f"sum 7-D {axes}", lambda xp, x, a=axes: xp.sum(x, axis=a), data(deep, low=0))
    for axes in ((0, 2), (1,), (1, 3), (0, 3)):
        yield Row("shapes", f"max 4-D {axes}", lambda xp, x, a=axes: xp.max(x, axis=a), data((16, 33, 25, 40)))
        yield Row("shapes", f"var 4-D {axes}", lambda xp, x, a=axes: xp.var(x, axis=a), data((16, 33, 25, 40)))
    for name, shape, axis in (
        ("columns 32", (20_000, 32), 0), ("columns 64", (8192, 64), 0), ("columns 10", (50_000, 10), 0),
        ("columns 1000 of 128", (128, 1000), 0), ("columns 4096", (1024, 4096), 0), ("columns 3", (300_000, 3), 0),
        ("columns 1", (1_000_000, 1), 0), ("rows 1", (1, 1_000_000), 1), ("middle 3", (500, 3, 500), 1),
        ("inner 2", (500_000, 2), 1), ("outer of 3-D", (64, 100, 100), 0),
    ):  # fmt: skip
        for dtype in ("f32", "bf16"):
            args = data(shape, dtype=dtype, low=0)
            yield Row("shapes", f"sum {dtype} {name}", lambda xp, x, a=axis: xp.sum(x, axis=a), args, rtol=3e-2)


def _moved(*order: int, shape: tuple[int, ...]) -> Callable[..., Any]:
    """A reshape and a transpose, laid out in memory."""
    return lambda xp, x: _laid(xp.permute_dims(xp.reshape(x, shape), order))


def _laid(x: Any) -> Any:
    return x.contiguous() if hasattr(x, "contiguous") else x


def _layouts() -> Iterator[Row]:
    def pictures() -> Arrays:
        return (np.random.default_rng(0).integers(0, 255, (8, 224, 224, 3), np.uint8), *data((3,), (3,), low=0.2)())

    def normalised(xp: Any, x: Any, mean: Any, deviation: Any) -> Any:
        return _laid(xp.permute_dims((xp.astype(x, xp.float32) / 255 - mean) / deviation, (0, 3, 1, 2)))

    def windows(xp: Any, x: Any) -> Any:
        return _moved(0, 1, 3, 2, 4, 5, shape=(8, 8, 7, 8, 7, 32))(xp, xp.roll(x, -3, axis=1))

    def larger(xp: Any, x: Any) -> Any:
        return xp.repeat(xp.repeat(x, 2, axis=1), 2, axis=2)

    def distances(xp: Any, x: Any, y: Any) -> Any:
        return xp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)

    forms: dict[str, tuple[Callable[..., Any], Maker]] = {
        "pixel shuffle": (_moved(0, 1, 4, 2, 5, 3, shape=(8, 16, 2, 2, 28, 28)), data((8, 64, 28, 28))),
        "patches": (_moved(0, 1, 3, 2, 4, 5, shape=(8, 14, 16, 14, 16, 3)), data((8, 224, 224, 3))),
        "windows": (windows, data((8, 56, 56, 32))),
        "heads": (_moved(2, 0, 3, 1, 4, shape=(8, 128, 3, 12, 64)), data((8, 128, 2304))),
        "normalised pictures": (normalised, pictures),
        "upsample": (larger, data((8, 28, 28, 64))),
        "pairwise distances": (distances, data((300, 64), (299, 64))),
        "differences": (lambda xp, x: x[1:] - x[:-1], data((1_000_001,))),
        "empty": (lambda xp, x: xp.sum(x, axis=0) + 1, data((0, 1000))),
        "scalar": (lambda xp, x, y: x * y + 1, data((), ())),
    }
    for name, (program, arguments) in forms.items():
        yield Row("shapes", name, program, arguments)


def _whole_numbers() -> Iterator[Row]:
    def mixed(xp: Any, x: Any) -> Any:
        x = (x ^ (x >> 7)) * 40503
        return x ^ (x << 3)

    def sort(xp: Any, x: Any) -> Any:
        return xp.sort(x, axis=-1)

    big, small = data((500_000,), dtype="i64", high=10**9), data((500_000,), dtype="i32", high=10**5)
    truths, rows = data((999, 1001), dtype="bool"), data((999, 1001))
    forms: dict[str, tuple[Callable[..., Any], Maker]] = {
        "hash i64": (mixed, big),
        "hash i32": (mixed, small),
        "remainder i64": (lambda xp, x: xp.remainder(x, 1000), big),
        "divide i32": (lambda xp, x: xp.floor_divide(x, 7), small),
        "count of true": (lambda xp, x: xp.sum(xp.astype(x, xp.int32)), truths),
        "count of large, rows": (lambda xp, x: xp.sum(xp.astype(x > 0.5, xp.int32), axis=-1), rows),
        "not a number": (lambda xp, x: xp.any(xp.isnan(x)), rows),
        "positions": (lambda xp, x: xp.cumulative_sum(xp.astype(x, xp.int32), axis=-1), truths),
        "sort i64 rows": (sort, data((512, 200), dtype="i64", high=10**6)),
        "argsort i32 rows": (lambda xp, x: xp.argsort(x, axis=-1), data((512, 200), dtype="i32", high=10**6)),
        "sort f16 rows": (sort, data((512, 200), dtype="f16")),
        "median of rows": (lambda xp, x: xp.sort(x, axis=-1)[:, 50], data((2000, 101))),
        "sort columns": (lambda xp, x: xp.sort(x, axis=0), data((500, 333))),
    }
    for name, (program, arguments) in forms.items():
        yield Row("integers", name, program, arguments)


def _indices() -> Iterator[Row]:
    def scores(xp: Any, x: Any) -> Any:
        return xp.top_k(xp.reshape(xp.log_softmax(x, axis=-1), (16, 20000)), 8)

    def chosen(xp: Any, x: Any, i: Any) -> Any:
        return xp.take_along_axis(x, i[:, :, None] + xp.zeros((16, 4, 2048), dtype=xp.int64), axis=1)

    def bag(xp: Any, x: Any, i: Any) -> Any:
        return xp.mean(xp.take(x, i, axis=0), axis=1)

    def weights(rng: np.random.Generator) -> np.ndarray:
        return rng.random(50, np.float32)

    words = _with(data((10_000, 64)), _integers(10_000, 1024, 20))
    forms: dict[str, tuple[Callable[..., Any], Maker]] = {
        "beam scores": (scores, data((16, 4, 5000))),
        "beams chosen": (chosen, _with(data((16, 4, 2048)), _integers(4, 16, 4))),
        "bag of embeddings": (bag, words),
        "one-hot weights": (lambda xp, i, w: xp.one_hot(i, 50) * w, _with(lambda: (), _integers(50, 5000), weights)),
        "pick of rows": (
            lambda xp, x, i: xp.take_along_axis(x, i[:, None], axis=1),
            _with(data((10_000, 100)), _integers(100, 10_000)),
        ),
        "take rows f64": (
            lambda xp, x, i: xp.take(x, i, axis=0),
            _with(data((1000, 33), dtype="f64"), _integers(1000, 20_000)),
        ),
    }
    for name, (program, arguments) in forms.items():
        yield Row("indices", name, program, arguments)
    yield Row("indices", "bag of embeddings gradient", bag, words, True)
    for dtype in ("f64", "f16", "i64"):
        args = data((300, 100), (100, 100), dtype=dtype)
        yield Row("indices", f"broadcast sum {dtype}", lambda xp, x, y: x[:, None, :] + y[None, :, :], args)


def blocks() -> list[Row]:
    """All rows of this file."""
    makers = (_norms, _losses, _activations, _masks, _shapes, _layouts, _whole_numbers, _indices)
    return [row for maker in makers for row in maker()]
