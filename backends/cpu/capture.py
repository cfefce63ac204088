"""Every kernel of a program with what it read and wrote in one call, as folders that can be replayed on their own.

    capture(module, arrays, Path("kernels"))     ->  kernels/k3_generic/{kernel.mlir, data.npz}, kernels/test_kernels.py
    replay(Path("kernels/k3_generic"))               compiles the kernel alone, runs it, compares every bit

The program runs as it is, with a copy around every launch: the numbers do not change. Of a kernel in a loop, the last
launch is kept.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.executable import Array, Executable
from thalweg.backends.cpu.jit import Code, compile_llvm, to_llvm_ir
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.step import Runner
from thalweg.backends.cpu.tuning import Tuner
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExecutionError
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import dtype_from_mlir

_READ, _LIMIT, _ALIGNMENT = "tw_record", 2**31, 64
_MEMREF = re.compile(r"memref<((?:\d+x)*)(\w+)>")

_TEST = '''"""Replays every kernel of this folder alone, and compares what it writes with what the program got."""

from pathlib import Path

import pytest

from thalweg.backends.cpu.capture import replay

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("*/kernel.mlir"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kernel(folder: Path) -> None:
    replay(folder)
'''


@dataclass(frozen=True)
class _Record:
    """Where a kernel's buffers are kept: (memref type, offset) before the launch, and of its results after it."""

    kernel: Kernel
    before: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...]


class _Recorder:
    """A runner around another that copies buffers into one record before and after each launch."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.records: list[_Record] = []
        self.size = 0

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
        operands = len(kernel.operands)
        data = buffers[: operands + len(kernel.results)]
        before = tuple(self._copy(w, *buffer) for buffer in data)
        self.inner(w, kernel, buffers)
        after = tuple(self._copy(w, *buffer) for buffer in data[operands:])
        self.records.append(_Record(kernel, before, after))

    def _copy(self, w: ScopedWriter, name: str, kind: str) -> tuple[str, int]:
        offset = self.size
        self.size += -(-_bytes(kind) // _ALIGNMENT) * _ALIGNMENT
        record = w.ordered("memref.get_global @record : memref<?record?xi8>")
        start = w.ordered(f"arith.constant {offset} : index")
        room = w.ordered(f"memref.view {record}[{start}][] : memref<?record?xi8> to {kind}")
        w.emit(f"memref.copy {name}, {room} : {kind} to {kind}")
        return kind, offset

    def finished(self, step: str) -> str:
        """The step with the record, and a function that copies the record out."""
        if self.size > _LIMIT:
            raise ExecutionError(
                f"the buffers of all kernels take {self.size} bytes, more than the {_LIMIT} that a capture may hold. "
                "Capture with smaller inputs."
            )
        kind = f"memref<{max(self.size, 1)}xi8>"
        return (
            f'memref.global "private" @record : {kind} = uninitialized {{alignment = {_ALIGNMENT} : i64}}\n'
            + step.replace("memref<?record?xi8>", kind)
            + f"func.func @{_READ}(%out: {kind}) {{\n%t = memref.get_global @record : {kind}\n"
            + f"memref.copy %t, %out : {kind} to {kind}\nreturn\n}}\n"
        )


def capture(
    module: ir.Module,
    arrays: Sequence[Array],
    folder: Path,
    options: CpuOptions | None = None,
    tuner: Tuner | None = None,
) -> list[str]:
    """Run a StableHLO program once and write each of its kernels with its data.

    Args:
        arrays: the program's arguments; those that it updates are copied first, and stay as they are.
        folder: made if it is not there.

    Returns:
        The kernels' names, in the order of the step.

    Raises:
        ExecutionError: the buffers are too big to be kept.
    """
    options = options or CpuOptions()
    recorders: list[_Recorder] = []

    def around(runner: Runner) -> _Recorder:
        recorders.append(_Recorder(runner))
        return recorders[0]

    with module.context, ir.Location.unknown(module.context):
        lowered = lower(module, options, around, lambda step: recorders[0].finished(step), tuner)
    program = Executable(lowered.signature, lowered.object_code(options), options, _READ)
    program([np.array(a) for a in arrays])
    record = np.zeros(max(recorders[0].size, 1), np.uint8)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(program.address(_READ))(record.ctypes.data)
    for entry in recorders[0].records:
        _write(folder / entry.kernel.name, entry, record)
    (folder / "test_kernels.py").write_text(_TEST)
    return [entry.kernel.name for entry in recorders[0].records]


def _write(folder: Path, entry: _Record, record: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    operands = len(entry.kernel.operands)
    about = {"tiles": entry.kernel.tiles, "scratch": entry.kernel.scratch, "operands": operands}
    data = {f"before{i}": _array(record, *place) for i, place in enumerate(entry.before)}
    data |= {f"after{i + operands}": _array(record, *place) for i, place in enumerate(entry.after)}
    (folder / "kernel.mlir").write_text(f"// {json.dumps(about)}\n" + entry.kernel.source)
    np.savez(folder / "data.npz", **data)  # type: ignore[arg-type]


def replay(folder: Path) -> None:
    """Compile a captured kernel alone, run it on its data, and compare.

    Raises:
        AssertionError: a result differs in any bit; names the kernel and the buffer.
    """
    text = (folder / "kernel.mlir").read_text()
    about = json.loads(text.partition("\n")[0].removeprefix("// "))
    name = re.search(r"func\.func private @(\w+)", text)
    assert name is not None, f"{folder}/kernel.mlir holds no kernel"
    options = CpuOptions(threads=1)
    with context.entered():
        source = text.replace(f"func.func private @{name[1]}(", f"func.func @{name[1]}(")
        code = Code(compile_llvm(to_llvm_ir(f"module {{\n{source}}}\n"), options).object_code, name[1])
    with np.load(folder / "data.npz") as data:
        count = sum(key.startswith("before") for key in data.files)
        buffers = [np.array(data[f"before{i}"], order="C") for i in range(count)]
        expected = {i: data[f"after{i}"] for i in range(about["operands"], count)}
    scratch = [np.zeros(about["scratch"] + _ALIGNMENT, np.uint8)] if about["scratch"] else []
    addresses = [b.ctypes.data for b in buffers] + [s.ctypes.data + -s.ctypes.data % _ALIGNMENT for s in scratch]
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(addresses), ctypes.c_int64, ctypes.c_int64)
    signature(code.address(name[1]))(*addresses, 0, about["tiles"])
    for number, wanted in expected.items():
        same = buffers[number].tobytes() == wanted.tobytes()
        assert same, f"{name[1]}: buffer {number} differs from what the program got"


def _bytes(kind: str) -> int:
    shape, dtype = _parsed(kind)
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _parsed(kind: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a memref type; floats that .npz files cannot keep as the integers that hold them."""
    match = _MEMREF.fullmatch(kind)
    assert match is not None, kind
    element = dtype_from_mlir(match[2])
    dtype = np.dtype(f"u{element.itemsize}") if element.is_foreign else element.numpy
    return tuple(int(n) for n in match[1].split("x") if n), dtype


def _array(record: Array, kind: str, offset: int) -> Array:
    shape, dtype = _parsed(kind)
    return record[offset : offset + _bytes(kind)].view(dtype).reshape(shape)
