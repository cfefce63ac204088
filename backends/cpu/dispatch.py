"""The quick way into a program: a native function that Python calls with arrays, and that checks and runs in one go.

`ctypes` spends microseconds on a call. Here CPython calls machine code directly (METH_FASTCALL): it compares each
argument's type, shape and flags with what the program takes, allocates the results through NumPy's C interface,
releases the interpreter's lock, and runs. Whatever is not exactly as expected makes it return NotImplemented, and the
caller takes the ordinary way, which converts or explains. One such function, made once per process, serves all
programs; each program hands it a descriptor.

The layouts it relies on are those of CPython's stable object header and of NumPy's array object. `_layout_is_known`
compares them with a live array, and without them there is no quick way.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from thalweg.backends.cpu.jit import Code, compile_llvm
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.types import TensorType

# Offsets in PyArrayObject, and in the objects around it, in bytes.
_TYPE, _DATA, _RANK, _SHAPE, _DESCR, _FLAGS = 8, 16, 24, 32, 56, 64
_BYTES_DATA = 32
_CONTIGUOUS_ALIGNED = 0x101
_NEW_FROM_DESCR = 94  # index in NumPy's table of C functions
_METH_FASTCALL = 0x80

# Words of a descriptor.
_ARGUMENTS, _RESULTS, _STEP, _TABLE, _BUSY, _ARGUMENT_ROWS, _RESULT_ROWS, _WORDS = range(8)

_IR = """
define internal i1 @fits(ptr %array, ptr %row) {{
  %type_at = getelementptr i8, ptr %array, i64 {TYPE}
  %type = load i64, ptr %type_at
  %is_array = icmp eq i64 %type, {ndarray}
  br i1 %is_array, label %header, label %no
header:
  %rank_at = getelementptr i8, ptr %array, i64 {RANK}
  %rank32 = load i32, ptr %rank_at
  %rank = sext i32 %rank32 to i64
  %wanted_rank = load i64, ptr %row
  %same_rank = icmp eq i64 %rank, %wanted_rank
  %descr_at = getelementptr i8, ptr %array, i64 {DESCR}
  %descr = load i64, ptr %descr_at
  %wanted_descr_at = getelementptr i64, ptr %row, i64 2
  %wanted_descr = load i64, ptr %wanted_descr_at
  %same_descr = icmp eq i64 %descr, %wanted_descr
  %flags_at = getelementptr i8, ptr %array, i64 {FLAGS}
  %flags = load i32, ptr %flags_at
  %set = and i32 %flags, {CONTIGUOUS}
  %dense = icmp eq i32 %set, {CONTIGUOUS}
  %a = and i1 %same_rank, %same_descr
  %b = and i1 %a, %dense
  br i1 %b, label %extents, label %no
extents:
  %shape_at = getelementptr i8, ptr %array, i64 {SHAPE}
  %shape = load ptr, ptr %shape_at
  %wanted_at = getelementptr i64, ptr %row, i64 1
  %wanted = load ptr, ptr %wanted_at
  br label %next
next:
  %k = phi i64 [ 0, %extents ], [ %k1, %equal ]
  %done = icmp eq i64 %k, %rank
  br i1 %done, label %yes, label %compare
compare:
  %e_at = getelementptr i64, ptr %shape, i64 %k
  %e = load i64, ptr %e_at
  %w_at = getelementptr i64, ptr %wanted, i64 %k
  %w = load i64, ptr %w_at
  %same = icmp eq i64 %e, %w
  br i1 %same, label %equal, label %no
equal:
  %k1 = add i64 %k, 1
  br label %next
yes:
  ret i1 true
no:
  ret i1 false
}}

define internal ptr @allocate(ptr %row, ptr %table) {{
  %rank = load i64, ptr %row
  %rank32 = trunc i64 %rank to i32
  %shape_at = getelementptr i64, ptr %row, i64 1
  %shape = load ptr, ptr %shape_at
  %descr_at = getelementptr i64, ptr %row, i64 2
  %descr = load ptr, ptr %descr_at
  call void inttoptr (i64 {incref} to ptr)(ptr %descr)
  %array = call ptr inttoptr (i64 {new_from_descr} to ptr)(
    ptr inttoptr (i64 {ndarray} to ptr), ptr %descr, i32 %rank32, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %out, label %bind
bind:
  %data_at = getelementptr i8, ptr %array, i64 {DATA}
  %data = load ptr, ptr %data_at
  %slot_at = getelementptr i64, ptr %row, i64 3
  %slot = load i64, ptr %slot_at
  %entry = getelementptr ptr, ptr %table, i64 %slot
  store ptr %data, ptr %entry
  br label %out
out:
  ret ptr %array
}}

define internal void @run(ptr %descriptor, ptr %table) {{
  %busy = getelementptr i64, ptr %descriptor, i64 {BUSY}
  store i64 1, ptr %busy
  %step_at = getelementptr i64, ptr %descriptor, i64 {STEP}
  %step = load ptr, ptr %step_at
  %state = call ptr inttoptr (i64 {save_thread} to ptr)()
  call void %step(ptr %table)
  call void inttoptr (i64 {restore_thread} to ptr)(ptr %state)
  store i64 0, ptr %busy
  ret void
}}

define ptr @tw_call(ptr %self, ptr %arguments, i64 %given) {{
  %self_at = getelementptr i8, ptr %self, i64 {BYTES_DATA}
  %descriptor = load ptr, ptr %self_at
  %count = load i64, ptr %descriptor
  %same_count = icmp eq i64 %count, %given
  %busy_at = getelementptr i64, ptr %descriptor, i64 {BUSY}
  %busy = load i64, ptr %busy_at
  %free = icmp eq i64 %busy, 0
  %start = and i1 %same_count, %free
  br i1 %start, label %bind, label %otherwise
bind:
  %table_at = getelementptr i64, ptr %descriptor, i64 {TABLE}
  %table = load ptr, ptr %table_at
  %rows_at = getelementptr i64, ptr %descriptor, i64 {ARGUMENT_ROWS}
  %rows = load ptr, ptr %rows_at
  br label %next
next:
  %i = phi i64 [ 0, %bind ], [ %i1, %store ]
  %bound = icmp eq i64 %i, %count
  br i1 %bound, label %results, label %check
check:
  %object_at = getelementptr ptr, ptr %arguments, i64 %i
  %object = load ptr, ptr %object_at
  %offset = mul i64 %i, 4
  %row = getelementptr i64, ptr %rows, i64 %offset
  %ok = call i1 @fits(ptr %object, ptr %row)
  br i1 %ok, label %store, label %otherwise
store:
  %data_at = getelementptr i8, ptr %object, i64 {DATA}
  %data = load ptr, ptr %data_at
  %slot_at = getelementptr i64, ptr %row, i64 3
  %slot = load i64, ptr %slot_at
  %entry = getelementptr ptr, ptr %table, i64 %slot
  store ptr %data, ptr %entry
  %i1 = add i64 %i, 1
  br label %next
results:
  %wanted_at = getelementptr i64, ptr %descriptor, i64 {RESULTS}
  %wanted = load i64, ptr %wanted_at
  %result_rows_at = getelementptr i64, ptr %descriptor, i64 {RESULT_ROWS}
  %result_rows = load ptr, ptr %result_rows_at
  %one = icmp eq i64 %wanted, 1
  br i1 %one, label %single, label %several
single:
  %array = call ptr @allocate(ptr %result_rows, ptr %table)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %error, label %run_single
run_single:
  call void @run(ptr %descriptor, ptr %table)
  ret ptr %array
several:
  %tuple = call ptr inttoptr (i64 {new_tuple} to ptr)(i64 %wanted)
  %no_tuple = icmp eq ptr %tuple, null
  br i1 %no_tuple, label %error, label %fill
fill:
  %j = phi i64 [ 0, %several ], [ %j1, %keep ]
  %filled = icmp eq i64 %j, %wanted
  br i1 %filled, label %run_several, label %make
make:
  %place = mul i64 %j, 4
  %result_row = getelementptr i64, ptr %result_rows, i64 %place
  %item = call ptr @allocate(ptr %result_row, ptr %table)
  %none = icmp eq ptr %item, null
  br i1 %none, label %drop, label %keep
keep:
  %ignored = call i32 inttoptr (i64 {set_item} to ptr)(ptr %tuple, i64 %j, ptr %item)
  %j1 = add i64 %j, 1
  br label %fill
run_several:
  call void @run(ptr %descriptor, ptr %table)
  ret ptr %tuple
drop:
  call void inttoptr (i64 {decref} to ptr)(ptr %tuple)
  br label %error
error:
  ret ptr null
otherwise:
  call void inttoptr (i64 {incref} to ptr)(ptr inttoptr (i64 {not_implemented} to ptr))
  ret ptr inttoptr (i64 {not_implemented} to ptr)
}}
"""


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )


class Direct:
    """A program's quick way in, with its trailing arguments bound.

    `call(*arrays)` gives the result (a tuple of them unless there is one), or NotImplemented. While `busy`, another
    thread is inside; `enter` and `leave` keep it out for as long as the ordinary way runs.

    Args:
        address: of the program's `entry(table)`.
        inputs: types of the arguments of `call`, which take the first slots of the table.
        bound: arrays for the slots after them; they must live, and stay where they are, as long as this object.
        results: types of the fresh results, each with its slot.
        arena: address of the arena, for the last slot.
        owner: whatever must live as long as this object: the program's code, the arena.
    """

    def __init__(
        self,
        address: int,
        inputs: Sequence[TensorType],
        bound: Sequence[np.ndarray[Any, Any]],
        results: Sequence[tuple[TensorType, int]],
        arena: int,
        owner: object = None,
    ) -> None:
        self._kept: list[Any] = [bound, owner]
        slots = len(inputs) + len(bound) + len(results) + 1
        table = (ctypes.c_void_p * slots)()
        for number, array in enumerate(bound):
            table[len(inputs) + number] = array.ctypes.data
        table[slots - 1] = arena
        self._descriptor = (ctypes.c_int64 * _WORDS)()
        self._descriptor[_ARGUMENTS], self._descriptor[_RESULTS] = len(inputs), len(results)
        self._descriptor[_STEP], self._descriptor[_TABLE] = address, ctypes.addressof(table)
        self._descriptor[_ARGUMENT_ROWS] = self._rows([(t, slot) for slot, t in enumerate(inputs)])
        self._descriptor[_RESULT_ROWS] = self._rows(results)
        holder = ctypes.addressof(self._descriptor).to_bytes(8, sys.byteorder)
        self._kept += [table, holder]
        self.call: Callable[..., Any] = _new_function()(ctypes.addressof(_method()), holder, None)

    def _rows(self, types: Sequence[tuple[TensorType, int]]) -> int:
        """Rank, shape, dtype and slot of each; the address of the first."""
        rows = (ctypes.c_int64 * max(4 * len(types), 1))()
        for number, (type_, slot) in enumerate(types):
            shape = (ctypes.c_int64 * max(type_.rank, 1))(*type_.shape)
            dtype = type_.dtype.numpy
            rows[4 * number : 4 * number + 4] = [type_.rank, ctypes.addressof(shape), id(dtype), slot]
            self._kept += [shape, dtype]
        self._kept.append(rows)
        return ctypes.addressof(rows)

    @property
    def busy(self) -> bool:
        return bool(self._descriptor[_BUSY])

    def enter(self) -> bool:
        """Keep the quick way closed, if nobody is inside; says whether that worked. The interpreter's lock makes it
        one step."""
        if self._descriptor[_BUSY]:
            return False
        self._descriptor[_BUSY] = 1
        return True

    def leave(self) -> None:
        """Open it again."""
        self._descriptor[_BUSY] = 0


@cache
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


@cache
def _new_function() -> Any:
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make


@cache
def _code() -> Code:
    """The native function's code; it lives as long as the process."""
    options = CpuOptions(opt_level=2)
    return Code(compile_llvm(_IR.format(**_addresses()), options).object_code, "tw_call")


@cache
def _method() -> Any:
    """The one method definition of all native functions, never freed: CPython reads it when it frees a function."""
    return _MethodDef(b"program", _code().address("tw_call"), _METH_FASTCALL, None)


def _addresses() -> dict[str, int]:
    api = ctypes.pythonapi

    def address(name: str) -> int:
        return ctypes.cast(getattr(api, name), ctypes.c_void_p).value or 0

    pointer = api.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))  # type: ignore[attr-defined]
    return {
        "TYPE": _TYPE, "DATA": _DATA, "RANK": _RANK, "SHAPE": _SHAPE, "DESCR": _DESCR, "FLAGS": _FLAGS,
        "BYTES_DATA": _BYTES_DATA, "CONTIGUOUS": _CONTIGUOUS_ALIGNED, "RESULTS": _RESULTS, "STEP": _STEP,
        "TABLE": _TABLE, "BUSY": _BUSY, "ARGUMENT_ROWS": _ARGUMENT_ROWS, "RESULT_ROWS": _RESULT_ROWS,
        "ndarray": id(np.ndarray), "not_implemented": id(NotImplemented),
        "new_from_descr": table[_NEW_FROM_DESCR] or 0, "new_tuple": address("PyTuple_New"),
        "set_item": address("PyTuple_SetItem"), "incref": address("Py_IncRef"), "decref": address("Py_DecRef"),
        "save_thread": address("PyEval_SaveThread"), "restore_thread": address("PyEval_RestoreThread"),
    }
