"""The quick way into a program: a native function that Python calls with arrays, and that checks and runs in one go.

`ctypes` spends microseconds on a call. Here CPython calls machine code directly (METH_FASTCALL): it compares each
argument's type, shape and flags with what the program takes, allocates the results through NumPy's C interface,
releases the interpreter's lock, and runs. Whatever is not exactly as expected makes it return NotImplemented, and the
caller takes the ordinary way, which converts or explains. One such function, made once per process, serves all
programs; each program hands it a descriptor. Variables have locks, two words each and a version (`runtime/locks.py`):
the function takes those of the program's variables if all are free, and gives up if not, or if a variable is no longer
the one that the program keeps in another order (`weights.py`).

A program with variables, a training step, keeps its last large results, and hands out again those that nobody else
holds by the next call: memory from the system costs it a page fault for every page, 5% of a step on images.

The layouts it relies on are those of CPython's stable object header and of NumPy's array object. `_layout_is_known`
compares them with a live array, and without them there is no quick way.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from thalweg.backends.cpu.dispatch_ir import IR
from thalweg.backends.cpu.jit import Code
from thalweg.backends.cpu.kept import object_code
from thalweg.backends.cpu.once import once
from thalweg.dialects.types import TensorType

# Offsets in PyArrayObject, and in the objects around it, in bytes.
_TYPE, _DATA, _RANK, _SHAPE, _DESCR, _FLAGS = 8, 16, 24, 32, 56, 64
_BYTES_DATA, _BYTES_OF_HEAD = 32, 16
_CONTIGUOUS_ALIGNED = 0x101
_OWNED_WRITABLE = 0x404
_NEW_FROM_DESCR = 94  # index in NumPy's table of C functions
_METH_FASTCALL = 0x80

# Words of a descriptor.
_ARGUMENTS, _RESULTS, _STEP, _TABLE, _BUSY, _ARGUMENT_ROWS, _RESULT_ROWS = range(7)
_LOCKS, _WRITTEN, _LOCK_ROWS = range(7, 10)  # the locks of variables that the program writes come first
_BOX, _BOX_ARRAY, _BOX_FLAG = range(10, 13)
_VERSIONS, _VERSION_ROWS, _KEPT, _WORDS = range(13, 17)
_ROW = 5  # words of an argument or a result: rank, shape, dtype, slot, number among the results that are kept or -1
KEPT_BYTES = 1 << 17  # of a result that is kept, at least: the C library gives smaller ones again by itself
_OFFSETS = {
    "TYPE": _TYPE, "DATA": _DATA, "RANK": _RANK, "SHAPE": _SHAPE, "DESCR": _DESCR, "FLAGS": _FLAGS,
    "BYTES_DATA": _BYTES_DATA, "CONTIGUOUS": _CONTIGUOUS_ALIGNED, "OWNED": _OWNED_WRITABLE,
    "RESULTS": _RESULTS, "STEP": _STEP, "TABLE": _TABLE, "BUSY": _BUSY,
    "LOCKS": _LOCKS, "WRITTEN": _WRITTEN, "LOCK_ROWS": _LOCK_ROWS,
    "ARGUMENT_ROWS": _ARGUMENT_ROWS, "RESULT_ROWS": _RESULT_ROWS,
    "BOX": _BOX, "BOX_ARRAY": _BOX_ARRAY, "BOX_FLAG": _BOX_FLAG,
    "VERSIONS": _VERSIONS, "VERSION_ROWS": _VERSION_ROWS, "KEPT": _KEPT, "ROW": _ROW,
}  # fmt: skip


Words: TypeAlias = "ctypes.Array[ctypes.c_int32]"


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Box:
    """A class whose instances hold an array (the frontend's tensors): the native function takes them for their arrays,
    and makes them.

    Args:
        kind: the class itself, no subclass of it.
        array, flag: where in an instance are the array, and a slot that is False in a new one; bytes.
    """

    kind: type
    array: int
    flag: int


def box_of(kind: type, make: Callable[[Any], Any]) -> Box | None:
    """How instances of a class with slots, and no others, hold the array that `make` makes one of; None where that does
    not show.

    Example:
        >>> box_of(EagerTensor, EagerTensor)
        Box(kind=<class 'EagerTensor'>, array=24, flag=16)
    """
    array = np.zeros(1)
    made = make(array)
    if not available() or type(made) is not kind or kind.__itemsize__ or kind.__dictoffset__:
        return None
    words = range(_BYTES_OF_HEAD, kind.__basicsize__, 8)
    held = [ctypes.c_int64.from_address(id(made) + at).value for at in words]
    others = [word for word in held if word not in (0, id(array), id(False))]
    if others or held.count(id(array)) != 1 or held.count(id(False)) != 1:
        return None
    return Box(kind, words[held.index(id(array))], words[held.index(id(False))])


class Direct:
    """A program's quick way in, with its trailing arguments bound.

    `call(*arrays)` gives the result (a tuple of them unless there is one), or NotImplemented: where the arrays are not
    exactly as expected, another thread is inside (`busy`: its arena is), a lock is not free, or a version has changed.
    Boxes count as their arrays. `boxed(*arrays)` gives the result in a box; None where there is not one result, or no
    box.

    Args:
        address: of the program's `entry(table)`.
        inputs: types of the arguments of `call`, which take the first slots of the table.
        bound: arrays for the slots after them; they must live, and stay where they are, as long as this object.
        results: types of the fresh results, each with its slot.
        arena: address of the arena, for the last slot.
        locks: words of the locks of variables among the bound arrays, and whether the program writes them. A program
            with variables keeps its large results.
        owner: whatever must live as long as this object: the program's code, the arena.
        box: what may hold an array.
        versions: pairs of words: the address of a version, and what it must be.
    """

    def __init__(
        self,
        address: int,
        inputs: Sequence[TensorType],
        bound: Sequence[np.ndarray[Any, Any]],
        results: Sequence[tuple[TensorType, int]],
        arena: int,
        locks: Sequence[tuple[Words, bool]] = (),
        owner: object = None,
        box: Box | None = None,
        versions: ctypes.Array[ctypes.c_int64] | None = None,
    ) -> None:
        self._kept: list[Any] = [bound, owner, versions]
        slots = len(inputs) + len(bound) + len(results) + 1
        table = (ctypes.c_void_p * slots)()
        for number, array in enumerate(bound):
            table[len(inputs) + number] = array.ctypes.data
        table[slots - 1] = arena
        self._descriptor = (ctypes.c_int64 * _WORDS)()
        self._descriptor[_ARGUMENTS], self._descriptor[_RESULTS] = len(inputs), len(results)
        self._descriptor[_STEP], self._descriptor[_TABLE] = address, ctypes.addressof(table)
        self._descriptor[_ARGUMENT_ROWS] = self._rows([(t, slot) for slot, t in enumerate(inputs)])
        large = [k for k, (type_, _) in enumerate(results) if locks and type_.nbytes >= KEPT_BYTES]
        self._descriptor[_RESULT_ROWS] = self._rows(results, large)
        last: list[Any] = [None] * len(large)
        self._descriptor[_KEPT] = id(last)
        ordered = [words for words, write in locks if write] + [words for words, write in locks if not write]
        lock_rows = (ctypes.c_void_p * max(len(locks), 1))(*map(ctypes.addressof, ordered))
        self._descriptor[_LOCKS], self._descriptor[_WRITTEN] = len(locks), sum(write for _, write in locks)
        self._descriptor[_LOCK_ROWS] = ctypes.addressof(lock_rows)
        if versions is not None:
            self._descriptor[_VERSIONS] = len(versions) // 2
            self._descriptor[_VERSION_ROWS] = ctypes.addressof(versions)
        self._kept += [locks, lock_rows, box]
        if box is not None:
            self._descriptor[_BOX], self._descriptor[_BOX_ARRAY] = id(box.kind), box.array
            self._descriptor[_BOX_FLAG] = box.flag
        holder = ctypes.addressof(self._descriptor).to_bytes(8, sys.byteorder)
        self._kept += [table, holder, last]
        plain, boxed = _methods()
        self.call: Callable[..., Any] = _new_function()(ctypes.addressof(plain), holder, None)
        self.boxed: Callable[..., Any] | None = None
        if box is not None and len(results) == 1:
            self.boxed = _new_function()(ctypes.addressof(boxed), holder, None)

    def _rows(self, types: Sequence[tuple[TensorType, int]], kept: Sequence[int] = ()) -> int:
        """The rows of arguments or results, of which `kept` are; the address of the first."""
        rows = (ctypes.c_int64 * max(_ROW * len(types), 1))()
        for number, (type_, slot) in enumerate(types):
            shape = (ctypes.c_int64 * max(type_.rank, 1))(*type_.shape)
            dtype = type_.dtype.numpy
            place = kept.index(number) if number in kept else -1
            rows[_ROW * number : _ROW * (number + 1)] = [type_.rank, ctypes.addressof(shape), id(dtype), slot, place]
            self._kept += [shape, dtype]
        self._kept.append(rows)
        return ctypes.addressof(rows)

    @property
    def busy(self) -> bool:
        return bool(self._descriptor[_BUSY])


@once
def available() -> bool:
    """Whether this interpreter and this NumPy lay objects out as the native function expects."""
    return (
        sys.implementation.name == "cpython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and _layout_is_known()
    )


def _layout_is_known() -> bool:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    def word(offset: int, kind: Any = ctypes.c_int64, base: int = id(array)) -> int:
        return int(kind.from_address(base + offset).value)

    shape = word(_SHAPE)
    return (
        word(_TYPE) == id(np.ndarray)
        and word(_DATA) == array.ctypes.data
        and word(_RANK, ctypes.c_int32) == 2
        and (word(0, base=shape), word(8, base=shape)) == (2, 3)
        and word(_DESCR) == id(np.dtype(np.float32))
        and word(_FLAGS, ctypes.c_int32) & _CONTIGUOUS_ALIGNED == _CONTIGUOUS_ALIGNED
        and ctypes.string_at(id(b"12345678") + _BYTES_DATA, 8) == b"12345678"
    )


@once
def _new_function() -> Any:
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make


@once
def _code() -> Code:
    """The native function's code; it lives as long as the process."""
    return Code(object_code(IR.format(**_OFFSETS)), "tw_call", "tw_call_boxed", imports=_addresses())


@once
def _methods() -> tuple[_MethodDef, _MethodDef]:
    """The method definitions of all native functions, never freed: CPython reads them when it frees a function."""
    plain, boxed = (_code().address(name) for name in ("tw_call", "tw_call_boxed"))
    return _MethodDef(b"program", plain, _METH_FASTCALL, None), _MethodDef(b"program", boxed, _METH_FASTCALL, None)


def _addresses() -> dict[str, int]:
    """Of the functions and types that the native function uses."""
    api = ctypes.pythonapi

    def address(name: str) -> int:
        return ctypes.cast(getattr(api, name), ctypes.c_void_p).value or 0

    pointer = api.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))  # type: ignore[attr-defined]
    return {
        "ndarray": id(np.ndarray), "not_implemented": id(NotImplemented), "false": id(False),
        "new_object": address("PyType_GenericAlloc"),
        "new_from_descr": table[_NEW_FROM_DESCR] or 0, "new_tuple": address("PyTuple_New"),
        "set_item": address("PyTuple_SetItem"), "list_get": address("PyList_GetItem"),
        "list_set": address("PyList_SetItem"), "incref": address("Py_IncRef"), "decref": address("Py_DecRef"),
        "save_thread": address("PyEval_SaveThread"), "restore_thread": address("PyEval_RestoreThread"),
    }  # fmt: skip
