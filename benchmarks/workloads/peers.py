"""Peers that take another's program: torch.compile, and the two runtimes for inference, which load a file."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Maker, Step

if TYPE_CHECKING:
    from benchmarks.export.models import Model


def torch_compile(eager: Maker) -> Maker:
    """PyTorch's step through torch.compile, as its users do it: what it cannot trace runs as before."""

    def make() -> Step:
        import torch

        torch._logging.set_logs(all=logging.ERROR)  # that it does not trace `.item()` is no news
        step: Step = torch.compile(eager())
        return step

    return make


def threads() -> int:
    """What `python -m benchmarks --threads` asked for."""
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1


def onnxruntime(model: Model, x: np.ndarray) -> Step:
    """A step of ONNX Runtime for images [1, height, width, channels] or rows; 32-bit floats."""
    from benchmarks.export.onnx_model import build

    return onnxruntime_file(build(model).SerializeToString(), x)


def onnxruntime_file(model: bytes, x: np.ndarray) -> Step:
    """The same for a file's content, whose input is called "x" and has an image's channels first."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
    return lambda: session.run(None, {"x": x})[0]


def litert(model: Model, x: np.ndarray) -> Step:
    """A step of LiteRT, with its XNNPACK delegate; 32-bit floats."""
    from benchmarks.export.tflite_model import build

    return litert_file(build(model), x)


def litert_file(model: bytes, x: np.ndarray) -> Step:
    """The same for a file's content."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=model, num_threads=threads())
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.set_tensor(given, x)

    def run() -> object:
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return run
