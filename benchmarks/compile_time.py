"""`python -m benchmarks.compile_time`: seconds of each stage of the compiler, for programs of growing size.

A program is a tower of layers: a product with a matrix, a normalisation, a gate, a skip connection. `forward` is a
tower as it is, `gradient` one with its gradient in all matrices, `scan` a gradient through the rows of a scan. `ops`
counts the ops of the `tw` program once it is differentiated and before it is simplified. A stage whose `x` (time for
the last row over that for the first) is far above that of the ops is not linear.

    trace      the Python function -> tw                 legalize   StableHLO -> linalg
    expand     inline, hoist-state, differentiate        read       linalg -> value graph
    simplify   `simplify`                                form       values -> kernels
    waist      the pipeline `to-stablehlo`               step       buffers, and the step that calls the kernels
    lower      tw -> StableHLO                           mlir       kernels -> LLVM IR
    verify     the verifier, once                        llvm       LLVM IR -> machine code (with --llvm)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import thalweg as tw
from thalweg.backends.cpu.backend import aliases_of, main_function
from thalweg.backends.cpu.fusion import form
from thalweg.backends.cpu.hoist import hoist_packing
from thalweg.backends.cpu.jit import compile_llvm, to_llvm_ir
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.padding import absorb_paddings
from thalweg.backends.cpu.parallel import Parallel
from thalweg.backends.cpu.partition import parts_of, with_definitions
from thalweg.backends.cpu.plan import Plan
from thalweg.backends.cpu.program import share_kernels
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.schedule import order_updates
from thalweg.backends.cpu.step import StepWriter
from thalweg.backends.cpu.widening import absorb_widenings
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import verify, walk
from thalweg.frontend.program import Program
from thalweg.passes.pipeline import Pipeline

SIZES = (1250, 2500, 5000, 10_000)
OPS_PER_LAYER = {"forward": 27, "gradient": 63, "scan": 63}
FRONT = ("trace", "expand", "simplify", "waist", "lower")  # all before the CPU backend
BACK = ("legalize", "read", "form", "step")
WIDTH, ROWS = 16, 8


def layers(x: Any, weights: Any) -> Any:
    """A layer for each matrix of `weights`, one after the other."""
    for weight in weights:
        centred = x - tw.mean(x, axis=1, keepdims=True)
        normal = centred / tw.sqrt(tw.mean(centred * centred, axis=1, keepdims=True) + 1e-5)
        x = x + tw.tanh(normal @ weight + 0.5) * tw.sigmoid(x)
    return x


def tower(x: Any, weights: Any) -> Any:
    """A number from `x`."""
    return tw.sum(layers(x, weights))


def scanned(x: Any, weights: Any) -> Any:
    """A number from the rows of `x`, each of which goes through all layers with what the one before left."""
    last, _ = tw.scan(lambda carry, row: (layers(carry + row, weights), None), tw.zeros((1, WIDTH)), x)
    return tw.sum(last)


def traced(kind: str, ops: int) -> Program:
    """A program of about `ops` ops."""
    matrix = tw.TensorSpec((WIDTH, WIDTH), tw.float32)
    weights = [matrix] * max(1, ops // OPS_PER_LAYER[kind])
    functions = {"forward": tower, "gradient": tw.grad(tower, argnums=1), "scan": tw.grad(scanned, argnums=1)}
    return tw.function(functions[kind]).program(tw.TensorSpec((ROWS, WIDTH), tw.float32), weights)


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def measure(kind: str, ops: int, llvm: bool = False) -> tuple[int, dict[str, float]]:
    """The number of ops of a program, and the seconds that each stage takes to compile it."""
    clock = Clock()
    with clock("trace"):
        program = traced(kind, ops)
    with context.entered():
        module = ir.Module.parse(program.module.operation.get_asm(enable_debug_info=True))
        with clock("expand"):
            Pipeline.parse("inline,hoist-state,differentiate").run(module, verify_each=False)
        count = sum(1 for _ in walk(module.body))
        with clock("simplify"):
            Pipeline.parse("simplify").run(module, verify_each=False)
        with clock("waist"):
            Pipeline.parse("to-stablehlo").run(module, verify_each=False)
        with clock("verify"):
            verify(module)
        with clock("lower"):
            stablehlo = lower_module(module)
        _generate_code(stablehlo, clock, llvm)
    return count, clock.seconds


def _generate_code(stablehlo: ir.Module, clock: Clock, llvm: bool) -> None:
    """The stages of `backends.cpu.backend.lower`, each by the clock."""
    options = CpuOptions()
    with clock("legalize"):
        linalg = legalize(stablehlo)
    function = main_function(linalg)
    with clock("read"):
        graph = read_function(function)
    with clock("form"):
        program = form(hoist_packing(absorb_paddings(absorb_widenings(graph), options), options), options)
    with clock("step"):
        aliases, parallel = aliases_of(function), Parallel(options.worker_count())
        order_updates(program, aliases)
        share_kernels(program)
        step = StepWriter(program, Plan(program, aliases, options.worker_count()), aliases, parallel).text()
        sources = {kernel.name: kernel.source for kernel in program.kernels()}
        parts = parts_of(sources, parallel.declarations() + step, parallel.definitions())
    with clock("mlir"):
        texts = [with_definitions(to_llvm_ir(part.source), part.definitions) for part in parts]
    if llvm:
        with clock("llvm"):
            for part, text in zip(parts, texts, strict=True):
                compile_llvm(text, options, explicit=part.explicit)


Rows = list[tuple[int, dict[str, float]]]  # the number of ops, and the seconds of each stage


def tabulate(kind: str, sizes: Sequence[int], llvm: bool) -> Rows:
    """Measure programs of a kind, and print a line for each."""
    measure(kind, 100, llvm)  # what is done once in a process
    rows: Rows = []
    for size in sizes:
        count, seconds = measure(kind, size, llvm)
        seconds["to waist"] = sum(seconds[stage] for stage in FRONT)
        seconds["to mlir"] = seconds["to waist"] + sum(seconds[stage] for stage in BACK)
        if not rows:
            print(f"{kind:9}{'ops':>7}" + "".join(f"{stage:>10}" for stage in seconds))
        print(f"{'':9}{count:7}" + "".join(f"{value:10.2f}" for value in seconds.values()), flush=True)
        rows.append((count, seconds))
    (first, start), (last, end) = rows[0], rows[-1]
    print(f"{'x':>9}{last / first:7.1f}" + "".join(f"{end[s] / start[s]:10.1f}" for s in end), "\n", flush=True)
    return rows


def plot(found: Mapping[str, Rows], file: Path) -> None:
    """Draw the seconds of groups of stages over the number of ops, one upon the other; a panel for each kind."""
    from matplotlib import pyplot

    groups = {"to StableHLO": FRONT, "to kernels": BACK, "MLIR": ("mlir",), "LLVM": ("llvm",)}
    figure, panels = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3.2), sharey=True, squeeze=False)
    for panel, (kind, rows) in zip(panels[0], found.items(), strict=True):
        ops = [0, *(count for count, _ in rows)]
        heights = [[0.0, *(sum(s.get(stage, 0) for stage in stages) for _, s in rows)] for stages in groups.values()]
        panel.stackplot(ops, heights, labels=list(groups))
        panel.set(title=kind, xlabel="ops", xlim=(0, ops[-1]))
        first = sum(height[1] for height in heights)
        panel.plot(ops, [first * count / ops[1] for count in ops], "k--", label="linear")
    panels[0][0].set_ylabel("seconds")
    panels[0][0].legend(loc="upper left", fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of ops, separated by commas")
    parser.add_argument("--kinds", default="forward,gradient,scan")
    parser.add_argument("--llvm", action="store_true", help="also time LLVM")
    parser.add_argument("--json", type=Path, help="where to write the numbers, too")
    parser.add_argument("--plot", type=Path, help="where to draw them, as PNG or SVG; needs matplotlib")
    options = parser.parse_args()
    tw.config.cache = False  # nothing here may come from an earlier run
    sizes = [int(size) for size in options.sizes.split(",")]
    found = {kind: tabulate(kind, sizes, options.llvm) for kind in options.kinds.split(",")}
    if options.json:
        rows = {kind: [{"ops": count} | seconds for count, seconds in rows] for kind, rows in found.items()}
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
