"""Loops whose number of iterations is known when the program is built: they are differentiated as scans.

A scan keeps what each iteration's derivative needs, so its backward pass computes nothing again. Where that would take
more memory than `MOST_BYTES`, the loop stays a `while`, with checkpoints (see loop.py); but not one that spans
devices or holds host ops: its rows can wait in a file, and what it does on the host must not be done again.
"""

from __future__ import annotations

from thalweg.dialects.attributes import attributes_of, encode_all
from thalweg.dialects.build import row_of
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control
from thalweg.dialects.types import TensorType
from thalweg.passes.place import spans
from thalweg.passes.rewriting import bodies, constant_number, definition, inside, replace, yields

MOST_BYTES = 256 << 20


def count_known_loops(operation: ir.Operation) -> None:
    """Turn the loops inside an op into scans where that is possible and pays."""
    for inner in list(inside(operation)):
        if inner.name != "tw.while":
            continue
        count = iterations(inner)
        if count is not None and (spans(inner) or count * _bytes_of_an_iteration(inner) <= MOST_BYTES):
            _to_scan(inner, count)


def iterations(loop: ir.Operation) -> int | None:
    """How often a loop runs, if it counts an integer from a constant by a constant to a constant; else None."""
    condition, body = bodies(loop)
    test = definition(yields(condition)[0])
    if test is None or test.name not in ("tw.less", "tw.less_equal", "tw.greater", "tw.greater_equal"):
        return None
    arguments = list(condition.arguments)
    left, right = test.operands
    name = test.name
    if right in arguments:
        left, right = right, left
        name = {"tw.less": "tw.greater", "tw.less_equal": "tw.greater_equal", "tw.greater": "tw.less",
                "tw.greater_equal": "tw.less_equal"}[name]
    if left not in arguments:
        return None
    index = arguments.index(left)
    bound, start = constant_number(right), constant_number(loop.operands[index])
    step = _step(body, index)
    if bound is None or start is None or step is None or not tensor_type_of(left).dtype.is_integer:
        return None
    if name.startswith("tw.greater"):  # count upwards
        bound, start, step = -bound, -start, -step
    if name.endswith("_equal"):
        bound += 1
    if start >= bound:
        return 0
    return int(-(-(bound - start) // step)) if step > 0 else None


def _step(body: ir.Block, index: int) -> int | None:
    """What an iteration adds to the carried value `index`, if that is a constant."""
    made_by = definition(yields(body)[index])
    if made_by is None or made_by.name not in ("tw.add", "tw.sub"):
        return None
    left, right = made_by.operands
    if made_by.name == "tw.add" and right == body.arguments[index]:
        left, right = right, left
    number = constant_number(right)
    if left != body.arguments[index] or number is None:
        return None
    return int(number) if made_by.name == "tw.add" else -int(number)


def _bytes_of_an_iteration(loop: ir.Operation) -> int:
    """At most what a scan keeps of each iteration."""
    results = [r for o in inside(loop) if o != loop and row_of(o) is not None for r in o.results]
    types = [type_of(v) for v in (*results, *loop.operands)]
    return sum(t.nbytes for t in types if isinstance(t, TensorType))


def _to_scan(loop: ir.Operation, count: int) -> None:
    row = control.scan
    parallel = attributes_of(control.while_, loop)["parallel_iterations"]
    attrs = row.complete({"carried": len(loop.operands), "length": count, "parallel_iterations": parallel})
    with ir.InsertionPoint(loop), loop.location:
        made = ir.Operation.create(
            row.mlir_name,
            results=[r.type for r in loop.results],
            operands=list(loop.operands),
            attributes=encode_all(row, attrs),
            regions=1,
        )
    bodies(loop)[1].append_to(made.regions[0])
    replace(loop, list(made.results))
