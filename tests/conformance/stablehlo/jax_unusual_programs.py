"""JAX programs that nobody planned for: algorithms, odd operators, second derivatives. Needs jax.

The table `UNUSUAL` has the form of `PROGRAMS`; these are exported at test time and not committed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax_programs import KEY, NHWC, PROGRAMS, floats, integers, positive_definite, program

_COMMITTED = set(PROGRAMS)


# Algorithms.


@program(integers(2, 12, 12))
def game_of_life(board):
    def step(_, g):
        shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
        neighbours = sum(jnp.roll(g, shift, (0, 1)) for shift in shifts)
        return jnp.where((neighbours == 3) | ((g == 1) & (neighbours == 2)), 1, 0)

    return lax.fori_loop(0, 5, step, board)


@program(np.abs(floats(5)) + np.float32(1.5))
def newton(x):
    def going(state):
        return jnp.any(jnp.abs(state[0] ** 3 - state[0] - 2) > 1e-5) & (state[1] < 50)

    def step(state):
        x, count = state
        return x - (x**3 - x - 2) / (3 * x**2 - 1), count + 1

    return lax.while_loop(going, step, (x, 0))


@program(floats(60, 2), floats(3, 2))
def k_means(points, centres):
    def step(_, centres):
        nearest = jnp.argmin(((points[:, None] - centres) ** 2).sum(-1), 1)
        counts = jnp.maximum(jax.ops.segment_sum(jnp.ones(60), nearest, 3), 1)
        return jax.ops.segment_sum(points, nearest, 3) / counts[:, None]

    return lax.fori_loop(0, 8, step, centres)


@program(floats(10, 4), floats(4, 4))
def viterbi(emission, transition):
    def forward(score, row):
        paths = score[:, None] + transition
        return paths.max(0) + row, paths.argmax(0)

    final, back = lax.scan(forward, emission[0], emission[1:])
    return final, lax.scan(lambda s, row: (row[s], row[s]), jnp.argmax(final), back, reverse=True)


@program(integers(4, 9), integers(4, 7))
def edit_distance(a, b):
    def row_step(row, letter):
        def cell(left, above):
            best = jnp.minimum(jnp.minimum(left + 1, above[0] + 1), above[1] + (above[2] != letter))
            return best, best

        rest = lax.scan(cell, row[0] + 1, (row[1:], row[:-1], b))[1]
        return jnp.concatenate([row[:1] + 1, rest]), rest[-1]

    return lax.scan(row_step, jnp.arange(8), a)[0]


@program(integers(256, 16, dtype="uint8"))
def crc32(data):
    def bit(_, c):
        return jnp.where(c & 1, (c >> 1) ^ np.uint32(0xEDB88320), c >> 1)

    def byte(i, c):
        return lax.fori_loop(0, 8, bit, c ^ data[i].astype(jnp.uint32))

    return lax.fori_loop(0, 16, byte, np.uint32(0xFFFFFFFF))


@program(integers(20, 6))
def collatz_in_a_batch(numbers):
    def step(state):
        n, count = state
        return jnp.where(n % 2 == 0, n // 2, 3 * n + 1), count + 1

    return jax.vmap(lambda n: lax.while_loop(lambda s: s[0] > 1, step, (n, 0)))(numbers)


@program(floats(7).astype(np.complex64) + np.complex64(0.3j))
def mandelbrot(c):
    def step(state):
        count, z = state
        return count + 1, z * z * 0.3 + c

    return jnp.abs(lax.while_loop(lambda s: s[0] < 20, step, (0, jnp.zeros_like(c)))[1])


# Derivatives.


@program(floats(5))
def hessian(x):
    return jax.hessian(lambda x: jnp.prod(jnp.sin(x)) + jnp.sum(x**4))(x)


@program(floats(4))
def jacobians(x):
    forward = jax.jacfwd(lambda x: jnp.tanh(jnp.outer(x, x)).sum(0))(x)
    return forward, jax.jacrev(lambda x: jnp.sort(x) * x)(x)


@program(positive_definite(5))
def cholesky_grad(a):
    return jax.grad(lambda a: jnp.linalg.cholesky(a).sum())(a)


@program(floats(12))
def spectrum_grad(x):
    return jax.grad(lambda x: (jnp.abs(jnp.fft.rfft(x)) ** 2).sum() + jnp.real(jnp.fft.ifft(x * 1j)).sum())(x)


@program(floats(2, 9, 9, 4), floats(3, 3, 2, 8))
def grouped_convolution_grad(x, k):
    def loss(x, k):
        y = lax.conv_general_dilated(
            x, k, (2, 2), ((1, 2), (0, 1)), dimension_numbers=NHWC, feature_group_count=2, rhs_dilation=(1, 2)
        )
        return (y**2).sum()

    return jax.grad(loss, argnums=(0, 1))(x, k)


@program(KEY, floats(4, 8), floats(8, 8))
def dropout_grad(key, x, w):
    return jax.grad(lambda w: (jnp.where(jax.random.bernoulli(key, 0.5, (4, 8)), x @ w, 0.0) ** 2).sum())(w)


@program(floats(3))
def forward_through_while(x):
    def f(x):
        return lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, jnp.sin(s[1]) * 2), (0, x))[1]

    return jax.jvp(f, (x,), (jnp.ones(3),))


# Linear algebra and Fourier transforms.


@program((lambda a: a + a.T)(floats(7, 7)))
def eigenvalues(a):
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors @ jnp.diag(values) @ vectors.T, vectors.T @ vectors


@program(floats(6, 4), floats(3, 5))
def singular_values(a, b):
    u, s, v = jnp.linalg.svd(a)
    thin = jnp.linalg.svd(b, full_matrices=False)
    return s, u.T @ u, v @ v.T, thin[0] @ jnp.diag(thin[1]) @ thin[2], jnp.linalg.pinv(a), jnp.linalg.norm(a, 2)


@program(floats(4, 4) * np.float32(0.3))
def matrix_exponential(a):
    return jax.scipy.linalg.expm(a), jnp.linalg.matrix_power(a, 5)


@program(floats(3, 30), floats(2, 31), floats(2, 101), floats(4, 5, 6))
def fourier(even, odd, prime, cube):
    numbers = (
        *(jnp.fft.rfft(even), jnp.fft.rfft(odd), jnp.fft.fft(prime), jnp.fft.fftn(cube), jnp.fft.rfft2(cube)),
        jnp.fft.ifft(cube),
    )
    backward = jnp.fft.irfft(jnp.fft.rfft(even)), jnp.fft.irfft(jnp.fft.rfft(odd), n=31)
    return *(part for z in numbers for part in (z.real, z.imag)), *backward


@program(floats(9), floats(9), floats(9), floats(9))
def complex_functions(a, b, c, d):
    x, y = a + 1j * b, c + 1j * d
    values = (
        *(x * y, x / y, jnp.exp(x), jnp.log(x), jnp.sqrt(x), jnp.sin(x), jnp.cos(x), jnp.tanh(x), jnp.tan(x)),
        *(x**y, jnp.conj(x), jnp.arcsin(x), jnp.arctan(x), jnp.log1p(x), jnp.sort(x), jnp.cumsum(x), x[::-1]),
    )
    return *(part for z in values for part in (z.real, z.imag)), jnp.abs(x), jnp.angle(x), x == y, x != y


# Odd operators.


@program(floats(5, 7))
def custom_reductions(x):
    one, zero = np.float32(1), np.float32(0)
    return (
        lax.reduce(x, one, lambda a, b: a * jnp.cos(b), (1,)),
        lax.reduce((x, x * 2), (zero, zero), lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])), (0,)),
        lax.reduce_window(x, zero, lax.add, (2, 3), (1, 1), "SAME", base_dilation=(2, 1), window_dilation=(1, 2)),
    )


@program(floats(13))
def associative_scan(x):
    return lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (x, x))


@program(floats(7), np.sort(floats(9)), floats(9))
def interpolation(x, xs, ys):
    return (
        *(jnp.interp(x, xs, ys), jnp.searchsorted(xs, x), jnp.digitize(x, xs), jnp.histogram(x, bins=4)),
        *(jnp.bincount(jnp.abs(x).astype(int), length=5), jnp.percentile(x, 30.0)),
    )


@program(floats(1, 5, 6, 2))
def image_resize(x):
    return jax.image.resize(x, (1, 9, 11, 2), "bilinear"), jax.image.resize(x, (1, 3, 3, 2), "nearest")


@program(floats(20, 3), np.sort(integers(6, 20)))
def segments(x, s):
    return jax.ops.segment_sum(x, s, 6), jax.ops.segment_max(x, s, 6), jax.ops.segment_prod(x, s, 6)


@program(floats(6, 4), integers(6, 3))
def updates_by_function(x, i):
    return (
        *(x.at[i].apply(jnp.exp), x.at[i, 1].divide(2.0), x.at[i].power(2.0), x.at[:, 1:3].get()),
        *(x.at[i + 4].get(mode="fill", fill_value=-1.0), x.at[i + 4].set(1.0, mode="drop")),
    )


@program(floats(4, 5, 6), integers(4, 3, 2))
def mixed_indexing(x, i):
    a, b = i[:, 0], i[:, 1]
    return x[a, b], x[a, :, b], x[..., a], x[None, :, a, ::2], jnp.take(x, i, axis=1), x[i]


@program(integers(6, 12), integers(6, 9))
def sets(a, b):
    return (
        *(jnp.unique(a, size=6, return_counts=True), jnp.isin(a, b), jnp.intersect1d(a, b, size=6)),
        jnp.union1d(a, b, size=8),
    )


@program(integers(1 << 30, 9), integers(31, 9))
def bit_tricks(a, s):
    return (
        *(a << s, a >> s, lax.population_count(a), lax.clz(a), jnp.packbits((a > s).astype(jnp.uint8))),
        *(jnp.unpackbits(a.astype(jnp.uint8)), jnp.gcd(a, s + 1), jnp.lcm(a % 100 + 1, s + 1)),
    )


@program(floats(6) > 0, floats(6) > 0)
def booleans(a, b):
    return (
        *(a & b, a | b, a ^ b, ~a, jnp.sum(a), jnp.any(a), jnp.all(b), jnp.cumsum(a), jnp.sort(a)),
        *(jnp.where(a, b, ~b), a + b, a * b, jnp.argmax(a), jnp.nonzero(a, size=6), jnp.logical_xor(a, b)),
    )


@program(np.array([np.nan, 1, -np.inf, np.inf, -0.0, 0.0], np.float32))
def not_numbers(x):
    return (
        *(jnp.nan_to_num(x), jnp.isnan(x), jnp.isinf(x), jnp.nanmax(x), jnp.nansum(x), jnp.maximum(x, 0)),
        *(jnp.minimum(0, x), jnp.sign(x), jnp.signbit(x), jnp.sort(x), jnp.argsort(x), jnp.argmax(x), x == x),
        *(jnp.clip(x, -1, 1), 1 / x, jnp.exp(x), jnp.log(x), jnp.sqrt(x), jnp.tanh(x), jnp.floor(x), lax.erf(x)),
        *(jnp.arctan(x), jnp.power(x, 0.5), jnp.power(2.0, x), jax.nn.sigmoid(x), jnp.log1p(x), jnp.expm1(x)),
        *(jnp.cbrt(x), jnp.round(x), jnp.copysign(1.0, x), jnp.hypot(x, 1.0), jnp.logaddexp(x, 0.0)),
    )


@program(np.zeros((0, 4), np.float32), np.zeros((4, 0), np.float32))
def empty_arrays(a, b):
    return a @ b, b @ a, a.sum(0), jnp.concatenate([a, a]), jnp.sort(a, 0), jnp.exp(a), a.sum(), a.at[:].add(1)


@program(KEY)
def random_distributions(key):
    return (
        *(jax.random.gamma(key, 2.5, (5,)), jax.random.poisson(key, 4.0, (6,)), jax.random.fold_in(key, 7)),
        *(jax.random.dirichlet(key, jnp.ones(3), (2,)), jax.random.rademacher(key, (4,))),
        jax.random.multivariate_normal(key, jnp.zeros(2), jnp.eye(2), (3,)),
    )


@program(floats(8, 5), floats(3, 5, 4), np.array([3, 0, 5], np.int32))
def ragged_product(x, w, groups):
    return lax.ragged_dot(x, w, groups)


@program(floats(300, 7))
def large_constants(x):
    return x @ np.linspace(-1, 1, 350, dtype=np.float32).reshape(7, 50) + np.arange(50)


UNUSUAL = {name: PROGRAMS.pop(name) for name in list(PROGRAMS) if name not in _COMMITTED}
