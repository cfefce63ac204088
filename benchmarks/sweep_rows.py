"""The rows of `benchmarks.sweep`: small programs over shapes and dtypes, each written once for all implementations.

A row's program is a function of a namespace and arrays. The namespaces are `thalweg`, `jax.numpy` and `torch`, as
`sweep_names` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Program = Callable[..., Any]  # (namespace, *arrays) -> array or tuple of arrays
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Row:
    """One program on one set of arguments; `gradient`: that of the sum of its result, by the first argument."""

    family: str
    name: str
    program: Program
    arguments: Callable[[], Arrays]
    gradient: bool = False
    rtol: float | None = 2e-3


def data(
    *shapes: Sequence[int], dtype: str = "f32", low: float | None = None, high: float = 1.0
) -> Callable[[], Arrays]:
    """Arguments: normal numbers, or uniform ones between `low` and `high`; integers below 100, booleans."""

    def make() -> Arrays:
        import ml_dtypes

        kinds = {"f64": "float64", "f32": "float32", "f16": "float16", "i32": "int32", "i64": "int64", "u8": "uint8"}
        rng = np.random.default_rng(0)
        made = []
        for shape in shapes:
            if dtype == "bool":
                made.append(rng.random(shape) < 0.5)
            elif dtype[0] in "iu":
                made.append(rng.integers(0, int(high) if high > 1 else 100, shape).astype(kinds[dtype]))
            else:
                numbers = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
                made.append(numbers.astype(ml_dtypes.bfloat16 if dtype == "bf16" else kinds[dtype]))
        return tuple(made)

    return make


def _elementwise() -> Iterator[Row]:
    def chain(xp: Any, x: Any, y: Any) -> Any:
        return (x * y + x) * x - y

    broadcasts = (
        ("same", (1000, 1000), (1000, 1000)), ("row", (1000, 1000), (1000,)), ("column", (1000, 1000), (1000, 1)),
        ("scalar", (1000, 1000), ()), ("outer", (1, 999), (1001, 1)), ("middle", (64, 1, 333), (64, 50, 333)),
        ("last of 3", (64, 50, 3), (3,)), ("narrow", (100_000, 7), (7,)), ("1-D odd", (99_991,), (99_991,)),
    )  # fmt: skip
    for name, x, y in broadcasts:
        yield Row("elementwise", f"chain f32 {name}", chain, data(x, y))
    for dtype in ("f64", "bf16", "f16", "i32", "i64"):
        for name, x, y in broadcasts[:3]:
            yield Row("elementwise", f"chain {dtype} {name}", chain, data(x, y, dtype=dtype), rtol=5e-2)
    for dtype in ("f32", "i64", "bf16"):
        args = data((1000, 999), (1000, 999), dtype=dtype)
        yield Row("elementwise", f"less {dtype}", lambda xp, x, y: x < y, args)
    yield Row("elementwise", "logical", lambda xp, x, y: (x & y) | ~x, data((1000, 999), (1000, 999), dtype="bool"))
    yield Row("elementwise", "where", lambda xp, x, y: xp.where(x > y, x, y * 2), data((1000, 999), (1000, 999)))
    yield Row("elementwise", "clip", lambda xp, x: xp.clip(x, -0.5, 0.5), data((1000, 999)))
    yield Row("elementwise", "relu gradient", lambda xp, x: xp.relu(x) ** 2, data((1000, 999)), gradient=True)
    yield Row(
        "elementwise", "sum of row broadcast, gradient", lambda xp, b, x: (x * b) ** 2, data((999,), (1000, 999)), True
    )
    kinds = (("f32", "bf16"), ("bf16", "f32"), ("f32", "f16"), ("f64", "f32"), ("f32", "i32"), ("i32", "f32"),
             ("u8", "f32"), ("i64", "f32"), ("bool", "f32"), ("f32", "f64"), ("i64", "i32"))  # fmt: skip
    full = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i32": "int32", "f64": "float64"}
    for source, target in kinds:
        args = data((1000, 999), dtype=source)
        yield Row("casts", f"{source} to {target}", lambda xp, x, t=full[target]: xp.astype(x, getattr(xp, t)), args)


def _functions() -> Iterator[Row]:
    positive = ("log", "log1p", "sqrt", "rsqrt", "lgamma")
    names = (  # noqa: SIM905
        "exp log log1p expm1 tanh sigmoid erf gelu silu sin cos tan atan asin sinh sqrt rsqrt floor round abs sign "
        "reciprocal exp2 log2"
    ).split()
    for name in names:
        low = 0.1 if name in (*positive, "reciprocal", "log2") else -0.9
        yield Row(
            "functions", f"{name} f32", lambda xp, x, n=name: getattr(xp, n)(x), data((300, 1001), low=low, high=0.9)
        )
    for name in ("exp", "log", "tanh", "sin", "erf"):
        args = data((300, 1001), dtype="f64", low=0.1, high=0.9)
        yield Row("functions", f"{name} f64", lambda xp, x, n=name: getattr(xp, n)(x), args)
    for name in ("exp", "tanh"):
        args = data((300, 1001), dtype="bf16", low=0.1, high=0.9)
        yield Row("functions", f"{name} bf16", lambda xp, x, n=name: getattr(xp, n)(x), args, rtol=2e-2)
    for name in ("pow", "atan2", "maximum", "remainder", "hypot", "floor_divide"):
        args = data((300, 1001), (300, 1001), low=0.1, high=5)
        yield Row(
            "functions",
            f"{name} f32",
            lambda xp, x, y, n=name: getattr(xp, n)(x, y),
            args,
            rtol=None if "floor" in name else 2e-3,
        )
    yield Row(
        "functions",
        "floor_divide i32",
        lambda xp, x, y: xp.floor_divide(x, y + 1),
        data((300, 1001), (300, 1001), dtype="i32"),
    )
    yield Row("functions", "tanh gradient", lambda xp, x: xp.tanh(x), data((300, 1001)), gradient=True)
    yield Row("functions", "gelu gradient", lambda xp, x: xp.gelu(x), data((300, 1001)), gradient=True)


def _reductions() -> Iterator[Row]:
    shapes = (
        ("all", (1000, 1000), None), ("all odd", (997, 1009), None), ("all 1-D prime", (999_983,), None),
        ("last", (1000, 1000), -1), ("first", (1000, 1000), 0), ("last 7", (100_000, 7), -1),
        ("first of 7", (7, 100_000), 0), ("tall", (100_000, 7), 0), ("middle", (30, 101, 333), 1),
        ("two outer", (30, 101, 333), (0, 1)), ("two inner", (30, 101, 333), (1, 2)),
        ("outer and inner", (30, 101, 333), (0, 2)), ("channels first", (8, 64, 56, 56), (0, 2, 3)),
        ("last 30522", (33, 30522), -1), ("small", (10, 33), -1),
    )  # fmt: skip
    for name, shape, axis in shapes:
        yield Row("sum", f"sum f32 {name}", lambda xp, x, a=axis: xp.sum(x, axis=a), data(shape, low=0))
    for op in ("max", "mean", "var", "prod", "logsumexp"):
        for name, shape, axis in (shapes[3], shapes[4], shapes[5], shapes[8], shapes[9], shapes[11]):
            if op == "prod" and isinstance(axis, tuple):
                continue
            low = {"prod": 0.999}.get(op, 0.0)
            yield Row(
                "reductions",
                f"{op} f32 {name}",
                lambda xp, x, a=axis, o=op: getattr(xp, o)(x, axis=a),
                data(shape, low=low),
            )
    for op in ("sum", "max", "var"):
        for dtype in ("f64", "bf16", "i32", "i64"):
            if op == "var" and dtype[0] == "i":
                continue
            for name, shape, axis in (shapes[0], shapes[3], shapes[4]):
                program = lambda xp, x, a=axis, o=op: getattr(xp, o)(x, axis=a)  # noqa: E731
                yield Row("reductions", f"{op} {dtype} {name}", program, data(shape, dtype=dtype, low=0), rtol=2e-2)
    for op in ("any", "all"):
        for name, shape, axis in (shapes[3], shapes[4]):
            args = data(shape, dtype="bool")
            yield Row("reductions", f"{op} {name}", lambda xp, x, a=axis, o=op: getattr(xp, o)(x, axis=a), args)
    yield Row(
        "reductions",
        "sum of squares of differences",
        lambda xp, x, y: xp.sum((x - y) ** 2),
        data((997, 1009), (997, 1009)),
    )
    for op in ("argmax", "argmin"):
        for name, shape, axis in (shapes[0], shapes[3], shapes[4], shapes[5], shapes[8], shapes[13]):
            yield Row("arg", f"{op} f32 {name}", lambda xp, x, a=axis, o=op: getattr(xp, o)(x, axis=a), data(shape))
    yield Row(
        "arg", "argmax i64 last", lambda xp, x: xp.argmax(x, axis=-1), data((1000, 1000), dtype="i64", high=10**9)
    )
    yield Row(
        "arg", "argmax bf16 last", lambda xp, x: xp.argmax(x, axis=-1), data((1000, 1000), dtype="bf16"), rtol=None
    )


def _normal(xp: Any, x: Any, axis: Any) -> Any:
    mean = xp.mean(x, axis=axis, keepdims=True)
    return (x - mean) * xp.rsqrt(xp.var(x, axis=axis, keepdims=True) + 1e-5)


def _rows() -> Iterator[Row]:
    for width in (7, 33, 100, 1000, 10007, 30522):
        shape = (max(8, 300_000 // width), width)
        yield Row("rows", f"softmax {width}", lambda xp, x: xp.softmax(x, axis=-1), data(shape))
        yield Row("rows", f"log_softmax {width}", lambda xp, x: xp.log_softmax(x, axis=-1), data(shape))
        yield Row(
            "rows", f"softmax gradient {width}", lambda xp, x, y: xp.softmax(x, axis=-1) * y, data(shape, shape), True
        )
        yield Row(
            "rows", f"layernorm {width}", lambda xp, x, g, b: _layer_norm(xp, x, g, b), data(shape, (width,), (width,))
        )
        yield Row(
            "rows",
            f"layernorm gradient {width}",
            lambda xp, x, g, b, y: _layer_norm(xp, x, g, b) * y,
            data(shape, (width,), (width,), shape),
            True,
        )
        yield Row("rows", f"cross-entropy {width}", _cross_entropy, _logits(shape))
        yield Row("rows", f"cross-entropy gradient {width}", _cross_entropy, _logits(shape), True)
    for shape in ((8, 28, 28, 64), (32, 7, 7, 100), (1000, 33)):
        name = "x".join(map(str, shape))
        axes = tuple(range(len(shape) - 1))
        yield Row("rows", f"batchnorm {name}", lambda xp, x, a=axes: _normal(xp, x, a), data(shape))
        yield Row(
            "rows",
            f"batchnorm gradient {name}",
            lambda xp, x, y, a=axes: _normal(xp, x, a) * y,
            data(shape, shape),
            True,
        )
    yield Row("rows", "batchnorm channels first", lambda xp, x: _normal(xp, x, (0, 2, 3)), data((8, 64, 28, 28)))
    yield Row("rows", "softmax first axis", lambda xp, x: xp.softmax(x, axis=0), data((333, 1001)))
    yield Row("rows", "softmax middle axis", lambda xp, x: xp.softmax(x, axis=1), data((16, 77, 333)))
    yield Row("rows", "softmax bf16", lambda xp, x: xp.softmax(x, axis=-1), data((300, 1000), dtype="bf16"), rtol=2e-2)
    yield Row("rows", "softmax f64", lambda xp, x: xp.softmax(x, axis=-1), data((300, 1000), dtype="f64"))


def _layer_norm(xp: Any, x: Any, scale: Any, offset: Any) -> Any:
    if hasattr(xp, "layer_norm"):  # torch's own kernel
        return xp.layer_norm(x, x.shape[-1:], scale, offset)
    return _normal(xp, x, -1) * scale + offset


def _cross_entropy(xp: Any, x: Any, labels: Any) -> Any:
    if hasattr(xp, "cross_entropy_loss"):
        return xp.cross_entropy_loss(x, labels)
    return -xp.mean(xp.take_along_axis(xp.log_softmax(x, axis=-1), labels[:, None], axis=-1))


def _logits(shape: tuple[int, int]) -> Callable[[], Arrays]:
    def make() -> Arrays:
        rng = np.random.default_rng(0)
        return rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0])

    return make


def _scans() -> Iterator[Row]:
    for op in ("sum", "prod", "max"):
        for name, shape, axis in (("last", (1000, 1000), -1), ("first", (1000, 1000), 0), ("middle", (30, 101, 333), 1),
                                  ("1-D", (1_000_003,), 0), ("last 7", (100_000, 7), -1)):  # fmt: skip
            low = 0.999 if op == "prod" else 0.0
            args = data(shape, low=low, high=1.001)
            yield Row(
                "cumulative",
                f"cumulative {op} {name}",
                lambda xp, x, a=axis, o=f"cumulative_{op}": getattr(xp, o)(x, axis=a),
                args,
            )
    for dtype in ("f64", "i32", "i64"):
        yield Row(
            "cumulative",
            f"cumulative sum {dtype}",
            lambda xp, x: xp.cumulative_sum(x, axis=-1),
            data((1000, 1000), dtype=dtype),
        )
    yield Row(
        "cumulative",
        "cumulative sum gradient",
        lambda xp, x, y: xp.cumulative_sum(x, axis=-1) * y,
        data((1000, 1000), (1000, 1000)),
        True,
    )


def _sorts() -> Iterator[Row]:
    shapes = (
        ("1-D 1000", (1000,), 0), ("1-D 100003", (100_003,), 0), ("1-D 1000000", (1_000_000,), 0),
        ("rows 10", (30_000, 10), -1), ("rows 100", (3000, 100), -1), ("rows 1000", (300, 1000), -1),
        ("rows 10007", (30, 10_007), -1), ("first", (1000, 300), 0),
    )  # fmt: skip
    for name, shape, axis in shapes:
        yield Row("sorts", f"sort f32 {name}", lambda xp, x, a=axis: xp.sort(x, axis=a), data(shape))
        yield Row("sorts", f"argsort f32 {name}", lambda xp, x, a=axis: xp.argsort(x, axis=a), data(shape))
    for dtype in ("i32", "i64", "f64", "bf16"):
        yield Row(
            "sorts",
            f"sort {dtype} 1-D 100003",
            lambda xp, x: xp.sort(x, axis=0),
            data((100_003,), dtype=dtype, high=10**9),
        )
    for k, shape in ((1, (300, 1000)), (10, (300, 1000)), (50, (64, 30522)), (5, (4096, 64)), (100, (1_000_000,))):
        yield Row("sorts", f"top_k {k} of {shape[-1]}", lambda xp, x, k=k: xp.top_k(x, k), data(shape))


def _moves() -> Iterator[Row]:
    orders = (
        ((1000, 1000), (1, 0)), ((997, 1009), (1, 0)), ((64, 100, 200), (0, 2, 1)), ((64, 100, 200), (1, 0, 2)),
        ((64, 100, 200), (2, 1, 0)), ((64, 100, 200), (2, 0, 1)), ((8, 12, 128, 64), (0, 2, 1, 3)),
        ((8, 56, 56, 64), (0, 3, 1, 2)), ((8, 3, 224, 224), (0, 2, 3, 1)), ((100_000, 7), (1, 0)),
    )  # fmt: skip
    for shape, order in orders:
        name = f"permute {'x'.join(map(str, shape))} {''.join(map(str, order))}"
        yield Row("moves", name, lambda xp, x, o=order: _kept(xp, xp.permute_dims(x, o)), data(shape))
    for dtype in ("bf16", "f64", "u8"):
        yield Row(
            "moves",
            f"transpose {dtype}",
            lambda xp, x: _kept(xp, xp.permute_dims(x, (1, 0))),
            data((1000, 1000), dtype=dtype),
        )
    big = (1000, 1000)
    yield Row("moves", "concat first", lambda xp, x, y: xp.concat([x, y], axis=0), data(big, big))
    yield Row("moves", "concat last", lambda xp, x, y: xp.concat([x, y], axis=-1), data((1000, 333), (1000, 77)))
    yield Row("moves", "stack last", lambda xp, x, y: xp.stack([x, y], axis=-1), data(big, big))
    yield Row("moves", "split and add", lambda xp, x: sum(xp.split(x, 4, axis=-1)), data(big))
    yield Row("moves", "pad", lambda xp, x: xp.pad(x, ((1, 2), (3, 4))), data(big))
    yield Row("moves", "pad images", lambda xp, x: xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), data((8, 56, 56, 64)))
    yield Row("moves", "slice", lambda xp, x: _kept(xp, x[1:-1, 1:-1]), data(big))
    yield Row("moves", "slice strided", lambda xp, x: _kept(xp, x[:, ::2]), data(big))
    yield Row("moves", "tile", lambda xp, x: xp.tile(x, (3, 4)), data((333, 77)))
    yield Row("moves", "repeat", lambda xp, x: xp.repeat(x, 3, axis=0), data((333, 777)))
    yield Row("moves", "repeat last", lambda xp, x: xp.repeat(x, 3, axis=1), data((333, 777)))
    yield Row("moves", "flip last", lambda xp, x: xp.flip(x, axis=-1), data(big))
    yield Row("moves", "flip first", lambda xp, x: xp.flip(x, axis=0), data(big))
    yield Row("moves", "roll last", lambda xp, x: xp.roll(x, 3, axis=-1), data(big))
    yield Row("moves", "tril", lambda xp, x: xp.tril(x), data(big))
    yield Row("moves", "slice gradient", lambda xp, x: x[1:-1, 1:-1] ** 2, data(big), True)
    yield Row("moves", "concat gradient", lambda xp, x, y: xp.concat([x, y], axis=-1) ** 2, data(big, big), True)


def _kept(xp: Any, x: Any) -> Any:
    """A result that lies in memory in its own order, which torch would leave a view."""
    return x.contiguous() if hasattr(x, "contiguous") else x


def _indices(count: int, limit: int, *shapes: Sequence[int]) -> Callable[[], Arrays]:
    """(arrays of the shapes, then indices below `limit`)."""

    def make() -> Arrays:
        rng = np.random.default_rng(0)
        return *(rng.standard_normal(s, np.float32) for s in shapes), rng.integers(0, limit, count)

    return make


def _gathers() -> Iterator[Row]:
    yield Row("gathers", "embedding 64", lambda xp, x, i: xp.take(x, i, axis=0), _indices(4096, 30522, (30522, 64)))
    yield Row("gathers", "embedding 768", lambda xp, x, i: xp.take(x, i, axis=0), _indices(1024, 30522, (30522, 768)))
    yield Row("gathers", "embedding 7", lambda xp, x, i: xp.take(x, i, axis=0), _indices(50_000, 10_000, (10_000, 7)))
    yield Row("gathers", "take columns", lambda xp, x, i: xp.take(x, i, axis=1), _indices(500, 1000, (1000, 1000)))
    yield Row("gathers", "take 1-D", lambda xp, x, i: x[i], _indices(100_000, 100_000, (100_000,)))
    yield Row(
        "gathers",
        "embedding gradient 64",
        lambda xp, x, i: xp.take(x, i, axis=0) ** 2,
        _indices(4096, 10_000, (10_000, 64)),
        True,
    )
    along = lambda: (*data((1000, 1000))(), np.random.default_rng(0).integers(0, 1000, (1000, 100)))  # noqa: E731
    yield Row("gathers", "take_along_axis", lambda xp, x, i: xp.take_along_axis(x, i, axis=1), along)
    classes = lambda: (np.random.default_rng(0).integers(0, 1000, 1000),)  # noqa: E731
    yield Row("gathers", "one_hot", lambda xp, i: xp.one_hot(i, 1000), classes)
    yield Row(
        "gathers",
        "add rows 64",
        lambda xp, x, v, i: xp.add_rows(x, i, v),
        _indices(4096, 10_000, (10_000, 64), (4096, 64)),
    )
    yield Row(
        "gathers",
        "add rows 7",
        lambda xp, x, v, i: xp.add_rows(x, i, v),
        _indices(50_000, 10_000, (10_000, 7), (50_000, 7)),
    )
    yield Row(
        "gathers", "segment sum", lambda xp, x, v, i: xp.add_rows(x, i, v), _indices(100_000, 1000, (1000,), (100_000,))
    )
    yield Row(
        "gathers",
        "set rows 64",
        lambda xp, x, v: xp.set_rows(x, xp.arange(0, 10_000, 3), v),
        data((10_000, 64), (3334, 64)),
    )
    count = lambda xp, i: xp.add_rows(xp.zeros((1000,), dtype=xp.int32), i, xp.ones((100_000,), dtype=xp.int32))  # noqa: E731
    yield Row("gathers", "bincount", count, _indices(100_000, 1000))


def _products() -> Iterator[Row]:
    forms = (
        ("ij,ij->i", (1000, 999), (1000, 999)), ("ij,ij->j", (1000, 999), (1000, 999)), ("i,j->ij", (999,), (1001,)),
        ("bij,bj->bi", (64, 100, 99), (64, 99)), ("bhid,bhjd->bhij", (4, 8, 100, 33), (4, 8, 100, 33)),
        ("ijk,kj->ij", (50, 70, 99), (99, 70)), ("ijk,jkl->il", (50, 30, 40), (30, 40, 60)),
        ("iij->j", (100, 100, 99)), ("ij,ij->", (1000, 999), (1000, 999)),
    )  # fmt: skip
    for form, *shapes in forms:
        yield Row("einsum", f"einsum {form}", lambda xp, *a, f=form: xp.einsum(f, *a), data(*shapes), rtol=1e-2)
    yield Row(
        "einsum",
        "tensordot",
        lambda xp, x, y: xp.tensordot(x, y, axes=([0, 2], [1, 0])),
        data((30, 50, 40), (40, 30, 60)),
        rtol=1e-2,
    )


def _random() -> Iterator[Row]:
    for shape in ((1000, 1000), (333, 77), (100,)):
        name = "x".join(map(str, shape))
        yield Row("random", f"uniform {name}", lambda xp, x, s=shape: xp.uniform(s), data(()), rtol=None)
        yield Row("random", f"normal {name}", lambda xp, x, s=shape: xp.normal(s), data(()), rtol=None)
    yield Row("random", "dropout 1000x999", lambda xp, x: xp.dropout(x), data((1000, 999)), rtol=None)


def rows() -> list[Row]:
    """All rows that are one program; the optimisers' are in `sweep_training`."""
    makers = (_elementwise, _functions, _reductions, _rows, _scans, _sorts, _moves, _gathers, _products, _random)
    return [row for maker in makers for row in maker()]
