"""One section in this process: `python -m thalweg.tools.gpu_check ops ops.jsonl`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from thalweg.runtime.config import config
from thalweg.tools.gpu_check.check import Check
from thalweg.tools.gpu_check.run import SECTIONS, section


def main() -> None:
    """Run it and let it write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.simulated:
        config.set_virtual_devices(gpu=2)
    try:
        section(given.section)(Check(given.file, given.simulated, given.quick))
    except SystemExit as end:  # of a process whose GPU is broken: nothing more is asked of it
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    main()
