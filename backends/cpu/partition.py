"""Large programs are compiled in parts, each by a process of its own: LLVM takes most of the time, and llvmlite lets
one thread of a process into LLVM at a time.

The first part has the step and whatever is not a kernel, and is compiled here; kernels are dealt out by their size. The
object code of the parts is kept in one string of bytes (`join`, `split`), and linked together when it is loaded.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thalweg.backends.cpu import native
from thalweg.dialects.diagnostics import LoweringError

LINES_EACH = 8000  # of LLVM IR: about half a second, several times what starting a process takes
_MAGIC = b"TWPARTS\0"
_FUNCTION = re.compile(r"^define void @(\w+)\(.*?^}\n", re.MULTILINE | re.DOTALL)
_SHARED = re.compile(r"^(?:declare|attributes|@|!).*\n", re.MULTILINE)


def parts_for(text: str, processors: int) -> int:
    """How many parts are worth their processes; 1 where no Python can be started, as in a program that embeds one."""
    can_start = "python" in os.path.basename(sys.executable or "") and Path(native.__file__).is_file()
    return max(1, min(processors, text.count("\n") // LINES_EACH)) if can_start else 1


def partition(text: str, kernels: Collection[str], parts: int) -> list[str]:
    """LLVM IR cut into modules; the functions named by `kernels` may go to other modules than the first.

    Example:
        >>> a, b = partition("define void @k0() {\\n}\\ndefine void @step() {\\n}\\n", ["k0"], 2)
        >>> b
        'define void @k0() {\\n}\\n'
    """
    found = {m[1]: m[0] for m in _FUNCTION.finditer(text) if m[1] in kernels}
    loads, dealt = [0] * parts, [list[str]() for _ in range(parts)]
    rest = _FUNCTION.sub(lambda m: "" if m[1] in found else m[0], text)
    loads[0] = len(rest)
    for name in sorted(found, key=lambda n: -len(found[n])):
        least = loads.index(min(loads))
        loads[least] += len(found[name])
        dealt[least].append(name)
    elsewhere = [_declaration(found[name]) for names in dealt[1:] for name in names]
    shared = "".join(_SHARED.findall(rest))
    modules = ["".join([rest, *(found[name] for name in dealt[0]), *elsewhere])]
    return modules + [shared + "".join(found[name] for name in names) for names in dealt[1:] if names]


def _declaration(function: str) -> str:
    head = function[: function.index("{")].strip()
    return re.sub(r"%\w+", "", head).replace("define", "declare", 1) + "\n"


def compile_parts(modules: Sequence[str], cpu: str, features: str, level: int, here: Callable[[str], bytes]) -> bytes:
    """The object code of all modules; `here` compiles the first in this process.

    Raises:
        LoweringError: LLVM rejects a module, or a process ended without object code.
    """

    def elsewhere(module: str) -> bytes:
        command = [sys.executable, "-P", str(native.__file__), cpu, features, str(level)]  # -P: no modules from here
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(command, input=module.encode(), capture_output=True, env=environment, check=False)
        if done.returncode or not done.stdout:
            raise LoweringError(
                f"compiling a part of the program in another process failed (exit code {done.returncode}): "
                f"{done.stderr.decode(errors='replace')[-2000:]}"
            )
        return done.stdout

    with ThreadPoolExecutor(len(modules)) as pool:
        others = [pool.submit(elsewhere, module) for module in modules[1:]]
        objects = [here(modules[0]), *(other.result() for other in others)]
    return join(objects)


def join(objects: Sequence[bytes]) -> bytes:
    """Several objects as one string of bytes; one object stays as it is."""
    if len(objects) == 1:
        return objects[0]
    lengths = b"".join(len(part).to_bytes(8, "little") for part in objects)
    return _MAGIC + len(objects).to_bytes(8, "little") + lengths + b"".join(objects)


def split(data: bytes) -> list[bytes]:
    """The objects that `join` put together.

    Example:
        >>> split(join([b"one", b"two"]))
        [b'one', b'two']
    """
    if not data.startswith(_MAGIC):
        return [data]
    numbers = memoryview(data)[len(_MAGIC) :]
    count = int.from_bytes(numbers[:8], "little")
    lengths = [int.from_bytes(numbers[8 * k : 8 * k + 8], "little") for k in range(1, count + 1)]
    objects, start = [], len(_MAGIC) + 8 * (count + 1)
    for length in lengths:
        objects.append(data[start : start + length])
        start += length
    return objects
