"""A program cut into tests: each op alone, with the operands that it had and the results that it gave."""

from __future__ import annotations

from pathlib import Path

from thalweg.backends.reference.cut import isolate, outside, top_level
from thalweg.backends.reference.probe import replayer
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.tools.execution import Execution
from thalweg.tools.loading import Array
from thalweg.tools.values import save_npz


def write_case(stem: Path, module: ir.Module, inputs: list[Array], expected: list[Array] | None = None) -> None:
    """`stem.mlir` with `stem.npz`, its inputs, and `stem.expected.npz`, where results are given."""
    against = f"{stem.name}.expected.npz" if expected is not None else "reference"
    stem.parent.mkdir(parents=True, exist_ok=True)
    command = f"// thalweg run {stem.name}.mlir --inputs {stem.name}.npz --check {against}"
    text = module.operation.get_asm(enable_debug_info=True)
    stem.with_name(f"{stem.name}.mlir").write_text(f"{command}\n{text}")
    save_npz(str(stem.with_name(f"{stem.name}.npz")), {f"input_{i}": a for i, a in enumerate(inputs)})
    if expected is not None:
        results = {f"result_{i}": a for i, a in enumerate(expected)}
        save_npz(str(stem.with_name(f"{stem.name}.expected.npz")), results)


def write_cases(execution: Execution, folder: Path) -> int:
    """A case for every top-level op that has operands, as `folder/007_exp.mlir`; how many there are.

    Values are those of the reference, of the program as it is before it is lowered op by op.
    """
    with context.entered():
        module, inputs, reference = execution.pure()
        *operations, _ = top_level(module)
        values: dict[ir.Value, Array] = {}
        if operations:
            block = operations[0].parent.operation.regions[0].blocks[0]
            values.update(zip(block.arguments, inputs, strict=True))

        def observe(operation: ir.Operation, operands: object, results: object) -> None:
            assert isinstance(results, list)
            values.update(zip(operation.results, results, strict=True))

        replayer(module, reference)(inputs, {}, observe)
        written = 0
        for number, operation in enumerate(operations):
            used = outside(operation)
            if used:
                name = operation.name.rpartition(".")[2]
                expected = [values[r] for r in operation.results]
                case = isolate(module, number)
                write_case(folder / f"{number:03}_{name}", case, [values[v] for v in used], expected)
                written += 1
    return written
