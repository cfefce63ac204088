"""Sums over several GPUs of this process, by NCCL where it is installed (libnccl.so.2; librccl.so.1 on AMD's GPUs).

    group = Collective(gpus)
    group.all_reduce([g0, g1])                   # both hold the sum now

Every GPU puts its part into its own compute stream: what comes before there is in the sum, what comes after sees it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

from thalweg.dialects.diagnostics import DeviceError, UnavailableError
from thalweg.dialects.types import as_dtype
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.foreign import OUT, Library
from thalweg.runtime.gpu.memory import Mark

_LIBRARIES = {"cuda": "libnccl.so.2", "hip": "librccl.so.1"}
TIMEOUT, INTERVAL = 300.0, 0.05  # seconds until a sum is given up, and between looks at it
_IN_PROGRESS = 7  # NCCL's code
_TYPES = {
    "int8": 0, "uint8": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5, "float16": 6, "float32": 7, "float64": 8,
    "bfloat16": 9, "float8_e4m3fn": 10, "float8_e5m2": 11,
}  # fmt: skip
_OPERATIONS = {"sum": 0, "prod": 1, "max": 2, "min": 3, "mean": 4}
_NAMES = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}  # by what StableHLO calls them
_CALLS: dict[str, tuple[Any, ...]] = {
    "ncclGetVersion": (OUT,),
    "ncclGetErrorString": (c_int,),
    "ncclCommInitAll": (OUT, c_int, OUT),
    "ncclCommDestroy": (c_void_p,),
    "ncclCommAbort": (c_void_p,),
    "ncclCommGetAsyncError": (c_void_p, OUT),
    "ncclGroupStart": (),
    "ncclGroupEnd": (),
    "ncclAllReduce": (c_void_p, c_void_p, c_size_t, c_int, c_int, c_void_p, c_void_p),
    "ncclBroadcast": (c_void_p, c_void_p, c_size_t, c_int, c_int, c_void_p, c_void_p),
}


class _Nccl(Library):
    """NCCL's errors have a text as a result."""

    def error_name(self, code: int) -> str:
        call = self.find("ncclGetErrorString")
        call.restype = c_char_p
        found = call(code)
        return found.decode() if found else "an unknown error"


class Watch:
    """Looks after what was started last, from a thread that is there only as long as something is under way.

    Args:
        timeout: seconds from the last start.
        trouble: what is wrong already; empty if nothing is.
        give_up: is told what was wrong, once.
    """

    def __init__(self, timeout: float, trouble: Callable[[], str], give_up: Callable[[str], None]) -> None:
        self._timeout, self._trouble, self._give_up = timeout, trouble, give_up
        self._lock = threading.Lock()
        self._expected: Sequence[tuple[Gpu, Mark]] = ()
        self._until = 0.0
        self._runs = False
        self.thread: threading.Thread | None = None  # the last one

    def expect(self, marks: Sequence[tuple[Gpu, Mark]]) -> None:
        """These are to happen, and all before them."""
        with self._lock:
            self._expected, self._until = marks, time.monotonic() + self._timeout
            if not self._runs:
                self._runs = True
                self.thread = threading.Thread(target=self._look, name="thalweg-collectives", daemon=True)
                self.thread.start()

    def _look(self) -> None:
        while True:
            time.sleep(INTERVAL)
            with self._lock:
                late = [gpu.name for gpu, mark in self._expected if not self._happened(gpu, mark)]
                if not late:
                    self._expected, self._runs = (), False
                    return
                over = time.monotonic() > self._until
            why = self._trouble()
            if over and not why:
                why = f"{', '.join(late)} did not come to the end of a sum within {self._timeout:g} s."
            if why:
                self._give_up(why)
                return

    @staticmethod
    def _happened(gpu: Gpu, mark: Mark) -> bool:
        try:
            gpu.enter()
            return mark.happened
        except DriverError:  # it has failed, which whoever waits for it is told
            return False


class Collective:
    """Several GPUs that compute together. Safe to use from several threads.

    Args:
        gpus: of one driver, each once.
        library: for tests.
        timeout: seconds after which a sum that has not happened is given up, with all that follow. A GPU that has
            failed never comes to it, and those that have come would wait for ever.

    Raises:
        UnavailableError: NCCL is not installed, or has no way between these GPUs.
    """

    def __init__(self, gpus: Sequence[Gpu], library: Any = None, timeout: float = TIMEOUT) -> None:
        self.gpus = tuple(gpus)
        self._lock = threading.Lock()
        self._watch = Watch(timeout, self._trouble, self._give_up)
        self._given_up = ""
        name = library or _LIBRARIES.get(gpus[0].driver.kind)
        if name is None:
            raise UnavailableError(f"there are no collectives for {gpus[0].driver.kind} GPUs.")
        try:
            self._library = _Nccl(name, _CALLS)
        except OSError as error:
            raise UnavailableError(
                f"sums over several GPUs need NCCL, which is not installed: {error}. Run: pip install "
                "nvidia-nccl-cu12, and put its folder into LD_LIBRARY_PATH."
            ) from None
        self._communicators = (c_void_p * len(gpus))()
        numbers = (c_int * len(gpus))(*(gpu.index for gpu in gpus))
        try:
            self._library.call("ncclCommInitAll", self._communicators, len(gpus), numbers)
        except DriverError as error:
            raise UnavailableError(f"NCCL cannot connect {', '.join(g.name for g in gpus)}: {error}") from error

    def all_reduce(self, arrays: Sequence[DeviceArray], operation: str = "sum") -> None:
        """Make each array the sum of all, in place. Returns at once.

        Args:
            arrays: one for each GPU, in their order, of one shape and dtype.
            operation: sum, prod, max, min, mean.

        Raises:
            DeviceError: they do not fit, or NCCL has no such operation or type.
        """
        kind = self._checked(arrays)
        if operation not in _OPERATIONS:
            raise DeviceError(f"all_reduce: no operation '{operation}'; there are {', '.join(_OPERATIONS)}.")
        code = _OPERATIONS[operation]
        self._together(
            arrays,
            lambda array, communicator: self._library.call(
                "ncclAllReduce", array.address, array.address, array.size, kind, code, communicator, array.gpu.compute
            ),
        )

    def broadcast(self, arrays: Sequence[DeviceArray], root: int = 0) -> None:
        """Make each array what that number `root` is, in place. Returns at once.

        Raises:
            DeviceError: they do not fit.
        """
        kind = self._checked(arrays)
        self._together(
            arrays,
            lambda array, communicator: self._library.call(
                "ncclBroadcast", array.address, array.address, array.size, kind, root, communicator, array.gpu.compute
            ),
        )

    def reduce(self, sums: Sequence[Sequence[tuple[int, int, int, str, str]]]) -> None:
        """Several sums in the GPUs' compute streams, whose locks are held.

        Args:
            sums: of each, for each GPU: the addresses of its part and of where the whole goes, bytes, the dtype, and
                what StableHLO calls the operation.
        """
        self._raise_if_given_up()
        self._library.call("ncclGroupStart")
        try:
            for parts in sums:
                for gpu, communicator, part in zip(self.gpus, self._communicators, parts, strict=True):
                    source, target, nbytes, dtype, by = part
                    count, kind = nbytes // as_dtype(dtype).itemsize, _TYPES[dtype]
                    gpu.enter()
                    code = _OPERATIONS[_NAMES[by]]
                    self._library.call("ncclAllReduce", source, target, count, kind, code, communicator, gpu.compute)
        finally:
            self._library.call("ncclGroupEnd")
        marks = []
        for gpu in self.gpus:
            gpu.enter()
            marks.append((gpu, gpu.mark(gpu.compute)))
        self._watch.expect(marks)

    def _checked(self, arrays: Sequence[DeviceArray]) -> int:
        """NCCL's number of the arrays' type."""
        if [a.gpu for a in arrays] != list(self.gpus):
            where = ", ".join(a.device for a in arrays)
            raise DeviceError(f"one array for each of {', '.join(g.name for g in self.gpus)}, got arrays of {where}.")
        if len({(a.shape, a.dtype) for a in arrays}) > 1:
            raise DeviceError(f"the arrays differ: {', '.join(map(repr, arrays))}. Give arrays of one shape and dtype.")
        name = arrays[0].dtype.name
        if name not in _TYPES:
            raise DeviceError(f"NCCL has no sums of {name}. Convert the arrays to {', '.join(_TYPES)}.")
        return _TYPES[name]

    def _together(self, arrays: Sequence[DeviceArray], call: Any) -> None:
        """One group of calls, so that none waits for the others to be made."""
        with self._lock, ExitStack() as held:
            for gpu in self.gpus:  # always in this order
                held.enter_context(gpu.lock)
            self._raise_if_given_up()
            self._library.call("ncclGroupStart")
            try:
                for array, communicator in zip(arrays, self._communicators, strict=True):
                    array.gpu.enter()
                    array.gpu.order(array.gpu.compute, array.ready)
                    call(array, communicator)
            finally:
                self._library.call("ncclGroupEnd")
            for array in arrays:
                array.gpu.enter()
                array.ready = array.gpu.mark(array.gpu.compute)
            self._watch.expect([(array.gpu, array.ready) for array in arrays if array.ready is not None])

    # When a GPU does not come.

    def _raise_if_given_up(self) -> None:
        if self._given_up:
            raise DeviceError(
                f"the GPUs {', '.join(g.name for g in self.gpus)} no longer compute together: {self._given_up} Start "
                "the process again; tw.config.check_launches = True tells which kernel has failed."
            )

    def _trouble(self) -> str:
        """What NCCL has noticed; empty if all is well."""
        for gpu, communicator in zip(self.gpus, self._communicators, strict=True):
            found = c_int()
            self._library.call("ncclCommGetAsyncError", communicator, byref(found))
            if found.value not in (0, _IN_PROGRESS):
                return f"NCCL says of {gpu.name}: {self._library.error_name(found.value)} ({found.value})."
        return ""

    def _give_up(self, why: str) -> None:
        """End what waits in the GPUs' streams."""
        self._given_up = why
        for communicator in self._communicators:
            with suppress(DriverError):
                self._library.call("ncclCommAbort", communicator)

    @property
    def version(self) -> str:
        """Of NCCL."""
        found = c_int()
        self._library.call("ncclGetVersion", byref(found))
        return f"{found.value // 10_000}.{found.value // 100 % 100}.{found.value % 100}"

    def __del__(self) -> None:
        for communicator in () if self._given_up else getattr(self, "_communicators", ()):
            with suppress(DriverError):
                self._library.call("ncclCommDestroy", communicator)
