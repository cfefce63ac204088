"""Tensors on an accelerator: what programs on a GPU give, and take without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.location import user_frame
from thalweg.dialects.types import DType, TensorType, as_dtype
from thalweg.frontend.device import Device, check_device, parse_device
from thalweg.frontend.program import compiler
from thalweg.frontend.tensor import Array, EagerTensor
from thalweg.runtime.gpu.array import DeviceArray

_DLPACK_GPUS = frozenset({2, 10})  # CUDA, ROCm


class ResidentTensor(EagerTensor):
    """An eager tensor whose numbers are on an accelerator. They may still be computed: who looks at them on the host
    waits for them, and they are copied there once."""

    __slots__ = ("_fetched", "_held")

    def __init__(self, held: DeviceArray) -> None:
        self._held = held
        self._fetched: Array | None = None
        self.borrowed = False

    @property
    def data(self) -> Array:  # type: ignore[override]
        """The numbers on the host."""
        if self._fetched is None:
            self._fetched = self._held.numpy()
        return self._fetched

    @property
    def held(self) -> DeviceArray:
        """The array on the accelerator."""
        return self._held

    @property
    def type(self) -> TensorType:
        return TensorType(self._held.shape, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._held.shape

    @property
    def dtype(self) -> DType:
        return as_dtype(self._held.dtype)

    @property
    def device(self) -> Device:
        return parse_device(self._held.device)

    def __dlpack__(self, **options: Any) -> Any:
        return self._held.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._held.__dlpack_device__()


def tensor_over(array: Any) -> EagerTensor:
    """The tensor of a program's result, wherever that is."""
    return ResidentTensor(array) if isinstance(array, DeviceArray) else EagerTensor(array)


def moved(tensor: EagerTensor, device: Device) -> EagerTensor:
    """A tensor on another device of this process, copied if it is not there."""
    if device.kind == "GPU":
        return tensor_over(compiler().put(tensor.held, device))
    return EagerTensor(tensor.data) if isinstance(tensor, ResidentTensor) else tensor


def place_of(name: str, asked: str, arrays: Sequence[Any]) -> Device | None:
    """Where an op that is computed at once runs: on the device that `tw.device` asks for, else where its operands are;
    None for the host.

    Raises:
        ValueError: this process has no such accelerator, or the operands are on several GPUs.
    """
    if asked:
        return check_device(asked) if parse_device(asked).kind != "CPU" else None
    names = list(dict.fromkeys(array.device for array in arrays if isinstance(array, DeviceArray)))
    if len(names) > 1:
        raise ValueError(
            f"{user_frame()} the operands of {name} are on {' and '.join(names)}. Bring them to one device, with "
            f"x.to_device('{names[0]}'), or say where it is to run, with tw.device('{names[0]}')."
        )
    return parse_device(names[0]) if names else None


def adopted(value: Any) -> EagerTensor | None:
    """A tensor over the memory of another library's array on a GPU; None for what is on the host."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__"):
        return None
    kind, index = value.__dlpack_device__()
    if int(kind) not in _DLPACK_GPUS:
        return None
    return tensor_over(compiler().put(value, Device("GPU", int(index))))
