"""`python -m benchmarks.convolutions`: one convolution or pooling at a time, forward and gradients, against the peers.

Times are the least of many calls, implementations taking turns; results are compared first. Run it on one processor
(`taskset -c 0`) for ratios of single threads. PyTorch and JAX hold images channels last, as Thalweg does; in the rows
named NCHW all three hold them channels first.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Step, Workload, measure

PARTS = ("forward", "data", "weight")  # the result, the gradient of the image, that of the weights


@dataclass(frozen=True)
class Case:
    """A convolution, or a pooling where `outputs` is "max" or "mean"."""

    name: str
    image: tuple[int, ...]  # batch, *spatial, channels
    window: int
    outputs: int | str
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    first: bool = False  # channels first

    @property
    def rank(self) -> int:
        return len(self.image) - 2

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS[:2] if isinstance(self.outputs, str) else PARTS

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(image, weights, the cotangent of the result)."""
        rng = np.random.default_rng(0)
        reach = (self.window - 1) * self.dilation + 1
        extents = [(n + 2 * self.pad - reach) // self.stride + 1 for n in self.image[1:-1]]
        inputs = self.image[-1]
        outputs = inputs if isinstance(self.outputs, str) else self.outputs
        weights = (*[self.window] * self.rank, inputs // self.groups, outputs)
        shapes = (self.image, weights, (self.image[0], *extents, outputs))
        x, w, g = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return self.held(x), w, self.held(g)

    def held(self, image: np.ndarray) -> np.ndarray:
        """An image with channels last, as the row holds it."""
        return np.ascontiguousarray(np.moveaxis(image, -1, 1)) if self.first else image


CASES = (
    Case("1x1 64-256", (4, 56, 56, 64), 1, 256),
    Case("1x1 512-512", (1, 14, 14, 512), 1, 512),
    Case("1x1 stride 2", (2, 56, 56, 256), 1, 512, 2),
    Case("3x3 64", (4, 56, 56, 64), 3, 64, 1, 1),
    Case("3x3 256", (4, 14, 14, 256), 3, 256, 1, 1),
    Case("3x3 odd channels", (4, 29, 27, 35), 3, 51, 1, 1),
    Case("3x3 stride 2", (4, 56, 56, 128), 3, 128, 2, 1),
    Case("3x3 first layer", (4, 224, 224, 3), 3, 32, 2, 1),
    Case("5x5 32-64", (4, 28, 28, 32), 5, 64, 1, 2),
    Case("7x7 stride 2", (4, 224, 224, 3), 7, 64, 2, 3),
    Case("11x11 stride 4", (4, 227, 227, 3), 11, 64, 4),
    Case("3x3 dilated", (2, 40, 40, 64), 3, 64, 1, 2, 2),
    Case("3x3 4 groups", (2, 28, 28, 128), 3, 128, 1, 1, 1, 4),
    Case("depthwise 3x3", (1, 56, 56, 128), 3, 128, 1, 1, 1, 128),
    Case("depthwise stride 2", (1, 112, 112, 64), 3, 64, 2, 1, 1, 64),
    Case("1-D 9", (8, 400, 64), 9, 64, 1, 4),
    Case("3-D 3x3x3", (1, 16, 28, 28, 16), 3, 32, 1, 1),
    Case("3x3 64-3", (4, 56, 56, 64), 3, 3, 1, 1),
    Case("1-D dilated", (8, 400, 64), 3, 64, 1, 4, 4),
    Case("depthwise 5x5", (1, 28, 28, 240), 5, 240, 1, 2, 1, 240),
    Case("3x3 64 NCHW", (4, 56, 56, 64), 3, 64, 1, 1, first=True),
    Case("3x3 stride 2 NCHW", (4, 56, 56, 128), 3, 128, 2, 1, first=True),
    Case("7x7 stride 2 NCHW", (4, 224, 224, 3), 7, 64, 2, 3, first=True),
    Case("max-pool 3x3 s2", (4, 112, 112, 64), 3, "max", 2, 1),
    Case("max-pool 2x2", (4, 112, 112, 64), 2, "max", 2),
    Case("max-pool 3x3", (4, 28, 28, 256), 3, "max", 1, 1),
    Case("mean-pool 3x3 s2", (4, 56, 56, 64), 3, "mean", 2),
    Case("mean-pool 2x2", (4, 56, 56, 64), 2, "mean", 2),
)


def _thalweg(case: Case, part: str) -> Step:
    import thalweg as tw

    x, w, g = map(tw.asarray, case.arrays())
    pads = [(case.pad, case.pad)] * case.rank

    def forward(x: Any, w: Any) -> Any:
        if isinstance(case.outputs, str):
            pool = tw.nn.max_pool if case.outputs == "max" else tw.nn.avg_pool
            return pool(x, case.window, stride=case.stride, padding=pads if case.pad else "valid")
        last, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if case.first else ((), ())
        x = tw.permute_dims(x, last) if last else x
        y = tw.nn.conv(x, w, stride=case.stride, padding=pads, dilation=case.dilation, groups=case.groups)
        return tw.permute_dims(y, back) if back else y

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

    def forward(x: Any, w: Any) -> Any:
        if isinstance(case.outputs, str):
            window, steps = ((1, *[n] * case.rank, 1) for n in (case.window, case.stride))
            around = [(0, 0), *pads, (0, 0)]
            if case.outputs == "max":
                return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, around)
            return lax.reduce_window(x, 0.0, lax.add, window, steps, around) / case.window**case.rank
        return lax.conv_general_dilated(
            x, w, [case.stride] * case.rank, pads, rhs_dilation=[case.dilation] * case.rank,
            dimension_numbers=(images, f"{spatial}IO", images), feature_group_count=case.groups,
        )  # fmt: skip

    if part == "forward":
        infer = jax.jit(forward)
        return lambda: infer(x, w).block_until_ready()
    gradient = jax.jit(jax.grad(lambda x, w, g: jnp.sum(forward(x, w) * g), argnums=PARTS.index(part) - 1))
    return lambda: gradient(x, w, g).block_until_ready()


def _torch(case: Case, part: str) -> Step:
    import torch

    same = list(range(case.rank + 2))
    last = same if case.first else [0, case.rank + 1, *range(1, case.rank + 1)]
    back = same if case.first else [0, *range(2, case.rank + 2), 1]
    x, w, g = (torch.from_numpy(a) for a in case.arrays())
    x, g = x.permute(last), g.permute(last)
    w = w.permute([case.rank + 1, case.rank, *range(case.rank)]).contiguous()
    if case.rank > 1 and not case.first:
        layout = torch.channels_last if case.rank == 2 else torch.channels_last_3d
        w = w.contiguous(memory_format=layout)
    functions: Any = torch.nn.functional

    def forward() -> Any:
        if isinstance(case.outputs, str):
            name = ("max" if case.outputs == "max" else "avg") + f"_pool{case.rank}d"
            return getattr(functions, name)(x, case.window, case.stride, case.pad)
        name = f"conv{case.rank}d"
        return getattr(functions, name)(x, w, None, case.stride, case.pad, case.dilation, case.groups)

    if part == "forward":

        def infer() -> object:
            with torch.inference_mode():
                return forward().permute(back)

        return infer
    if isinstance(case.outputs, str):
        x.requires_grad_()
        y = forward()
        return lambda: torch.autograd.grad(y, x, g, retain_graph=True)[0].permute(back)
    n = case.rank
    options = ([case.stride] * n, [case.pad] * n, [case.dilation] * n, False, [0] * n, case.groups)
    masks = [part == "data", part == "weight", False]

    def gradient() -> object:
        made = torch.ops.aten.convolution_backward(g, x, w, None, *options, masks)
        return made[0].permute(back) if part == "data" else made[1].permute([*range(2, n + 2), 1, 0])

    return gradient


MAKERS: dict[str, Callable[[Case, str], Step]] = {"thalweg": _thalweg, "jax": _jax, "torch": _torch}


def workloads(wanted: str) -> Iterator[Workload]:
    """Every part of every case whose name begins with `wanted`."""
    for case in CASES:
        for part in case.parts:
            name = f"{case.name}, {part}"
            if name.startswith(wanted):
                makers = {framework: partial(maker, case, part) for framework, maker in MAKERS.items()}
                yield Workload(name, name, makers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("--only", default="", help="the first letters of the rows to run")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each implementation of a row")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/convolutions.json"))
    options = parser.parse_args()
    threads = str(len(os.sched_getaffinity(0)))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "THALWEG_THREADS"):
        os.environ[name] = threads
    print(f"{threads} thread(s); least milliseconds; ratio = fastest peer / thalweg")
    rows = []
    for workload in workloads(options.only):
        results = measure(workload, list(MAKERS), 7, options.budget)
        best = {r.framework: r.best * 1e3 for r in results if not r.error}
        peers = [time for framework, time in best.items() if framework != "thalweg"]
        ratio = min(peers) / best["thalweg"] if peers and "thalweg" in best else float("nan")
        rows.append({"row": workload.name, "ms": best, "ratio": ratio})
        cells = "".join(f"{best.get(framework, float('nan')):10.3f}" for framework in MAKERS)
        print(f"{workload.name:28}{cells}{ratio:8.2f}x", flush=True)
        for result in results:
            if result.error:
                print(f"    {result.framework}: {result.error}")
    options.json.write_text(json.dumps({"threads": int(threads), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
