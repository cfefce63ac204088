"""Arrays of a GPU for PyTorch, CuPy and JAX, and theirs for us: the same memory, by DLPack's C structures.

Those of the host go by NumPy, but for floats that NumPy does not have.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p, py_object
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.memory import Borrowed

_DEVICES = {"cuda": 2, "hip": 10}  # kDLCUDA, kDLROCM; a virtual GPU's memory is the host's
_HOST = 1
_NAME, _USED = b"dltensor", b"used_dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_FOREIGN = {"bfloat16": 4, "float8_e4m3fn": 10, "float8_e5m2": 12}  # by the names of ml_dtypes
_FOREIGN_CODES: dict[int, np.dtype[Any]] = {code: np.dtype(getattr(ml_dtypes, name)) for name, code in _FOREIGN.items()}


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_: ClassVar[Any] = [
        ("data", c_void_p), ("device", c_int32), ("index", c_int32), ("ndim", c_int32), ("code", c_uint8),
        ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)),
        ("offset", c_uint64),
    ]  # fmt: skip


class _Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_: ClassVar[Any] = [("tensor", _Tensor), ("context", c_void_p), ("deleter", c_void_p)]


_Deleter = ctypes.CFUNCTYPE(None, c_void_p)


def _python(name: str, result: Any, *types: Any) -> Any:
    """A function of Python's C interface, with types of our own: those on `ctypes.pythonapi` are everybody's."""
    return ctypes.PYFUNCTYPE(result, *types)((name, ctypes.pythonapi))


_new_capsule = _python("PyCapsule_New", py_object, c_void_p, c_char_p, c_void_p)
_pointer = _python("PyCapsule_GetPointer", c_void_p, py_object, c_char_p)
_set_name = _python("PyCapsule_SetName", ctypes.c_int, py_object, c_char_p)
# Of a capsule that is being collected: no Python object may refer to it, that would bring it back to life.
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, c_void_p, c_char_p)
_pointer_of_dying = _python("PyCapsule_GetPointer", c_void_p, c_void_p, c_char_p)


class _Lent:
    """What is lent to others, by the address of its structure, until they say that they are done."""

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}
        self.done = _Deleter(lambda address: self.kept.pop(address, None))
        self.dropped = _Deleter(self._drop)

    def _drop(self, capsule: int) -> None:
        """A capsule is collected; one that nobody took still has the name that it was given."""
        if _is_valid(capsule, _NAME):
            self.kept.pop(_pointer_of_dying(capsule, _NAME), None)


_lent = _Lent()


def device_of(gpu: Gpu) -> tuple[int, int]:
    """DLPack's kind and number of a GPU."""
    kind = _DEVICES.get(gpu.driver.kind)
    return (_HOST, 0) if kind is None else (kind, gpu.index)


def capsule_of(array: DeviceArray, stream: Any = None) -> Any:
    """An array as a capsule.

    Args:
        stream: in which it is going to be used, as the array API numbers them: 1 or None for the default one, -1 if
            nobody is to wait.
    """
    gpu = array.gpu
    with gpu.lock:
        gpu.enter()
        if gpu.driver.kind not in _DEVICES:
            gpu.synchronise()
        elif array.ready is not None and stream != -1:
            gpu.driver.wait(1 if stream is None else int(stream), array.ready.event)
    return _capsule(array, array.address, device_of(gpu))


def host_capsule(array: np.ndarray[Any, Any]) -> Any:
    """An array of the host as a capsule: NumPy's own has no word for bfloat16 and floats of 8 bits."""
    array = np.ascontiguousarray(array)
    return _capsule(array, array.ctypes.data, (_HOST, 0))


def _capsule(array: Any, start: int, device: tuple[int, int]) -> Any:
    code = _FOREIGN.get(array.dtype.name, _CODES.get(array.dtype.kind))
    if code is None:
        raise BufferError(f"DLPack has no type for {array.dtype.name}.")
    extents = (c_int64 * array.ndim)(*array.shape)
    # Written out: DLPack 1.2 has no tensors without strides any more.
    strides = (c_int64 * array.ndim)(*(math.prod(array.shape[dim + 1 :]) for dim in range(array.ndim)))
    tensor = _Tensor(start, *device, array.ndim, code, array.dtype.itemsize * 8, 1, extents, strides, 0)
    managed = _Managed(tensor, None, ctypes.cast(_lent.done, c_void_p))
    address = ctypes.addressof(managed)
    _lent.kept[address] = managed, extents, strides, array
    return _new_capsule(address, _NAME, ctypes.cast(_lent.dropped, c_void_p))


def from_dlpack(gpu: Gpu, other: Any) -> DeviceArray:
    """An array of somebody else's, whose memory it shares: neither may write to it while the other reads.

    Raises:
        DeviceError: it is on another device, not contiguous, or of a type that we do not have.
    """
    if tuple(map(int, other.__dlpack_device__())) != device_of(gpu):
        raise DeviceError(f"the array is on DLPack's device {other.__dlpack_device__()}, not on {gpu.name}. Move it.")
    is_virtual = gpu.driver.kind not in _DEVICES
    capsule = other.__dlpack__() if is_virtual else other.__dlpack__(stream=gpu.compute)
    start, nbytes, shape, dtype, release = _taken(capsule)
    if not is_virtual:
        return DeviceArray(gpu, Borrowed(start, nbytes, release), shape, dtype)
    # The host's memory is none of a virtual GPU: it gets a copy.
    data = np.frombuffer(ctypes.string_at(start, nbytes), dtype).reshape(shape)
    release()
    return gpu.put(data)


def host_array(other: Any) -> np.ndarray[Any, Any]:
    """An array over the memory of somebody else's on the host; a copy of floats that NumPy does not have."""
    if str(getattr(other, "dtype", "")).rpartition(".")[2] not in _FOREIGN:  # torch.bfloat16, or without a module
        return np.from_dlpack(other)
    start, nbytes, shape, dtype, release = _taken(other.__dlpack__())
    data: np.ndarray[Any, Any] = np.frombuffer(bytearray(ctypes.string_at(start, nbytes)), dtype).reshape(shape)
    release()
    return data


def _taken(capsule: Any) -> tuple[int, int, tuple[int, ...], np.dtype[Any], Callable[[], None]]:
    """Where a capsule's array is, how many bytes, its shape and dtype, and how to say that it is needed no more."""
    managed = _Managed.from_address(_pointer(capsule, _NAME))
    tensor = managed.tensor
    shape = tuple(tensor.shape[: tensor.ndim])
    dtype = _dtype(tensor)
    _expect_contiguous(tensor, shape)
    _set_name(capsule, _USED)
    start, deleter = (tensor.data or 0) + tensor.offset, managed.deleter

    def release(_kept: Any = managed) -> None:
        if deleter:
            _Deleter(deleter)(ctypes.addressof(_kept))

    return start, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, shape, dtype, release


def _dtype(tensor: _Tensor) -> np.dtype[Any]:
    code, bits = tensor.code, tensor.bits
    foreign = _FOREIGN_CODES.get(code)
    if foreign is not None and bits == 8 * foreign.itemsize and tensor.lanes == 1:
        return foreign
    kind = next((k for k, number in _CODES.items() if number == code), None)
    if kind is None or tensor.lanes != 1:
        raise DeviceError(f"DLPack's type ({code}, {bits} bits, {tensor.lanes} lanes) is none of ours. Convert it.")
    found: np.dtype[Any] = np.dtype("bool" if kind == "b" else f"{kind}{bits // 8}")
    return found


def _expect_contiguous(tensor: _Tensor, shape: tuple[int, ...]) -> None:
    if not tensor.strides:
        return
    step = 1
    for extent, stride in zip(reversed(shape), reversed(tensor.strides[: len(shape)]), strict=True):
        if extent != 1 and stride != step:
            raise DeviceError(f"the array of shape {shape} is not contiguous. Make a contiguous copy of it first.")
        step *= extent


__all__ = ["capsule_of", "device_of", "from_dlpack", "host_array", "host_capsule"]
