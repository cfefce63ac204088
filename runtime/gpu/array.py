"""Arrays in a GPU's memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg.runtime.gpu.memory import Mark, Memory

if TYPE_CHECKING:
    from thalweg.runtime.gpu.device import Gpu

Array: TypeAlias = np.ndarray[Any, Any]


class DeviceArray:
    """A C-contiguous array on a GPU, perhaps still to be computed: to look at its numbers waits for them.

    It goes to NumPy by `np.asarray`, and to PyTorch or CuPy without a copy by `torch.from_dlpack`.

    Attributes:
        ready: when what it holds is there; None if that is known to be so.
    """

    __slots__ = ("_offset", "dtype", "gpu", "memory", "nbytes", "ready", "shape", "size")

    def __init__(
        self, gpu: Gpu, memory: Memory, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int = 0
    ) -> None:
        self.gpu, self.memory, self.shape, self.dtype = gpu, memory, shape, dtype
        self.size = math.prod(shape)
        self.nbytes = self.size * dtype.itemsize
        self.ready: Mark | None = None
        self._offset = offset

    @property
    def address(self) -> int:
        return self.memory.address + self._offset

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> str:
        """The name of the device that it is on."""
        return self.gpu.name

    def rows(self, count: int) -> list[DeviceArray]:
        """Views of `count` rows each, in this array's memory."""
        size = count * self.nbytes // max(1, self.shape[0])
        found = []
        for number in range(self.shape[0] // count if count else 0):
            offset = self._offset + number * size
            view = DeviceArray(self.gpu, self.memory, (count, *self.shape[1:]), self.dtype, offset)
            view.ready = self.ready
            found.append(view)
        return found

    def numpy(self) -> Array:
        """A copy on the host."""
        return self.gpu.fetch(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"an array of {self.device} cannot be looked at from the host without a copy.")
        found = self.numpy()
        return found if dtype is None else found.astype(dtype, copy=False)

    def item(self) -> Any:
        """The one element as a Python number."""
        return self.numpy().item()

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        from thalweg.runtime.gpu.dlpack import capsule_of

        return capsule_of(self, stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        from thalweg.runtime.gpu.dlpack import device_of

        return device_of(self.gpu)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype.name}[{','.join(map(str, self.shape))}] on {self.device})"


def on_host(value: Any) -> Any:
    """A value as NumPy's array if it is a GPU's; else as it is."""
    return value.numpy() if isinstance(value, DeviceArray) else value
