"""StableHLO's reference interpreter on NumPy arrays: slow, and the judge of every backend.

evaluate(module, [np.ones((2, 3), np.float32)])  ->  list of arrays
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, create, tensor
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExecutionError
from thalweg.dialects.mlir import ir, stablehlo
from thalweg.dialects.types import dtype_from_mlir

NDArray = np.ndarray[Any, Any]


def evaluate(module: ir.Module, arguments: Sequence[NDArray]) -> list[NDArray]:
    """The results of `main` on `arguments`.

    Args:
        module: plain StableHLO with static shapes and one function (what `importer.prepare` returns).
        arguments: one array for each argument of main, of its shape and dtype (those of ml_dtypes too).

    Raises:
        ExecutionError: wrong number, shape or dtype of the arguments, or the interpreter refuses an op.
    """
    with context.entered():
        copy = ir.Module.create()
        with ir.InsertionPoint(copy.body):
            functions = [view.operation for view in module.body.operations if view.operation.name == "func.func"]
            main = functions[0].clone().operation
        inputs = [argument.type for argument in main.regions[0].blocks[0].arguments]
        if len(inputs) != len(arguments):
            raise ExecutionError(f"main takes {len(inputs)} arguments, but {len(arguments)} were given.")
        attributes = [_to_attribute(*pair, i) for i, pair in enumerate(zip(arguments, inputs, strict=True))]
        _spare_the_process(main)
        kinds = _make_results_readable(main)
        try:
            results = [np.array(r) for r in stablehlo.eval_module(copy, attributes)]
        except (RuntimeError, ValueError, ir.MLIRError) as error:
            raise ExecutionError(f"StableHLO's interpreter could not run the module: {error}") from error
        return [_from_readable(results, kind) for kind in kinds]


# Ops that the interpreter aborts the process on, and what can be done.
_ABORTS = {
    "stablehlo.cholesky": "it has no such op",
    "stablehlo.fft": "it has no such op",
    "stablehlo.rng_bit_generator": "it has no such op",
    **dict.fromkeys(
        (
            "stablehlo.rng",
            "stablehlo.custom_call",
            "stablehlo.composite",
            "stablehlo.dot",
            "stablehlo.torch_index_select",
        )
        + tuple(f"stablehlo.batch_norm_{kind}" for kind in ("inference", "training", "grad")),
        "prepare the module first (importer.prepare)",
    ),
}


def _spare_the_process(main: ir.Operation) -> None:
    """Refuse what would abort the process, and copy what scatters would overwrite.

    The interpreter's scatter writes into its operand, so that other users of the operand would see the result: it gets
    a copy, made by a transpose that moves nothing.
    """
    found: list[ir.Operation] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name in _ABORTS or operation.name == "stablehlo.scatter":
            found.append(operation)
        return ir.WalkResult.ADVANCE

    main.walk(visit)
    for view in found:
        scatter = view.operation
        if scatter.name in _ABORTS:
            raise ExecutionError(
                f"{scatter.location}: StableHLO's interpreter cannot run {scatter.name}: {_ABORTS[scatter.name]}."
            )
        with ir.InsertionPoint(scatter), scatter.location:
            for position in range(len(scatter.results)):
                operand = Array(scatter.operands[position])
                scatter.operands[position] = operand.transpose(*range(operand.rank)).value


def numpy_dtype(element: str) -> np.dtype[Any]:
    """The NumPy dtype of an MLIR element type: 'ui8' is uint8, 'bf16' ml_dtypes.bfloat16, 'complex<f32>' complex64."""
    complexes = {"complex<f32>": "complex64", "complex<f64>": "complex128"}
    return np.dtype(complexes[element]) if element in complexes else dtype_from_mlir(element).numpy


def _to_attribute(array: NDArray, kind: ir.Type, position: int) -> ir.Attribute:
    ranked = ir.RankedTensorType(kind)
    shape, element = tuple(ranked.shape), str(ranked.element_type)
    given = np.asarray(array)
    if given.shape != shape or given.dtype != numpy_dtype(element):
        raise ExecutionError(
            f"argument {position} of main is {kind}, but the array is {given.dtype}{list(given.shape)}. "
            "Convert or reshape it."
        )
    if given.dtype.kind not in "bfiu":  # the buffer protocol has no ml_dtypes, MLIR's reader no complex numbers
        given = np.ascontiguousarray(given).view(f"i{given.itemsize}" if given.itemsize <= 8 else given.dtype)
    return ir.DenseElementsAttr.get(np.ascontiguousarray(given), type=ranked.element_type, shape=list(shape))


def _make_results_readable(main: ir.Operation) -> list[str]:
    """Convert results that NumPy cannot read, bf16 and f8 to f32, complex to its parts; the element types they had."""
    block = main.regions[0].blocks[0]
    returned = list(block.operations)[-1].operation
    kinds, values = [], []
    with ir.InsertionPoint(returned), returned.location:
        for operand in returned.operands:
            array = Array(operand)
            kinds.append(array.element)
            if array.element == "bf16" or array.element.startswith("f8"):
                values.append(array.convert("f32").value)
            elif array.element.startswith("complex"):
                part = tensor(array.shape, array.element[8:-1])
                values += [create(name, part, [array]).value for name in ("real", "imag")]
            else:
                values.append(operand)
        ir.Operation.create("func.return", [], values)
    returned.erase()
    inputs = [argument.type for argument in block.arguments]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, [v.type for v in values]))
    if "res_attrs" in main.attributes:
        del main.attributes["res_attrs"]
    return kinds


def _from_readable(results: list[NDArray], element: str) -> NDArray:
    """Take the array of element type `element` from the front of what the readable module returned."""
    first = results.pop(0)
    if element.startswith("complex"):
        return (first + 1j * results.pop(0)).astype(numpy_dtype(element))
    return first.astype(numpy_dtype(element), copy=False)
