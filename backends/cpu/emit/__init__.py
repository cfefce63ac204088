"""Code generators: a group of values becomes the text of one kernel.

Every kind of value that starts a kernel has one emitter, registered under the kind ("reduce", "contract",
"convolution", "window", "map", "insert") or, for opaque ops, under the op's name ("stablehlo.sort"). Kernel forming
(fusion.py) asks the registry what the emitter can absorb, builds a `Group` accordingly, and calls `emit`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

from thalweg.backends.cpu.emit.decision import Decision
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions


@dataclass
class Group:
    """The values that one kernel computes.

    `root` started the kernel; `stores` are the values it must write to buffers (the kernel's results, in this order);
    `members` are all values computed inside. Values that are neither members nor constants are operands, read from
    buffers. Without fusion, `stores` are the root's results. `decision` tells how to cut the work, where there are
    several ways.
    """

    root: Value
    members: set[Value] = field(default_factory=set)
    stores: list[Value] = field(default_factory=list)
    decision: Decision = field(default_factory=Decision)


EmitFunction = Callable[[Group, str, CpuOptions], Kernel]


@dataclass(frozen=True)
class Emitter:
    """How a kind of value becomes a kernel.

    `epilogue`: elementwise users of the root at the root's own index may be members, and are stored from the tile where
    the root's value is at hand (through `emit.fused.Fused`). Otherwise the stores are exactly the root's results.
    Operands of the root are always in buffers when the kernel runs.
    """

    emit: EmitFunction
    epilogue: bool = False


EMITTERS: dict[str, Emitter] = {}


def register(*kinds: str, epilogue: bool = False) -> Callable[[EmitFunction], EmitFunction]:
    """Decorator: this function emits kernels for roots of these kinds.

    Example:
        >>> @register("stablehlo.sort")
        ... def sort(group: Group, name: str, options: CpuOptions) -> Kernel: ...
    """

    def add(emit: EmitFunction) -> EmitFunction:
        for kind in kinds:
            EMITTERS[kind] = Emitter(emit, epilogue)
        return emit

    return add


@cache
def _load() -> None:
    """Import every module of this package: the modules register their emitters."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def emitter_for(value: Value) -> Emitter | None:
    """The emitter for a value, or None: by the op's name for opaque values, by the kind for others."""
    _load()
    return EMITTERS.get(value.op_name if value.kind == "opaque" else value.kind)
