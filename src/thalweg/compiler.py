"""The driver: from a traced program to one that runs. The table of contents of the compiler.

    tw            what was traced
    tw-optimized  inlined, differentiated, simplified
    stablehlo     one lowering per op; variables are arguments updated in place
    linalg        StableHLO's own pass
    kernels       the kernels that were formed, and the step that calls them
    llvm          what MLIR's lowering passes leave, as LLVM IR
    asm           machine code

Or, for a GPU, from stablehlo:

    triton        one Python module per kernel
    ptx           what Triton makes of it

`Driver.compile` goes all the way, or to the cache; `Driver.stage` stops at one and gives its text.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Container, Sequence
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import llvmlite
import numpy as np

from thalweg.backends.cpu.dispatch import box_of
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.jit import host_cpu
from thalweg.backends.cpu.kept import keep_in
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.devices import CPU, Device
from thalweg.dialects.diagnostics import ExecutionError, did_you_mean
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.frontend import program as frontend
from thalweg.frontend.program import Program
from thalweg.frontend.tensor import EagerTensor
from thalweg.passes.pipeline import Pipeline
from thalweg.runtime import tracing
from thalweg.runtime.cache import DiskCache, digest
from thalweg.runtime.config import Config, config
from thalweg.runtime.gpu.artefact import DeviceProgram
from thalweg.runtime.locks import Held, quick_way
from thalweg.runtime.resources import of_process
from thalweg.sized import SizedProgram, is_sized, specialised
from thalweg.steps import CutStep, Target, compile_step, cut, home_of, measured

# What takes a program all the way is imported where it is used: most programs come from the cache.
if TYPE_CHECKING:
    from thalweg.backends.cpu.tuning import Tuner
    from thalweg.backends.gpu.options import GpuOptions
    from thalweg.backends.gpu.tuning import Measure
    from thalweg.backends.pjrt.lower import Portable
    from thalweg.backends.shards.split import Share

TUNED_BYTES = 2**24  # on disk, of what was measured for `cpu_tuning`
STAGES = ("tw", "tw-optimized", "stablehlo", "linalg", "kernels", "llvm", "asm")


class CompiledProgram:
    """A program bound to its captured arrays and variables.

    Calling it takes the inputs' arrays and gives the outputs' arrays; variables change in place. Safe to call from
    several threads: a call holds the locks of the program's variables, so that none is changed while another reads it.
    """

    def __init__(self, program: Program, executable: Executable, names: Sequence[str], options: Config) -> None:
        by_name = {v.name: v for v in program.variables}
        self.executable = executable
        self._outputs = len(program.outputs)
        self._bound = [*program.constants, *(by_name[name].buffer for name in names)]
        self._variables = {name: by_name[name].buffer for name in names}
        self._program = program
        self._options = options
        written = executable.aliases.values()
        first = len(executable.inputs) - len(names)
        locks = [(by_name[name].lock, first + at in written) for at, name in enumerate(names)]
        self._held = Held(lock for _, lock in sorted(zip(names, locks, strict=True), key=itemgetter(0)))
        passed = [(quick_way.words, False), *((lock.words, write) for lock, write in locks)]
        constants = [None] * len(program.constants)
        self._weights = executable.weights(self._bound, [*constants, *(lock.words for lock, _ in locks)])
        self._direct = executable.direct(self._bound, passed, box_of(EagerTensor, EagerTensor), self._weights)

    @property
    def boxed(self) -> Callable[..., Any] | None:
        """As `direct`, but takes tensors, too, and gives one. None for a program without exactly one result."""
        return self._direct.boxed if self._direct is not None and self.direct is not None else None

    @property
    def direct(self) -> Callable[..., Any] | None:
        """The quick way in: arrays as arguments; one array, or a tuple of them, or NotImplemented where the arrays are
        not exactly as expected, another call is running, or calls are looked at. None where there is no quick way."""
        if self._direct is None or (self._options is not config and self._options.checking):
            return None
        return self._direct.call

    def __call__(self, inputs: Sequence[np.ndarray], timeout: float | None = None) -> list[np.ndarray]:
        trace = tracing.current()
        if trace is None:
            return self._run(inputs)
        began = time.time_ns()
        results = self._run(inputs)
        trace.called(str(CPU), self._program.title or self._program.name, began, time.time_ns())
        return results

    def _run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._options.checking:
            return self._checked(inputs)
        with self._held:
            return self.executable([*inputs, *self._bound], self._weights)[: self._outputs]

    def _checked(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run; where a result holds what it must not, run once more in the reference interpreter to name the maker."""
        from thalweg.backends.reference.shadow import first_nan, has_nan, has_non_finite

        infinities = self._options.checking == "non-finite"
        bad, kind = (has_non_finite, "an infinity") if infinities else (has_nan, "a NaN")
        with self._held:
            before = {name: buffer.copy() for name, buffer in self._variables.items()}
            results = self.executable([*inputs, *self._bound], self._weights)[: self._outputs]
            touched = [*results, *self._variables.values()]
        if any(map(bad, touched)):
            with context.entered():
                arrays = [*inputs, *self._program.constants]
                found = first_nan(optimized(self._program.module), arrays, before, infinities=infinities)
            raise ExecutionError(
                f"{found}" if found else f"a result holds {kind}, though no op makes one in the reference interpreter"
            )
        return results


class Driver:
    """Compiles programs with the process's options; `driver()` is the one the facade hands to the frontend."""

    def __init__(self, options: Config = config) -> None:
        self.options = options
        # Passes of several threads in the one MLIR context crash the process; they hold the interpreter's lock mostly.
        self._one_at_a_time = threading.RLock()
        self._in_use: WeakValueDictionary[str, Executable] = WeakValueDictionary()
        self._names: WeakKeyDictionary[Executable, list[str]] = WeakKeyDictionary()
        self.state = of_process()  # queues and the like, shared by all steps of the process

    @property
    def devices(self) -> tuple[str, ...]:
        """Of this process."""
        return self.options.devices

    def compile(self, program: Program, target: Target | None = None) -> frontend.Executable:
        """Machine code for a program, from the cache on disk where it has been compiled before. A program with ops that
        run on the host or on several devices becomes a step for the executor.

        Args:
            target: a cluster to run on; this process if None.

        Raises:
            PassError, LoweringError: the program cannot be compiled; the message names the op and the user's line.
        """
        if not is_sized(program):
            return SizedProgram(program, lambda sized: self.compile(sized, target))
        if target is not None:
            return target.bind(self.cut(program, target.devices))
        if program.shards > 1:
            from thalweg.replicated import ReplicatedProgram  # whoever has no GPU does without

            return ReplicatedProgram(self, program)
        home = self._home_or_step(program)
        if self.options.dump_dir:
            self._dump(program, Path(self.options.dump_dir))
        if isinstance(home, CutStep):
            return compile_step(self, home, self.devices, self.state)
        if home.kind == "GPU":
            from thalweg.gpus import GpuProgram  # whoever has no GPU does without

            return GpuProgram(self, program, home)
        executable, names = self.executable(program.module, len(program.constants))
        return CompiledProgram(program, executable, names, self.options)

    def _home_or_step(self, program: Program) -> Device | CutStep:
        """The device that can do a program alone, perhaps because nothing is left of what it could not do; the parts of
        a program for which there is none."""
        with self._one_at_a_time, context.entered():
            places = {v.device for v in program.variables}
            home = home_of(program.module, self.devices, places)
            if home is not None:
                return home
            module = optimized(program.module, self.options.verify_each)
            return home_of(module, self.devices, places) or self._cut(program, module, ";".join(self.devices))

    def executable(self, module: ir.Module, constants: int = 0) -> tuple[Executable, list[str]]:
        """Machine code for a `tw` module that is compiled as a whole, and the names of the variables that are its
        trailing arguments. The same text is compiled once for as long as its code is in use, and once on disk.

        Args:
            constants: how many of its last arguments never change.
        """
        with self._one_at_a_time, context.entered():
            key = digest(self._key(module), str(constants))
            known = self._in_use.get(key)
            if known is not None:
                return known, self._names[known]
            disk = self._disk() if self.options.cache else None
            keep_in(disk)
            cached = disk.get(key) if disk is not None else None
            if cached is not None:
                data, names = _unpacked(cached)
                executable = Executable.deserialize(data)
            else:
                executable, names = self._compiled(module, constants)
                if disk is not None:
                    disk.put(key, _packed(executable.serialize(), names))
            self._in_use[key] = executable
            self._names[executable] = names
        return executable, names

    def _compiled(self, module: ir.Module, constants: int) -> tuple[Executable, list[str]]:
        from thalweg.backends.cpu.backend import compile_stablehlo
        from thalweg.backends.cpu.vector_math import OWN_FUNCTIONS

        stablehlo, names = self.to_stablehlo(module, OWN_FUNCTIONS)
        _mark_constants(stablehlo, constants, len(names))
        return compile_stablehlo(stablehlo, self.cpu_options(), self.tuner()), names

    def portable(self, module: ir.Module) -> tuple[Portable, list[str]]:
        """A `tw` module as PJRT takes it, and the names of the variables that are its trailing arguments."""
        from thalweg.backends.pjrt.lower import lower

        with self._one_at_a_time, context.entered():
            stablehlo, names = self.to_stablehlo(module)
            return lower(stablehlo), names

    def device_program(
        self, module: ir.Module, chip: str, measure: Measure | None = None, share: Share | None = None
    ) -> tuple[DeviceProgram, list[str]]:
        """What a launcher runs for a `tw` module on a GPU of this kind, and the names of the variables that are its
        trailing arguments; from the cache on disk where it has been compiled before.

        Args:
            measure: times kernels on a GPU of this kind, to choose among sizes of tiles; None leaves that to rules.
            share: one GPU's part, where several share the batch.
        """
        from thalweg.backends.gpu import backend as gpu
        from thalweg.backends.gpu.tuning import Tuner

        with self._one_at_a_time, context.entered():
            options = self.gpu_options(chip)
            how = f"{options} tuned={measure is not None} {share}"
            key = digest(str(module), self.options.code_key(), how, *_versions(), _triton_version())
            cached = self._disk().get(key) if self.options.cache else None
            if cached is not None:
                data, names = _unpacked(cached)
                return DeviceProgram.from_bytes(data), names
            stablehlo, names = self.to_stablehlo(module)
            program = gpu.compile_program(stablehlo, options, Tuner(options, measure), share)
            if self.options.cache:
                self._disk().put(key, _packed(program.to_bytes(), names))
            return program, names

    def cut(self, program: Program, devices: str) -> CutStep:
        """A program in parts for devices, which are given as the pass `place` takes them."""
        with self._one_at_a_time, context.entered():
            return self._cut(program, optimized(program.module, self.options.verify_each), devices)

    def _cut(self, program: Program, module: ir.Module, devices: str) -> CutStep:
        options = self.options
        costs = options.placement_costs
        return cut(program, module, devices, options.verify_each, options.compress_transfers, costs)

    def measure(
        self, program: Program, inputs: Sequence[np.ndarray], runs: int, target: Target | None = None
    ) -> dict[str, float]:
        """Run a program, once and then `runs` times, to tell how many seconds its ops take; for `placement_costs`."""
        if not is_sized(program):
            types = [t.with_shape(a.shape) for t, a in zip(program.inputs, inputs, strict=True)]
            program = specialised(program, types)
        step = self.cut(program, ";".join(self.devices) if target is None else target.devices)
        executable = compile_step(self, step, self.devices, self.state) if target is None else target.bind(step)
        return measured(step, executable, inputs, runs)

    def put(self, value: Any, device: Device) -> Any:
        """An array on a GPU: a copy of one that is elsewhere; another library's array that is there is shared.

        Raises:
            UnavailableError: there is no GPU.
        """
        from thalweg.gpus import put_on_gpu  # whoever has no GPU does without

        return put_on_gpu(value, device, self.options)

    def stage(self, program: Program, stage: str) -> str:
        """The text of a program at a stage; of one that becomes a step, the texts of its clusters.

        Raises:
            ValueError: no such stage; the message lists them.
        """
        from thalweg.backends.gpu import backend as gpu

        known = (*STAGES, *gpu.STAGES)
        if stage not in known:
            nearest = did_you_mean(stage, known) or "."
            raise ValueError(f"{user_frame()} unknown stage '{stage}'{nearest} The stages are {', '.join(known)}.")
        with self._one_at_a_time, context.entered():
            if stage == "tw":
                return str(program.module)
            if stage == "tw-optimized":
                return str(optimized(program.module, self.options.verify_each))
            if home_of(program.module, self.devices) is not None:
                return self._stage_of(program.module, stage)
            step = self.cut(program, ";".join(self.devices))
            return "".join(f"// {title}\n{self._stage_of(cluster, stage)}\n" for title, cluster in step.clusters())

    def _stage_of(self, module: ir.Module, stage: str) -> str:
        from thalweg.backends.cpu.backend import stages
        from thalweg.backends.cpu.vector_math import OWN_FUNCTIONS
        from thalweg.backends.gpu import backend as gpu

        stablehlo, _ = self.to_stablehlo(module, () if stage in (*gpu.STAGES, "stablehlo") else OWN_FUNCTIONS)
        if stage in gpu.STAGES:
            return gpu.stage(stablehlo, stage, self.gpu_options())
        return str(stablehlo) if stage == "stablehlo" else stages(stablehlo, self.cpu_options(), self.tuner())[stage]

    def to_stablehlo(self, traced: ir.Module, keep: Container[tuple[str, str]] = ()) -> tuple[ir.Module, list[str]]:
        """A `tw` module as StableHLO, and the names of the variables that became trailing arguments.

        Args:
            keep: functions that a backend has code of its own for (`lower_module`).
        """
        from thalweg.backends.stablehlo.lower import lower_module

        module, names = self.prepared(traced)
        return lower_module(module, keep), names

    def prepared(self, traced: ir.Module) -> tuple[ir.Module, list[str]]:
        """A `tw` module as pure ops that StableHLO has a lowering for; variables are trailing arguments, named."""
        module = optimized(traced, self.options.verify_each)
        Pipeline.parse("to-stablehlo").run(module, verify_each=self.options.verify_each)
        return module, _variable_arguments(module)

    def cpu_options(self) -> CpuOptions:
        """The process's options, as the CPU backend takes them."""
        return CpuOptions(
            opt_level=self.options.opt_level,
            threads=self.options.thread_count,
            deterministic=self.options.deterministic,
            pack_weights=self.options.pack_weights,
            flush_subnormals=self.options.flush_subnormals,
            matmul_precision=self.options.matmul_precision,
        )

    def tuner(self) -> Tuner | None:
        """What chooses how products and convolutions are cut, by what is fastest on this machine; None where
        `cpu_tuning` is off: a model chooses."""
        if not self.options.cpu_tuning:
            return None
        from thalweg.backends.cpu.timing import time_kernels
        from thalweg.backends.cpu.tuning import Tuner

        options = self.cpu_options()
        store = DiskCache(self.options.cache_dir / "tuned", TUNED_BYTES) if self.options.cache else None
        return Tuner(options, store, partial(time_kernels, options=options))

    def gpu_options(self, chip: str = "sm_90") -> GpuOptions:
        """The process's options, as the GPU backend takes them."""
        from thalweg.backends.gpu.options import GpuOptions

        options = self.options
        folder = Path(options.cache_dir) / "triton"
        return GpuOptions(
            chip,
            tf32=options.matmul_precision != "highest",
            deterministic=options.deterministic,
            descriptors={"always": True, "never": False}.get(options.gpu_descriptors),
            folder=folder,
        )

    def _disk(self) -> DiskCache:
        return DiskCache(self.options.cache_dir, self.options.cache_limit)

    def _key(self, module: ir.Module) -> str:
        """Everything the machine code depends on: the program, the options, the processor, and who compiles."""
        options = self.cpu_options()
        processor = (*host_cpu(), repr(machine(options)))
        return digest(str(module), self.options.code_key(), options.key(), *processor, *_versions())

    def _dump(self, program: Program, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(STAGES):
            (folder / f"{program.name}.{number}.{stage}.txt").write_text(self.stage(program, stage))


def optimized(module: ir.Module, verify_each: bool = True) -> ir.Module:
    """The stage `tw-optimized` of a `tw` module, which is left alone."""
    clone = ir.Module.parse(module.operation.get_asm(binary=False, enable_debug_info=True))
    Pipeline.parse("optimize").run(clone, verify_each=verify_each)
    return clone


def _mark_constants(stablehlo: ir.Module, count: int, variables: int) -> None:
    """Tell the CPU backend which arguments of a program never change: the `count` before its variables."""
    if not count:
        return
    main = next(op for op in stablehlo.body.operations if op.operation.name == "func.func").operation
    total = len(main.regions[0].blocks[0].arguments)
    every = [*ir.ArrayAttr(main.attributes["arg_attrs"])] if "arg_attrs" in main.attributes else []
    every = every or [ir.DictAttr.get({}, stablehlo.context)] * total
    for k in range(total - variables - count, total - variables):
        known = {named.name: named.attr for named in ir.DictAttr(every[k])}
        every[k] = ir.DictAttr.get({**known, "tw.constant": ir.UnitAttr.get(stablehlo.context)}, stablehlo.context)
    main.attributes["arg_attrs"] = ir.ArrayAttr.get(every, stablehlo.context)


def _variable_arguments(module: ir.Module) -> list[str]:
    """Names of the variables that @main takes as its trailing arguments, in order."""
    main = next(op for op in module.body.operations if op.operation.name == "func.func")
    attributes = main.operation.attributes
    if "arg_attrs" not in attributes:
        return []
    found = [ir.DictAttr(a) for a in ir.ArrayAttr(attributes["arg_attrs"])]
    return [ir.StringAttr(a["tw.variable"]).value for a in found if "tw.variable" in a]


def _packed(data: bytes, names: Sequence[str]) -> bytes:
    """What the cache keeps of a compiled program."""
    header = json.dumps(list(names)).encode()
    return len(header).to_bytes(4, "little") + header + data


def _unpacked(kept: bytes) -> tuple[bytes, list[str]]:
    end = 4 + int.from_bytes(kept[:4], "little")
    return kept[end:], json.loads(kept[4:end])


@cache
def _triton_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return ""


@cache
def _versions() -> tuple[str, ...]:
    """Who compiles: llvmlite, MLIR, and the compiler's own files: whoever edits a pass must not run what the old one
    made."""
    package = Path(__file__).parent
    files = [f for folder in ("dialects", "passes", "backends") for f in sorted((package / folder).rglob("*.py"))]
    own = digest(*(f"{f.relative_to(package)} {_stamp(f)}" for f in files))
    return llvmlite.__version__, _stamp(Path(ir.__file__ or "")), own


def _stamp(file: Path) -> str:
    """Size and time of a file."""
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"


@cache
def driver() -> Driver:
    """The process's driver."""
    return Driver()


__all__ = ["STAGES", "CompiledProgram", "Driver", "driver"]
