"""What the frontend hands to a compiler, and the slot where the facade puts one.

The frontend builds programs and knows no backend: it finds the driver by name, tests install what they like.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from thalweg.dialects.devices import Device
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType

if TYPE_CHECKING:
    from thalweg.frontend.variable import Variable

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Program:
    """A traced program: a module with one function `@main(inputs…, constants…) -> outputs`.

    An input may have open extents (`dialects.extents`): a compiler then makes one executable that takes any sizes.
    Variables are declared inside by `tw.variable_handle` under their unique names. A compiler must leave `module` as it
    is: `Function.ir` prints it again.
    """

    name: str
    module: ir.Module
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    constants: tuple[Array, ...] = ()  # captured arrays too big to be attributes: the trailing arguments of @main
    variables: tuple[Variable, ...] = ()
    labels: tuple[str, ...] = ()  # what messages call the inputs
    title: str = ""  # what traces of steps call it, if not by its name
    shards: int = 1  # among how many GPUs the batch is shared out


class Executable(Protocol):
    """A compiled program, bound to its constants and variables."""

    def __call__(self, inputs: Sequence[Array], timeout: float | None = None) -> list[Array]:
        """Run on C-contiguous arrays of exactly the inputs' types; variables change in place. The results are new.

        Args:
            timeout: seconds after which a program that waits (for a queue, for another task) fails with DeadlineError.
        """
        ...

    @property
    def direct(self) -> Callable[..., Any] | None:
        """The quick way in, if there is one: takes the arrays as arguments and gives one array, or a tuple of them
        unless there is exactly one, or NotImplemented for a call that must go the ordinary way."""
        ...


@runtime_checkable
class Abortable(Protocol):
    """An executable whose runs may wait, and can be given up."""

    def abort(self, why: str) -> None:
        """Make all its runs fail with CancelledError: those under way, and those to come."""
        ...


class Compiler(Protocol):
    """Turns programs into executables."""

    def compile(self, program: Program) -> Executable:
        """An executable of `program`; raises PassError or LoweringError where there can be none."""
        ...

    def measure(self, program: Program, inputs: Sequence[Array], runs: int, target: Any = None) -> dict[str, float]:
        """Run a program some times; seconds of its ops, as placement takes them."""
        ...

    def put(self, value: Any, device: Device) -> Any:
        """An array on an accelerator of this process: a copy of one that is elsewhere; another library's array that is
        there is shared."""
        ...

    def stage(self, program: Program, stage: str) -> str:
        """The text of `program` at a stage: "tw", "tw-optimized", "stablehlo", "linalg", "kernels", "llvm", "asm"."""
        ...


def _driver() -> Compiler:
    """The package's own compiler. Not imported above: the frontend stands below it."""
    made: Compiler = import_module("thalweg.compiler").driver()
    return made


class _Slot:
    """The compiler in use; made at the first compilation, so that importing the package stays quick."""

    def __init__(self) -> None:
        self.make: Callable[[], Compiler] = _driver
        self.made: Compiler | None = None
        self.programs: dict[Any, Any] = {}  # compiled eager ops, by what they were compiled for
        self.lock = threading.Lock()


_slot = _Slot()


def install(make: Callable[[], Compiler]) -> None:
    """Use the compiler that `make` returns, from the next compilation on."""
    with _slot.lock:
        _slot.make, _slot.made, _slot.programs = make, None, {}


def installed() -> Callable[[], Compiler]:
    """What was installed last; the package's own compiler if nothing was."""
    return _slot.make


def eager_programs() -> dict[Any, Any]:
    """The eager ops compiled so far by the installed compiler."""
    return _slot.programs


def compiler() -> Compiler:
    """The installed compiler."""
    made = _slot.made
    if made is None:
        with _slot.lock:
            made = _slot.made = _slot.make()
    return made
