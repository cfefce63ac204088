"""Kernels' modules and their machine code in files. Triton is imported here, in compile.py and in simulate.py only.

    <folder>/<digest>/k0_softmax.py    the module
    <folder>/images/<digest>.sm_90     a line of JSON, then the cubin: of all kernels of this code, whatever their names
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from thalweg.backends.gpu.kernel import KernelText, TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects.diagnostics import MissingExtraError
from thalweg.runtime.gpu.artefact import KernelImage


def save(kernel: KernelText | TritonKernel, folder: Path) -> Path:
    """Write a kernel's module to a folder named by its contents; a file that is there is left alone."""
    text = kernel.text if isinstance(kernel, TritonKernel) else kernel
    path = folder / text.digest / f"{text.name}.py"
    if not path.exists():
        write_file(path, text.source.encode())
    return path


def write_file(path: Path, data: bytes) -> None:
    """All of a file or nothing, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _image_path(kernel: KernelText, options: GpuOptions) -> Path:
    code = hashlib.sha256(kernel.anonymous.encode()).hexdigest()[:24]
    return options.folder / "images" / f"{code}.{options.chip}"


def save_image(kernel: KernelText, image: KernelImage, options: GpuOptions) -> None:
    """Keep a kernel's machine code."""
    head = {**asdict(image), "binary": None, "triton": _version()}
    write_file(_image_path(kernel, options), json.dumps(head).encode() + b"\n" + image.binary)


def load_image(kernel: KernelText, options: GpuOptions) -> KernelImage | None:
    """Machine code that was kept; None if there is none, or if another Triton than the one here made it."""
    try:
        head, _, binary = _image_path(kernel, options).read_bytes().partition(b"\n")
        data = json.loads(head)
        made_by = data.pop("triton")
    except (OSError, ValueError, KeyError):
        return None
    return KernelImage(**{**data, "binary": binary}) if _version() in ("", made_by) else None


def _version() -> str:
    """Of Triton; empty where it is not installed."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return ""


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
