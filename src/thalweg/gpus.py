"""Programs and clusters on GPUs: compiled for the chip, loaded, and run with their variables in the GPU's memory.

    tw ──the driver──▶ stablehlo ──backends/gpu──▶ DeviceProgram ──runtime/gpu──▶ launches, or one graph

Calls return when everything has been started. Results are arrays of the GPU, whose numbers are waited for when somebody
looks at them; a variable travels when the host has changed it or looks at it (`runtime/residence.py`).
"""

from __future__ import annotations

import ast
import ctypes
import functools
import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thalweg.backends.gpu.simulate import launch
from thalweg.backends.gpu.tuning import Measure
from thalweg.backends.reference.shadow import first_nan, has_nan, has_non_finite
from thalweg.dialects import context
from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import DeviceError, ExecutionError
from thalweg.dialects.mlir import ir
from thalweg.frontend.program import Program
from thalweg.runtime import tracing
from thalweg.runtime.config import Config, config
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.artefact import DeviceProgram
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.dlpack import from_dlpack
from thalweg.runtime.gpu.driver import find_driver
from thalweg.runtime.gpu.program import LoadedProgram
from thalweg.runtime.gpu.timing import launch_seconds
from thalweg.runtime.gpu.virtual import Span, VirtualDriver
from thalweg.runtime.locks import Held
from thalweg.runtime.plan import Array
from thalweg.runtime.residence import Residence
from thalweg.runtime.resources import Buffer
from thalweg.steps import CHECKING

MOST_VIRTUAL = 64  # GPUs; config.virtual_gpus says how many of them programs see


class Compiler(Protocol):
    """What this needs of the driver."""

    options: Config

    def device_program(
        self, module: ir.Module, chip: str, measure: Measure | None = None
    ) -> tuple[DeviceProgram, list[str]]:
        """What a launcher runs for a `tw` module, and the names of the variables that are its trailing arguments."""
        ...


@functools.cache
def virtual_driver() -> VirtualDriver:
    """This process's virtual GPUs."""
    return VirtualDriver(MOST_VIRTUAL, _interpret)


_one_of_each = threading.Lock()  # two objects for one GPU would not wait for each other's streams


@functools.cache
def _gpu(virtual: bool, index: int) -> Gpu:
    return Gpu(virtual_driver() if virtual else find_driver(), index)


def gpu_of(device: Device, options: Config = config) -> Gpu:
    """The GPU that a device's name stands for: a virtual one if the options ask for those.

    Raises:
        UnavailableError: there is no GPU.
    """
    with _one_of_each:
        return _gpu(bool(options.virtual_gpus), device.index or 0)


def put_on_gpu(value: Any, device: Device, options: Config = config) -> DeviceArray:
    """An array on a GPU: a copy of one that is elsewhere; another library's array that is there is shared."""
    gpu = gpu_of(device, options)
    if isinstance(value, DeviceArray):
        return gpu.receive(value)
    if isinstance(value, np.ndarray):
        return gpu.put(value)
    return from_dlpack(gpu, value)


def _interpret(text: str, name: str, grid: tuple[int, int, int], buffers: Sequence[Span]) -> None:
    """Run a kernel of a virtual GPU on its memory.

    Raises:
        DeviceError: a buffer is shorter than the kernel's module says.
    """
    path, sizes = _module(text, name)
    short = [k for k, (span, size) in enumerate(zip(buffers, sizes, strict=True)) if span.nbytes < size]
    if short or grid[1:] != (1, 1):
        raise DeviceError(f"kernel {name} is launched with grid {grid}; too short are its buffers {short}.")
    launch(path, name, grid[0], [_bytes_at(span.address, size) for span, size in zip(buffers, sizes, strict=True)])


@functools.lru_cache(maxsize=4096)
def _module(text: str, name: str) -> tuple[Path, tuple[int, ...]]:
    """The file that a kernel's module was saved to, and how many bytes its buffers have."""
    path = Path(config.cache_dir) / "triton" / "virtual" / hashlib.sha256(text.encode()).hexdigest()[:12] / f"{name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = re.search(r"^BUFFERS = (\{.*?\})$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the module of {name} has no BUFFERS"
    return path, tuple(map(_nbytes, ast.literal_eval(found[1]).values()))


def _nbytes(kind: str) -> int:
    """Bytes of a type as it is written in a module.

    Example:
        >>> _nbytes("f32[2,3]")
        24
    """
    element, _, extents = kind.removesuffix("]").partition("[")
    bits = 64 if element == "index" else int(re.sub(r"^\D+", "", element).partition("E")[0])
    return max(bits // 8, 1) * math.prod(int(n) for n in extents.split(",") if n)


def _bytes_at(address: int, size: int) -> Array:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def measure_on(gpu: Gpu) -> Measure:
    """Times kernels on a GPU, for tuning."""
    return lambda trial: launch_seconds(gpu, trial.image, trial.grid, trial.bytes)


class Values:
    """The variables of a program on a GPU.

    Args:
        names: in the program.
        variables: what messages call each, its memory on the host, and where the value is.
    """

    def __init__(self, gpu: Gpu, names: Sequence[str], variables: Sequence[tuple[str, Array, Residence]]) -> None:
        self._gpu, self._names, self._variables = gpu, names, variables
        self._puts = [partial(gpu.put, label=f"variable {name}") for name, _, _ in variables]

    def on_device(self) -> list[DeviceArray]:
        """The values, brought there where they are elsewhere. The locks are held."""
        return [
            residence.on_device(self._gpu.name, memory, put, self._gpu.refill)
            for (_, memory, residence), put in zip(self._variables, self._puts, strict=True)
        ]

    def changed(self, number: int, value: DeviceArray) -> None:
        """A run has given a variable a new value."""
        self._variables[number][2].changed_on_device(self._gpu.name, value)

    def copies(self) -> dict[str, Array]:
        """Copies on the host, for looking at."""
        for _, memory, residence in self._variables:
            residence.to_host(memory)
        return {name: memory.copy() for name, (_, memory, _) in zip(self._names, self._variables, strict=True)}


class _OnGpu:
    """A `tw` module compiled for a GPU and loaded there: arrays in, arrays out, for whoever holds the locks.

    Args:
        constants: arrays that are its last inputs before the variables; they stay on the GPU.
    """

    def __init__(
        self, compiler: Compiler, module: ir.Module, gpu: Gpu, bound: Callable[[list[str]], Values], name: str,
        constants: Sequence[Array] = (),
    ) -> None:  # fmt: skip
        self.gpu = gpu
        self._options = compiler.options
        measure = measure_on(gpu) if compiler.options.gpu_tuning else None
        program, self.names = compiler.device_program(module, gpu.properties.chip, measure)
        self.values = bound(self.names)
        self._text: str = module.operation.get_asm(enable_debug_info=True)
        self._constants = [gpu.put(array, f"a constant of {name}") for array in constants]
        self._host_constants = list(constants)
        state = len(constants) + len(self.names)
        self._loaded = LoadedProgram(gpu, program, state, name, compiler.options.gpu_graphs)
        first = len(program.arguments) - len(self.names)
        self.updates = {result: argument - first for result, argument in program.aliases}
        self._outputs = [k for k in range(len(program.results)) if k not in self.updates]

    def run(self, inputs: Sequence[Any], checking: str = "") -> list[DeviceArray]:
        """Start a run.

        Args:
            checking: what results must not hold (`Config.checking`).
        """
        given = [self._put(value) for value in inputs]
        before = self.values.copies() if checking else {}
        state = self.values.on_device()
        results = self._loaded([*given, *self._constants, *state], self._options.check_launches)
        for result, number in self.updates.items():
            self.values.changed(number, results[result])
        found = [results[k] for k in self._outputs]
        if checking:
            arrays = [*map(np.asarray, inputs), *self._host_constants]
            check_results(self._text, arrays, before, [*found, *self.values.copies().values()], checking)
        return found

    def _put(self, value: Any) -> DeviceArray:
        if isinstance(value, DeviceArray):
            return self.gpu.aligned(self.gpu.receive(value))
        return self.gpu.put(np.asarray(value))


def check_results(
    text: str, inputs: Sequence[Array], before: dict[str, Array], found: Sequence[Any], checking: str
) -> None:
    """Where a result holds what it must not, name the op that made the first one, unless it came with an input.

    Args:
        text: of the `tw` module.
        inputs: with the constants.
        before: the variables' values, by the names that the module gives them.
        found: results, and the variables' new values.
        checking: what must not be there (`Config.checking`).

    Raises:
        ExecutionError: it is there.
    """
    infinities = checking == "non-finite"
    bad = has_non_finite if infinities else has_nan
    if not any(map(bad, map(np.asarray, found))):
        return
    with context.entered():
        culprit = first_nan(ir.Module.parse(text), inputs, before, infinities=infinities)
    if culprit is not None:
        raise ExecutionError(str(culprit))


class GpuCluster:
    """A cluster of a step on a GPU, bound to its variables. Its results stay there until the host wants them.

    Several steps may be inside at once: each call holds the locks of the variables.

    Args:
        module: its program, whose trailing arguments after compilation are the variables called `variable0`…
        buffers: of these variables.
        device: a GPU of this process.
    """

    locks = True

    def __init__(self, compiler: Compiler, module: ir.Module, buffers: Sequence[Buffer], device: Device) -> None:
        def bound(names: list[str]) -> Values:
            self._buffers = [buffers[int(name.removeprefix("variable"))] for name in names]
            return Values(gpu, names, [(f"'{b.name}'", b.array, b.residence) for b in self._buffers])

        gpu = gpu_of(device, compiler.options)
        self._options = compiler.options
        self._program = _OnGpu(compiler, module, gpu, bound, "a cluster of a step")
        asked = module.operation.attributes
        self._asked = ir.StringAttr(asked[CHECKING]).value if CHECKING in asked else ""
        written = {id(self._buffers[number]) for number in self._program.updates.values()}
        by_name = sorted(self._buffers, key=lambda buffer: buffer.name)
        self._held = Held((buffer.lock, id(buffer) in written) for buffer in by_name)

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        with self._held:
            return self._program.run(inputs, self._options.checking or self._asked)

    def settle(self) -> None:
        """Wait until everything that was started is done."""
        self._program.gpu.synchronise()


class GpuProgram:
    """A whole program on one GPU, bound to its captured arrays and variables; no step, no executor.

    Called with arrays of the host or of a GPU, gives arrays of the GPU. Safe to call from several threads.
    """

    direct = None
    takes_device_arrays = True

    def __init__(self, compiler: Compiler, program: Program, device: Device) -> None:
        by_name = {v.name: v for v in program.variables}

        def bound(names: list[str]) -> Values:
            found = [by_name[name] for name in names]
            return Values(gpu, names, [(f"'{v.name}' {v.type} of {v.where}", v.buffer, v.residence) for v in found])

        gpu = gpu_of(device, compiler.options)
        self._name, self._device = program.title or program.name, str(device)
        self._options = compiler.options
        self._program = _OnGpu(compiler, program.module, gpu, bound, f"{program.name}()", program.constants)
        self._variables = program.variables  # which must outlive it
        written = set(self._program.updates.values())
        locks = [(by_name[name].lock, at in written) for at, name in enumerate(self._program.names)]
        self._held = Held(lock for _, lock in sorted(zip(self._program.names, locks, strict=True), key=itemgetter(0)))

    def __call__(self, inputs: Sequence[Any], timeout: float | None = None) -> list[Any]:
        trace = tracing.current()
        if trace is None:
            return self._run(inputs)
        began = time.time_ns()
        results = self._run(inputs)
        self._program.gpu.synchronise()  # a trace is to show how long it takes, not how long to start it
        trace.called(self._device, self._name, began, time.time_ns())
        return results

    def _run(self, inputs: Sequence[Any]) -> list[Any]:
        with self._held:
            return list(self._program.run(inputs, self._options.checking))
