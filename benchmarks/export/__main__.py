"""`python -m benchmarks.export`: build the models for every runtime, measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.export.models import MODELS
from benchmarks.export.native import LEVELS, in_c, in_node

ROOT = Path(__file__).resolve().parents[2]
OURS = (*LEVELS, "wasm_us", "wasm_fma_us")
COLUMNS = ("latency_us", "start_ms", "load_ms", "memory_mb", "size_kb", "error")
Row = dict[str, Any]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="names separated by commas")
    parser.add_argument("--weights", default="f32", help="f32, bf16, int8 (stored so, computed in float32), "
                        "int8-dynamic, int8-static; several separated by commas")  # fmt: skip
    parser.add_argument("--peers-python", default=sys.executable, help="one with ai-edge-litert, onnxruntime, onnx "
                        "and tensorflow (for the converter)")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=Path("build/export"), help="where models are built")
    parser.add_argument("--rounds", type=int, default=3, help="the runtimes take turns; the best of the rounds counts")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/export.json"))
    return parser.parse_args()


def _python(python: str, module: str, *arguments: object) -> str | None:
    """What a module prints; None where it fails, with the reason on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-m", f"benchmarks.export.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{' '.join(command[2:])} failed: {last}", file=sys.stderr)
        return None
    return done.stdout


def _build(name: str, folder: Path, weights: list[str], peers: str) -> dict[str, tuple[str, Path]]:
    """The files of each contender: (runtime, path), by name."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "sample.npy", MODELS[name]().sample())
    found: dict[str, tuple[str, Path]] = {}
    for storage in weights:
        if (told := _python(sys.executable, "ours", name, folder, storage)) is not None:
            print(told, end="")
            found[f"thalweg {storage}"] = ("thalweg", folder / f"thalweg-{storage}")
        path = folder / f"{storage}.tflite"
        if storage != "int8" and _python(peers, "tflite_model", name, path, storage) is not None:
            # Its converter knows half precision as float16 alone.
            found[f"litert {'f16' if storage == 'bf16' else storage}"] = ("litert", path)
        path = folder / f"{storage}.onnx"
        if storage not in ("int8", "bf16") and _python(peers, "onnx_model", name, path, storage) is not None:
            found[f"onnxruntime {storage}"] = ("onnxruntime", path)
    return found


def _size(runtime: str, path: Path) -> int:
    """Bytes that a program ships for the model: for Thalweg the library, and the weights if they are not in it."""
    if runtime != "thalweg":
        return path.stat().st_size
    library = next((path / f"{platform.system().lower()}-{platform.machine()}").glob("*.so")).stat().st_size
    weights = (path / "weights.safetensors").stat().st_size
    return library + (weights if library < weights else 0)


def _measure(found: dict[str, tuple[str, Path]], folder: Path, rounds: int, peers: str) -> dict[str, Row]:
    taken: dict[str, list[Row]] = {}
    for _ in range(rounds):
        for label, (runtime, path) in found.items():
            python = sys.executable if runtime == "thalweg" else peers
            given = (runtime, path, folder / "sample.npy", folder / "expected.npy")
            if (told := _python(python, "measure", *given)) is not None:
                row = json.loads(told.splitlines()[-1])
                if runtime == "thalweg":
                    row |= in_c(path) | in_node(path)
                taken.setdefault(label, []).append(row)
    best = {}
    for label, rows in taken.items():
        kept = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
        best[label] = {key: min(values) for key, values in kept.items() if values}
        best[label]["spread"] = statistics.median(kept["latency_us"]) / min(kept["latency_us"])
        best[label]["size_kb"] = _size(*found[label]) / 1024
    return best


def main() -> None:
    arguments = _arguments()
    results: dict[str, dict[str, Row]] = {}
    for name in arguments.models.split(","):
        folder = (arguments.folder / name).resolve()
        found = _build(name, folder, arguments.weights.split(","), arguments.peers_python)
        results[name] = _measure(found, folder, arguments.rounds, arguments.peers_python)
        print(f"\n{name:<18}" + "".join(f"{c:>12}" for c in (*COLUMNS, *OURS)))
        for label, row in results[name].items():
            cells = (f"{row[c]:>12.4g}" if c in row else " " * 12 for c in (*COLUMNS, *OURS))
            print(f"{label:<18}" + "".join(cells), flush=True)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "models": results},
                                         indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
