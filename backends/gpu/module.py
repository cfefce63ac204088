"""The Python module of a kernel: what the reader sees and can run."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.fused import Fused
from thalweg.backends.gpu.helpers import texts
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.naming import purpose


def finish(
    fused: Fused, group: Group, name: str, grid: int, constants: Sequence[tuple[str, int]], warps: int, stages: int = 2
) -> TritonKernel:
    """The kernel whose body `fused` has written; the last word of `name` becomes what the kernel does."""
    what = purpose(group)
    name = f"{name.rpartition('_')[0]}_{what}"
    operands, results = tuple(fused.operands), tuple(v for v in group.stores if v.size)
    pointers = [*fused.operands.values(), *(f"out{k}" for k in range(len(results)))]
    parameters = ", ".join([*pointers, *(f"{constant}: tl.constexpr" for constant, _ in constants)])
    buffers = {**_types(pointers, (*operands, *results))}
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
        *(f"{text}\n" for text in texts(set(fused.w.helpers))),
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
    constants = tuple(constants)
    return TritonKernel(name, "\n".join(lines), operands, results, 1, 0, (), (), (), 0.0, False, grid, constants, warps,
                        stages)  # fmt: skip


def _type(value: Value) -> str:
    return f"{value.element}[{','.join(map(str, value.shape))}]"


def _types(names: Sequence[str], values: Sequence[Value]) -> dict[str, str]:
    return {name: _type(value) for name, value in zip(names, values, strict=True)}
