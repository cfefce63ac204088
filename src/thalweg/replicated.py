"""A program whose batch is shared out among several GPUs of this process: `tw.function(step, shards=4)`.

    tw ──the driver──▶ stablehlo ──backends/shards──▶ each GPU's share ──backends/gpu──▶ runtime/gpu/replicas.py

The numbers are those of one GPU, up to the order of additions. Every GPU holds the variables. What the rest of the
process sees of one is on the first GPU; the others have copies, which travel again where somebody else has changed it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from thalweg.backends.gpu.tuning import Measure
from thalweg.backends.shards.split import Share
from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import UnavailableError
from thalweg.dialects.mlir import ir
from thalweg.frontend.program import Program
from thalweg.gpus import Values, check_results, gpu_of, measure_on
from thalweg.runtime import tracing
from thalweg.runtime.config import Config
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.artefact import DeviceProgram
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.memory import Mark
from thalweg.runtime.gpu.nccl import Collective
from thalweg.runtime.gpu.replicas import Replicas
from thalweg.runtime.locks import Held
from thalweg.runtime.plan import Array


class Compiler(Protocol):
    """What this needs of the driver."""

    options: Config

    def device_program(
        self, module: ir.Module, chip: str, measure: Measure | None = None, share: Share | None = None
    ) -> tuple[DeviceProgram, list[str]]:
        """What a launcher runs for a `tw` module, and the names of the variables that are its trailing arguments."""
        ...


def gpus_for(shards: int, options: Config, where: str) -> list[Gpu]:
    """The first GPUs of this process.

    Raises:
        UnavailableError: there are fewer.
    """
    names = [name for name in options.devices if parse(name).kind == "GPU"]
    if len(names) < shards:
        raise UnavailableError(
            f"{where} shards={shards}: a batch is shared out among the GPUs of one process, and this one has "
            f"{len(names)}. Ask for as many as there are; tw.config.set_virtual_devices(gpu={shards}) makes some to "
            "try it with."
        )
    return [gpu_of(parse(name), options) for name in names[:shards]]


@cache
def sums_of(gpus: tuple[Gpu, ...], timeout: int) -> Collective | None:
    """NCCL between these GPUs; None where it is not installed, or has no way between them."""
    try:
        return Collective(gpus, timeout=timeout)
    except UnavailableError:
        return None


class _Copies:
    """A variable's value on all GPUs. The first one's is what everybody else sees."""

    def __init__(self, gpus: Sequence[Gpu], name: str) -> None:
        self._gpus, self._name = gpus, name
        self.arrays: list[DeviceArray] = []
        self._mark: Mark | None = None  # of the first one, as it was when the others were last the same

    def of(self, value: DeviceArray) -> list[DeviceArray]:
        """Its value on each GPU, by that on the first one."""
        if not self.arrays or self.arrays[0] is not value or value.ready is not self._mark:
            label = f"a copy of variable {self._name}"
            self.arrays = [value, *(gpu.receive(value, label) for gpu in self._gpus[1:])]
            self._mark = value.ready
        return self.arrays

    def changed(self, arrays: list[DeviceArray]) -> None:
        """A run has given it a new value everywhere."""
        self.arrays, self._mark = arrays, arrays[0].ready

    def forget(self) -> None:
        """Nobody knows what the copies hold."""
        self.arrays, self._mark = [], None


class ReplicatedProgram:
    """A program on several GPUs, bound to its captured arrays and variables.

    Called with arrays of the host or of a GPU, gives arrays of the first GPU. Safe to call from several threads.

    Raises:
        UnavailableError: there are fewer GPUs.
        LoweringError: the batch cannot be split evenly; something in the program has no code for a GPU.
    """

    direct = None
    takes_device_arrays = True

    def __init__(self, compiler: Compiler, program: Program) -> None:
        options, count = compiler.options, program.shards
        self._name = program.title or program.name
        self._options, self._gpus = options, gpus_for(count, options, f"{self._name}():")
        self._sums = sums_of(tuple(self._gpus), options.collective_timeout)
        programs, names = self._compiled(compiler, program)
        by_name = {v.name: v for v in program.variables}
        found = [by_name[name] for name in names]
        rows = [(f"'{v.name}' {v.type} of {v.where}", v.buffer, v.residence) for v in found]
        self._values = Values(self._gpus[0], names, rows)
        self._copies = [_Copies(self._gpus, name) for name in names]
        label = f"a constant of {self._name}()"
        self._constants = [[gpu.put(array, label) for gpu in self._gpus] for array in program.constants]
        self._host_constants = program.constants
        self._text: str = program.module.operation.get_asm(enable_debug_info=True)
        self._variables = program.variables  # which must outlive it
        first = programs[0]
        assert first.split is not None
        self._splits = first.split
        state = len(program.constants) + len(names)
        called = f"{program.name}()"
        self._replicas = Replicas(self._gpus, programs, state, called, options.gpu_graphs, self._sums)
        at = len(first.arguments) - len(names)
        self._updates = {result: argument - at for result, argument in first.aliases}
        self._outputs = [k for k in range(len(first.results)) if k not in self._updates]
        written = set(self._updates.values())
        locks = [(v.lock, number in written) for number, v in enumerate(found)]
        self._held = Held(lock for _, lock in sorted(zip(names, locks, strict=True), key=itemgetter(0)))

    def _compiled(self, compiler: Compiler, program: Program) -> tuple[list[DeviceProgram], list[str]]:
        """Each GPU's program: mostly they are one."""
        programs: list[DeviceProgram] = []
        for index, gpu in enumerate(self._gpus):
            if programs and programs[0].split is not None and programs[0].split.same:
                programs.append(programs[0])
                continue
            share = Share(len(self._gpus), index, len(program.inputs), self._sums is not None)
            measure = measure_on(gpu) if compiler.options.gpu_tuning else None
            made, names = compiler.device_program(program.module, gpu.properties.chip, measure, share)
            programs.append(made)
        return programs, names

    def __call__(self, inputs: Sequence[Any], timeout: float | None = None) -> list[Any]:
        trace = tracing.current()
        began = time.time_ns()
        results = self._run(inputs)
        if trace is not None:
            for gpu in self._gpus:
                gpu.synchronise()  # a trace is to show how long it takes, not how long to start it
                trace.called(gpu.name, self._name, began, time.time_ns())
        return results

    def _run(self, inputs: Sequence[Any]) -> list[Any]:
        checking = self._options.checking
        with self._held:
            before = self._values.copies() if checking else {}
            shared = [self._shared(value, number) for number, value in enumerate(inputs)]
            state = [copies.of(v) for copies, v in zip(self._copies, self._values.on_device(), strict=True)]
            everything = [*shared, *self._constants, *state]
            arguments = [[arrays[k] for arrays in everything] for k in range(len(self._gpus))]
            try:
                results = self._replicas(arguments, self._options.check_launches)
            except BaseException:
                for copies in self._copies:
                    copies.forget()
                raise
            for result, number in self._updates.items():
                self._copies[number].changed([each[result] for each in results])
                self._values.changed(number, results[0][result])
            found = [self._joined([each[k] for each in results], self._splits.results[k]) for k in self._outputs]
            if checking:
                arrays = [*map(np.asarray, inputs), *self._host_constants]
                check_results(self._text, arrays, before, [*found, *self._values.copies().values()], checking)
            return found

    def copies_of(self, number: int) -> list[Array]:
        """What each GPU has of a variable after a run: the same, bit by bit."""
        with self._held:
            return [array.numpy() for array in self._copies[number].arrays]

    def _shared(self, value: Any, number: int) -> list[DeviceArray]:
        """An input on each GPU: its part, or all of it."""
        if self._splits.arguments[number] is None:
            return [gpu.aligned(gpu.receive(value)) if isinstance(value, DeviceArray) else gpu.put(np.asarray(value))
                    for gpu in self._gpus]  # fmt: skip
        rows = value.shape[0] // len(self._gpus)
        if not isinstance(value, DeviceArray):
            whole = np.asarray(value)
            return [gpu.put(whole[k * rows : (k + 1) * rows]) for k, gpu in enumerate(self._gpus)]
        return [gpu.aligned(gpu.receive(part)) for gpu, part in zip(self._gpus, value.rows(rows), strict=True)]

    def _joined(self, parts: list[DeviceArray], axis: int | None) -> DeviceArray:
        """A result on the first GPU."""
        return parts[0] if axis is None else self._gpus[0].join(parts)
