"""A small loop as one kernel that stays: one program does, one after the other, what the launches of the loop would do.

    while tl.load(go) != 0:
        for program in range(0, 4):
            k1_matmul(v, w, out, program, 16, 16, 32)
        tl.debug_barrier()
        …

The host reads nothing back, and nothing is launched between turns. It pays as long as one program is enough: what is
launched in a turn takes a few microseconds each, however little it does. The kernels are those of the loop, called as
functions, their buffers those that the plan has given them; a barrier stands where one launch would wait for another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from thalweg.backends.gpu.kernel import KernelText, TritonKernel
from thalweg.runtime.gpu.artefact import Buffer, Copy, Launch, Step

PROGRAMS = 16  # of all launches of a turn, that one program does in less time than launches take
BYTES = 1 << 16  # of what a turn copies
_ENTRY = "tl.program_id(0)"
_COPY = """@triton.jit
def copy_bytes(source, target, COUNT: tl.constexpr):
    for start in range(0, COUNT, 1024):
        i = start + tl.arange(0, 1024)
        tl.store(target + i, tl.load(source + i, mask=i < COUNT, other=0), mask=i < COUNT)
"""


def resident_loop(
    condition: Sequence[Step], predicate: Buffer, body: Sequence[Step], trips: int | None,
    kernels: Mapping[str, TritonKernel],
) -> tuple[KernelText, Launch] | None:  # fmt: skip
    """The kernel of a loop and its launch, whose image is still to be numbered; None where it is better launched.

    Args:
        trips: where it is known how often the body runs.
        kernels: by name.
    """
    steps = [*condition, *body]
    launches = [step for step in steps if isinstance(step, Launch)]
    if not body or not all(map(_is_small, steps)) or any(step.label not in kernels for step in launches):
        return None  # a loop within it may be one kernel
    used = [kernels[step.label] for step in launches]
    if not used or any(kernel.workspace or "tl.atomic" in kernel.source for kernel in used):
        return None
    turn = sum(step.grid[0] for step in body if isinstance(step, Launch))
    copied = sum(step.source.bytes for step in body if isinstance(step, Copy))
    most = PROGRAMS if trips is None else len(body)  # a loop of known length is a graph otherwise
    if turn > most or copied > BYTES:
        return None
    return _Loop(kernels).made(condition, predicate, body, trips, used)


def _is_small(step: Step) -> bool:
    return isinstance(step, Copy) or (isinstance(step, Launch) and step.scratch is None and step.grid[0] <= PROGRAMS)


class _Loop:
    def __init__(self, kernels: Mapping[str, TritonKernel]) -> None:
        self.kernels = kernels
        self.read: dict[tuple[Buffer, str], str] = {}  # parameters by what they point to and its type
        self.types: dict[str, str] = {}  # as BUFFERS says them
        self.written: set[Buffer] = set()
        self.functions: dict[str, None] = {}
        self.lines: list[str] = []

    def made(
        self, condition: Sequence[Step], predicate: Buffer, body: Sequence[Step], trips: int | None,
        used: Sequence[TritonKernel],
    ) -> tuple[KernelText, Launch]:  # fmt: skip
        if trips is None:
            self._steps(condition, "    ")
            self.lines.append(f"    while tl.load({self._name(predicate, 'i1', 'i1[]')}) != 0:")
            self._steps([*body, *condition], "        ")
        else:
            self.lines.append(f"    for turn in range(0, {trips}):")
            self._steps(body, "        ")
        name = _loop_name(used[0].name)
        order = sorted(self.read.items(), key=lambda item: item[0][0] in self.written)  # what it writes comes last
        where = tuple(dict.fromkeys(line for kernel in used for line in kernel.where))[:3]
        warps = max(kernel.warps for kernel in used)
        parameters = tuple((parameter, element) for (_, element), parameter in order)
        buffers = tuple(buffer for (buffer, _), _ in order)
        source = self._source(name, [parameter for parameter, _ in parameters], warps, where)
        writes = sum(buffer in self.written for buffer in buffers)
        text = KernelText(name, source, parameters, (), warps, max(kernel.stages for kernel in used))
        return text, Launch(0, (1, 1, 1), buffers, None, writes, name, where)

    def _source(self, name: str, parameters: Sequence[str], warps: int, where: Sequence[str]) -> str:
        types = {parameter: self.types[parameter] for parameter in parameters}
        lines = [
            f'"""A loop of {", ".join(dict.fromkeys(self.functions_called()))}: one program stays until it ends.',
            *(["", *where] if where else []),
            '"""',
            "",
            "import triton",
            "import triton.language as tl",
            "",
            f"BUFFERS = {types!r}".replace("'", '"'),
            "TILE = {}",
            f"GRID, WARPS, STAGES = 1, {warps}, 2",
            "",
            "",
            *(f"{function}\n" for function in self.functions),
            "@triton.jit",
            f"def {name}({', '.join(parameters)}):",
            *self.lines,
            "",
        ]
        return "\n".join(lines)

    def functions_called(self) -> list[str]:
        """The names of the kernels that it is made of, in order."""
        return re.findall(r"^ +(k\w+)\(", "\n".join(self.lines), re.MULTILINE)

    def _steps(self, steps: Sequence[Step], indent: str) -> None:
        for step in steps:
            if isinstance(step, Copy):
                kind = f"i8[{step.source.bytes}]"
                source, target = (self._name(buffer, "i8", kind) for buffer in (step.source, step.target))
                self.written.add(step.target)
                self.functions[_COPY] = None
                self.lines.append(f"{indent}copy_bytes({source}, {target}, {step.source.bytes})")
            else:
                assert isinstance(step, Launch)
                self._call(step, indent)
            self.lines.append(f"{indent}tl.debug_barrier()")

    def _call(self, step: Launch, indent: str) -> None:
        kernel = self.kernels[step.label]
        values = (*kernel.operands, *kernel.results)
        names = []
        for buffer, value in zip(step.buffers, values, strict=True):
            kind = f"{value.element}[{','.join(map(str, value.shape))}]"
            names.append(self._name(buffer, value.element, kind))
        self.written.update(step.buffers[len(kernel.operands) :])
        *helpers, entry = _functions(kernel)
        self.functions |= dict.fromkeys([*helpers, _as_function(entry)])
        count = step.grid[0]
        if count > 1:
            self.lines.append(f"{indent}for program in range(0, {count}):")
            indent += "    "
        sizes = [str(size) for _, size in kernel.constants]
        program = "program" if count > 1 else "0"
        self.lines.append(f"{indent}{kernel.name}({', '.join([*names, program, *sizes])})")

    def _name(self, buffer: Buffer, element: str, kind: str) -> str:
        """The parameter for a buffer."""
        name = self.read.setdefault((buffer, element), f"b{len(self.read)}")
        self.types.setdefault(name, kind)
        return name


def _functions(kernel: TritonKernel) -> list[str]:
    """The functions of a kernel's module: helpers, and at last the kernel."""
    text = kernel.source[kernel.source.index("@triton.jit") : kernel.source.index('\nif __name__ == "__main__":')]
    return [f"@triton.jit{part}".rstrip() + "\n" for part in text.split("@triton.jit")[1:]]


def _as_function(entry: str) -> str:
    """A kernel as a function that is told which program it is: that parameter stands before its sizes."""
    head, colon, rest = entry.partition("):\n")
    first = re.search(r", \w+: tl\.constexpr", head)
    at = first.start() if first is not None else len(head)
    return f"{head[:at]}, program{head[at:]}{colon}{rest.replace(_ENTRY, 'program')}"


def _loop_name(name: str) -> str:
    """Of the loop that a kernel is in: k1_while_0_0_compare -> k1_while."""
    found = re.match(r"(.*_while)_[01]_\d+_", name)
    return found[1] if found is not None else f"{name}_while"
