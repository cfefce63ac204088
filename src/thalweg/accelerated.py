"""Clusters on TPUs: a part of a step, compiled and run by PJRT, with its variables on the device.

    cluster ──outline──▶ tw ──the driver──▶ stablehlo ──lower──▶ portable artefact ──PJRT──▶ program on a device

What other parts of the step give and take are arrays of the host; a variable travels when it is changed or looked at
from there (`runtime/residence.py`), not from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from thalweg.backends.pjrt.lower import Portable
from thalweg.backends.reference.shadow import first_nan, has_nan, has_non_finite
from thalweg.dialects import context
from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import ExecutionError
from thalweg.dialects.mlir import ir
from thalweg.runtime.config import Config
from thalweg.runtime.locks import Held
from thalweg.runtime.pjrt.client import client_for
from thalweg.runtime.plan import Array
from thalweg.runtime.resources import Buffer
from thalweg.steps import CHECKING


class Compiler(Protocol):
    """What this needs of the driver."""

    options: Config

    def portable(self, module: ir.Module) -> tuple[Portable, list[str]]:
        """The artefact of a `tw` module, and the names of the variables that are its trailing arguments."""
        ...


class AcceleratedCluster:
    """A cluster on one TPU, bound to its variables: the inputs' arrays in, the results' arrays out.

    Several steps may be inside at once: each call holds the locks of the variables.

    Args:
        module: its program, whose trailing arguments after compilation are the variables called `variable0`…
        buffers: of these variables.
        device: a TPU of this process.
    """

    locks = True

    def __init__(self, compiler: Compiler, module: ir.Module, buffers: Sequence[Buffer], device: Device) -> None:
        portable, self._names = compiler.portable(module)
        self._options = compiler.options
        asked = module.operation.attributes
        self._asked = ir.StringAttr(asked[CHECKING]).value if CHECKING in asked else ""
        self._text: str = module.operation.get_asm(enable_debug_info=True)
        self._device, self._index = str(device), device.index or 0
        self._client = client_for(virtual=bool(compiler.options.virtual_tpus))
        self._program = self._client.compile(portable.data, [self._index])
        self._variables = [buffers[int(name.removeprefix("variable"))] for name in self._names]
        first = len(portable.inputs) - len(self._names)
        self._updates = {result: self._variables[at - first] for result, at in portable.aliases.items()}
        self._outputs = [k for k in range(len(portable.outputs)) if k not in portable.aliases]
        written = {id(buffer) for buffer in self._updates.values()}
        by_name = sorted(self._variables, key=lambda buffer: buffer.name)
        self._held = Held((buffer.lock, id(buffer) in written) for buffer in by_name)

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        checking = {self._asked, self._options.checking} - {""}
        given = [self._put(np.asarray(array)) for array in inputs]
        with self._held:
            before = self._values() if checking else {}
            state = [b.residence.on_device(self._device, b.array, self._put) for b in self._variables]
            results = self._program([*given, *state])
            for number, buffer in self._updates.items():
                buffer.residence.changed_on_device(self._device, results[number])
            after = self._values() if checking else {}
        # Copies: an array of PJRT cannot be written to, and of a CPU it is the memory itself.
        outputs = [np.array(results[number]) for number in self._outputs]
        if checking:
            infinities = "non-finite" in checking
            bad = has_non_finite if infinities else has_nan
            if any(map(bad, (*outputs, *after.values()))):
                self._explain(inputs, before, infinities)
        return outputs

    def _put(self, array: Array) -> Any:
        return self._client.put(array, [self._index])

    def _values(self) -> dict[str, Array]:
        """Copies of the variables' values, for looking at."""
        for buffer in self._variables:
            buffer.residence.to_host(buffer.array)
        return {name: b.array.copy() for name, b in zip(self._names, self._variables, strict=True)}

    def _explain(self, inputs: Sequence[Array], before: dict[str, Array], infinities: bool) -> None:
        """Name the op that made the first of what must not be, unless it came in with an input."""
        with context.entered():
            found = first_nan(ir.Module.parse(self._text), inputs, before, infinities=infinities)
        if found is not None:
            raise ExecutionError(str(found))
