"""Where a variable's newest value is: in its memory on the host, on an accelerator, or on both.

A variable of an accelerator stays there from step to step. Its memory on the host is brought up to date when somebody
looks (`to_host`), and a value that is given on the host travels with the next step that needs it (`on_device`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


class Residence:
    """The place of one variable's value. Whoever calls holds the variable's lock: for reading where nothing is said.

    Args:
        written: called when the memory gets a value that a device has, which whoever keeps a copy of it must know.

    Example:
        >>> value = residence.on_device("/device:TPU:0", memory, put)   # travels the first time only
        >>> residence.changed_on_device("/device:TPU:0", updated)       # with the lock held for writing
        >>> residence.to_host(memory)                                   # now the memory has it, too
    """

    __slots__ = ("_device", "_device_is_old", "_host_is_old", "_lock", "_value", "_written")

    def __init__(self, written: Callable[[], None] = lambda: None) -> None:
        self._value: Any = None  # on the device; None where the host alone has the value
        self._device = ""
        self._host_is_old = False
        self._device_is_old = False
        self._lock = threading.Lock()  # several readers may look at once
        self._written = written

    @property
    def host_is_old(self) -> bool:
        """Whether a device has a newer value than the memory; without the lock, true for this moment only."""
        return self._host_is_old

    def to_host(self, memory: Array) -> None:
        """Bring the variable's memory up to date."""
        if self._host_is_old:
            with self._lock:
                if self._host_is_old:
                    np.copyto(memory, np.asarray(self._value))
                    self._written()
                    self._host_is_old = False

    def changed_on_host(self) -> None:
        """The memory has been written to, with the lock held for writing: what a device has is of no use now."""
        self._device_is_old, self._host_is_old = True, False

    def on_device(
        self,
        device: str,
        memory: Array,
        put: Callable[[Array], Any],
        refill: Callable[[Any, Array], None] | None = None,
    ) -> Any:
        """The value on a device, put there if it is elsewhere.

        Args:
            refill: writes an array of the host into one that is there; where it can be done, the value stays at its
                address, which programs may be bound to.
        """
        if self._device != device:
            self.to_host(memory)
        elif not self._device_is_old and self._value is not None:
            return self._value  # as in most steps
        with self._lock:
            if self._value is None or self._device != device or (self._device_is_old and refill is None):
                self._value, self._device = put(memory), device
            elif self._device_is_old and refill is not None:
                refill(self._value, memory)
            self._device_is_old = False
            return self._value

    def changed_on_device(self, device: str, value: Any) -> None:
        """A step has made a new value there, with the lock held for writing."""
        self._value, self._device, self._host_is_old, self._device_is_old = value, device, True, False
