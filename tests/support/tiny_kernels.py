"""Device programs of kernels that are a line of NumPy each: for tests of the launcher without Triton."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from simulated_gpu import with_count

from thalweg.runtime.gpu.artefact import Branch, Buffer, Copy, DeviceProgram, KernelImage, Launch, Step, Tensor, While
from thalweg.runtime.gpu.virtual import Span

COUNT = 4  # elements of every array
NBYTES = 4 * COUNT
KERNELS = {  # name -> (what the last buffer becomes, how many buffers)
    "increment": (lambda x, out: x + 1, 2),
    "double": (lambda x, out: x * 2, 2),
    "add": (lambda x, y, out: x + y, 3),
    "step": (lambda g, w: w - g, 2),
    "below": (lambda x, limit, out: (x < limit).astype(np.float32).view(np.uint8).view(np.float32) * 0 + 0, 3),
}


def interpreter(text: str, name: str, grid: tuple[int, int, int], buffers: Sequence[Span]) -> None:
    """Run a kernel on float32 arrays; `below` writes one byte."""
    arrays = [_array(span.address) for span in buffers]
    if name == "below":
        ctypes.c_uint8.from_address(buffers[-1].address).value = int(arrays[0][0] < arrays[1][0])
    elif name == "crash":
        raise RuntimeError("a kernel that crashes")
    else:
        rule, _ = KERNELS[name]
        arrays[-1][:] = rule(*arrays)


def _array(address: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * COUNT).from_address(address))


def argument(number: int) -> Buffer:
    return Buffer("argument", number, 0, NBYTES)


def arena(slot: int) -> Buffer:
    return Buffer("arena", 0, 256 * slot, NBYTES)


def result(number: int) -> Buffer:
    return Buffer("result", number, 0, NBYTES)


def constant(number: int) -> Buffer:
    return Buffer("constant", number, 0, NBYTES)


def program(
    steps: Sequence[tuple[object, ...] | Step], arguments: int, results: int, chip: str = "virtual", **more
) -> DeviceProgram:
    """A program; a launch is written as (kernel, buffers…).

    Example:
        >>> program([("double", argument(0), arena(0)), ("increment", arena(0), result(0))], 1, 1)
    """
    names: dict[str, int] = {}

    def made(step: tuple[object, ...] | Step) -> Step:
        if isinstance(step, While):
            condition, body = tuple(map(made, step.condition)), tuple(map(made, step.body))
            return While(condition, step.predicate, body, step.trips)
        if isinstance(step, Branch):
            return Branch(step.selector, tuple(tuple(map(made, arm)) for arm in step.arms), step.is_index)
        if isinstance(step, Copy | Launch):
            return step
        name, *buffers = step
        number = names.setdefault(str(name), len(names))
        return Launch(number, (1, 1, 1), tuple(buffers), label=f"k{number}_{name}", where=(f"model.py:{number + 1}",))

    found = tuple(map(made, steps))
    images = tuple(
        KernelImage(name, chip, with_count("", range(KERNELS.get(name, (None, 1))[1])), 4, **more) for name in names
    )
    return DeviceProgram(
        chip, images, found, 4096, (Tensor((COUNT,), "float32"),) * arguments, (Tensor((COUNT,), "float32"),) * results
    )
