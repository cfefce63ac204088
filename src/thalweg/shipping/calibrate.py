"""What products multiply on the user's samples: the largest magnitudes, from which int8 arithmetic takes its scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.backends.aot.arithmetic import Ranges, observed, products
from thalweg.backends.cpu.backend import compile_stablehlo, main_function
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.frontend.tree import flatten
from thalweg.shipping.check import samples_by_signature
from thalweg.shipping.signatures import Signature


def ranges_of(signatures: Sequence[Signature], samples: Any) -> dict[str, Ranges]:
    """By the names of the signatures' pieces, the largest magnitude of what each product outside of loops multiplies.

    Args:
        samples: as `tw.export` takes them.
    """
    found: dict[str, Ranges] = {}
    for signature, inputs in samples_by_signature(signatures, samples):
        program = signature.function.program(*inputs)
        with context.entered():
            lowered, variables = driver().to_stablehlo(program.module)
            module = ir.Module.parse(str(lowered))
            numbers = observed(main_function(module.operation))
            counts = {len(products(main_function(piece.module.operation))) for piece in signature.pieces}
            if not numbers or counts != {len(products(main_function(lowered.operation)))}:
                continue
            executable = compile_stablehlo(module)
        by_name = {v.name: v.numpy() for v in program.variables}
        arrays = [np.asarray(leaf) for leaf in flatten(inputs)[0]]
        tops = executable([*arrays, *program.constants, *(by_name[name] for name in variables)])
        ranges = {number: float(top) for number, top in zip(numbers, tops, strict=True)}
        found.update((piece.name, ranges) for piece in signature.pieces)
    return found
