"""`python -m benchmarks.osdi [NAME…]`: all experiments, each in a process of its own, one after the other."""

from __future__ import annotations

import subprocess
import sys

EXPERIMENTS = {
    "executor": "steps a second through the executor (section 5)",
    "transport": "what a tensor takes between tasks",
    "null_step": "null training steps (figure 7)",
    "replicas": "asynchronous and synchronous steps, backup workers (figure 8)",
    "language_model": "full and sampled softmax (figure 9)",
    "loop": "a loop across devices (EuroSys 2018)",
}


def main() -> None:
    """Run those named on the command line, or all."""
    chosen = sys.argv[1:] or list(EXPERIMENTS)
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown or {"-h", "--help"} & set(chosen):
        known = "\n".join(f"  {name:<16} {doc}" for name, doc in EXPERIMENTS.items())
        sys.exit(f"{__doc__}\n\n{known}")
    commands = {name: [sys.executable, "-m", f"benchmarks.osdi.{name}"] for name in chosen}
    failed = [name for name, command in commands.items() if subprocess.run(command, check=False).returncode]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
