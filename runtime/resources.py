"""What outlives a step on a task: variables' buffers, and queues and the like in containers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from thalweg.dialects.diagnostics import StepError, UninitialisedError
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.runtime.locks import Held, SharedLock
from thalweg.runtime.plan import Array
from thalweg.runtime.residence import Residence

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@functools.cache
def of_process() -> Resources:
    """What all steps of this process share, and what queues do that are used outside any step."""
    return Resources()


class Resource(Protocol):
    """What lives in a container: a queue, a reader, an accumulator."""

    def close(self) -> None:
        """Its container is reset: fail what waits for it with CancelledError, let go of what it holds."""
        ...


R = TypeVar("R", bound=Resource)


class Buffer:
    """A variable's memory on a task. It stays where it is, since compiled programs are bound to it.

    Whoever reads or writes the array holds `lock` for it. Of a variable on an accelerator the newest value may be
    there: `residence` knows.
    """

    __slots__ = ("array", "container", "initialised", "lock", "name", "residence")

    def __init__(
        self,
        name: str,
        array: Array,
        lock: SharedLock | None = None,
        initialised: bool = True,
        container: str | None = "",
        residence: Residence | None = None,
    ) -> None:
        self.name = name
        self.array = array
        self.lock = lock or SharedLock()
        self.initialised = initialised
        self.container = container
        self.residence = residence or Residence(self.lock.changed)

    def assign(self, value: Array) -> None:
        """Give it a value.

        Raises:
            StepError: of another shape or dtype.
        """
        value = np.asarray(value)
        if value.shape != self.array.shape or value.dtype != self.array.dtype:
            raise StepError(
                f"variable '{self.name}' is {self.array.dtype.name}{list(self.array.shape)}; it cannot take a value "
                f"that is {value.dtype.name}{list(value.shape)}."
            )
        with self.lock.writing():
            np.copyto(self.array, value)
            self.residence.changed_on_host()
            self.initialised = True


class Resources:
    """The state of a task: shared by all steps and sessions, named, resettable by container.

    Example:
        >>> queue = resources.get_or_create("", "queue", "q", lambda: FifoQueue(capacity=8))
        >>> resources.reset()              # closes the queue; variables are uninitialised again
    """

    def __init__(self) -> None:
        self.variables: dict[str, Buffer] = {}
        self._made: dict[tuple[str, str, str], Resource] = {}
        self._lock = threading.RLock()

    def scoped(self) -> Resources:
        """The same containers with variables of its own: those of one program, whose memory others own."""
        made = Resources()
        made._made, made._lock = self._made, self._lock
        return made

    def get_or_create(self, container: str, kind: str, name: str, make: Callable[[], R]) -> R:
        """The resource of this kind and name in a container; made by `make` the first time."""
        key = (container, kind, name)
        found = self._made.get(key)
        if found is None:
            with self._lock:
                found = self._made.get(key)
                if found is None:
                    found = self._made[key] = make()
        return found  # type: ignore[return-value]

    def drop(self, container: str, kind: str, name: str) -> None:
        """Close and forget one resource, if it is there."""
        with self._lock:
            found = self._made.pop((container, kind, name), None)
        if found is not None:
            found.close()

    def find(self, container: str, kind: str, name: str) -> Resource | None:
        """The resource, if it has been made."""
        return self._made.get((container, kind, name))

    # A queue may be dropped at any moment, when its last user is collected: what looks through all takes a copy.

    def named(self, kind: str) -> dict[str, Resource]:
        """All resources of a kind by `container/name`, for watching."""
        with self._lock:
            return {f"{c}/{n}" if c else n: r for (c, k, n), r in self._made.copy().items() if k == kind}

    def reset(self, containers: Iterable[str] | None = None) -> None:
        """Close and drop what is in the containers, all of them by default; their variables lose their values."""
        wanted = None if containers is None else frozenset(containers)
        with self._lock:
            gone = [key for key in self._made.copy() if wanted is None or key[0] in wanted]
            closed = [r for key in gone if (r := self._made.pop(key, None)) is not None]
            for buffer in self.variables.values():
                if wanted is None or buffer.container in wanted:
                    buffer.initialised = False
        for resource in closed:
            resource.close()

    # Variables.

    def bind(
        self, name: str, array: Array, lock: SharedLock | None = None, residence: Residence | None = None
    ) -> Buffer:
        """Use memory that somebody else owns (a `tw.Variable`'s) as a variable. Binding the same again changes
        nothing.

        Raises:
            StepError: the name stands for other memory.
        """
        with self._lock:
            found = self.variables.get(name)
            if found is None:
                found = self.variables[name] = Buffer(name, array, lock, residence=residence)
            elif found.array is not array:
                raise StepError(f"two variables of this task are called '{name}'. Give one another name.")
            return found

    def declare(self, name: str, type_: TensorType, container: str = "") -> Buffer:
        """A variable that lives here; uninitialised when it is new.

        Raises:
            StepError: it is declared with another type.
        """
        with self._lock:
            found = self.variables.get(name)
            if found is None:
                memory = np.zeros(type_.nbytes + ALIGNMENT, np.uint8)
                start = -memory.ctypes.data % ALIGNMENT
                array = memory[start : start + type_.nbytes].view(type_.dtype.numpy).reshape(type_.shape)
                found = self.variables[name] = Buffer(name, array, initialised=False, container=container)
            elif (found.array.shape, found.array.dtype) != (type_.shape, type_.dtype.numpy):
                raise StepError(
                    f"variable '{name}' is declared as {type_}, but this task holds {found.array.dtype.name}"
                    f"{list(found.array.shape)} under that name. Give one another name, or reset its container."
                )
            return found

    def missing(self, names: Iterable[str]) -> list[str]:
        """The variables among these that have no value here."""
        return [n for n in names if n not in self.variables or not self.variables[n].initialised]

    def initialise(self, values: Mapping[str, Array]) -> None:
        """Give variables values; one that is new is declared.

        Raises:
            StepError: a value of another type than its variable.
        """
        for name, value in values.items():
            array = np.asarray(value)
            if name not in self.variables:
                self.declare(name, TensorType(array.shape, as_dtype(array.dtype)))
            self.variables[name].assign(array)

    def forget(self, names: Iterable[str]) -> None:
        """Let go of variables: their names may stand for others from now on."""
        with self._lock:
            for name in names:
                self.variables.pop(name, None)

    def values(self, names: Sequence[str]) -> dict[str, Array]:
        """Copies of variables' present values.

        Raises:
            UninitialisedError: one has none.
        """
        if missing := self.missing(names):
            raise uninitialised(missing[0])
        found = {}
        for name in names:
            buffer = self.variables[name]
            with buffer.lock.reading():
                buffer.residence.to_host(buffer.array)
                found[name] = buffer.array.copy()
        return found

    def locked(self, reads: Iterable[str], writes: Iterable[str]) -> Held:
        """Holds variables for reading and writing. Taken in the order of their names, so that no two holders wait for
        each other.

        Example:
            >>> with resources.locked(reads=["w"], writes=["b"]):
            ...     program(inputs)
        """
        written = frozenset(writes)
        return Held((self.variables[name].lock, name in written) for name in sorted(written | frozenset(reads)))


def uninitialised(name: str) -> UninitialisedError:
    """What to say of a variable that is read before it has a value."""
    return UninitialisedError(f"variable '{name}' has no value yet. Initialise it, or restore it from a checkpoint.")
