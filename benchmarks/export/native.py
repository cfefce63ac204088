"""The programs that come with an exported model: in C on each processor that it has code for, and under node."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

LEVELS = {"c_us": 0, "c_avx2_us": 1, "c_sse_us": 2}
RELAXED = "--experimental-wasm-relaxed-simd"  # node up to 20 has fused multiply-add only if it is asked
_REMEMBERED = 0x7448_616C_7765_6700  # what the end of an arena holds when the processor was looked at (aot/dispatch.py)


def in_c(path: Path) -> dict[str, float]:
    """Microseconds on this processor, and as if it had AVX2 or SSE4 alone; empty without a C compiler."""
    if shutil.which("cc") is None or platform.machine() != "x86_64":
        return {}
    text = (path / "bench" / "main.c").read_text()
    line = next(line for line in text.splitlines() if "arena = aligned(" in line)
    size = line.partition("(")[2].partition(")")[0]
    told = f"  *(uint64_t *)((char *)arena + {size} - 64) = {_REMEMBERED}u | LEVEL;"
    text = text.replace(line, f"{line}\n{told}")
    found = {}
    with TemporaryDirectory() as folder:
        source, program = Path(folder) / "main.c", Path(folder) / "main"
        source.write_text(text)
        for name, level in LEVELS.items():
            library = next((path / f"{platform.system().lower()}-x86_64").glob("*.a"))
            command = ["cc", "-O2", "-w", f"-DLEVEL={level}", f"-I{path / 'include'}", source, library, "-o", program]
            subprocess.run([os.fspath(part) for part in command], check=True)
            found[name] = _median([os.fspath(program), os.fspath(path / "weights.safetensors")])
    return found


def in_node(path: Path) -> dict[str, float]:
    """Microseconds in WebAssembly without and with fused multiply-add; empty without node."""
    if shutil.which("node") is None:
        return {}
    options = subprocess.run(["node", "--v8-options"], capture_output=True, text=True, check=True).stdout
    program = [os.fspath(path / "bench" / "main.mjs"), os.fspath(path / "wasm32")]
    found = {"wasm_us": _median(["node", *program])}
    return found | ({"wasm_fma_us": _median(["node", RELAXED, *program])} if RELAXED in options else {})


def _median(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1].split()[1])
