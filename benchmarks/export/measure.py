"""One runtime on one model, in a process of its own, on one thread; prints a line of JSON.

    python -m benchmarks.export.measure thalweg|litert|onnxruntime PATH SAMPLE.npy EXPECTED.npy

`start_ms`: from before the runtime is imported to the first result; `load_ms`: of that, without the import.
`memory_mb`: the most that the process held, less what Python and NumPy alone hold.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SECONDS = 1.5


def _held(field: str) -> float:
    """MiB by the kernel's account: VmRSS now, VmHWM at most."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith(field))) / 1024


def _thalweg(path: str, x: Array) -> tuple[Callable[[], Any], Callable[[], Array], float]:
    from thalweg.runtime.bundle import load

    start = time.perf_counter()
    model = load(path)
    return lambda: model.infer(x), lambda: np.asarray(model.infer(x)), start


def _litert(path: str, x: Array) -> tuple[Callable[[], Any], Callable[[], Array], float]:
    from ai_edge_litert.interpreter import Interpreter

    start = time.perf_counter()
    model = Interpreter(path, num_threads=1)
    model.allocate_tensors()
    given, made = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    model.set_tensor(given, x)
    run = model.invoke

    def result() -> Array:
        run()
        return np.array(model.get_tensor(made))

    return run, result, start


def _onnxruntime(path: str, x: Array) -> tuple[Callable[[], Any], Callable[[], Array], float]:
    import onnxruntime as ort

    start = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
    binding = session.io_binding()  # no copies, as from C
    binding.bind_cpu_input("x", x)
    binding.bind_output(session.get_outputs()[0].name)

    def run() -> None:
        session.run_with_iobinding(binding)

    def result() -> Array:
        run()
        return np.asarray(binding.copy_outputs_to_cpu()[0])

    return run, result, start


RUNTIMES = {"thalweg": _thalweg, "litert": _litert, "onnxruntime": _onnxruntime}


def main(runtime: str, path: str, sample: str, expected: str) -> None:
    x, wanted = np.load(sample), np.load(expected)
    before, begin = _held("VmRSS"), time.perf_counter()
    run, result, loading = RUNTIMES[runtime](path, x)
    found = result()
    ready = time.perf_counter()
    times: list[float] = []
    while len(times) < 10 or time.perf_counter() - ready < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(json.dumps({
        "latency_us": 1e6 * float(np.median(times)), "start_ms": 1e3 * (ready - begin),
        "load_ms": 1e3 * (ready - loading), "memory_mb": _held("VmHWM") - before,
        "error": float(np.abs(found - wanted).max() / np.abs(wanted).max()),
    }))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
