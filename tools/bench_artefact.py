"""`thalweg bench dist`: compile and run the benchmark that an exported model brings along."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from thalweg.backends.aot.targets import find
from thalweg.tools.loading import LoadError


def measure(folder: Path, options: Sequence[str] = ()) -> int:
    """Run the benchmark of a folder that was exported to, for this machine; of a target's folder in it, for that.

    Args:
        options: the number of rows of batches, and of threads where the model was exported for several; if anything.

    Returns:
        The exit code of the benchmark; it prints a table.

    Raises:
        LoadError: no such folder, nothing in it that runs here, no C compiler.
    """
    root = folder if (folder / "manifest.json").is_file() else folder.parent
    if not (root / "manifest.json").is_file():
        raise LoadError(f"no manifest.json in {folder}. Give a folder that tw.export wrote.")
    manifest = json.loads((root / "manifest.json").read_text())
    if len(options) > 1 + (manifest["threads"] > 1) or not all(o.isdigit() for o in options):
        more = ", and then of threads," if manifest["threads"] > 1 else ""
        raise LoadError(f"'{' '.join(options)}': beside the folder, the number of rows of a batch{more} can be given.")
    host = find("host").name
    target = host if folder == root else folder.name
    if target not in manifest["targets"]:
        raise LoadError(f"{root} has no target '{target}'. It has {', '.join(manifest['targets'])}.")
    if find(target).is_wasm:
        return _run([_program(["node"]), root / "bench" / "main.mjs", root / target, *options])
    if target != host:
        raise LoadError(f"{target} does not run here: this is {host}. Compile {root / 'bench' / 'main.c'} there.")
    return _native(root, target, manifest["name"], options)


def _native(root: Path, target: str, name: str, options: Sequence[str]) -> int:
    compiler = _program([os.environ.get("CC", ""), "cc", "gcc", "clang"])
    with TemporaryDirectory() as build:
        program = Path(build) / "bench"
        source, library = root / "bench" / "main.c", root / target / f"lib{name}.a"
        status = _run([compiler, "-O2", "-pthread", f"-I{root / 'include'}", source, library, "-o", program])
        return status or _run([program, root / "weights.safetensors", *options])


def _program(names: Sequence[str]) -> str:
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        raise LoadError(f"this needs {' or '.join(filter(None, names))}, which is not installed.")
    return found


def _run(command: Sequence[str | Path]) -> int:
    return subprocess.run([os.fspath(part) for part in command], check=False).returncode
