"""Kernels in Triton's interpreter: NumPy arrays in, NumPy arrays out, no GPU.

The interpreter runs a kernel's programs one after the other. It finds wrong numbers and wrong addresses; races, limits
of shared memory and the rounding of tensor cores it does not show.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from thalweg.backends.gpu import float8, fold
from thalweg.backends.gpu.lowered import Lowered
from thalweg.backends.gpu.options import VIRTUAL
from thalweg.backends.gpu.program import build
from thalweg.backends.gpu.store import load, triton
from thalweg.dialects.diagnostics import DeviceError
from thalweg.dialects.types import dtype_from_mlir
from thalweg.runtime.gpu.artefact import (
    ALIGNMENT,
    Buffer,
    Copy,
    DeviceProgram,
    Exchange,
    KernelImage,
    Launch,
    Step,
    While,
)  # fmt: skip

Array = np.ndarray[Any, Any]
_LOCK = threading.Lock()  # Triton's mode is the process's
_NAMES = {"bool": "int8", "bfloat16": "bfloat16"}


def simulate(lowered: Lowered, arguments: Sequence[Array]) -> list[Array]:
    """Run a program in the interpreter, its buffers where they would be on a device. The arguments are not changed.

    Returns:
        The results, those that are new values of arguments included.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    options = replace(lowered.options, chip=VIRTUAL)
    return run(build(replace(lowered, options=options)), arguments, options.folder)


def run(program: DeviceProgram, arguments: Sequence[Array], folder: Path) -> list[Array]:
    """Run a program that was built for the chip `virtual`.

    Args:
        folder: where the kernels' modules are written.
    """
    return _Run(program, arguments, folder).results()


class _Run:
    """One run: NumPy's memory in place of a device's."""

    def __init__(self, program: DeviceProgram, arguments: Sequence[Array], folder: Path) -> None:
        self.program, self.folder = program, folder
        self.memory: dict[tuple[str, int], Array] = {("arena", 0): _bytes(program.arena)}
        for k, argument in enumerate(arguments):
            self.memory["argument", k] = _copied(argument)
        for k, constant in enumerate(program.constants):
            self.memory["constant", k] = _copied(constant)
        for k, result in enumerate(program.results):
            self.memory["result", k] = _bytes(math.prod(result.shape) * _dtype(result.dtype).itemsize)
        for k, aliased in program.aliases:
            self.memory["result", k] = self.memory["argument", aliased]

    def results(self) -> list[Array]:
        self._steps(self.program.steps)
        found = []
        for k, result in enumerate(self.program.results):
            found.append(self.memory["result", k].view(_dtype(result.dtype)).reshape(result.shape).copy())
        return found

    def _at(self, buffer: Buffer) -> Array:
        return self.memory[buffer.kind, buffer.number][buffer.offset : buffer.offset + buffer.bytes]

    def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Launch):
                self._launch(step)
            elif isinstance(step, Copy):
                self._at(step.target)[:] = self._at(step.source)
            elif isinstance(step, While) and step.trips is not None:
                for _ in range(step.trips):
                    self._steps(step.body)
            elif isinstance(step, While):
                self._steps(step.condition)
                while self._at(step.predicate)[0]:
                    self._steps(step.body)
                    self._steps(step.condition)
            elif isinstance(step, Exchange):
                raise DeviceError("this is one GPU's part of a program of several, and cannot run alone.")
            else:
                selector = self._at(step.selector)
                number = selector.view(np.int32)[0] if step.is_index else selector[0]
                self._steps(step.chosen(int(number)))

    def _launch(self, step: Launch) -> None:
        image = self.program.images[step.image]
        launch(_module(image, self.folder), image.name, step.grid[0], [self._at(b) for b in step.buffers])


def _module(image: KernelImage, folder: Path) -> Path:
    """The file with the text of a kernel's module."""
    path = folder / image.digest[:12] / f"{image.name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.binary)
    return path


def _bytes(count: int) -> Array:
    """Memory that starts at a multiple of 256, and holds what no program should read: NaN in most types."""
    memory = np.full(count + ALIGNMENT, 0xFF, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count]


def _copied(array: Array) -> Array:
    """The bytes of an array."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    found = _bytes(data.size)
    found[:] = data
    return found


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def launch(path: Path, name: str, grid: int, buffers: Sequence[Array]) -> None:
    """Run one kernel on bytes, or on arrays; it writes into the last ones."""
    with _interpreting():
        module = load(path)
        kinds = [kind.partition("[")[0] for kind in module.BUFFERS.values()]
        tensors = [_Tensor(b.reshape(-1).view(_element(kind))) for b, kind in zip(buffers, kinds, strict=True)]
        with np.errstate(all="ignore"):
            getattr(module, name)[(grid,)](*tensors, **module.TILE)


def _element(short: str) -> np.dtype[Any]:
    """The dtype of an element type as it is written in a module."""
    if short == "i1" or short in float8.SHORT:
        return np.dtype(np.int8)
    return dtype_from_mlir("i64" if short == "index" else short).numpy


@contextmanager
def _interpreting() -> Iterator[None]:
    """Let `@triton.jit` make functions for the interpreter, in Triton's own library too, and put all back after it: the
    interpreter leaves its own ways in Triton's modules, with which nothing compiles."""
    package = triton()
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, ReduceOps, ScanOps
    from triton.runtime.interpreter import interpreter_builder as builder
    from triton.runtime.jit import JITFunction

    with _LOCK:
        language = package.language
        core = language.core
        owners: list[Any] = [language, language.standard, core, language.math]
        owners += [core.tensor, core.tensor_descriptor_base, InterpreterBuilder, ReduceOps, ScanOps, builder]
        before = [dict(vars(owner)) for owner in owners]
        functions = {f for owner in owners[:2] for f in vars(owner).values() if isinstance(f, JITFunction)}
        made = {function: InterpretedFunction(function.fn) for function in functions}
        mode = package.knobs.runtime.interpret
        package.knobs.runtime.interpret = True
        _mend(InterpreterBuilder)
        fold.install(ReduceOps, ScanOps)
        # It would compute every integer twice, to look for an overflow that it then tells nobody.
        builder.options = replace(builder.options, sanitize_overflow=False)
        for owner, members in zip(owners[:2], before, strict=False):
            for name, member in members.items():
                if isinstance(member, JITFunction):
                    setattr(owner, name, made[member])
        try:
            yield
        finally:
            package.knobs.runtime.interpret = mode
            for owner, members in zip(owners, before, strict=True):
                _put_back(owner, members)


def _mend(builder: Any) -> None:
    """bf16 as a GPU has it: the interpreter cuts digits off instead of rounding, and multiplies matrices of the bit
    patterns, as of floats of 8 bits. And tiles of one truth, which it makes numbers that are no masks."""
    from triton.language import bfloat16, float8e4nv, float8e5, float32, int1
    from triton.runtime.interpreter import TensorHandle

    cast, dot, splat = builder.cast_impl, builder.create_dot, builder.create_splat

    narrow = {bfloat16: ml_dtypes.bfloat16, float8e4nv: ml_dtypes.float8_e4m3fn, float8e5: ml_dtypes.float8_e5m2}

    def widened(x: Any) -> Any:
        return TensorHandle(x.data.view(narrow[x.dtype.scalar]).astype(np.float32), float32)

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if target.scalar == bfloat16 and source.dtype.scalar != bfloat16:
            bits = source.data.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
            return TensorHandle(bits, bfloat16)
        if source.dtype.scalar == bfloat16 and target.scalar == float32:
            return widened(source)
        return cast(self, source, target)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (widened(x) if x.dtype.scalar in narrow else x for x in (a, b))
        return dot(self, a, b, *rest)

    def create_splat(self: Any, kind: Any, value: Any) -> Any:
        made = splat(self, kind, value)
        return TensorHandle(made.data.astype(bool), int1) if value.data.dtype == bool else made

    builder.cast_impl, builder.create_dot, builder.create_splat = cast_impl, create_dot, create_splat


def _put_back(owner: Any, members: dict[str, Any]) -> None:
    """Give a module or class the members that it had."""
    for name, member in dict(vars(owner)).items():
        if name not in members:
            if isinstance(owner, type):  # modules keep the names that rewritten functions use
                delattr(owner, name)
        elif members[name] is not member:
            setattr(owner, name, members[name])


class _DType(str):
    """The name of an element type, as Triton asks for it."""

    itemsize: int


class _Tensor:
    """An array as Triton's interpreter takes one: it asks for what a torch.Tensor would have. Integers are signed in
    kernels, as they are compiled."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.dtype = _DType(_NAMES.get(array.dtype.name, array.dtype.name.removeprefix("u")))
        self.dtype.itemsize = array.dtype.itemsize
        self.shape = array.shape

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def untyped_storage(self) -> _Tensor:
        return self

    def cpu(self) -> _Tensor:
        return self

    def copy_(self, other: _Tensor) -> None:
        """The interpreter writes back what is the same memory here."""

    def new_empty(self, *_: Any, **__: Any) -> _Tensor:
        return _Tensor(self.array)

    def set_(self, *_: Any) -> _Tensor:
        return self

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)


def try_module(file: str) -> None:
    """Run the kernel in a saved module on random numbers and print its results: what `python kernel.py` does."""
    path = Path(file).resolve()
    with _interpreting():
        module = load(path)
    rng = np.random.default_rng(0)
    arrays = {name: _random(kind, rng) for name, kind in module.BUFFERS.items()}
    launch(path, path.stem, module.GRID, list(arrays.values()))
    for name, array in arrays.items():
        if name.startswith("out"):
            print(f"{name}: {module.BUFFERS[name]}\n{array}")


def _random(kind: str, rng: np.random.Generator) -> Array:
    """Random numbers of a type as it is written in a module: f32[2,3]."""
    found = re.fullmatch(r"(\w+)\[([\d,]*)\]", kind)
    assert found is not None, f"{kind} is no type"
    shape = tuple(int(n) for n in found[2].split(",") if n)
    dtype = _element(found[1])
    if found[1] in float8.SHORT:
        return rng.standard_normal(shape).astype(dtype_from_mlir(found[1]).numpy).view(dtype)
    if dtype.kind == "i":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
