"""What CUDA's driver and HIP have in common: the same functions under two names, by ctypes.

    NAMES = {"allocate": "cuMemAllocAsync", …}         NAMES = {"allocate": "hipMallocAsync", …}

`SHARED` says the types of their parameters once. What differs is in cuda.py and hip.py: how GPUs are described and
entered, copies, kernels.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, ClassVar

from thalweg.runtime.gpu.driver import Handle
from thalweg.runtime.gpu.foreign import OUT, Library

_ERROR_NOT_READY = 600
_PEER_ACCESS_ALREADY_ENABLED = 704
_NON_BLOCKING_STREAM = 1
_EVENT_DISABLE_TIMING = 2
_CAPTURE_THREAD_LOCAL = 1
_POOL_RELEASE_THRESHOLD = 4

# What is asked of both libraries, and the types of the functions' parameters.
SHARED: dict[str, tuple[Any, ...]] = {
    "allocate": (OUT, c_size_t, c_void_p),
    "await event": (c_void_p,),
    "begin capture": (c_void_p, c_int),
    "create event": (OUT, c_uint),
    "create stream": (OUT, c_uint),
    "destroy event": (c_void_p,),
    "destroy graph": (c_void_p,),
    "destroy instance": (c_void_p,),
    "elapsed": (OUT, c_void_p, c_void_p),
    "end capture": (c_void_p, OUT),
    "find kernel": (OUT, c_void_p, c_char_p),
    "free": (c_uint64, c_void_p),
    "free pinned": (c_void_p,),
    "instantiate": (OUT, c_void_p, ctypes.c_ulonglong),
    "launch graph": (c_void_p, c_void_p),
    "load": (OUT, c_char_p),
    "memory": (OUT, OUT),
    "pin": (OUT, c_size_t, c_uint),
    "pool access": (c_void_p, OUT, c_size_t),
    "pool of": (OUT, c_int),
    "query event": (c_void_p,),
    "record": (c_void_p, c_void_p),
    "set pool": (c_void_p, c_int, OUT),
    "synchronise": (c_void_p,),
    "trim pool": (c_void_p, c_size_t),
    "unload": (c_void_p,),
    "wait": (c_void_p, c_void_p, c_uint),
    "wait for all": (),
}


def calls(names: Mapping[str, str], own: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Every function that a driver calls, by its name in the library: the shared ones, and its own."""
    return {**{name: SHARED[what] for what, name in names.items()}, **own}


class NativeDriver:
    """The half of a `Driver` that is the same for both makers.

    Args:
        library: of the maker.
    """

    NAMES: ClassVar[Mapping[str, str]]  # of what `SHARED` lists, in the library

    def __init__(self, library: Library) -> None:
        self._library = library
        self._here = threading.local()  # the number of the GPU that a thread uses
        self._pools: dict[int, int] = {}

    def _call(self, what: str, *arguments: Any) -> None:
        self._library.call(self.NAMES[what], *arguments)

    def _made(self, what: str, *arguments: Any) -> int:
        return self._library.made(self.NAMES[what], *arguments)

    def _tried(self, what: str, expected: int, *arguments: Any) -> bool:
        """Whether a call went well; False where it says what was expected, instead."""
        code = self._library.find(what)(*arguments)
        if code not in (0, expected):
            self._library.fail(what, code)
        return bool(code == 0)

    # Memory.

    def _keep_memory(self, index: int, device: int) -> None:
        """Have what is freed stay in a GPU's pool, for later."""
        pool = self._pools[index] = self._made("pool of", device)
        everything = c_uint64(2**64 - 1)
        self._call("set pool", pool, _POOL_RELEASE_THRESHOLD, byref(everything))

    def _share_pool(self, device: int, other: int) -> None:
        """Let a GPU reach the memory of another one's pool, which has permissions of its own."""
        access = (c_int * 3)(1, device, 3)  # {location {device = 1, number}, read and write = 3}
        self._call("pool access", self._pools[other], byref(access), 1)

    def memory(self) -> tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self._call("memory", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, nbytes: int, stream: Handle) -> int:
        return self._made("allocate", nbytes, stream)

    def free(self, address: int, stream: Handle) -> None:
        self._call("free", address, stream)

    def trim(self) -> None:
        self._call("wait for all")
        self._call("trim pool", self._pools[self._here.index], 0)

    def pinned(self, nbytes: int) -> int:
        return self._made("pin", nbytes, 0)

    def free_pinned(self, address: int) -> None:
        self._call("free pinned", address)

    # Streams and events.

    def stream(self) -> Handle:
        return self._made("create stream", _NON_BLOCKING_STREAM)

    def synchronise(self, stream: Handle) -> None:
        self._call("synchronise", stream)

    def event(self, timing: bool = False) -> Handle:
        return self._made("create event", 0 if timing else _EVENT_DISABLE_TIMING)

    def destroy_event(self, event: Handle) -> None:
        self._call("destroy event", event)

    def record(self, event: Handle, stream: Handle) -> None:
        self._call("record", event, stream)

    def wait(self, stream: Handle, event: Handle) -> None:
        self._call("wait", stream, event, 0)

    def happened(self, event: Handle) -> bool:
        return self._tried(self.NAMES["query event"], _ERROR_NOT_READY, event)

    def await_event(self, event: Handle) -> None:
        self._call("await event", event)

    def elapsed(self, begin: Handle, end: Handle) -> float:
        found = c_float()
        self._call("elapsed", byref(found), begin, end)
        return found.value

    # Kernels and graphs.

    def load(self, binary: bytes) -> Handle:
        return self._made("load", binary)

    def unload(self, module: Handle) -> None:
        self._call("unload", module)

    def begin_capture(self, stream: Handle) -> None:
        self._call("begin capture", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: Handle) -> Handle:
        graph = self._library.made_last(self.NAMES["end capture"], stream)
        try:
            return self._made("instantiate", graph, 0)
        finally:
            self._call("destroy graph", graph)

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        self._call("launch graph", graph, stream)

    def destroy_graph(self, graph: Handle) -> None:
        self._call("destroy instance", graph)

    def _enabled(self, call: str, *arguments: Any) -> None:
        """Enable access to a peer, which may be enabled already."""
        self._tried(call, _PEER_ACCESS_ALREADY_ENABLED, *arguments)
