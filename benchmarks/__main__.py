"""`python -m benchmarks`: run workloads against the peers that are installed, print a table, write JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

# What each is imported as.
FRAMEWORKS = {
    "thalweg": "thalweg", "jax": "jax", "torch": "torch", "torch.compile": "torch", "tensorflow": "tensorflow",
    "tensorflow-xla": "tensorflow", "onnxruntime": "onnxruntime", "litert": "ai_edge_litert",
}
PEERS = tuple(FRAMEWORKS)[1:]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--workloads", default="all", help="names separated by commas; a prefix is enough")
    parser.add_argument("--models", action="store_true", help="whole networks on images, which take minutes, instead")
    parser.add_argument("--against", default="all", help=f"any of {', '.join(PEERS)}; default: the installed")
    parser.add_argument("--threads", type=int, default=0, help="processors to use (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each implementation of a workload")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, one process each")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/latest.json"))
    parser.add_argument("--add", action="store_true", help="keep what the JSON file has of other workloads and peers")
    parser.add_argument("--list", action="store_true", help="list the workloads")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="compare two runs' JSON files")
    parser.add_argument("--markdown", nargs="+", type=Path, metavar="FILE", help="print runs as a table for a document")
    parser.add_argument("--least", action="store_true", help="with --markdown: the least of all rounds, not the median")
    parser.add_argument("--peak-memory-of", nargs=2, metavar=("WORKLOAD", "FRAMEWORK"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _limit_threads(count: int) -> None:
    """Before any framework is imported: they size their pools by affinity and by these variables."""
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    threads = str(count or len(os.sched_getaffinity(0)))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = threads
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("THALWEG_THREADS", threads)
    if count == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"


def _installed(names: str) -> list[str]:
    wanted = PEERS if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    for name in wanted:
        if name not in FRAMEWORKS:
            sys.exit(f"unknown framework '{name}'; the frameworks are {', '.join(FRAMEWORKS)}")
    found = [n for n in wanted if importlib.util.find_spec(FRAMEWORKS[n])]
    for name in set(wanted) - set(found):
        print(f"{name} is not installed; `make bench-peers` installs the peers", file=sys.stderr)
    return ["thalweg", *found]


def _peak_memory(workload: str, framework: str, threads: int) -> float | None:
    """Peak resident megabytes of a process that runs the workload ten times."""
    command = [sys.executable, "-m", "benchmarks", "--peak-memory-of", workload, framework, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def _print_peak_memory(workload: str, framework: str) -> None:
    from benchmarks.workloads import MODELS, WORKLOADS

    step = next(w for w in (*WORKLOADS, *MODELS) if w.name == workload).makers[framework]()
    for _ in range(10):
        step()
    # Not getrusage: its maximum is inherited from the parent, which has all frameworks loaded.
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def main() -> None:
    """Parse, measure, print, write."""
    options = _arguments()
    if options.compare:
        from benchmarks.compare import compare

        sys.exit(1 if compare(*options.compare) else 0)
    if options.markdown:
        from benchmarks.tables import markdown

        print(markdown(*options.markdown, least=options.least))
        return
    _limit_threads(options.threads)
    if options.peak_memory_of:
        _print_peak_memory(*options.peak_memory_of)
        return
    from benchmarks.report import Row, added, print_row, start_table, summary
    from benchmarks.workloads import MODELS, WORKLOADS

    offered = MODELS if options.models else WORKLOADS
    names = [n.strip() for n in options.workloads.split(",")]
    chosen = [w for w in offered if names == ["all"] or any(w.name.startswith(n) for n in names)]
    if options.list or not chosen:
        for workload in offered:
            print(f"{workload.name:24} {workload.doc}")
        sys.exit(0 if options.list else f"no workload is called {options.workloads}")
    from benchmarks.harness import measure

    frameworks = _installed(options.against)
    start_table(frameworks, options.threads or len(os.sched_getaffinity(0)))
    rows = []
    for workload in chosen:
        results = measure(workload, frameworks, options.rounds, options.budget)
        row: Row = {"workload": workload.name, "unit": workload.unit}
        peaks: dict[str, float | None] = {}
        for result in results:
            if options.memory:
                peaks[result.framework] = _peak_memory(workload.name, result.framework, options.threads)
            row[result.framework] = {
                "median_s": result.median, "best_s": result.best, "first_call_s": result.compile_seconds,
                "peak_memory_mb": peaks.get(result.framework), "error": result.error,
                "thalweg_s": results[0].median, "thalweg_best_s": results[0].best,
            }
        rows.append(row)
        print_row(workload, frameworks, results, peaks)
    summary(rows)
    about = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"), "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(), "threads": options.threads or os.cpu_count(),
    }
    if options.add and options.json.exists():
        rows = added(json.loads(options.json.read_text())["rows"], rows)
    options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
