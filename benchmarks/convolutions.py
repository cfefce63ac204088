"""`python -m benchmarks.convolutions`: one convolution or pooling at a time, forward and gradients, against the peers.

Times are the least of many calls, implementations taking turns; results are compared first. `--threads` is how many
processors all of them may use. They hold images channels last, but channels first in rows named so; TensorFlow, which
has kernels for channels last and one group, is left out where it has none. `--random 60` takes as many layers drawn at
random instead of those with names.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Step, Workload, measure
from benchmarks.layers import CASES, PARTS, Case, random_cases


def _thalweg(case: Case, part: str) -> Step:
    import thalweg as tw

    x, w, g = map(tw.asarray, case.arrays())
    pads = [(case.pad, case.pad)] * case.rank
    last, back = (0, *range(2, case.rank + 2), 1), (0, case.rank + 1, *range(1, case.rank + 1))

    def layer(x: Any, w: Any) -> Any:
        if isinstance(case.outputs, str):
            pool = tw.nn.max_pool if case.outputs == "max" else tw.nn.avg_pool
            return pool(x, case.window, stride=case.stride, padding=pads if case.pad else "valid")
        if case.transposed:
            return tw.nn.conv_transpose(x, w, stride=case.stride, padding=pads)
        return tw.nn.conv(x, w, stride=case.stride, padding=pads, dilation=case.dilation, groups=case.groups)

    def forward(x: Any, w: Any) -> Any:
        return tw.permute_dims(layer(tw.permute_dims(x, last), w), back) if case.first else layer(x, w)

    if part == "forward":
        infer = tw.function(forward)
        return lambda: infer(x, w)
    place = PARTS.index(part) - 1
    gradient = tw.function(tw.grad(lambda x, w, g: tw.sum(forward(x, w) * g), argnums=place))
    return lambda: gradient(x, w, g)


def _jax(case: Case, part: str) -> Step:
    import jax
    import jax.numpy as jnp
    from jax import lax

    x, w, g = map(jnp.asarray, case.arrays())
    pads, spatial = [(case.pad, case.pad)] * case.rank, "DHW"[3 - case.rank :]
    images = f"NC{spatial}" if case.first else f"N{spatial}C"

    def pool(x: Any) -> Any:
        def all_of(spatial: Any, other: Any) -> tuple[Any, ...]:
            return (other, other, *spatial) if case.first else (other, *spatial, other)

        window, steps = (all_of([n] * case.rank, 1) for n in (case.window, case.stride))
        around = all_of(pads, (0, 0))
        if case.outputs == "max":
            return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, around)
        ones = jnp.ones(all_of(case.image[1:-1], 1), x.dtype)
        return lax.reduce_window(x, 0.0, lax.add, window, steps, around) / lax.reduce_window(
            ones, 0.0, lax.add, window, steps, around
        )

    def forward(x: Any, w: Any) -> Any:
        if isinstance(case.outputs, str):
            return pool(x)
        names = (images, f"{spatial}IO", images)
        if case.transposed:
            around = [(case.window - 1 - case.pad,) * 2] * case.rank
            w, ones = jnp.flip(w, range(case.rank)), [1] * case.rank
            return lax.conv_general_dilated(
                x, w, ones, around, lhs_dilation=[case.stride] * case.rank, dimension_numbers=names
            )
        return lax.conv_general_dilated(
            x, w, [case.stride] * case.rank, pads, rhs_dilation=[case.dilation] * case.rank,
            dimension_numbers=names, feature_group_count=case.groups,
        )  # fmt: skip

    if part == "forward":
        infer = jax.jit(forward)
        return lambda: infer(x, w).block_until_ready()
    gradient = jax.jit(jax.grad(lambda x, w, g: jnp.sum(forward(x, w) * g), argnums=PARTS.index(part) - 1))
    return lambda: gradient(x, w, g).block_until_ready()


def _torch(case: Case, part: str) -> Step:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    n, functions = case.rank, torch.nn.functional
    same = list(range(n + 2))
    last = same if case.first else [0, n + 1, *range(1, n + 1)]
    back = same if case.first else [0, *range(2, n + 2), 1]
    x, w, g = (torch.from_numpy(a) for a in case.arrays())
    x, g = x.permute(last), g.permute(last)
    w = w.permute([n, n + 1, *range(n)] if case.transposed else [n + 1, n, *range(n)]).contiguous()
    if n > 1 and not case.first:
        w = w.contiguous(memory_format=torch.channels_last if n == 2 else torch.channels_last_3d)

    def forward() -> Any:
        sizes = (case.stride, case.pad)
        if case.outputs == "max":
            return getattr(functions, f"max_pool{n}d")(x, case.window, *sizes)
        if case.outputs == "mean":
            return getattr(functions, f"avg_pool{n}d")(x, case.window, *sizes, False, not case.pad)
        if case.transposed:
            return getattr(functions, f"conv_transpose{n}d")(x, w, None, *sizes)
        return getattr(functions, f"conv{n}d")(x, w, None, *sizes, case.dilation, case.groups)

    if part == "forward":

        def infer() -> object:
            with torch.inference_mode():
                return forward().permute(back)

        return infer
    if isinstance(case.outputs, str):
        x.requires_grad_()
        y = forward()
        return lambda: torch.autograd.grad(y, x, g, retain_graph=True)[0].permute(back)
    options = ([case.stride] * n, [case.pad] * n, [case.dilation] * n, case.transposed, [0] * n, case.groups)
    masks = [part == "data", part == "weight", False]
    weights = [*range(2, n + 2), 0, 1] if case.transposed else [*range(2, n + 2), 1, 0]

    def gradient() -> object:
        made = torch.ops.aten.convolution_backward(g, x, w, None, *options, masks)
        return made[0].permute(back) if part == "data" else made[1].permute(weights)

    return gradient


def _tensorflow(case: Case, part: str) -> Step:
    import tensorflow as tf

    x, w, g = map(tf.constant, case.arrays())
    around = [(0, 0), *[(case.pad, case.pad)] * case.rank, (0, 0)]

    def forward(x: Any, w: Any) -> Any:
        if case.outputs == "max" and case.rank == 2:
            return tf.nn.max_pool2d(x, case.window, case.stride, around)
        if isinstance(case.outputs, str):
            return tf.nn.pool(x, [case.window] * case.rank, case.outputs.replace("mean", "avg").upper(),
                              strides=[case.stride] * case.rank)  # fmt: skip
        if case.rank == 2 and case.groups == case.channels:
            weights, steps = tf.reshape(w, (*case.weights[:2], case.groups, 1)), [1, case.stride, case.stride, 1]
            return tf.nn.depthwise_conv2d(x, weights, steps, around)
        if case.rank == 2:
            return tf.nn.conv2d(x, w, case.stride, around, dilations=case.dilation)
        steps, apart = [case.stride] * case.rank, [case.dilation] * case.rank
        return tf.nn.convolution(tf.pad(x, around) if case.pad else x, w, steps, "VALID", dilations=apart)

    if part == "forward":
        infer = tf.function(forward)
        return lambda: infer(x, w).numpy()
    place = PARTS.index(part) - 1

    @tf.function
    def gradient(x: Any, w: Any, g: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = forward(x, w)
        return tape.gradient(y, (x, w)[place], g)

    return lambda: gradient(x, w, g).numpy()


MAKERS: dict[str, Callable[[Case, str], Step]] = {
    "thalweg": _thalweg, "jax": _jax, "torch": _torch, "tensorflow": _tensorflow,
}  # fmt: skip


def _has(framework: str, case: Case) -> bool:
    """Can a framework do a layer?"""
    if framework != "tensorflow":
        return True
    pooled = isinstance(case.outputs, str)
    window = (case.outputs == "max" and case.rank == 2) or not case.pad if pooled else True
    depthwise = case.rank == 2 and case.groups == case.channels == case.image[-1] and case.dilation == 1
    return window and not case.first and not case.transposed and (case.groups == 1 or depthwise)


def workloads(cases: Iterable[Case], wanted: str) -> Iterator[Workload]:
    """Every part of every case whose name begins with `wanted`."""
    for case in cases:
        for part in case.parts:
            name = f"{case.name}, {part}"
            if name.startswith(wanted):
                able = {framework: maker for framework, maker in MAKERS.items() if _has(framework, case)}
                makers = {framework: partial(maker, case, part) for framework, maker in able.items()}
                yield Workload(name, name, makers)


def _row(workload: Workload, frameworks: list[str], budget: float) -> dict[str, object]:
    """Measure and print a row; what the file has of it."""
    results = measure(workload, frameworks, 7, budget)
    best = {r.framework: r.best * 1e3 for r in results if not r.error}
    peers = [time for framework, time in best.items() if framework != "thalweg"]
    ratio = min(peers) / best["thalweg"] if peers and "thalweg" in best else float("nan")
    cells = "".join(f"{best.get(framework, float('nan')):10.3f}" for framework in frameworks)
    print(f"{workload.name:48}{cells}{ratio:8.2f}x", flush=True)
    for result in results:
        if result.error:
            print(f"    {result.framework}: {result.error}")
    return {"row": workload.name, "ms": best, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("--only", default="", help="the first letters of the rows to run")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each implementation of a row")
    parser.add_argument("--threads", type=int, default=1, help="processors to run on")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N layers drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of those")
    parser.add_argument("--frameworks", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, processors)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "THALWEG_THREADS"):
        os.environ[name] = str(len(processors))
    print(f"{len(processors)} thread(s); least milliseconds of {', '.join(options.frameworks)}; fastest peer / thalweg")
    cases = random_cases(options.random, options.seed) if options.random else CASES
    rows = [_row(row, options.frameworks, options.budget) for row in workloads(cases, options.only)]
    if options.json:
        options.json.write_text(json.dumps({"threads": len(processors), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
