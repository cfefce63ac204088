"""Programs with open extents: compiled once for each size that occurs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.diagnostics import CancelledError
from thalweg.dialects.extents import any_open
from thalweg.dialects.types import TensorType
from thalweg.frontend.program import Abortable, Executable, Program
from thalweg.passes.rewriting import functions, yields
from thalweg.passes.specialise import of_sizes
from thalweg.runtime.gpu.array import on_host

KEPT = 64  # sizes of one program whose code is kept, the ones used last


def is_sized(program: Program) -> bool:
    """Whether the sizes of all inputs are known."""
    return not any(any_open(t.shape) for t in program.inputs)


def specialised(program: Program, inputs: Sequence[TensorType]) -> Program:
    """The program for inputs of these types.

    Raises:
        PassError: they do not fit, or disagree with each other; the message has the user's line.
    """
    with context.entered():
        module = of_sizes(program.module, inputs, program.labels)
        (body,) = functions(module)
        outputs = tuple(context.tensor_type_of(v) for v in yields(body))
    return replace(program, module=module, inputs=tuple(inputs), outputs=outputs)


class SizedProgram:
    """A program whose inputs have open extents: compiled when arrays of new sizes come, looked up from then on.

    Called like any executable; safe from several threads.
    """

    takes_device_arrays = True

    def __init__(self, program: Program, compile_: Callable[[Program], Executable]) -> None:
        self._program = program
        self._compile = compile_
        self._sizes: OrderedDict[tuple[tuple[int, ...], ...], Executable] = OrderedDict()
        self._latest: Callable[..., Any] | None = None  # the quick way of the sizes that came last
        self._aborted = ""  # why, if it is
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[np.ndarray], timeout: float | None = None) -> list[np.ndarray]:
        executable = self.of_size(inputs)
        if self._aborted:
            raise CancelledError(self._aborted)
        anywhere = getattr(executable, "takes_device_arrays", False)
        return executable(inputs if anywhere else [on_host(a) for a in inputs], timeout)

    def abort(self, why: str) -> None:
        """Give up what is under way, and what is to come."""
        with self._lock:
            self._aborted = why
            made = list(self._sizes.values())
        for executable in made:
            if isinstance(executable, Abortable):
                executable.abort(why)

    @property
    def direct(self) -> Callable[..., Any]:
        """The quick way in: that of the sizes that came last, which compares them itself."""
        return self._direct

    def _direct(self, *arrays: np.ndarray) -> Any:
        latest = self._latest
        result = NotImplemented if latest is None else latest(*arrays)
        if result is not NotImplemented or not all(type(a) is np.ndarray for a in arrays):
            return result
        executable = self._sizes.get(tuple(a.shape for a in arrays))
        if executable is None or executable.direct is None:
            return NotImplemented
        self._latest = executable.direct
        return self._latest(*arrays)

    def of_size(self, inputs: Sequence[np.ndarray]) -> Executable:
        """What runs on arrays of these shapes."""
        key = tuple(a.shape for a in inputs)
        found = self._sizes.get(key)
        if found is None:
            types = [t.with_shape(a.shape) for t, a in zip(self._program.inputs, inputs, strict=True)]
            found = self._compile(specialised(self._program, types))
        with self._lock:
            found = self._sizes.setdefault(key, found)
            self._sizes.move_to_end(key)
            while len(self._sizes) > KEPT:
                self._sizes.popitem(last=False)
        self._latest = found.direct
        return found
