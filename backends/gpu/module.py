"""The Python module of a kernel: what the reader sees and can run."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.plan import nbytes
from thalweg.backends.cpu.program import storage
from thalweg.backends.gpu.fused import Fused
from thalweg.backends.gpu.helpers import texts
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.naming import purpose


def finish(
    fused: Fused,
    group: Group,
    name: str,
    grid: int,
    constants: Sequence[tuple[str, int]],
    warps: int,
    stages: int = 2,
    workspace: int = 0,
    updates: Sequence[tuple[int, Value]] = (),
) -> TritonKernel:
    """The kernel whose body `fused` has written; the last word of `name` becomes what the kernel does."""
    what = purpose(group)
    root = group.root
    kind = root.op_name.rpartition(".")[2] if root.kind == "opaque" else root.kind
    name = f"{name.removesuffix(kind)}{what}"
    operands, results = tuple(fused.operands), tuple(v for v in group.stores if v.size)
    pointers = [*fused.operands.values(), *(f"out{k}" for k in range(len(results)))]
    buffers = {**_types(pointers, (*operands, *results))}
    if workspace:
        buffers["workspace"] = f"i8[{workspace}]"
    parameters = ", ".join([*buffers, *(f"{constant}: tl.constexpr" for constant, _ in constants)])
    lines = [
        f'"""{what.replace("_", ", ")}: {", ".join(map(_type, results))}',
        *(["", *fused.lines] if fused.lines else []),
        "",
        "Run this file to try the kernel on random numbers, in Triton's interpreter.",
        '"""',
        "",
        "import triton",
        "import triton.language as tl",
        "",
        f"BUFFERS = {buffers!r}".replace("'", '"'),
        f"TILE = {dict(constants)!r}".replace("'", '"'),
        f"GRID, WARPS, STAGES = {grid}, {warps}, {stages}",
        "",
        "",
        *(f"{text}\n" for text in (*texts(set(fused.w.helpers)), *fused.w.functions)),
        "@triton.jit",
        f"def {name}({parameters}):",
        *fused.w.lines,
        "",
        "",
        'if __name__ == "__main__":',
        "    from thalweg.backends.gpu.simulate import try_module",
        "",
        "    try_module(__file__)",
        "",
    ]
    return TritonKernel(
        name,
        "\n".join(lines),
        operands,
        results,
        updates=tuple(updates),
        inplace=inplace(fused, group, results),
        grid=grid,
        constants=tuple(constants),
        warps=warps,
        stages=stages,
        workspace=workspace,
        where=tuple(fused.lines)[:4],
    )


def inplace(fused: Fused, group: Group, results: Sequence[Value]) -> tuple[tuple[int, int], ...]:
    """Pairs of a result and an operand that may share a buffer.

    Every element of the operand that the kernel reads must be read where the result's element is written that is
    computed from it: then whoever writes it has waited for what was there.
    """
    pairs = []
    for number, result in enumerate(results):
        written = fused.written.get(result)
        for position, operand in enumerate(fused.operands):
            read = {address for value, address in fused.loads if storage(value) is operand}
            same = written is not None and (read == {written} or (read and operand.size == 1))
            same = same and _same_bytes(result, operand)
            if same and _depends(result, operand, group):
                pairs.append((number, position))
    return tuple(pairs)


def _same_bytes(a: Value, b: Value) -> bool:
    return nbytes(a) == nbytes(b) and a.size == b.size


def _depends(value: Value, operand: Value, group: Group) -> bool:
    """Is a member computed from an operand?"""
    pending, seen = [value], {value}
    while pending:
        for source in pending.pop().operands:
            if storage(source) is operand:
                return True
            if source in group.members and source not in seen:
                seen.add(source)
                pending.append(source)
    return False


def _type(value: Value) -> str:
    return f"{value.element}[{','.join(map(str, value.shape))}]"


def _types(names: Sequence[str], values: Sequence[Value]) -> dict[str, str]:
    return {name: _type(value) for name, value in zip(names, values, strict=True)}
