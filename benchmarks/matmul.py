"""`python -m benchmarks.matmul`: matrix products of many shapes, orientations and types, against PyTorch and, on one
thread, NumPy's OpenBLAS (whose further threads spin between its turns, and take their processors from the others).
`--random N --seed S` draws other ones, with batches, narrow types and what may follow a product.

GFLOP/s by the least of many calls, implementations taking turns after a check that they agree; results are allocated
by the call. The last column is the share of what the processor's registers alone can do: fused multiply-adds that
depend on nothing but themselves, measured before every row, the most that was seen so far, once for each thread; of
narrow types it is float32's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Step, Workload, measure

FRAMEWORKS = ("thalweg", "torch", "numpy")
_SHORT = {"float32": "", "float64": " f64", "bfloat16": " bf16", "int8": " int8"}
_TOLERANCE = {"float32": 2e-3, "float64": 2e-3, "bfloat16": 3e-2, "int8": 0.0}


@dataclass(frozen=True)
class Case:
    """[rows, inner] by [inner, columns]; the operands named by `transposed` ("a", "b") lie the other way in memory.

    `after`: what is computed of the result: "gelu" (of the sum with a bias for each column), "exp" or "residual" (the
    sum with another matrix).
    """

    rows: int
    inner: int
    columns: int
    transposed: str = ""
    dtype: str = "float32"
    batch: tuple[int, ...] = ()
    after: str = ""

    @property
    def name(self) -> str:
        batch = "x".join(map(str, self.batch)) + ": " if self.batch else ""
        turned = "".join(f", {operand} transposed" for operand in self.transposed)
        return f"{batch}{self.rows}x{self.inner}x{self.columns}{turned}{_SHORT[self.dtype]}" + (
            f" + {self.after}" if self.after else ""
        )

    @property
    def gflop(self) -> float:
        return 2e-9 * self.rows * self.inner * self.columns * float(np.prod(self.batch))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The operands as they lie in memory."""
        rng = np.random.default_rng(0)
        shapes = {"a": (self.rows, self.inner), "b": (self.inner, self.columns)}
        lying = [shape[::-1] if name in self.transposed else shape for name, shape in shapes.items()]
        if self.dtype == "int8":
            return tuple(rng.integers(-128, 128, (*self.batch, *shape)).astype(np.int8) for shape in lying)
        made: Any = np.float64 if self.dtype == "float64" else np.float32
        a, b = (rng.standard_normal((*self.batch, *shape), made) for shape in lying)
        return a / max(1.0, self.inner**0.5) if self.after else a, b  # e^x stays finite

    def more(self) -> tuple[np.ndarray, ...]:
        """What `after` reads: the bias, or the other matrix."""
        rng = np.random.default_rng(1)
        shape = {"gelu": (self.columns,), "residual": (*self.batch, self.rows, self.columns)}.get(self.after)
        made: Any = np.float64 if self.dtype == "float64" else np.float32
        return () if shape is None else (rng.standard_normal(shape, made),)


_SQUARES = (64, 96, 100, 128, 200, 255, 256, 300, 384, 500, 512, 640, 768, 1000, 1024, 1500, 2048, 3000)
_OTHERS = (
    (4096, 1024, 1024), (1024, 1024, 4096), (512, 768, 3072), (512, 3072, 768), (128, 768, 30522), (4096, 1024, 64),
    (3000, 300, 3000), (128, 784, 512), (127, 513, 77), (100, 512, 10), (64, 512, 2048), (64, 1024, 1024),
    (32, 4096, 4096), (20, 1024, 2048), (16, 512, 512), (2, 1024, 1024), (1, 1024, 1024),
)  # fmt: skip
_TURNED = ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (784, 128, 512), (768, 512, 3072), (1, 1024, 1024))
_BATCHES = (
    Case(64, 64, 32, batch=(64,)), Case(128, 64, 128, "b", batch=(8, 12)), Case(128, 128, 64, batch=(8, 12)),
    Case(512, 64, 512, "b", batch=(16,)), Case(8, 8, 8, batch=(1000,)), Case(20, 30, 40, batch=(100,)),
)  # fmt: skip
CASES = (
    *(Case(n, n, n) for n in _SQUARES),
    *(Case(*shape) for shape in _OTHERS),
    *(Case(*shape, turned) for turned in "ab" for shape in _TURNED),
    Case(512, 512, 512, "ab"),
    *_BATCHES,
    *(Case(n, n, n, dtype="float64") for n in (128, 512, 1024)),
    *(Case(n, n, n, dtype=dtype) for dtype in ("bfloat16", "int8") for n in (512, 768, 1024, 2048)),
    *(Case(1024, 1024, 1024, turned, "bfloat16") for turned in "ab"),
    *(Case(512, 512, 512, after=after) for after in ("gelu", "exp", "residual")),
)


def _turned(array: Any, turned: bool) -> Any:
    return array.swapaxes(-1, -2) if turned else array


def _thalweg(case: Case) -> Step:
    import thalweg as tw

    def product(a: Any, b: Any, *more: Any) -> Any:
        a = tw.matrix_transpose(a) if "a" in case.transposed else a
        b = tw.matrix_transpose(b) if "b" in case.transposed else b
        if case.dtype == "int8":
            return tw.astype(a, tw.int32) @ tw.astype(b, tw.int32)
        y = a @ b
        return (
            tw.exp(y)
            if case.after == "exp"
            else tw.nn.gelu(y + more[0], approximate=True)
            if case.after == "gelu"
            else sum(more, y)
        )

    compiled = tw.function(product)
    narrow = tw.bfloat16.numpy if case.dtype == "bfloat16" else case.dtype
    operands = [tw.asarray(x.astype(narrow)) for x in (*case.arrays(), *case.more())]
    return lambda: compiled(*operands)


def _torch(case: Case) -> Step:
    import torch

    dtype = getattr(torch, case.dtype)
    a, b = (
        _turned(torch.from_numpy(x).to(dtype), n in case.transposed) for x, n in zip(case.arrays(), "ab", strict=True)
    )
    more = [torch.from_numpy(x).to(dtype) for x in case.more()]
    if case.dtype == "int8":
        return lambda: torch._int_mm(a, b)

    def step() -> Any:
        y = a @ b
        if case.after == "gelu":
            return torch.nn.functional.gelu(y + more[0], approximate="tanh")
        return torch.exp(y) if case.after == "exp" else sum(more, y)

    return step


def _numpy(case: Case) -> Step:
    if case.dtype not in ("float32", "float64") or case.after:
        raise ValueError("no product of its library")
    a, b = (_turned(x, n in case.transposed) for x, n in zip(case.arrays(), "ab", strict=True))
    return lambda: a @ b


_MAKERS: dict[str, Callable[[Case], Step]] = {"thalweg": _thalweg, "torch": _torch, "numpy": _numpy}


def drawn(count: int, seed: int) -> list[Case]:
    """Random cases: sizes from 1 to 4096, equally often of each order of magnitude; none takes more than a second."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        rows, inner, columns = (int(2 ** rng.uniform(0, 12)) for _ in range(3))
        dtype = str(rng.choice(["float32", "float32", "float64", "bfloat16", "int8"]))
        turned = "".join(operand for operand in "ab" if rng.random() < 0.25)
        batch = (int(2 ** rng.uniform(1, 6)),) if dtype != "int8" and rng.random() < 0.2 else ()
        after = str(rng.choice(["gelu", "exp", "residual"])) if dtype == "float32" and rng.random() < 0.4 else ""
        case = Case(rows, inner, columns, turned, dtype, batch, after)
        narrow = dtype == "int8" and (rows < 17 or inner % 8 or columns % 8)  # which PyTorch does not multiply
        if case.gflop < 20 and not narrow:
            cases.append(case)
    return cases


def workloads(cases: Sequence[Case], wanted: str) -> Iterator[tuple[Case, Workload]]:
    """Every case whose name contains `wanted`."""
    for case in cases:
        if wanted in case.name:
            makers = {f: partial(make, case) for f, make in _MAKERS.items()}
            yield case, Workload(case.name, case.name, makers, rtol=_TOLERANCE[case.dtype])


def _limit_threads(count: int) -> int:
    """How many threads all use. NumPy's library has read its variable already: the program is started once more."""
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    threads = count or len(os.sched_getaffinity(0))
    if os.environ.get("OPENBLAS_NUM_THREADS") != str(threads):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "THALWEG_THREADS"):
            os.environ[name] = str(threads)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.matmul", *sys.argv[1:]])
    return threads


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matmul", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this; others stay in the file")
    parser.add_argument("--threads", type=int, default=0, help="processors to use (default: all)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each implementation of a row")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="measure N random cases instead")
    parser.add_argument("--seed", type=int, default=0, help="of --random")
    parser.add_argument("--json", type=Path, default=None, help="default: benchmarks/results/matmul-THREADS.json")
    options = parser.parse_args()
    threads = _limit_threads(options.threads)
    from thalweg.backends.cpu.peaks import in_registers  # after the variables are set

    measures = {dtype: in_registers(short) for dtype, short in {"float32": "f32", "float64": "f64"}.items()}
    peaks = dict.fromkeys(measures, 0.0)
    print(f"{threads} thread(s), GFLOP/s; ratio: to the fastest peer; share: of {threads} x what registers alone do")
    frameworks = FRAMEWORKS if threads == 1 else FRAMEWORKS[:2]
    print(f"{'rows x sum x columns':44}" + "".join(f"{f:>9}" for f in frameworks) + f"{'ratio':>9}{'share':>8}")
    rows = []
    for case, workload in workloads(drawn(options.random, options.seed) if options.random else CASES, options.only):
        kind = case.dtype if case.dtype in peaks else "float32"
        peaks[kind] = max(peaks[kind], measures[kind]() / 1e9)
        registers = threads * peaks[kind]
        some = [f for f in frameworks if f != "numpy" or (case.dtype in peaks and not case.after)]
        results = measure(workload, some, options.rounds, options.budget)
        speeds = {r.framework: case.gflop / r.best for r in results if not r.error}
        peers = [speed for framework, speed in speeds.items() if framework != "thalweg"]
        ratio = speeds.get("thalweg", float("nan")) / max(peers, default=float("nan"))
        share = speeds.get("thalweg", float("nan")) / registers
        rows.append({"row": case.name, "gflops": speeds, "ratio": ratio, "registers": registers, "share": share})
        cells = "".join(f"{speeds.get(framework, float('nan')):9.1f}" for framework in frameworks)
        print(f"{case.name:44}{cells}{ratio:8.2f}x{share:8.0%}", flush=True)
        for result in results:
            if result.error:
                print(f"    {result.framework}: {result.error}")
    name = f"matmul-random-{options.seed}-{threads}" if options.random else f"matmul-{threads}"
    target = options.json or Path(f"benchmarks/results/{name}.json")
    if options.only and target.exists():  # rows of earlier runs stay, in their places
        new = {row["row"]: row for row in rows}
        old = json.loads(target.read_text())["rows"]
        rows = [new.pop(row["row"], row) for row in old] + list(new.values())
    target.write_text(json.dumps({"threads": threads, "rows": rows}, indent=1) + "\n")
    print(f"written to {target}")


if __name__ == "__main__":
    main()
