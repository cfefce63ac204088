"""Values of intermediates where there is no interpreter that can be watched: the program is made to return them all.

For StableHLO, whose reference interpreter runs whole programs. Ops inside regions are not seen, their control op is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thalweg.backends.reference.cut import probed, top_level
from thalweg.backends.reference.interpreter import Array, Observer
from thalweg.backends.reference.shadow import Execute
from thalweg.dialects.mlir import ir


def replayer(module: ir.Module, run: Callable[[ir.Module, Sequence[Array]], Sequence[Array]]) -> Execute:
    """What `shadow` takes as `execute`: runs `module` once with `run`, then tells the observer op by op.

    Example:
        >>> trace_values(module, inputs, execute=replayer(module, evaluate))
    """

    def execute(inputs: Sequence[Array], variables: dict[str, Array], observer: Observer) -> Sequence[Array]:
        *operations, last = top_level(module)
        values: dict[ir.Value, Array] = {}
        if operations:
            values.update(zip(operations[0].parent.operation.regions[0].blocks[0].arguments, inputs, strict=True))
        every = iter(run(probed(module), inputs))
        for operation in operations:
            results = [next(every) for _ in operation.results]
            values.update(zip(operation.results, results, strict=True))
            observer(operation, [values[o] for o in operation.operands], results)
        outputs = list(every)
        # The very arrays that the observer has seen, not equal ones: it may tell them apart by identity.
        return [values.get(o, found) for o, found in zip(last.operands, outputs, strict=True)]

    return execute
