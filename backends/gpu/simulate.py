"""Kernels in Triton's interpreter: NumPy arrays in, NumPy arrays out, no GPU.

The interpreter runs a kernel's programs one after the other. It finds wrong numbers and wrong addresses; races, limits
of shared memory and the rounding of tensor cores it does not show.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from thalweg.backends.cpu.constants import constant_array
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.program import storage
from thalweg.backends.gpu.backend import Lowered
from thalweg.backends.gpu.store import load, triton

Array = np.ndarray[Any, Any]
_LOCK = threading.Lock()  # Triton's mode is the process's
_NAMES = {"bool": "int8", "bfloat16": "bfloat16"}


def simulate(lowered: Lowered, arguments: Sequence[Array]) -> list[Array]:
    """Run a program's kernels in the interpreter. The arguments are not changed.

    Returns:
        The results, those that are new values of arguments included.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    graph = lowered.program.graph
    buffers: dict[Value, Array] = {}
    for value, array in zip(graph.args, arguments, strict=True):
        buffers[value] = np.ascontiguousarray(array).copy()
    for kernel, path in zip(lowered.kernels, lowered.save(), strict=True):
        operands = [_buffer(value, buffers) for value in kernel.operands]
        results = [buffers.setdefault(value, _empty(value)) for value in kernel.results]
        launch(path, kernel.name, kernel.grid, [*operands, *results], dict(kernel.constants))
    found = []
    for output, kind in zip(graph.outputs, lowered.outputs, strict=True):
        array = _empty(output) if not output.size else _buffer(storage(output), buffers)
        found.append(array.reshape(kind.shape).view(kind.dtype.numpy).copy())
    return found


def _buffer(value: Value, buffers: dict[Value, Array]) -> Array:
    if value.kind == "constant" and value not in buffers:
        buffers[value] = np.ascontiguousarray(constant_array(value))
    return buffers[value]


def _empty(value: Value) -> Array:
    dtype = ml_dtypes.bfloat16 if value.element == "bf16" else _numpy_name(value.element)
    return np.empty(value.shape, dtype)


def _numpy_name(element: str) -> str:
    if element == "index":
        return "int64"
    return "bool" if element == "i1" else f"{'float' if element[0] == 'f' else 'int'}{element[1:]}"


def launch(path: Path, name: str, grid: int, arrays: Sequence[Array], constants: dict[str, int]) -> None:
    """Run one kernel, which writes into the last arrays."""
    with _interpreting():
        kernel = getattr(load(path), name)
        with np.errstate(all="ignore"):
            kernel[(grid,)](*(_Tensor(array) for array in arrays), **constants)


@contextmanager
def _interpreting() -> Iterator[None]:
    """Let `@triton.jit` make functions for the interpreter, in Triton's own library too, and put all back after it: the
    interpreter leaves its own ways in Triton's modules, with which nothing compiles."""
    package = triton()
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder
    from triton.runtime.jit import JITFunction

    with _LOCK:
        language = package.language
        core = language.core
        owners: list[Any] = [language, language.standard, core, language.math]
        owners += [core.tensor, core.tensor_descriptor_base, InterpreterBuilder]
        before = [dict(vars(owner)) for owner in owners]
        functions = {f for owner in owners[:2] for f in vars(owner).values() if isinstance(f, JITFunction)}
        made = {function: InterpretedFunction(function.fn) for function in functions}
        mode = package.knobs.runtime.interpret
        package.knobs.runtime.interpret = True
        _mend(InterpreterBuilder)
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
    patterns."""
    from triton.language import bfloat16, float32
    from triton.runtime.interpreter import TensorHandle

    cast, dot = builder.cast_impl, builder.create_dot

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if target.scalar == bfloat16 and source.dtype.scalar != bfloat16:
            bits = source.data.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
            return TensorHandle(bits, bfloat16)
        if source.dtype.scalar == bfloat16 and target.scalar == float32:
            return TensorHandle(source.data.view(ml_dtypes.bfloat16).astype(np.float32), float32)
        return cast(self, source, target)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (cast_impl(self, x, float32) if x.dtype.scalar == bfloat16 else x for x in (a, b))
        return dot(self, a, b, *rest)

    builder.cast_impl, builder.create_dot = cast_impl, create_dot


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
    launch(path, path.stem, module.GRID, list(arrays.values()), module.TILE)
    for name, array in arrays.items():
        if name.startswith("out"):
            print(f"{name}: {module.BUFFERS[name]}\n{array}")


def _random(kind: str, rng: np.random.Generator) -> Array:
    """Random numbers of a type as it is written in a module: f32[2,3]."""
    found = re.fullmatch(r"(\w+)\[([\d,]*)\]", kind)
    assert found is not None, f"{kind} is no type"
    shape = tuple(int(n) for n in found[2].split(",") if n)
    if found[1][0] in "fb":
        return rng.standard_normal(shape).astype(ml_dtypes.bfloat16 if found[1] == "bf16" else _numpy_name(found[1]))
    return rng.integers(0, 2, shape).astype(_numpy_name(found[1]))
