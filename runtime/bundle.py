"""Exported models in a process without the compiler: `model = tw.load("dist"); model.infer(x)`."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import BundleError, did_you_mean
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.runtime.interface import Interface

if TYPE_CHECKING:
    from thalweg.runtime.bundle_threads import Pool
    from thalweg.runtime.pjrt.model import Model as OnDevices

Array = np.ndarray[Any, Any]
ALIGNMENT = 64
_ABI = 1
_STATUS = {1: "a null pointer", 2: "an arena that is too short", 3: "weights of another model", 4: "misaligned memory",
           5: "a negative number of rows"}  # fmt: skip


@overload
def load(path: str | os.PathLike[str], device: None = None, *, threads: int = 1) -> Model: ...


@overload
def load(path: str | os.PathLike[str], device: str | Sequence[str], *, threads: int = 1) -> Model | OnDevices: ...


def load(
    path: str | os.PathLike[str], device: str | Sequence[str] | None = None, *, threads: int = 1
) -> Model | OnDevices:
    """Load an exported model.

    Args:
        path: the folder that was exported to, or a target's folder in it.
        device: this machine's processor by default. "tpu:0", or a list of TPUs where the model was exported for several
            ("tpu" stands for as many as it needs): the model then is a `runtime.pjrt.model.Model`.
        threads: that a call uses on this machine's processor, if it was exported for several. They are Python's, and
            worth it where a call takes milliseconds.

    Raises:
        BundleError: no bundle, one without a library for this machine, or weights that do not fit.
        UnavailableError: there is no such TPU.

    Example:
        >>> model = tw.load("dist")
        >>> model.infer(x)
    """
    folder = Path(path)
    root = folder if (folder / "manifest.json").is_file() else folder.parent
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except FileNotFoundError:
        raise BundleError(f"no manifest.json in {folder}. Give a folder that tw.export wrote.") from None
    except ValueError as error:
        raise BundleError(f"{root / 'manifest.json'} cannot be read: {error}") from None
    devices = [device] if isinstance(device, str) else list(device or ())
    if any(parse(name).kind == "TPU" for name in devices):
        from thalweg.runtime.pjrt.model import Model as OnDevices  # whoever has no TPU does without

        return OnDevices(manifest, root, devices)
    target = folder if folder != root else root / _host()
    library = target / f"lib{manifest['name']}.so"
    if not library.is_file():
        raise BundleError(
            f"no library for this machine, {_host()}, in {root}; it has {', '.join(manifest['targets'])}. Export with "
            f"targets=['{_host()}']{', or load it with device=…' if 'tpu' in manifest else ''}."
        )
    most = manifest["threads"]
    if threads not in range(1, most + 1):
        raise BundleError(f"{root} was exported for {most} threads, not {threads}. Export with threads={threads}.")
    return Model(manifest, library, root / "weights.safetensors", threads)


def _host() -> str:
    processor = platform.machine().lower()
    return f"{platform.system().lower()}-{ {'amd64': 'x86_64', 'aarch64': 'arm64'}.get(processor, processor)}"


def aligned(nbytes: int) -> Array:
    """Bytes that begin on a cache line."""
    storage = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -storage.ctypes.data % ALIGNMENT
    return storage[start : start + nbytes]


def _opened(library: Path) -> ctypes.CDLL:
    """The library under a name that it never had: `dlopen` knows what it has loaded by name, and would give us the old
    one where a model has been exported again to the same place. (`tempfile` takes longer to import than all of this.)
    """
    alias = Path(os.environ.get("TMPDIR", "/tmp"), f"thalweg-{os.urandom(16).hex()}{library.suffix}")
    try:
        alias.symlink_to(library.resolve())
    except (OSError, NotImplementedError):  # nowhere to write, or Windows without the right to make links
        return ctypes.CDLL(os.fspath(library))
    try:
        return ctypes.CDLL(os.fspath(alias))
    finally:
        alias.unlink()


class Model:
    """An exported model with a state of its own. Its signatures are methods, safe to call from several threads unless
    they change the state."""

    def __init__(self, manifest: Mapping[str, Any], library: Path, weights: Path, threads: int = 1) -> None:
        self.name: str = manifest["name"]
        self._library = _opened(library)
        found = self._symbol("abi", ctypes.c_int32)()
        if found != _ABI:
            raise BundleError(f"{library} has version {found} of the interface, this is Thalweg for {_ABI}.")
        self._entries = manifest["state"]["entries"]
        self._memory = self._read(weights)  # a new model's state is the file's: big weights are in memory once
        pool, ending = None, ""
        if threads > 1:
            from thalweg.runtime.bundle_threads import Pool  # with one thread nothing of it is needed

            pool, ending = Pool(threads), "_on"
        self._signatures = {
            name: _Signature(Interface(name, row), row, self._symbol(name + ending, ctypes.c_int32), self._memory, pool)
            for name, row in manifest["signatures"].items()
        }

    def _symbol(self, name: str, result: Any) -> Any:
        function = getattr(self._library, f"{self.name}_{name}")
        function.restype = result
        return function

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of what can be called."""
        return tuple(self._signatures)

    @property
    def state(self) -> dict[str, Array]:
        """The variables by name, as views: changing one changes the model."""
        return {row["name"]: self._view(_type(row), row["offset"]) for row in self._entries}

    def _view(self, kind: TensorType, offset: int) -> Array:
        return self._memory[offset : offset + kind.nbytes].view(kind.dtype.numpy).reshape(kind.shape)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Take the state from a weights file; all or nothing.

        Raises:
            BundleError: no such file, or not one of this model.
        """
        self._memory[:] = self._read(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state as a weights file, which `restore` and every other library of this model take."""
        file = np.empty(self._symbol("file_bytes", ctypes.c_size_t)(), np.uint8)
        state, place = ctypes.c_void_p(self._memory.ctypes.data), ctypes.c_void_p(file.ctypes.data)
        status = self._symbol("save", ctypes.c_int32)(state, place, ctypes.c_size_t(file.nbytes))
        assert status == 0  # all of it is ours
        file.tofile(path)

    def _read(self, path: str | os.PathLike[str]) -> Array:
        """The state in a weights file, where it is aligned."""
        try:
            with open(path, "rb") as stream:
                file = aligned(os.fstat(stream.fileno()).st_size)
                file = file[: stream.readinto(file.data)]
        except OSError as error:
            raise BundleError(f"{os.fspath(path)} cannot be read: {error}") from None
        state = ctypes.c_void_p()
        check = self._symbol("state_of", ctypes.c_int32)
        status = check(ctypes.c_void_p(file.ctypes.data), ctypes.c_size_t(file.nbytes), ctypes.byref(state))
        if status:
            raise BundleError(f"{os.fspath(path)} does not hold the weights of this model, or is truncated.")
        start = (state.value or 0) - file.ctypes.data
        return file[start : start + self._symbol("state_bytes", ctypes.c_size_t)()]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        signatures = self.__dict__.get("_signatures", {})
        if name not in signatures:
            raise AttributeError(f"the model has no signature '{name}'{did_you_mean(name, signatures) or '.'} "
                                 f"It has {', '.join(signatures)}.")  # fmt: skip
        found: Callable[..., Any] = signatures[name]
        return found


def _type(row: Mapping[str, Any]) -> TensorType:
    return TensorType(tuple(row["shape"]), as_dtype(row["dtype"]))


class _Signature:
    """One signature of a model."""

    def __init__(
        self, interface: Interface, row: Mapping[str, Any], function: Any, state: Array, pool: Pool | None
    ) -> None:
        self._interface = interface
        self._function = function
        self._memory = state  # a signature may outlive the model that it was taken from
        self._pool = pool
        self._first = (state.ctypes.data,) if pool is None else (pool.address, state.ctypes.data)
        pointers = len(self._first) + len(interface.inputs) + len(interface.outputs)
        rows = [ctypes.c_int32] * interface.batched
        function.argtypes = [*[ctypes.c_void_p] * pointers, *rows, ctypes.c_void_p, ctypes.c_size_t]
        self._arena_bytes: int = row["arena_bytes"]
        self._alone = threading.Lock() if row["changes_state"] else nullcontext()
        self._arenas = threading.local()

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run on arrays of exactly the signature's types, by position or name; one array, a dict of them, or None."""
        inputs, rows = self._interface.checked(arrays, named)
        outputs = [
            np.empty([rows if n is None else n for n in shape], dtype.numpy)
            for _, shape, dtype in self._interface.outputs
        ]
        arena = getattr(self._arenas, "address", None)
        if arena is None:
            self._arenas.memory = aligned(self._arena_bytes)
            arena = self._arenas.address = self._arenas.memory.ctypes.data
        data = [a.ctypes.data for a in (*inputs, *outputs)]
        batch = [rows] * self._interface.batched
        with self._alone:
            status = self._function(*self._first, *data, *batch, arena, self._arena_bytes)
        if status:
            raise BundleError(f"{self._interface.name}() refused {_STATUS.get(status, f'with status {status}')}.")
        return self._interface.results(outputs)
