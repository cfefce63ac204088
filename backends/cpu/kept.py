"""The native code that a process makes for itself (the thread pool, the way in from Python), kept for later ones.

The driver says where (`keep_in`); without a store it is compiled in every process.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import llvmlite

from thalweg.backends.cpu.jit import compile_llvm, host_cpu
from thalweg.backends.cpu.options import CpuOptions

_OPTIONS = CpuOptions(threads=1, opt_level=2)


class Store(Protocol):
    """Bytes by key, from process to process."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, payload: bytes) -> None: ...


_stores: list[Store] = []  # where to look, one at most


def keep_in(store: Store | None) -> None:
    """Where code is kept that is made from now on; None: nowhere."""
    _stores[:] = [] if store is None else [store]


def object_code(text: str) -> bytes:
    """The object code of LLVM IR text for this machine, which is inlined where it says `alwaysinline`."""
    key = hashlib.sha256("\0".join((text, llvmlite.__version__, *host_cpu())).encode()).hexdigest()
    for store in _stores:
        known = store.get(key)
        if known is not None:
            return known
    made = compile_llvm(text, _OPTIONS, explicit=True).object_code
    for store in _stores:
        store.put(key, made)
    return made
