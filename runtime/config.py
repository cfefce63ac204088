"""All global options and environment variables, in one typed place.

    tw.config.opt_level = 1                      # for the process
    with tw.config.override(threads=1): ...      # for a block
    THALWEG_OPT_LEVEL=1 python train.py          # from outside

Each field reads its environment variable once, when the module is imported. Options that change generated code are
part of the key of every cache (`Config.code_key`), so changing one never runs stale code.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.dialects.diagnostics import did_you_mean
from thalweg.runtime.gpu.driver import usable_gpus
from thalweg.runtime.locks import quick_way
from thalweg.runtime.pjrt.chips import tpus
from thalweg.runtime.quota import quota

_CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


def _available_threads() -> int:
    """Processors this process may use: its affinity, cut down by a cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = quota()
    return count if allowed is None else min(count, max(1, int(allowed)))


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(f"environment variable {name}={text!r} is not a boolean; write 0 or 1")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"environment variable {name}={text!r} is not an integer") from None
    return Path(text) if isinstance(default, Path) else text


def _option(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass
class Config:
    """The options. Assigning an unknown one is an error that suggests the nearest name."""

    threads: int = _option(0, "threads of a compiled program; 0 means the processors this process may use")
    opt_level: int = _option(2, "how hard LLVM tries, 0 to 3; kernels are fused and vector code at every level")
    deterministic: bool = _option(False, "same bits each time, on any number of threads; else GPUs add in any order")
    flush_subnormals: bool = _option(False, "CPUs take numbers below the smallest normal one for zero: faster there")
    check_nans: bool = _option(False, "after a call whose results hold a NaN, find the op and line that made it first")
    check_infinities: bool = _option(False, "the same where a result holds a NaN or an infinity")
    verify_each: bool = _option(True, "verify the module after every pass")
    cache: bool = _option(True, "keep compiled programs on disk")
    warm_start: bool = _option(False, "keep traced programs on disk too, so that a later process does not trace")
    cache_dir: Path = _option(_CACHE_HOME / "thalweg", "where compiled programs are kept")  # noqa: RUF009 (immutable)
    cache_limit: int = _option(2**30, "bytes on disk above which the least recently used programs are dropped")
    pack_weights: bool = _option(True, "keep a second copy of weights in the order in which CPU programs read them")
    cpu_tuning: bool = _option(False, "time several ways to cut each product and convolution, keep the best on disk")
    virtual_cpus: int = _option(1, "devices /device:CPU:0, 1… of this process; they share its processors and memory")
    virtual_tpus: int = _option(0, "PJRT's CPU devices as /device:TPU:0, 1…, to try programs for TPUs without one")
    virtual_gpus: int = _option(0, "/device:GPU:0, 1… whose kernels run in Triton's interpreter, to try programs")
    default_device: str = _option("", "cpu or gpu, where programs run that ask for none; empty: a GPU if there is one")
    gpu_graphs: bool = _option(True, "replay what a program launches on a GPU as one graph, from its second run on")
    gpu_tuning: bool = _option(False, "compile kernels for a GPU with several sizes of tiles, time them, keep the best")
    gpu_descriptors: str = _option("", "sm_90's copy engine fetches products' tiles: always, never; empty: large ones")
    matmul_precision: str = _option("highest", "of products of 32-bit floats; high, medium: split or rounded, faster")
    collective_timeout: int = _option(300, "seconds after which a sum over GPUs that one does not come to is given up")
    check_launches: bool = _option(False, "wait for each kernel on a GPU, so that the one that fails is named")
    placement_costs: str = _option("", "file of costs that were measured (`Session.measure_costs`), to place ops by")
    compress_transfers: bool = _option(False, "send 32-bit floats from task to task as their upper 16 bits")
    stack_limit: int = _option(0, "bytes in memory that rows kept by loops across devices may take; 0: no limit")
    spill_dir: str = _option("", "folder of the files in which further rows wait; empty: the system's temporary one")
    dump_dir: str = _option("", "folder where every stage of every compiled program is written; empty: nowhere")

    @classmethod
    def from_environment(cls) -> Config:
        """The options with `THALWEG_<NAME>` applied. A variable of such a name that is no option gets a warning: it may
        be of another version.

        Raises:
            ValueError: a variable does not parse.
        """
        values = {}
        names = [f"THALWEG_{option.name.upper()}" for option in dataclasses.fields(cls)]
        for name in os.environ:
            if name.startswith("THALWEG_") and name not in names:
                nearest = did_you_mean(name, names) or "."
                warnings.warn(f"environment variable {name} is no option{nearest}", RuntimeWarning, stacklevel=2)
        for option in dataclasses.fields(cls):
            name = f"THALWEG_{option.name.upper()}"
            if name in os.environ:
                values[option.name] = _parse(name, os.environ[name], option.default)
        return cls(**values)

    def __setattr__(self, name: str, value: Any) -> None:
        known = {f.name: f for f in dataclasses.fields(self)}
        if name not in known:
            raise AttributeError(f"no option '{name}'{did_you_mean(name, known) or '.'} Options: {', '.join(known)}.")
        if name == "opt_level" and value not in (0, 1, 2, 3):
            raise ValueError(f"opt_level must be 0, 1, 2 or 3, got {value!r}")
        if name == "threads" and (not isinstance(value, int) or value < 0):
            raise ValueError(f"threads must be a count, or 0 for all, got {value!r}")
        if name == "virtual_cpus" and (not isinstance(value, int) or value < 1):
            raise ValueError(f"virtual_cpus must be a count of at least 1, got {value!r}")
        if name in ("virtual_tpus", "virtual_gpus") and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} must be a count, or 0 for the real ones, got {value!r}")
        if name == "gpu_descriptors" and value not in ("", "always", "never"):
            raise ValueError(f"gpu_descriptors must be 'always', 'never', or empty for large products, got {value!r}")
        if name == "matmul_precision" and value not in ("highest", "high", "medium"):
            raise ValueError(f"matmul_precision must be 'highest', 'high' or 'medium', got {value!r}")
        if name == "default_device" and value not in ("", "cpu", "gpu"):
            raise ValueError(f"default_device must be 'cpu', 'gpu', or empty for a GPU if there is one, got {value!r}")
        if name == "stack_limit" and (not isinstance(value, int) or value < 0):
            raise ValueError(f"stack_limit must be a number of bytes, or 0 for no limit, got {value!r}")
        super().__setattr__(name, Path(value) if name == "cache_dir" else value)
        if name in ("check_nans", "check_infinities") and globals().get("config") is self:
            _look_at_calls(self)

    @property
    def checking(self) -> str:
        """What the results of programs must not hold: "nan", "non-finite", or the empty string if nobody looks."""
        known = self.__dict__
        return "non-finite" if known.get("check_infinities") else "nan" if known.get("check_nans") else ""

    @property
    def thread_count(self) -> int:
        """`threads` with 0 resolved."""
        return self.threads or _available_threads()

    def set_virtual_devices(self, cpu: int = 1, tpu: int = 0, gpu: int = 0) -> None:
        """Let this process have `cpu` devices, so that programs for several devices can be tried on one machine; `tpu`
        devices that pose as TPUs, in the place of the real ones: CPU devices of PJRT, the way in to TPUs; and `gpu`
        devices that pose as GPUs: their kernels run in Triton's interpreter, slowly.

        Example:
            >>> tw.config.set_virtual_devices(cpu=4, tpu=2)
            >>> with tw.device("/device:CPU:3"): ...
        """
        self.virtual_cpus, self.virtual_tpus, self.virtual_gpus = cpu, tpu, gpu

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of this process's devices; ops that ask for none run on the first: a GPU, if there is a real one
        and `default_device` does not say otherwise."""
        found_gpus = self.virtual_gpus or usable_gpus()
        cpus = tuple(f"/device:CPU:{index}" for index in range(self.virtual_cpus))
        tpu_names = tuple(f"/device:TPU:{index}" for index in range(self.virtual_tpus or tpus()))
        gpus = tuple(f"/device:GPU:{index}" for index in range(found_gpus))
        gpus_first = self.default_device == "gpu" or (not self.default_device and not self.virtual_gpus)
        return (*gpus, *cpus, *tpu_names) if gpus_first else (*cpus, *gpus, *tpu_names)

    def code_key(self) -> str:
        """The options that change generated code, as text for cache keys."""
        tuned = f"tuned={self.cpu_tuning} flush={self.flush_subnormals} packed={self.pack_weights}"
        tuned += f" precision={self.matmul_precision}"
        return f"threads={self.thread_count} opt={self.opt_level} deterministic={self.deterministic} {tuned}"

    @contextmanager
    def override(self, **options: Any) -> Iterator[Config]:
        """Set options for a block; the old values come back at its end."""
        before = {name: getattr(self, name) for name in options if hasattr(self, name)}
        try:
            for name, value in options.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)


def _look_at_calls(options: Config) -> None:
    """Have calls of programs that are compiled already checked from now on, or no longer."""
    (quick_way.close if options.checking else quick_way.open)("checking")


config = Config.from_environment()
_look_at_calls(config)
