"""JAX programs that must run unchanged: a table of functions with example arguments. Needs jax.

Each entry is `NAME: (function, arguments)`; the function takes the arguments by position and returns a nest of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Program = tuple[Callable[..., Any], tuple[np.ndarray, ...]]
PROGRAMS: dict[str, Program] = {}

_random = np.random.default_rng(0)


def program(*arguments: np.ndarray) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: enter a function under its name."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS[function.__name__] = (function, arguments)
        return function

    return enter


def floats(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def integers(high: int, *shape: int, dtype: str = "int32") -> np.ndarray:
    return _random.integers(0, high, shape).astype(dtype)


def positive_definite(n: int) -> np.ndarray:
    a = floats(n, n)
    return (a @ a.T + n * np.eye(n)).astype(np.float32)


KEY = np.array([3, 7], np.uint32)
NHWC = ("NHWC", "HWIO", "NHWC")


# Elementwise operations and dtypes.


@program(floats(5, 7), floats(5, 7))
def elementwise(x, y):
    return (
        *(jnp.tanh(x) * jnp.exp(y) + jnp.sin(x) / (1 + jnp.abs(y)), jnp.where(x > y, x, y), jnp.sqrt(jnp.abs(x))),
        *(jnp.log1p(jnp.abs(x)), jnp.tan(x), jnp.arctan2(x, y), jnp.power(jnp.abs(x), y), jnp.floor(x), jnp.ceil(x)),
        *(jnp.round(x * 3), jnp.sign(x), jnp.expm1(x), lax.rsqrt(jnp.abs(x)), jax.nn.sigmoid(x), jnp.cos(x)),
        *(lax.rem(x, y), jnp.mod(x, y), jnp.floor_divide(x, y), jnp.cbrt(x)),
    )


@program(np.abs(floats(20)) + np.float32(0.1))
def special(x):
    special = jax.scipy.special
    return (
        *(lax.erf(x), lax.erfc(x), lax.erf_inv(jnp.tanh(x)), lax.lgamma(x), lax.digamma(x), special.i1e(x)),
        *(jnp.arcsinh(x), jnp.arccosh(1 + x), jnp.arctanh(jnp.tanh(x)), jnp.sinh(x), jnp.cosh(x), jnp.arctan(x)),
        *(jnp.arcsin(jnp.tanh(x)), jnp.arccos(jnp.tanh(x)), special.gammainc(x, x), special.zeta(1 + x, 1.0)),
        *(jnp.nextafter(x, 0.0), special.polygamma(1, x)),
    )


@program(floats(4, 8), floats(8, 4))
def bfloat16(a, b):
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return (a @ b).astype(jnp.float32), jnp.tanh(a), a.sum(), jnp.sort(a, 1), a.at[0].add(b[:, 0])


@program(floats(4, 8), floats(8, 4))
def float8(a, b):
    a, b = a.astype(jnp.float8_e4m3fn), b.astype(jnp.float8_e5m2)
    product = lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    same = lax.bitcast_convert_type(lax.bitcast_convert_type(b, jnp.uint8), jnp.float8_e5m2)
    return product, *(x.astype(jnp.float32) for x in (jnp.abs(a), jnp.sort(a, 1), -same, jnp.max(a, 0)))


@program(floats(4, 8))
def float16(x):
    x = x.astype(jnp.float16)
    return jnp.exp(x), x.sum(0), jax.nn.softmax(x)


@program(integers(100, 4, 8, dtype="int8"), integers(100, 8, 4, dtype="int8"))
def int8(a, b):
    wide = lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return wide, a + b.T, a // 3, a % 5, -a, a * a, a >> 1, a << 2, a & 3, a ^ b.T, ~a


@program(integers(1000, 8, dtype="uint32"), integers(1000, 8, dtype="uint32"))
def uint32(a, b):
    return (
        *(a - b, a // (b % 7), a % (b % 5 + 1), a >> 3, a << 30, lax.population_count(a), lax.clz(a), a > b),
        *(a.astype(jnp.float32), (a - b).astype(jnp.float32), jnp.maximum(a - b, b)),
    )


@program(np.array([5, -5, 7, -7, -(2**31), 0], np.int32), np.array([0, 0, 2, 2, -1, 0], np.int32))
def integer_division(a, b):
    shifts = lax.shift_left(a, b + 40), lax.shift_right_arithmetic(a, b + 40), lax.shift_right_logical(a, b + 40)
    return lax.div(a, b), lax.rem(a, b), a // b, a % b, *shifts


@program(np.array([0, 1.5, -1.5, 2.5, 1e10, -1e10, 300, -300, np.nan, np.inf], np.float32))
def conversions(x):
    names = ["int8", "int16", "int32", "uint8", "uint16", "uint32", "bool", "float16", "bfloat16"]
    return tuple(x.astype(name) for name in names)


@program(floats(6))
def bit_patterns(x):
    return (
        *(lax.bitcast_convert_type(x, jnp.int32), lax.bitcast_convert_type(x, jnp.uint8)),
        *(lax.reduce_precision(x, 5, 3), lax.reduce_precision(x, 8, 7)),
    )


# Shape and reduction.


@program(floats(4, 5))
def shapes(x):
    return (
        *(lax.pad(x, 1.0, ((1, 2, 1), (-1, 0, 0))), jnp.pad(x, 2, mode="reflect"), jnp.roll(x, 2, 1), jnp.flip(x)),
        *(jnp.concatenate([x, x[:, ::-1]], 1), jnp.tile(x, (2, 2)), jnp.rot90(x), jnp.diag(x[0]), jnp.tril(x)),
        *(jnp.stack([x, x]), jnp.repeat(x, 3, 0)),
    )


@program(floats(5, 6))
def reductions(x):
    return (
        *(jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.max(x), jnp.any(x > 0, 0), jnp.all(x > -9), jnp.var(x, 0)),
        *(jnp.median(x, axis=1), jnp.prod(x, 1), jax.nn.logsumexp(x, 1)),
    )


@program(floats(5, 6))
def cumulative(x):
    return (
        *(jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1), lax.cummin(x, 0, reverse=True)),
        lax.cumlogsumexp(x, 1),
    )


# Control flow.


@program(floats(4, 4))
def while_loop(x):
    return lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] + 1, c[1] @ c[1] * 0.1), (0, x))


@program(floats(4))
def fori_loop(x):
    return lax.fori_loop(0, 5, lambda i, v: v * 2 + i, x)


@program(floats(4))
def cond(x):
    return lax.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, x)


@program(integers(9, 1), floats(4))
def switch(i, x):
    return lax.switch(i[0], [lambda v: v * 2, lambda v: v - 1, jnp.sin, lambda v: v[::-1]], x)


@program(floats(3), floats(6, 3))
def scan(c, xs):
    return lax.scan(lambda c, x: (c + x, c * x), c, xs)


@program(floats(3), floats(6, 3))
def scan_grad(c, xs):
    def loss(c, xs):
        return lax.scan(lambda c, x: (jnp.tanh(c * x) + c, c * x), c, xs)[1].sum()

    return jax.grad(loss, argnums=(0, 1))(c, xs)


# Indexing.


@program(floats(10, 4), integers(10, 5))
def gather(table, i):
    return table[i], table[i - 5], table[:, i % 4], table[i, i % 4], jnp.take(table, i, 0, mode="fill")


@program(floats(5, 6), integers(6, 5, 2))
def take_along_axis(x, i):
    return jnp.take_along_axis(x, i, 1)


@program(floats(10, 4), integers(12, 5), floats(5, 4))
def scatter(t, i, u):
    rows = t.at[i].set(u[0]), t.at[i].add(u), t.at[i].multiply(u), t.at[i].min(u), t.at[i].max(u)
    return *rows, t.at[i, 2].add(1.0), t.at[2:5].set(0.0), t.at[::2, 1].add(3.0), t.at[-1].mul(2.0)


@program(floats(8, 6), integers(12, 2))
def dynamic_slices(x, i):
    return lax.dynamic_slice(x, (i[0], i[1]), (3, 2)), lax.dynamic_update_slice(x, x[:2, :2] * 9, (i[0], i[1]))


@program(floats(20, 3), integers(20, 6), floats(6, 3))
def embedding_grad(table, i, target):
    return jax.grad(lambda t: ((t[i] - target) ** 2).sum())(table)


# Sorting.


@program(floats(6, 9))
def sort(x):
    return (
        *(jnp.sort(x, 0), jnp.sort(x, 1), jnp.argsort(x, 1), jnp.argsort(x, 0, descending=True)),
        *(lax.top_k(x, 3), lax.approx_max_k(x, 2)),
    )


@program(integers(3, 20), floats(20))
def sort_by_several_keys(a, b):
    return jnp.lexsort((b, a)), lax.sort((a, b, jnp.arange(20)), num_keys=2), jnp.unique(a, size=4)


# Random numbers.


@program(KEY)
def random_uniform(key):
    return (
        *(jax.random.uniform(key, (7,)), jax.random.uniform(key, (4, 5), minval=-2, maxval=3)),
        *(jax.random.bits(key, (5,), jnp.uint8), jax.random.randint(key, (6,), 0, 100)),
    )


@program(KEY)
def random_normal(key):
    return jax.random.normal(key, (9,)), jax.random.truncated_normal(key, -1, 1, (5,))


@program(KEY)
def random_permutation(key):
    return (
        *(jax.random.permutation(key, 17), jax.random.categorical(key, jnp.zeros((4, 5)))),
        *(jax.random.choice(key, 10, (4,), replace=False), jax.random.split(key, 3)),
    )


@program(np.array([3, 7, 11, 13], np.uint32))
def random_bit_generator(key):
    key = jax.random.wrap_key_data(key, impl="rbg")
    return jax.random.uniform(key, (7,)), jax.random.bits(key, (3, 5), jnp.uint16), jax.random.normal(key, (33,))


# Linear algebra, which JAX lowers to LAPACK's functions.


@program(positive_definite(6))
def cholesky(a):
    return jnp.linalg.cholesky(a)


@program(positive_definite(6), floats(6, 3))
def triangular_solve(a, b):
    return jax.scipy.linalg.solve_triangular(a, b, lower=True), jax.scipy.linalg.cho_solve((a, True), b)


@program(floats(6, 4))
def qr(a):
    return jnp.linalg.qr(a)


@program(floats(5, 5), floats(5, 2))
def solve(a, b):
    return jnp.linalg.solve(a, b), jnp.linalg.inv(a), jnp.linalg.det(a), jnp.linalg.slogdet(a)


@program(np.stack([positive_definite(4), positive_definite(4)]), floats(2, 4, 3))
def batched_linear_algebra(a, b):
    return jnp.linalg.solve(a, b), jnp.linalg.cholesky(a), jnp.linalg.qr(b)


# Contractions and windows.


@program(floats(2, 3, 4), floats(2, 4, 5), floats(3, 5))
def einsum(a, b, c):
    return (
        *(jnp.einsum("bij,bjk->bik", a, b), jnp.einsum("bij,bjk,ik->b", a, b, c), jnp.einsum("ijk->kji", a)),
        jnp.tensordot(a, b, ((2,), (1,))),
    )


@program(floats(2, 8, 8, 3), floats(3, 3, 3, 4))
def convolution(x, k):
    return (
        lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC),
        lax.conv_general_dilated(x, k, (2, 2), "VALID", rhs_dilation=(2, 2), dimension_numbers=NHWC),
        lax.conv_transpose(x, k, (2, 2), "SAME"),
        lax.conv_general_dilated(
            x[..., :2], k[:, :, :1], (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=2
        ),
    )


@program(floats(2, 8, 8, 3))
def reduce_window(x):
    return (
        lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    )


@program(floats(2, 8, 8, 3))
def pooling_grad(x):
    def loss(x):
        largest = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return (largest**2).sum() + (lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME") ** 3).sum()

    return jax.grad(loss)(x)


# Models, forward and backward.


@program(floats(5, 32) * np.float32(0.3), floats(8, 32) * np.float32(0.3), floats(32), floats(6, 5))
def lstm_grad(w, u, b, xs):
    def cell(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ w_ + h @ u_ + b_, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def loss(w, u, b):
        nonlocal w_, u_, b_
        w_, u_, b_ = w, u, b
        return (lax.scan(cell, (jnp.zeros(8), jnp.zeros(8)), xs)[1] ** 2).sum()

    w_, u_, b_ = w, u, b
    return jax.value_and_grad(loss, argnums=(0, 1, 2))(w, u, b)


_TENTH = np.float32(0.1)


@program(
    floats(32, 96) * _TENTH,
    floats(32, 32) * _TENTH,
    floats(32, 64) * _TENTH,
    floats(64, 32) * _TENTH,
    floats(2, 10, 32),
)
def transformer_grad(qkv, out, up, down, x):
    def heads(a):
        return a.reshape(*a.shape[:-1], 4, -1).swapaxes(-2, -3)

    def loss(qkv, out, up, down):
        q, k, v = jnp.split(x @ qkv, 3, -1)
        attention = jax.nn.softmax(heads(q) @ heads(k).swapaxes(-1, -2) / 4.0, -1) @ heads(v)
        h = x + attention.swapaxes(-2, -3).reshape(x.shape) @ out
        centred = h - h.mean(-1, keepdims=True)
        normal = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return ((h + jax.nn.gelu(normal @ up) @ down) ** 2).mean()

    return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(qkv, out, up, down)


@program(
    *(floats(3, 3, 1, 4), floats(3, 3, 4, 8), floats(7 * 7 * 8, 10) * _TENTH, floats(4, 14, 14, 1), integers(10, 4))
)
def cnn_train_step(k1, k2, w, x, y):
    def loss(k1, k2, w):
        h = jax.nn.relu(lax.conv_general_dilated(x, k1, (1, 1), "SAME", dimension_numbers=NHWC))
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = jax.nn.relu(lax.conv_general_dilated(h, k2, (1, 1), "SAME", dimension_numbers=NHWC))
        return -jnp.take_along_axis(jax.nn.log_softmax(h.reshape(4, -1) @ w), y[:, None], 1).mean()

    value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(k1, k2, w)
    return value, *(p - 0.1 * g for p, g in zip((k1, k2, w), grads, strict=True))


_QUERIES, _KEYS = (2, 20, 3, 8), (2, 36, 3, 8)


@program(floats(*_QUERIES), floats(*_KEYS), floats(*_KEYS), floats(2, 3, 20, 36), _random.random((2, 1, 20, 36)) < 0.8)
def attention(q, k, v, bias, mask):
    grouped = jax.nn.dot_product_attention(jnp.concatenate([q, -q], 2), k, v)  # two heads of queries for each of keys
    return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask), grouped


@program(floats(*_QUERIES), floats(*_QUERIES), floats(*_QUERIES))
def attention_grad(q, k, v):
    def loss(q, k, v):
        return (jax.nn.dot_product_attention(q, k, v, is_causal=True) ** 2).sum()

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)
