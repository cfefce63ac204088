"""Programs in tests: a module around a Python function that builds ops, and its run by the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.context import to_mlir
from thalweg.dialects.mlir import func_dialect, ir
from thalweg.dialects.types import TensorType
from thalweg.dialects.verify import verify
from thalweg.passes.pipeline import run as run_passes

Function = Callable[..., Sequence[ir.Value] | ir.Value]


def program(types: Sequence[TensorType], body: Function) -> ir.Module:
    """A verified module whose @main takes `types` and returns what `body` builds."""
    with context.entered():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            signature = ir.FunctionType.get([to_mlir(t) for t in types], [])
            function = func_dialect.FuncOp("main", signature)
        block = function.add_entry_block()
        with ir.InsertionPoint(block):
            results = as_list(body(*block.arguments))
            func_dialect.ReturnOp(results)
        full = ir.FunctionType.get([to_mlir(t) for t in types], [r.type for r in results])
        function.attributes["function_type"] = ir.TypeAttr.get(full)
        verify(module)
    return module


def as_list(values: Sequence[ir.Value] | ir.Value) -> list[ir.Value]:
    return [values] if isinstance(values, ir.Value) else list(values)


def evaluate(module: ir.Module, arrays: Sequence[np.ndarray], pipeline: str = "optimize") -> list[np.ndarray]:
    """Run the passes on a module (in place), then the interpreter."""
    run_passes(module, pipeline)
    return run(module, list(arrays))
