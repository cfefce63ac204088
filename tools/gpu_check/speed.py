"""How fast kernels are: beside what the chip can do, and beside PyTorch and JAX in the same run."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import thalweg as tw
from thalweg.runtime.config import config
from thalweg.tools.gpu_check import peers
from thalweg.tools.gpu_check.check import SKIPPED, Check, Finding, milliseconds, on_gpu

# Tera-operations a second of dense products, as the makers give them.
PEAKS: dict[str, dict[str, float]] = {
    "H200": {"bfloat16": 989, "float16": 989, "tf32": 495, "float32": 67, "float8_e4m3fn": 1979},
    "H100": {"bfloat16": 989, "float16": 989, "tf32": 495, "float32": 67, "float8_e4m3fn": 1979},
    "A100": {"bfloat16": 312, "float16": 312, "tf32": 156, "float32": 19.5},
    "B200": {"bfloat16": 2250, "float16": 2250, "tf32": 1125, "float32": 80, "float8_e4m3fn": 4500},
    "MI300X": {"bfloat16": 1307, "float16": 1307, "tf32": 654, "float32": 163},
}


def _peak(check: Check, kind: str) -> float | None:
    name = check.gpu.properties.name
    return next((peaks.get(kind) for model, peaks in PEAKS.items() if model in name), None)


def resident(array: Any) -> Any:
    """An array as a tensor on the first GPU, so that a step's time is the GPU's."""
    return tw.asarray(array).to_device("gpu:0")


def matmul(check: Check) -> None:
    """Products of square and of thin matrices: operations a second, share of the peak, ratio to cuBLAS (by PyTorch)."""
    sizes = check.size(
        [(n, n, n) for n in (512, 1024, 2048, 4096, 8192)] + [(16, 4096, 4096), (4096, 4096, 64), (8192, 1024, 8192)],
        [(32, 32, 32)],
    )
    kinds = ("bfloat16", "float8_e4m3fn", "float16", "tf32", "float32")
    cases = [(kind, size) for kind in kinds[: check.size(5, 2)] for size in sizes[: 3 if check.quick else None]]
    for kind, size in check.left(cases, _product_name, 120):
        with check.attempt(_product_name((kind, size))) as found, on_gpu():
            _one_product(check, found, kind, size)


def _product_name(case: tuple[str, tuple[int, ...]]) -> str:
    return f"{case[0]} {' x '.join(map(str, case[1]))}"


def _one_product(check: Check, found: Finding, kind: str, size: tuple[int, int, int]) -> None:
    m, n, k = size
    eight = kind == "float8_e4m3fn"  # as cuBLAS takes them: both along k, a result of 16 bits
    dtype = "float32" if kind == "tf32" else kind
    a, b = (resident(_random(shape, dtype)) for shape in ((m, k), (n, k) if eight else (k, n)))

    def timed(**options: Any) -> float:
        with config.override(matmul_precision="high" if kind == "tf32" else "highest", **options):
            product = tw.function(lambda a, b: tw.matmul(a, b.T, dtype=tw.bfloat16) if eight else a @ b)
            _check_product(product(a, b), a, np.asarray(b).T if eight else b)
            return milliseconds(check, lambda: product(a, b))

    ours = timed()
    if check.simulated:
        return
    found["ms"], found["tflops"] = ours, 2 * m * n * k / ours / 1e9
    peak = _peak(check, kind)
    if peak is not None:
        found["share_of_peak"] = found["tflops"] / peak
    found.save()
    peers.times(found, ours, _torch_product(m, n, k, kind), _jax_product(m, n, k, kind))
    if kind in ("bfloat16", "float16", "float8_e4m3fn") and check.gpu.driver.kind == "cuda":
        found.save()
        found["by_pointers_ms"] = timed(gpu_descriptors="never")
        found["by_descriptors_ms"] = timed(gpu_descriptors="always")


def _random(shape: tuple[int, ...], dtype: str) -> Any:
    """Random numbers, a million of them again and again: the host takes longer for more than a GPU for a product."""
    some = np.random.default_rng(0).standard_normal(min(math.prod(shape), 2**20 + 7), np.float32)
    return tw.astype(tw.asarray(np.resize(some, shape)), getattr(tw, dtype))


def _check_product(found: Any, a: Any, b: Any) -> None:
    """Some rows, in 64-bit floats."""
    rows = slice(0, 4)
    want = np.asarray(a)[rows].astype(np.float64) @ np.asarray(b).astype(np.float64)
    off = np.abs(np.asarray(found)[rows].astype(np.float64) - want).max() / np.abs(want).max()
    assert off < 2e-2, f"off by {off:.2g} of the largest element"


def _torch_product(m: int, n: int, k: int, kind: str) -> Iterator[tuple[str, peers.Step]]:
    torch = peers.torch_or_none()
    if torch is None:
        return
    if kind == "float8_e4m3fn":
        a, b = (torch.randn(shape, device="cuda").to(torch.float8_e4m3fn) for shape in ((m, k), (n, k)))
        one = torch.ones((), device="cuda")
        for name, fast in (("cublas", False), ("cublas_of_14_bits", True)):  # how exactly sums are kept
            options = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": fast}
            yield name, functools.partial(torch._scaled_mm, a, b.t(), **options)
        return
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    dtype = peers.torch_dtype(torch, "float32" if kind == "tf32" else kind)
    a, b = (torch.randn(shape, device="cuda").to(dtype) for shape in ((m, k), (k, n)))
    yield "cublas", lambda: a @ b


def _jax_product(m: int, n: int, k: int, kind: str) -> Iterator[tuple[str, peers.Step]]:
    jax = peers.jax_or_none()
    if jax is None:
        return
    if kind == "float8_e4m3fn":
        a, b = (x.astype(kind) for x in peers.jax_arrays(jax, [(m, k), (n, k)], "bfloat16"))
        product = jax.jit(lambda a, b: jax.numpy.matmul(a, b.T, preferred_element_type="bfloat16"))
        yield "jax", lambda: product(a, b)
        return
    a, b = peers.jax_arrays(jax, [(m, k), (k, n)], "float32" if kind == "tf32" else kind)
    precision = "highest" if kind == "float32" else "default"
    product = jax.jit(lambda a, b: jax.numpy.matmul(a, b, precision=precision))
    yield "jax", lambda: product(a, b)


def fused(check: Check) -> None:
    """Softmax, layer norm, cross-entropy, an elementwise chain: bytes a second, as share of a copy in the same run."""
    rows, columns = check.size((8192, 4096), (8, 16))
    copied = _copy_rate(check)
    if not check.simulated:
        check.note("copy", gb_s=copied)
    scale = np.ones(columns, np.float32)
    labels = (np.arange(rows) % columns).astype(np.int32)

    def norm(torch: Any) -> Callable[[Any], Any]:
        return lambda x: torch.nn.functional.layer_norm(x, (columns,))

    def entropy(torch: Any) -> Callable[[Any], Any]:
        wanted = torch.arange(rows, device="cuda") % columns
        return lambda x: torch.nn.functional.cross_entropy(x.float(), wanted)

    cases: dict[str, tuple[Callable[[Any], Any], int, Callable[[Any], Callable[[Any], Any]]]] = {
        "softmax": (lambda x: tw.nn.softmax(x), 2, lambda torch: lambda x: torch.softmax(x, -1)),
        "layer norm": (lambda x: tw.nn.layer_norm(x, scale, scale), 2, norm),
        "cross-entropy": (lambda x: tw.mean(tw.nn.softmax_cross_entropy(x, labels)), 1, entropy),
        "gelu chain": (lambda x: tw.nn.gelu(x * 2 + 1) * x, 2,
                       lambda torch: lambda x: torch.nn.functional.gelu(x * 2 + 1) * x),
    }  # fmt: skip
    titles = {
        f"{name} {dtype} {rows} x {columns}": (name, dtype) for dtype in ("float32", "bfloat16") for name in cases
    }
    for title in check.left(titles, str, 120):
        name, dtype = titles[title]
        ours, passes, theirs = cases[name]
        with check.attempt(title) as found, on_gpu():
            x = resident(_random((rows, columns), dtype))
            step = tw.function(ours)
            ms = milliseconds(check, lambda: step(x))  # noqa: B023
            if check.simulated:
                continue
            found["gb_s"] = rate = passes * rows * columns * x.dtype.itemsize / ms / 1e6
            found["share_of_copy"] = rate / copied
            shape = rows, columns
            peers.times(found, ms, _torch_unary(theirs, shape, dtype), _jax_unary(name, shape, dtype))


def _copy_rate(check: Check) -> float:
    gpu, size = check.gpu, check.size(2**30, 2**12)
    a, b = gpu.empty((size,), np.uint8), gpu.empty((size,), np.uint8)
    ms = min(gpu.time(lambda: gpu.driver.copy(b.address, a.address, size, gpu.compute), 5))
    return 2 * size / ms / 1e6


def _torch_unary(
    make: Callable[[Any], Callable[[Any], Any]], shape: tuple[int, ...], dtype: str
) -> Iterator[tuple[str, peers.Step]]:
    torch = peers.torch_or_none()
    if torch is None:
        return
    x = torch.randn(shape, device="cuda").to(peers.torch_dtype(torch, dtype))
    function = make(torch)
    yield "torch", lambda: function(x)
    compiled = torch.compile(function)
    yield "torch.compile", lambda: compiled(x)


def _jax_unary(name: str, shape: tuple[int, int], dtype: str) -> Iterator[tuple[str, peers.Step]]:
    jax = peers.jax_or_none()
    if jax is None:
        return
    nn, xp = jax.nn, jax.numpy
    labels = xp.arange(shape[0]) % shape[1]

    def entropy(x: Any) -> Any:
        chosen = xp.take_along_axis(nn.log_softmax(x.astype("float32")), labels[:, None], 1)
        return -xp.mean(chosen)

    functions = {
        "softmax": nn.softmax,
        "layer norm": nn.standardize,
        "cross-entropy": entropy,
        "gelu chain": lambda x: nn.gelu(x * 2 + 1, approximate=False) * x,
    }
    (x,) = peers.jax_arrays(jax, [shape], dtype)
    function = jax.jit(functions[name])
    yield "jax", lambda: function(x)


def attention(check: Check) -> None:
    """Attention forward, and forward with backward: operations a second, beside the best that PyTorch has."""
    shapes = check.size([(8, 16, 1024, 64), (4, 16, 4096, 64), (2, 16, 4096, 128)], [(1, 2, 16, 8)])
    cases = list(itertools.product(shapes[: 1 if check.quick else None], (False, True), (False, True)))

    def name(case: tuple[tuple[int, ...], bool, bool]) -> str:
        shape, causal, backward = case
        way = "forward and backward" if backward else "forward"
        return f"{' x '.join(map(str, shape))}{' causal' if causal else ''} {way}"

    for case in check.left(cases, name, 120):
        shape, causal, backward = case
        with check.attempt(name(case)) as found, on_gpu():
            q, k, v = (resident(_random(shape, "bfloat16")) for _ in range(3))
            step = _attention_step(causal, backward)
            ms = milliseconds(check, lambda: step(q, k, v))  # noqa: B023
            if check.simulated:
                continue
            batch, heads, length, depth = shape
            work = 4 * batch * heads * length**2 * depth * (0.5 if causal else 1) * (3.5 if backward else 1)
            found["tflops"] = work / ms / 1e9
            peers.times(found, ms, _torch_attention(shape, causal, backward), _jax_attention(shape, causal, backward))


def _attention_step(causal: bool, backward: bool) -> Callable[..., Any]:
    def forward(q: Any, k: Any, v: Any) -> Any:
        return tw.nn.attention(q, k, v, causal=causal)

    if not backward:
        return tw.function(forward)
    total = lambda q, k, v: tw.sum(tw.astype(forward(q, k, v), tw.float32))  # noqa: E731
    return tw.function(lambda q, k, v: tw.value_and_grad(total, argnums=(0, 1, 2))(q, k, v)[1])


def _torch_attention(shape: tuple[int, ...], causal: bool, backward: bool) -> Iterator[tuple[str, peers.Step]]:
    torch = peers.torch_or_none()
    if torch is None:
        return
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=backward) for _ in range(3))

    def step() -> Any:
        found = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        if backward:
            found.sum().backward()
        return found

    yield "torch", step


def _jax_attention(shape: tuple[int, ...], causal: bool, backward: bool) -> Iterator[tuple[str, peers.Step]]:
    jax = peers.jax_or_none()
    if jax is None:
        return
    batch, heads, length, depth = shape
    q, k, v = peers.jax_arrays(jax, [(batch, length, heads, depth)] * 3, "bfloat16")

    def forward(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")

    def total(q: Any, k: Any, v: Any) -> Any:
        return forward(q, k, v).astype("float32").sum()

    function = jax.jit(jax.grad(total, argnums=(0, 1, 2)) if backward else forward)
    yield "jax (cudnn)", lambda: function(q, k, v)


def dispatch(check: Check) -> None:
    """What a call costs the host: a small program with and without graphs, in a row and waited for."""
    x = resident(np.ones(64, np.float32))
    repeats = check.size(1000, 2)
    titles = {
        f"{length} dependent products, {'graph' if graphs else 'launches'}": (graphs, length)
        for graphs in (True, False) for length in check.size((1, 16), (1, 2))
    }  # fmt: skip
    for title in check.left(titles, str, 60):
        graphs, length = titles[title]
        with check.attempt(title) as found, on_gpu(), config.override(gpu_graphs=graphs):
            a = resident(np.eye(64, dtype=np.float32))

            def chain(x: Any, a: Any, length: int = length) -> Any:
                for _ in range(length):
                    x = tw.tanh(a @ x)
                return x

            step = tw.function(chain)
            for _ in range(3):
                np.asarray(step(x, a))
            began = time.perf_counter()
            for _ in range(repeats):
                step(x, a)
            in_a_row = time.perf_counter() - began
            check.gpu.synchronise()
            began = time.perf_counter()
            for _ in range(repeats):
                np.asarray(step(x, a))
            if not check.simulated:
                found["us_a_call"] = in_a_row / repeats * 1e6
                found["us_with_result"] = (time.perf_counter() - began) / repeats * 1e6
    torch = None if check.simulated else peers.torch_or_none()
    if torch is None:
        check.note("torch", SKIPPED, why="simulated" if check.simulated else "PyTorch is not installed")
        return
    with check.attempt("torch, 16 dependent products") as found, torch.no_grad():
        x, a = torch.ones(64, device="cuda"), torch.eye(64, device="cuda")

        def chain_of_torch() -> Any:
            y = x
            for _ in range(16):
                y = torch.tanh(a @ y)
            return y

        compiled = torch.compile(chain_of_torch, mode="reduce-overhead")
        for way, call in (("eager", chain_of_torch), ("compiled", compiled)):
            for _ in range(5):
                call()
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            found[f"{way}_us_a_call"] = (time.perf_counter() - began) / repeats * 1e6
            torch.cuda.synchronize()


def tuning(check: Check) -> None:
    """Products with the tiles that rules choose, and with those that are found by timing them."""
    sizes = check.size([(1024, 1024, 1024), (4096, 4096, 4096), (64, 4096, 4096)], [(32, 32, 32)])
    for m, n, k in check.left(sizes, lambda size: _product_name(("bfloat16", size)), 120):
        with check.attempt(_product_name(("bfloat16", (m, n, k)))) as found, on_gpu():
            a, b = (resident(_random(shape, "bfloat16")) for shape in ((m, k), (k, n)))
            times = []
            for tuned in (False, True):
                with config.override(gpu_tuning=tuned):
                    product = tw.function(lambda a, b: a @ b)
                    began = time.perf_counter()
                    _check_product(product(a, b), a, b)
                    if tuned:
                        found["seconds_to_tune"] = time.perf_counter() - began
                    times.append(milliseconds(check, lambda: product(a, b)))  # noqa: B023
            if not check.simulated:
                found["rules_ms"], found["tuned_ms"] = times
                found["gain"] = times[0] / times[1]
