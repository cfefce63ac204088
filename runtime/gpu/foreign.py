"""A driver's shared library, called by ctypes: functions by name, their errors as exceptions."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_int, c_void_p
from typing import Any

from thalweg.runtime.gpu.driver import DriverError

OUT = c_void_p  # the type of a parameter through which a result comes back


class Library:
    """What its functions return is an error's number, 0 if all is well.

    Args:
        library: its file name, or an object that has the functions, for tests.
        calls: every function that is called: the types of its parameters.

    Raises:
        OSError: there is no such library.
    """

    def __init__(self, library: Any, calls: Mapping[str, tuple[Any, ...]]) -> None:
        self._library: Any = ctypes.CDLL(library) if isinstance(library, str) else library
        self._types = calls
        self._found: dict[str, Any] = {}

    def find(self, name: str) -> Any:
        """A function with its types.

        Raises:
            DriverError: the library is too old to have it.
        """
        found = self._found.get(name)
        if found is None:
            try:
                found = getattr(self._library, name)
            except AttributeError:
                raise DriverError(f"the driver has no {name}: it is too old. Update the GPU's driver.") from None
            found.argtypes, found.restype = self._types[name], c_int
            self._found[name] = found
        return found

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            DriverError: it failed.
        """
        code = self.find(name)(*arguments)
        if code:
            self.fail(name, code)

    def made(self, name: str, *arguments: Any) -> int:
        """The handle that a function puts into its first parameter."""
        found = c_void_p()
        self.call(name, byref(found), *arguments)
        return found.value or 0

    def made_last(self, name: str, *arguments: Any) -> int:
        """The handle that a function puts into its last parameter."""
        found = c_void_p()
        self.call(name, *arguments, byref(found))
        return found.value or 0

    def number(self, name: str, *arguments: Any) -> int:
        """The same for a number."""
        found = c_int()
        self.call(name, byref(found), *arguments)
        return found.value

    def fail(self, name: str, code: int) -> None:
        """Raise the error that a function returned."""
        raise DriverError(name, code, self.error_name(code))

    def error_name(self, code: int) -> str:
        """What the driver calls an error."""
        text = c_char_p()
        known = not self.find("cuGetErrorName")(code, byref(text)) and text.value
        return known.decode() if known else "an unknown error"
