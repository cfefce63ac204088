"""Kernels' modules in files, and the functions in them. Triton is imported here and in simulate.py only."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.dialects.diagnostics import MissingExtraError


def save(kernel: TritonKernel, folder: Path) -> Path:
    """Write a kernel's module to a folder named by its contents; a file that is there is left alone."""
    digest = hashlib.sha256(kernel.source.encode()).hexdigest()[:12]
    path = folder / digest / f"{kernel.name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(kernel.source)
        partial.replace(path)
    return path


def triton() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import triton
    except ImportError:
        raise MissingExtraError("GPU kernels", "gpu") from None
    return triton


def load(path: Path) -> ModuleType:
    """A kernel's module, run."""
    name = f"thalweg_kernel_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where Triton looks for the function's globals
    spec.loader.exec_module(module)
    return module
